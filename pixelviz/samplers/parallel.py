"""The paper's sampler in the form that is stable (audit, section 3): v-heads, no noise inside a pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import torch

from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.reverse import Affine, drift_step, shrinking, skip_posterior, x0_from_drift
from pixelviz.samplers.common import ImageNoise, SamplerError, SampleStep, Start

SPACING = 3  # power of the spacing of block boundaries; 1 is even


def boundaries(T: int, passes: int, i_min: float = 1.0) -> list[float]:
    """T = b_0 > b_1 > ... > b_K = 0, near T ((K-k)/K)^3. Raises SamplerError unless 1 <= passes <= T.

    Whole steps where the network knows no others (i_min = 1), and for K = T; otherwise none but the 0 below i_min.
    Denser near i = 0: with alpha_bar = exp(-gamma i x0/T) nearly all of an image's detail appears in the
    last tenth of the way (DDIM spaces its steps quadratically for the same reason, Song et al. 2021).
    """
    if not 1 <= passes <= T:
        raise SamplerError(f"passes must be between 1 (one run of the network) and T = {T}; it is {passes}.")
    if i_min < 1 and passes < T:
        return [T, *(i_min + (T - i_min) * (left / passes) ** SPACING for left in range(passes - 1, 0, -1)), 0]
    steps: list[float] = [T]
    for left in range(passes - 1, -1, -1):
        wanted = round(T * (left / passes) ** SPACING)
        steps.append(min(max(wanted, left), steps[-1] - 1))  # whole steps: each below the last, room for the rest
    return steps


def passed_through(steps: list[float]) -> list[float]:
    """All states between these boundaries: they themselves, and every whole step."""
    return sorted({*steps, *range(math.floor(steps[0]), math.floor(steps[-1]), -1)}, reverse=True)


def thinned(states: list[float], most: int | None) -> list[float]:
    """At most `most` steps' ends of these, evenly, the first and the last among them; None: all."""
    steps = len(states) - 1
    if most is None or steps <= most:
        return states
    return [states[round(k * steps / most)] for k in range(most + 1)]


def parallel(
    model: PixelAwareModel,
    start: Start,
    noise: ImageNoise,
    *,
    passes: int = 1,
    crossing: Literal["direct", "recursion"] = "direct",
    heads: int | None = None,
) -> Iterator[SampleStep]:
    """K passes: 1 is one run of the network, T the closed loop.

    Each run at (x_i, i) yields the heads down to the next boundary i'; within the pass x_j follows the
    deterministic v-form. At the boundary x_i' is drawn from q(x_i' | x_i, x0_hat), with x0_hat clipped to
    [floor, 1] and taken from head i ("direct") or from the last head of the block ("recursion").
    The last pass ends where its recursion ends. heads: how many each pass reads at most, evenly spaced, each for all
    steps down to the next (None: all of them); in theory all heads of a run say the same (`process.reverse`).

    Yields: SampleStep for i = T, T-1, ..., 0 (fewer with `heads`) and the boundaries between. For v heads.
    """
    unet = model.parallel_unet
    config, schedule = model.config, model.schedule
    x_delta, rate_x0 = start.x_delta, model.rate_x0(start.x_delta)

    @lru_cache(2)
    def shrink_by(steps: float) -> Affine:  # of a stationary schedule, wherever these steps are
        return shrinking(schedule, rate_x0, steps, 0)

    x = start.x_T
    yield SampleStep(config.T, x, 0)
    steps = boundaries(config.T, passes, config.i_min)
    for evaluations, (i, below) in enumerate(itertools.pairwise(steps), start=1):
        states = thinned(passed_through([i, below]), heads)
        read = torch.tensor([math.ceil(j) for j in states[:-1]], device=x.device)
        at = model.step_tensor(i, len(x))
        drift = unet(x, model.scale_read(x, at, x_delta), at, read, drift=True)
        x_i, x0_hat = x, x0_from_drift(schedule, rate_x0, i, x, drift[:, 0])
        for k, (j, to) in enumerate(itertools.pairwise(states)):
            if crossing == "recursion":
                x0_hat = x0_from_drift(schedule, rate_x0, j, x, drift[:, k])
            shrink = shrink_by(j - to) if schedule.stationary else shrinking(schedule, rate_x0, j, to)
            x = drift_step(schedule, rate_x0, to, x, drift[:, k], shrink)
            if to > below:
                yield SampleStep(to, x, evaluations)
        if below:
            mean, variance = skip_posterior(schedule, rate_x0, i, below, x_i, x0_hat.clamp(config.floor, 1))
            x = mean + variance.sqrt() * noise.normal(*config.shape)
        yield SampleStep(below, x, evaluations)
