"""Every claim of the paper that can be checked here, and the function that judges it.

A verdict is computed for the settings of a `Context` and follows from its numbers; none is written down. Each check
takes what the paper prints as a function, so that a test can hand it another one and see the verdict change.
"""

from __future__ import annotations

from itertools import chain

from pixelviz.claims import background, experiments, forward, means, motivation, networks, rates, reverse
from pixelviz.claims.base import VERDICTS, Bench, Claim, Context, Curve, Number, Plot, Verdict

# In the paper's order.
CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in chain(
        background.register.claims,
        motivation.register.claims,
        forward.register.claims,
        rates.register.claims,
        means.register.claims,
        networks.scale.claims,
        reverse.register.claims,
        networks.register.claims,
        experiments.register.claims,
    )
}

__all__ = ["CLAIMS", "VERDICTS", "Bench", "Claim", "Context", "Curve", "Number", "Plot", "Verdict"]
