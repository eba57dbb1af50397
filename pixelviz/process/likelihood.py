"""A bound on -log p(x0): the diffusion's variational bound, in nats, per pixel-wise schedules and uniform ones alike.

Given the rate's x0 (from a code z, or none) each step back from i to j < i has mean and variance of q(x_j | x_i, x0)
with an estimate in place of x0. Its KL is then (o_j - o_i)/2 (x0 - x0_hat)^2 with the odds o = abar / (1 - abar)
(Kingma et al. 2021, Eq. 15); the last step is a Gaussian over the levels of 8 bits (Ho et al. 2020, Eq. 13).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pixelviz.process.reverse import Gaussian
from pixelviz.process.schedules import Schedule


class Bound(NamedTuple):
    """Nats of each image, (B,): that x_T costs, that the steps cost together, and that the levels cost in the end."""

    terminal: Tensor
    steps: Tensor
    levels: Tensor

    @property
    def nats(self) -> Tensor:
        """All of it, (B,)."""
        return self.terminal + self.steps + self.levels


def gaussian_kl(of: Gaussian, to: Gaussian) -> Tensor:
    """KL(of || to) of each pixel, in nats."""
    ratio = of.variance / to.variance
    return ((of.mean - to.mean).square() / to.variance + ratio - 1 - torch.log(ratio)) / 2


def level_nats(x0: Tensor, mean: Tensor, deviation: float, width: float, ends: tuple[float, float]) -> Tensor:
    """-log of what N(mean, deviation^2) gives the level x0: an interval `width` wide, open at either of the ends."""

    def below(x: Tensor) -> Tensor:
        return torch.special.ndtr((x - mean) / deviation)

    infinite = torch.full_like(x0, math.inf)
    low = torch.where(x0 < ends[0] + width / 2, -infinite, x0 - width / 2)
    high = torch.where(x0 > ends[1] - width / 2, infinite, x0 + width / 2)
    # In the upper tail both are 1: there the mirrored difference keeps its digits.
    mirrored = torch.special.ndtr((mean - low) / deviation) - torch.special.ndtr((mean - high) / deviation)
    share = torch.where(x0 > mean, mirrored, below(high) - below(low))
    return -torch.log(share.clamp(min=1e-30))


def variational_bound(
    schedule: Schedule,
    rate_x0: Tensor,
    x0: Tensor,
    estimate: Callable[[Tensor, float], Tensor],
    steps: Sequence[float],
    start: Gaussian,
    noise: Callable[[], Tensor],
    levels: Callable[[Tensor, Tensor], Tensor],
) -> Bound:
    """The bound for images x0 (B, C, H, W) by one draw of noise a step; a mean over images is without bias.

    Args: estimate, x0_hat of x_i and i; steps, from T down to the last above 0; start, what x_T is drawn from; noise,
    N(0, 1) of x0's shape; levels, of x0 and x0_hat the nats of x0's levels, such as `level_nats`.
    """

    def at(i: float) -> Gaussian:
        return Gaussian(schedule.alpha_bar(rate_x0, i).sqrt() * x0, schedule.noise_variance(rate_x0, i))

    def guess(i: float) -> Tensor:
        mean, variance = at(i)
        return estimate(mean + variance.sqrt() * noise(), i)

    def odds(i: float) -> Tensor:
        return torch.exp(2 * schedule.half_log_odds(rate_x0, i))

    total = torch.zeros_like(x0)
    for i, below in itertools.pairwise(steps):
        total = total + (odds(below) - odds(i)) / 2 * (x0 - guess(i)).square()
    parts = gaussian_kl(at(steps[0]), start), total, levels(x0, guess(steps[-1]))
    return Bound(*(part.flatten(1).sum(1) for part in parts))
