"""The claims and their verdicts, laid out as HTML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby

from latex2mathml.converter import convert
from markupsafe import Markup

from pixelviz.claims import CLAIMS, VERDICTS, Claim, Context, Verdict
from pixelviz.service.claims import judged_for
from pixelviz.ui import charts
from pixelviz.ui.markup import joined, pieces, render

# Plain names in labels and sentences, as they are typeset.
SYMBOLS = (
    (r"\bsqrt\((\w+)\)", r"√\1"),
    (r"\balpha_bar", "ᾱ"),
    (r"\bx_delta_hat\b", "x̂_δ"),
    (r"\bx_delta\b", "x_δ"),
    (r"\bgamma\b", "γ"),
    (r"(?<![^\W√])alpha\b", "α"),
    (r"\bbeta_", "β_"),
    (r"\bbeta\b", "β"),
    (r"\bGamma\b", "Γ"),
    (r"\beps_", "ε_"),
    (r"\bx0\b", "x_0"),
    (r"\bt_delta\b", "t_δ"),
    (r"\bsqrt\(", "√("),
)
_LOWERED = r"(?<!\w)(?P<letter>\w[\u0302\u0304]?)_(?P<index>\{[^}]*\}|\w+)"
_SIGNS = re.compile(_LOWERED + r"|(?<=\w)\^(?P<power>\([^()]*\)|\w+)")


def _set(text: str) -> Markup:
    """Indices lowered and powers raised, also in each other; braces and parentheses round them are gone."""
    found = (
        (before, sign, piece[1:-1] if piece[:1] in ("{", "(") else piece)
        for before, sign, piece in pieces(text, _SIGNS)
    )
    return render("typeset", pieces=((before, sign, _set(piece) if piece else "") for before, sign, piece in found))


def symbols(text: str) -> Markup:
    """A sentence as HTML: γ for gamma, indices lowered, powers raised."""
    for pattern, symbol in SYMBOLS:
        text = re.sub(pattern, symbol, text)
    return _set(text)


@cache
def statement(text: str) -> Markup:
    """Words with LaTeX between dollar signs, as HTML with MathML."""
    return joined(*(Markup(convert(part)) if k % 2 else part for k, part in enumerate(text.split("$"))))


def _sections() -> list[tuple[str, list[Claim]]]:
    return [(name, list(claims)) for name, claims in groupby(CLAIMS.values(), key=lambda claim: claim.section)]


def _found(claims: Sequence[Claim], verdicts: Mapping[str, Verdict]) -> list[str]:
    """The verdicts that there are of some claims."""
    there = {verdicts[claim.id].verdict for claim in claims}
    return [name for name in VERDICTS if name in there]


def page(context: Context, verdicts: Mapping[str, Verdict]) -> Markup:
    """All claims as HTML, in the paper's order under its sections."""
    counts = Counter(verdict.verdict for verdict in verdicts.values())
    return render(
        "claims",
        summary=judged_for(context),
        verdicts=verdicts,
        counts=[(name, counts[name]) for name in VERDICTS if counts[name]],
        sections=[(name, claims, _found(claims, verdicts)) for name, claims in _sections()],
        figures={id: charts.lines(v.plot, typeset=symbols, height=230) for id, v in verdicts.items() if v.plot},
        symbols=symbols,
        statement=statement,
    )
