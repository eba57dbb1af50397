"""DPM-Solver++(2M) (Lu et al. 2022) on every pixel's own clock.

lambda(i) = log(abar_i / (1 - abar_i)) / 2 maps each pixel onto the standard variance-preserving process: two pixels of
one lambda have the same noise, at different i. There the solver's steps differ per pixel, and nothing else does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.reverse import x0_from_drift
from pixelviz.samplers.common import ImageNoise, SampleStep, Start
from pixelviz.samplers.parallel import boundaries


def multistep(model: PixelAwareModel, start: Start, noise: ImageNoise, *, passes: int = 10) -> Iterator[SampleStep]:
    """K runs of R_phi, of which each but the first and the last extrapolates x0_hat from the one before.

    Without noise: the image is a function of x_T and x_delta_hat, as with `rotation`, which is its first order.
    Yields: SampleStep at the boundaries, from i = T to 0. For v heads.
    """
    unet = model.parallel_unet
    schedule, rate_x0, x = model.schedule, model.rate_x0(start.x_delta), start.x_T
    yield SampleStep(model.config.T, x, 0)
    steps = boundaries(model.config.T, passes, model.config.i_min)
    before: tuple[Tensor, Tensor] | None = None  # x0_hat of the last run, and how far it led
    for evaluations, (i, below) in enumerate(itertools.pairwise(steps), start=1):
        head = model.step_tensor(math.ceil(i), 1)
        at = model.step_tensor(i, len(x))
        drift = unet(x, model.scale_read(x, at, start.x_delta), at, head, drift=True)[:, 0]
        x0_hat = x0_from_drift(schedule, rate_x0, i, x, drift)
        length = schedule.half_log_odds(rate_x0, below) - schedule.half_log_odds(rate_x0, i)  # infinite at the end
        guess = x0_hat if before is None or not below else x0_hat + length / (2 * before[1]) * (x0_hat - before[0])
        left = (schedule.noise_variance(rate_x0, below) / schedule.noise_variance(rate_x0, i)).sqrt()
        x = left * x - schedule.alpha_bar(rate_x0, below).sqrt() * torch.expm1(-length) * guess
        before = x0_hat, length
        yield SampleStep(below, x, evaluations)
