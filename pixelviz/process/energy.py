"""An energy to choose gamma by (the paper's future work, Section 5): the variational bound with a measured error.

  E(gamma) = KL_T + sum_{j=2}^{T} (SNR_{j-1} - SNR_j)/2 MMSE_j + log(2 pi e MMSE_1)/2      nats per value

KL_T is the terminal gap, which falls with gamma; the sum is the loss of the T steps (Kingma et al. 2021, Eq. 13),
which grows as equal steps get coarser; the last term is what one estimate from x_1 leaves of x_0, as a Gaussian. SNR
here is abar/(1 - abar), that of x_j for the error of x0. MMSE_j depends on gamma through u = gamma t alone, since all
gammas are one process (`ByPixel`): measured once, at one gamma, it serves every other (`measure.residuals`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelviz.process.forward import check_x0
from pixelviz.process.schedules import PixelAware
from pixelviz.process.theory import kl_to_noise

Error = Callable[[Tensor, Tensor], Tensor]  # (x0, u) -> E[(x0 - x0_hat)^2 | x_u], broadcast


@dataclass(frozen=True)
class Residuals:
    """A network's mean square error by pixel value and u = gamma t: levels (L,), u (U,), both rising, error (L, U)."""

    levels: Tensor
    u: Tensor
    error: Tensor

    def __call__(self, x0: Tensor, u: Tensor) -> Tensor:
        """Of the nearest level, at the same SNR: linear in logarithms between what was measured, constant above.

        Below, where x_u itself tells more than was measured, both are weighed as independent: 1/(rest + SNR), with the
        rest by which the first measured error is met.
        """
        k = (x0[..., None] - self.levels).abs().argmin(-1)
        at, grid = torch.log(u * x0 / self.levels[k]), torch.log(self.u)
        right = torch.searchsorted(grid, at.contiguous()).clamp(1, len(grid) - 1)
        share = ((at - grid[right - 1]) / (grid[right] - grid[right - 1])).clamp(0, 1)
        log = torch.log(self.error)
        measured = torch.exp(torch.lerp(log[k, right - 1], log[k, right], share))
        rest = (1 / self.error[k, 0] - 1 / torch.expm1(self.u[0] * self.levels[k])).clamp(min=0)
        below = 1 / (rest + 1 / torch.expm1(u * x0))
        return torch.where(at < grid[0], below, measured)

    @property
    def blind(self) -> Tensor:
        """What is unknown of each level where x_T tells nothing, (L,): the error at the largest u."""
        return self.error[:, -1]

    def gaussian(self, x0: Tensor, u: Tensor) -> Tensor:
        """The error if the residual were Gaussian with what is unknown in the end: 1/(1/blind + SNR)."""
        k = (x0[..., None] - self.levels).abs().argmin(-1)
        return 1 / (1 / self.blind[k] + 1 / torch.expm1(u * x0))


@dataclass(frozen=True)
class Energy:
    """E over gammas and its three terms, each (G,), nats per value."""

    gammas: Tensor
    gap: Tensor
    steps: Tensor
    first: Tensor

    @property
    def total(self) -> Tensor:
        """E(gamma)."""
        return self.gap + self.steps + self.first

    @property
    def best(self) -> tuple[float, float]:
        """The gamma with the least energy of those tried, and that energy."""
        k = int(self.total.argmin())
        return self.gammas[k].item(), self.total[k].item()


def energy_over(error: Error, gammas, T: int, x0, shares: Tensor | None = None) -> Energy:
    """E of each gamma below T for pixel values x0 (P,) with shares that sum to 1 (None: all alike), float64.

    Raises ConfigError for a gamma of T or more, or pixels outside (0, 1].
    """
    x0 = check_x0(x0)
    shares = torch.full_like(x0, 1 / len(x0)) if shares is None else shares
    rows = []
    for gamma in torch.as_tensor(gammas, dtype=torch.float64).tolist():
        schedule, i = PixelAware(T, gamma), torch.arange(1, T + 1, dtype=torch.float64)[:, None]
        left = error(x0, gamma * i / T)  # (T, P)
        snr = 1 / torch.expm1(-schedule.log_alpha_bar(x0, i))
        steps = ((snr[:-1] - snr[1:]) * left[1:]).sum(0) / 2
        first = torch.log(2 * math.pi * math.e * left[0]) / 2
        gap = kl_to_noise(x0, schedule.log_alpha_bar(x0, T))
        rows.append([(term * shares).sum() for term in (gap, steps, first)])
    return Energy(torch.as_tensor(gammas, dtype=torch.float64), *torch.tensor(rows, dtype=torch.float64).T)
