"""One batch from a named sampler and start: what the command line, the evaluation and the app all call."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral

import torch

from pixelviz.config import MAX_SEED
from pixelviz.declare import quoted
from pixelviz.devices import Compute
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers.common import ImageNoise, SamplerError, SampleStep
from pixelviz.samplers.starts import STARTS
from pixelviz.samplers.table import SAMPLERS


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
) -> Iterator[SampleStep]:
    """Draw images first..first+n-1 of `seed` in one batch, from i = T to 0.

    `start` is for the samplers of the paper's model; the peers have their own.

    Raises SamplerError (also for unknown names) or MissingPart, at the first step.
    """
    if isinstance(passes, bool) or not isinstance(passes, Integral):
        raise SamplerError(f"passes must be a whole number; it is {quoted(passes)}.")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed <= MAX_SEED:
        raise SamplerError(f"seed must be a whole number from 0 to {MAX_SEED:,}; it is {quoted(seed)}.")
    if n < 1:
        raise SamplerError(f"the number of images must be at least 1; it is {n}.")
    noise = ImageNoise(seed, n, first=first, device=model.device)
    yield from draw_noise(model, compute, noise, passes=passes, start=start, sampler=sampler)


def draw_noise(
    model: PixelAwareModel, compute: Compute, noise: ImageNoise, *, passes: int, start: str, sampler: str
) -> Iterator[SampleStep]:
    """As `draw`, for the images that the noise is for."""
    row, steps = SAMPLERS.find(sampler), None
    begin = row.start or STARTS.find(start)
    row.check(model.config, passes)
    model.need(*row.needs)
    while True:
        # Entered anew for every step: a suspended generator must not leave its caller in autocast.
        with torch.inference_mode(), compute.autocast():
            if steps is None:
                steps = row.run(model, begin(model, noise), noise, passes=passes)
            step = next(steps, None)
        if step is None:
            return
        yield step
