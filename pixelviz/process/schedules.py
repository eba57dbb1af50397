"""Noise schedules: one protocol, three of them.

A schedule is fixed by one function, log alpha_bar; everything else follows from it here, once.
`x0` is a tensor of pixel values in (0, 1]; `i` is a step from 0 to T, whole (the paper's discrete
steps) or fractional (continuous time t = i/T); the two broadcast. Numbers and arrays become float64;
a tensor keeps its own dtype, so samplers run the same formulas in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelviz.config import check_process

DDPM_BETAS = (1e-4, 0.02)  # Ho et al. 2020, over 1000 steps; the paper keeps the range whatever T is
DDPM_STEPS = 1000


def as_float(value, like: Tensor | None = None) -> Tensor:
    """A tensor of floats: a tensor keeps its floating dtype, anything else becomes `like`'s, or float64."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value
    return torch.as_tensor(
        value, dtype=torch.float64 if like is None else like.dtype, device=None if like is None else like.device
    )


def image_scale(x0, gamma: float) -> Tensor:
    """x_delta = exp(-gamma x0), Eq. 7; same shape as x0, in (0, 1)."""
    return torch.exp(-gamma * as_float(x0))


def image_from_scale(x_delta, gamma: float) -> Tensor:
    """x0 = -log(x_delta) / gamma, Eq. 7 inverted; x_delta must be positive."""
    return -torch.log(as_float(x_delta)) / gamma


@dataclass(frozen=True)
class Schedule(ABC):
    """The protocol. Subclasses give T and `log_alpha_bar`, exactly 0 at i = 0 and falling in i."""

    T: int

    @abstractmethod
    def log_alpha_bar(self, x0, i) -> Tensor:
        """log of the squared signal amplitude left at step i; shape of x0 and i broadcast, <= 0."""

    @abstractmethod
    def rate(self, x0, i) -> Tensor:
        """-d log alpha_bar / dt at t = i/T, twice the SDE's drift Gamma (Eq. 20-26); >= 0, constant within a step."""

    def alpha_bar(self, x0, i) -> Tensor:
        """alpha_bar at step i (Eq. 9), in (0, 1]."""
        return torch.exp(self.log_alpha_bar(x0, i))

    def noise_variance(self, x0, i) -> Tensor:
        """1 - alpha_bar at step i, without cancellation where little noise has been added; in [0, 1)."""
        return -torch.expm1(self.log_alpha_bar(x0, i))

    def log_alpha(self, x0, i) -> Tensor:
        """log alpha_i = log alpha_bar_i - log alpha_bar_{i-1} for whole i in 1..T."""
        # The rate is constant within a step, so this is that difference, without its cancellation in float32.
        return -self.rate(x0, i) / self.T

    def alpha(self, x0, i) -> Tensor:
        """alpha_i of one step (Eq. 8), in (0, 1]."""
        return torch.exp(self.log_alpha(x0, i))

    def beta(self, x0, i) -> Tensor:
        """beta_i = 1 - alpha_i, by expm1; in [0, 1)."""
        return -torch.expm1(self.log_alpha(x0, i))

    def half_log_odds(self, x0, i) -> Tensor:
        """lambda = log(abar / (1 - abar)) / 2 at step i, on which all pixels' processes are one; infinite at i = 0."""
        return -torch.log(torch.expm1(self.log_alpha_bar(x0, i).abs())) / 2  # abs: -0.0 would give NaN

    def snr(self, x0, i) -> Tensor:
        """x0^2 alpha_bar / (1 - alpha_bar) (Eq. 11, 16); infinite at i = 0."""
        # alpha_bar / (1 - alpha_bar) = 1 / (e^{-log alpha_bar} - 1), the form that keeps its digits.
        return as_float(x0) ** 2 / torch.expm1(self.log_alpha_bar(x0, i).abs())  # abs: -0.0 would give -inf

    def snr_derivative(self, x0, i) -> Tensor:
        """dSNR/dt at t = i/T (Eq. 17, with the factor e^u that the print drops); negative, -inf at i = 0."""
        u = -self.log_alpha_bar(x0, i)
        # e^u / (e^u - 1)^2 = 1 / (4 sinh^2(u/2)): no overflow before float64 itself ends.
        return -self.rate(x0, i) * as_float(x0) ** 2 / (2 * torch.sinh(u / 2)) ** 2

    def posterior_variance(self, x0, i) -> Tensor:
        """beta-tilde_i of q(x_{i-1} | x_i, x0) (Eq. 4), for whole i in 1..T; 0 at i = 1."""
        i = as_float(i, like=as_float(x0))
        return self.noise_variance(x0, i - 1) / self.noise_variance(x0, i) * self.beta(x0, i)


