"""The claims, judged for what the instrument shows now."""

from __future__ import annotations

from collections.abc import Iterator

from pixelviz.claims import CLAIMS, Bench, Context, Verdict
from pixelviz.process.schedules import RANGES
from pixelviz.service import benches
from pixelviz.service.service import Service

Verdicts = dict[str, Verdict]  # by the claims' ids


def judged_for(context: Context) -> str:
    """One line with the picture and the settings."""
    c = context
    channels, rows, columns = c.x0.shape
    picked = ", ".join(f"{value:.3g}" for value in c.picked[:6].tolist())
    whose = "picked pixels" if len(c.pixels) > 1 else "for want of two picked pixels quantiles of its brightnesses,"
    return (
        f"{c.name} ({columns}×{rows}{', gray' if channels == 1 else ''}), γ = {c.gamma:g}, T = {c.T}, "
        f"floor {c.floor:g}, DDPM's range {RANGES[c.ddpm].in_words}; {whose} "
        f"x_0 = {picked}. Of our schedules it is the paper's, the one that its claims are about, whichever is shown."
    )


def judge(context: Context) -> Verdicts:
    """A verdict on every claim that needs no model; those that do are “not checked here”."""
    return {claim.id: claim.judge(context) for claim in CLAIMS.values()}


def judge_with_models(service: Service, context: Context, preferred: str | None) -> Iterator[tuple[str, Verdict]]:
    """(id, verdict) of the claims that need a model, each on `preferred` or the first checkpoint with its parts.

    Claims for which no checkpoint has the parts are left out. Raises ServiceError or CheckpointError.
    """
    loaded: dict[str, Bench] = {}
    for claim in (claim for claim in CLAIMS.values() if claim.needs):
        name = service.chosen(preferred, *claim.needs)
        if name is None:
            continue
        if name not in loaded:
            loaded[name] = benches.bench_for(service, name, context)
        with service.turn.short():
            verdict = claim.judge(context.on(loaded[name]))
        yield claim.id, verdict
