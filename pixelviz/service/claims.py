"""The claims, judged for what the instrument shows now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from pixelviz.checks import check_pixels
from pixelviz.claims import CLAIMS, Bench, Context, Verdict
from pixelviz.data.images import fit
from pixelviz.data.sets import to_unit
from pixelviz.service import benches
from pixelviz.service.forward import MAX_SIDE, check_settings
from pixelviz.service.instrument_state import picture_name, read_state
from pixelviz.service.service import Service

Verdicts = dict[str, Verdict]  # by the claims' ids


@dataclass(frozen=True)
class Subject:
    """What the claims are judged for, and how a person would call the picture."""

    context: Context
    picture: str

    @property
    def summary(self) -> str:
        """One line with the settings."""
        c = self.context
        channels, rows, columns = c.x0.shape
        picked = ", ".join(f"{value:.3g}" for value in c.picked[:6].tolist())
        whose = "picked pixels" if len(c.pixels) > 1 else "for want of two picked pixels quantiles of its brightnesses,"
        return (
            f"{self.picture} ({columns}×{rows}{', gray' if channels == 1 else ''}), γ = {c.gamma:g}, T = {c.T}, "
            f"floor {c.floor:g}, DDPM's range {'rescaled by 1000/T' if c.rescaled else 'as printed'}; {whose} "
            f"x_0 = {picked}."
        )


def subject(service: Service, source: dict[str, Any], text: str | None) -> Subject:
    """The picture and the settings, checked; raises ServiceError, ConfigError or ImageError."""
    state = read_state(text)
    settings = check_settings(*(state[key] for key in ("gamma", "T", "floor", "seed", "rescaled")))
    fitted = fit(service.read(source["path"]), MAX_SIDE)
    x0 = to_unit(fitted.tensor(), settings.floor, torch.float64)
    pixels = check_pixels(state["pixels"], x0.shape)
    gamma, T, floor, seed, rescaled = settings
    return Subject(Context(x0, gamma, T, floor, pixels, rescaled, seed), picture_name(source))


def judge(subject: Subject) -> Verdicts:
    """A verdict on every claim that needs no model; those that do are “not checked here”."""
    return {claim.id: claim.judge(subject.context) for claim in CLAIMS.values()}


def judge_with_models(
    service: Service, subject: Subject, path: Any, preferred: str | None
) -> Iterator[tuple[str, Verdict]]:
    """(id, verdict) of the claims that need a model, each on `preferred` or the first checkpoint with its parts.

    Claims for which no checkpoint has the parts are left out. Raises ServiceError, CheckpointError or ImageError.
    """
    loaded: dict[str, Bench] = {}
    for claim in (claim for claim in CLAIMS.values() if claim.needs):
        names = service.names(*claim.needs)
        name = preferred if preferred in names else next(iter(names), None)
        if name is None:
            continue
        if name not in loaded:
            loaded[name] = benches.bench_for(service, name, service.read(path))
        with service.turn.foreground():
            verdict = claim.judge(subject.context.on(loaded[name]))
        yield claim.id, verdict