@dataclass(frozen=True)
class PixelAware(Schedule):
    """The paper's schedule: alpha = exp(-gamma x0 / T) at every step (Eq. 7-11).

    Args: T, steps; gamma, the rate, 0 < gamma < T. Raises ConfigError otherwise.
    """

    gamma: float

    def __post_init__(self) -> None:
        check_process(self.gamma, self.T)

    def log_alpha_bar(self, x0, i) -> Tensor:
        """-gamma x0 i/T (Eq. 9)."""
        x0 = as_float(x0)
        return -self.gamma * x0 * as_float(i, like=x0) / self.T

    def rate(self, x0, i) -> Tensor:
        """gamma x0, whatever t is (Eq. 23)."""
        x0 = as_float(x0)
        return self.gamma * x0 + 0 * as_float(i, like=x0)


@dataclass(frozen=True)
class LinearBeta(Schedule):
    """DDPM's schedule, the same for every pixel: beta_i from 1e-4 to 0.02 in T equal steps.

    Args: T, steps; rescaled, whether the range is multiplied by 1000/T so that DDPM reaches noise in T
    steps as it does in 1000 (the paper does not: Fig. 2). Betas are capped at 0.999, which T up to 20 meet.
    Between whole steps log alpha_bar is interpolated linearly.
    """

    rescaled: bool = False

    def __post_init__(self) -> None:
        check_process(min(1.0, self.T / 2), self.T)

    @property
    def betas(self) -> Tensor:
        """beta_1..beta_T, float64, shape (T,)."""
        factor = DDPM_STEPS / self.T if self.rescaled else 1.0
        return (torch.linspace(*DDPM_BETAS, self.T, dtype=torch.float64) * factor).clamp(max=0.999)

    def _table(self, like: Tensor) -> Tensor:
        log_bar = torch.log1p(-self.betas).cumsum(0)
        return torch.cat([log_bar.new_zeros(1), log_bar]).to(like)

    def log_alpha_bar(self, x0, i) -> Tensor:
        """sum of log(1 - beta_j) for j <= i (Eq. 3)."""
        x0 = as_float(x0)
        i = as_float(i, like=x0)
        table = self._table(x0)
        below = i.floor().clamp(0, self.T - 1).long()
        start = table[below]
        return start + (table[below + 1] - start) * (i - below) + 0 * x0

    def rate(self, x0, i) -> Tensor:
        """-T log(1 - beta_i) of the step that i lies in (of the step that ends there, for whole i)."""
        x0 = as_float(x0)
        i = as_float(i, like=x0)
        step = (i.ceil() - 1).clamp(0, self.T - 1).long()
        return (-self.T * torch.log1p(-self.betas)).to(x0)[step] + 0 * x0


@dataclass(frozen=True)
class GeneralisedRate(Schedule):
    """The rate gamma beta_t x0, twice Eq. 26's Gamma: the pixel-aware rate on top of DDPM's beta_t.

    Args: T, steps; gamma > 0; rescaled, as for LinearBeta. alpha_i = exp(-gamma beta_i x0).
    """

    gamma: float
    rescaled: bool = True

    def __post_init__(self) -> None:
        check_process(self.gamma, self.T)

    def _base(self) -> Tensor:
        betas = LinearBeta(self.T, self.rescaled).betas
        return torch.cat([betas.new_zeros(1), betas.cumsum(0)])

    def log_alpha_bar(self, x0, i) -> Tensor:
        """-gamma x0 times the sum of beta_j for j <= i."""
        x0 = as_float(x0)
        i = as_float(i, like=x0)
        table = self._base().to(x0)
        below = i.floor().clamp(0, self.T - 1).long()
        return -self.gamma * x0 * (table[below] + (table[below + 1] - table[below]) * (i - below))

    def rate(self, x0, i) -> Tensor:
        """gamma x0 T beta_i, of the step that i lies in."""
        x0 = as_float(x0)
        i = as_float(i, like=x0)
        step = (i.ceil() - 1).clamp(0, self.T - 1).long()
        return self.gamma * x0 * self.T * LinearBeta(self.T, self.rescaled).betas.to(x0)[step]


SCHEDULES = {"pixel-aware": PixelAware, "ddpm": LinearBeta, "generalised": GeneralisedRate}
