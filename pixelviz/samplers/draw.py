"""One batch from a named sampler and start: what the command line, the evaluation and the app all call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import torch

from pixelviz.config import MAX_SEED
from pixelviz.declare import quoted
from pixelviz.devices import Compute
from pixelviz.models.pixel_aware import PixelAwareModel, Told
from pixelviz.samplers.common import ImageNoise, SamplerError, SampleStep
from pixelviz.samplers.starts import STARTS
from pixelviz.samplers.table import SAMPLERS

MOST_GUIDANCE = 20


def draw(
    model: PixelAwareModel,
    compute: Compute,
    *,
    n: int,
    passes: int = 1,
    start: str = STARTS.first,
    sampler: str = SAMPLERS.first,
    seed: int = 0,
    first: int = 0,
    classes: str | Sequence[str] | None = None,
    guidance: float = 1.0,
) -> Iterator[SampleStep]:
    """Draw images first..first+n-1 of `seed` in one batch, from i = T to 0.

    `start` is for the samplers of the paper's model; the peers have their own. With classes: `classes`, a name or
    several which images 0, 1, ... of the seed take in turns (None: at random, as they were learnt); guidance, see
    `Told`, from 0 to MOST_GUIDANCE.

    Raises SamplerError (also for unknown names) or MissingPart, at the first step.
    """
    if isinstance(passes, bool) or not isinstance(passes, Integral):
        raise SamplerError(f"passes must be a whole number; it is {quoted(passes)}.")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed <= MAX_SEED:
        raise SamplerError(f"seed must be a whole number from 0 to {MAX_SEED:,}; it is {quoted(seed)}.")
    if n < 1:
        raise SamplerError(f"the number of images must be at least 1; it is {n}.")
    noise = ImageNoise(seed, n, first=first, device=model.device)
    if classes and not isinstance(classes, str):
        classes = [classes[k % len(classes)] for k in range(first, first + n)]
    settings = {"passes": passes, "start": start, "sampler": sampler, "classes": classes, "guidance": guidance}
    yield from draw_noise(model, compute, noise, **settings)


def told(
    model: PixelAwareModel, noise: ImageNoise, classes: str | Sequence[str] | None = None, guidance: float = 1.0
) -> Any:
    """What a sampler runs: a model of classes as `Told`, another as it is. Raises SamplerError.

    classes: of the images that the noise is for, one name, or one for each, or None: at random.
    """
    names, wanted = model.config.classes, [classes] * len(noise) if isinstance(classes, str) else classes
    check_told(names, wanted or (), guidance)
    if not names:
        return model
    if wanted:
        labels = torch.tensor([names.index(name) for name in wanted], device=model.device)
    else:
        labels = torch.searchsorted(model.class_shares().cumsum(0), noise.uniform()).clamp(max=len(names) - 1)
    return Told(model, labels, guidance)


def check_told(names: Sequence[str], wanted: Sequence[str], guidance: float) -> None:
    """Raise SamplerError unless a model whose classes have these names can be told the wanted ones, and guided so."""
    if isinstance(guidance, bool) or not isinstance(guidance, Real) or not 0 <= guidance <= MOST_GUIDANCE:
        raise SamplerError(f"guidance must be a number from 0 to {MOST_GUIDANCE}; it is {quoted(guidance)}.")
    if not names and (wanted or guidance != 1):
        raise SamplerError("this model was trained without classes; leave class and guidance out.")
    if unknown := [name for name in wanted if name not in names]:
        raise SamplerError(f"there is no class {quoted(unknown[0])}; this model has: {', '.join(names)}.")


def draw_noise(
    model: PixelAwareModel,
    compute: Compute,
    noise: ImageNoise,
    *,
    passes: int,
    start: str,
    sampler: str,
    classes: str | Sequence[str] | None = None,
    guidance: float = 1.0,
) -> Iterator[SampleStep]:
    """As `draw`, for the images that the noise is for; classes: one name, or one for each of them."""
    row, steps, runs = SAMPLERS.find(sampler), None, 1
    begin = row.start or STARTS.find(start)
    row.check(model.config, passes)
    model.need(*row.needs)
    while True:
        # Entered anew for every step: a suspended generator must not leave its caller in autocast.
        with torch.inference_mode(), compute.autocast():
            if steps is None:
                heard = told(model, noise, classes, guidance)
                runs = getattr(heard, "runs", 1)
                steps = row.run(heard, begin(heard, noise), noise, passes=passes)
            step = next(steps, None)
        if step is None:
            return
        yield replace(step, network_evaluations=runs * step.network_evaluations) if runs > 1 else step
