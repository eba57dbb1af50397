"""Noise schedules: one protocol, four of them, and the table of those that can be chosen.

A schedule is fixed by one function, log alpha_bar; everything else follows from it here, once.
`x0` is a tensor of pixel values in (0, 1]; `i` is a step from 0 to T, whole (the paper's discrete
steps) or fractional (continuous time t = i/T); the two broadcast. Numbers and arrays become float64;
a tensor keeps its own dtype, so samplers run the same formulas in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pixelviz.config import ConfigError, ModelConfig, check_process
from pixelviz.tables import Table

DDPM_BETAS = (1e-4, 0.02)  # Ho et al. 2020, over 1000 steps; the paper keeps the range whatever T is
DDPM_STEPS = 1000


@dataclass(frozen=True)
class BetaRange:
    """A row: what becomes of DDPM's range of betas in T steps.

    factor: of T, by which it is multiplied; in_words: to stand behind "range"; about: what the screen says of it, with
    {T}, and {left}, how much of x0 DDPM has left after T steps. The browser's twin of `factor` stands in
    `static/instrument/process.js`, under the same name.
    """

    name: str
    title: str
    factor: Callable[[int], float]
    in_words: str
    about: str


RANGES: Table[BetaRange] = Table(
    "range of DDPM",
    (
        BetaRange(
            "rescaled",
            "fit to T",
            lambda T: DDPM_STEPS / T,
            "rescaled by 1000/T",
            "Times 1000/T: after T steps DDPM has {left} of x₀ left, too.",
        ),
        BetaRange(
            "printed",
            "as printed",
            lambda T: 1.0,
            "as printed",
            "Made for 1000 steps: after T = {T} DDPM still has {left} of x₀.",
        ),
    ),
    ConfigError,
)


def as_float(value, like: Tensor | None = None) -> Tensor:
    """A tensor of floats: a tensor keeps its floating dtype, anything else becomes `like`'s, or float64."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value
    return torch.as_tensor(
        value, dtype=torch.float64 if like is None else like.dtype, device=None if like is None else like.device
    )


def _like(i, x0: Tensor) -> Tensor:
    """i in the dtype of x0."""
    return as_float(i, like=x0).to(x0.dtype)


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
    stationary: ClassVar[bool] = False  # whether every step is the same
    uniform: ClassVar[bool] = False  # whether every pixel is the same

    @abstractmethod
    def log_alpha_bar(self, x0, i) -> Tensor:
        """log of the squared signal amplitude left at step i; shape of x0 and i broadcast, <= 0."""

    @abstractmethod
    def rate(self, x0, i) -> Tensor:
        """-d log alpha_bar / dt at t = i/T, twice the SDE's drift Gamma (Eq. 20-26); >= 0, constant within a step."""

    def log_between(self, x0, i, j) -> Tensor:
        """log abar_i - log abar_j for i > j: what of the signal steps j+1..i leave."""
        return self.log_alpha_bar(x0, i) - self.log_alpha_bar(x0, j)

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
        log_bar = self.log_alpha_bar(x0, i)
        return (log_bar - torch.log(-torch.expm1(log_bar))) / 2  # 1/abar would overflow float32 from abar = 1e-39 on

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
class ByPixel(Schedule):
    """Schedules whose noise depends on the pixel: log abar_i = -gamma x0 c(i), c the schedule's clock.

    They are all one process (gamma x0 is the rate of Eq. 7), run by different clocks: c(0) = 0, and c rises.
    Args: T, steps; gamma, the rate, 0 < gamma < T. Raises ConfigError otherwise.
    """

    gamma: float

    def __post_init__(self) -> None:
        check_process(self.gamma, self.T)

    @abstractmethod
    def clock(self, i) -> Tensor:
        """c(i), shape of i."""

    @abstractmethod
    def pace(self, i) -> Tensor:
        """dc/dt at t = i/T, constant within a step, shape of i."""

    @abstractmethod
    def step_at(self, c: Tensor) -> Tensor:
        """The i at which the clock shows c, fractional; at most T."""

    def step_of(self, x0, half_log_odds) -> Tensor:
        """The i at which a pixel's `half_log_odds` is this, fractional: where all pixels have one noise (Eq. 9)."""
        return self.step_at(torch.log1p(torch.exp(-2 * as_float(half_log_odds))) / (self.gamma * as_float(x0)))

    def log_alpha_bar(self, x0, i) -> Tensor:
        """-gamma x0 c(i)."""
        x0 = as_float(x0)
        return -self.gamma * x0 * self.clock(_like(i, x0))

    def rate(self, x0, i) -> Tensor:
        """gamma x0 dc/dt."""
        x0 = as_float(x0)
        return self.gamma * x0 * self.pace(_like(i, x0))

    def log_between(self, x0, i, j) -> Tensor:
        """-gamma x0 (c(i) - c(j))."""
        x0 = as_float(x0)
        return -self.gamma * x0 * (self.clock(_like(i, x0)) - self.clock(_like(j, x0)))


@dataclass(frozen=True)
class PixelAware(ByPixel):
    """The paper's schedule: alpha = exp(-gamma x0 / T) at every step (Eq. 7-11). Its clock is t = i/T."""

    stationary = True

    def clock(self, i) -> Tensor:
        """t = i/T."""
        return as_float(i) / self.T

    def pace(self, i) -> Tensor:
        """1, whatever t is (Eq. 23)."""
        return 1 + 0 * as_float(i)

    def step_at(self, c: Tensor) -> Tensor:
        """c T."""
        return c * self.T

    def log_alpha_bar(self, x0, i) -> Tensor:
        """-gamma x0 i/T (Eq. 9)."""
        x0 = as_float(x0)
        return -self.gamma * x0 * as_float(i, like=x0) / self.T

    def log_between(self, x0, i, j) -> Tensor:
        """-gamma x0 (i - j)/T: of as many steps anywhere."""
        return self.log_alpha_bar(x0, i - j)


@dataclass(frozen=True)
class Uniform(PixelAware):
    """The control: the paper's process with every pixel at the rate of x0 = 1/2, alpha = exp(-gamma / (2T)).

    That is a variance-preserving process of constant beta (Song et al. 2021b), by the same clock t = i/T.
    """

    uniform = True

    def log_alpha_bar(self, x0, i) -> Tensor:
        """-gamma/2 i/T, shape of x0 and i broadcast."""
        return super().log_alpha_bar(0 * as_float(x0) + 0.5, i)

    def step_of(self, x0, half_log_odds) -> Tensor:
        """One for all pixels."""
        return super().step_of(0 * as_float(x0) + 0.5, half_log_odds)

    def rate(self, x0, i) -> Tensor:
        """gamma/2."""
        return super().rate(0 * as_float(x0) + 0.5, i)


@dataclass(frozen=True)
class LinearBeta(Schedule):
    """DDPM's schedule, the same for every pixel: beta_i from 1e-4 to 0.02 in T equal steps.

    Args: T, steps; range, of RANGES: rescaled by 1000/T, DDPM reaches noise in T steps as it does in 1000, as printed
    it does not (Fig. 2). Betas are capped at 0.999, which T from 2 to 20 meet; T = 1 has the range's first beta alone,
    as diffusers has it, 0.1 when rescaled. Between whole steps log alpha_bar is interpolated linearly.
    """

    uniform = True
    range: str = "printed"

    def __post_init__(self) -> None:
        check_process(min(1.0, self.T / 2), self.T)
        RANGES.find(self.range)

    @property
    def a(self) -> float:
        """Its range as Proposition 2 idealises it, beta_t = a t: 20 for the rescaled one, 0.02 T as printed."""
        return DDPM_BETAS[1] * self.T * RANGES[self.range].factor(self.T)

    @property
    def betas(self) -> Tensor:
        """beta_1..beta_T, float64, shape (T,)."""
        printed = torch.linspace(*DDPM_BETAS, self.T, dtype=torch.float64)
        return (printed * RANGES[self.range].factor(self.T)).clamp(max=0.999)

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
class GeneralisedRate(ByPixel):
    """The rate gamma beta_t x0, twice Eq. 26's Gamma: the pixel-aware rate on top of DDPM's beta_t.

    Args: T, gamma; range, as for LinearBeta. alpha_i = exp(-gamma beta_i x0), and the clock sums beta_j.
    """

    range: str = "rescaled"

    def _hands(self, like: Tensor) -> Tensor:
        """The clock at i = 0..T, (T+1,)."""
        betas = LinearBeta(self.T, self.range).betas
        return torch.cat([betas.new_zeros(1), betas.cumsum(0)]).to(like)

    def clock(self, i) -> Tensor:
        """The sum of beta_j for j <= i, between whole steps linear."""
        i = as_float(i)
        hands, below = self._hands(i), i.floor().clamp(0, self.T - 1).long()
        return hands[below] + (hands[below + 1] - hands[below]) * (i - below)

    def pace(self, i) -> Tensor:
        """T beta_i, of the step that i lies in."""
        i = as_float(i)
        return self.T * LinearBeta(self.T, self.range).betas.to(i)[(i.ceil() - 1).clamp(0, self.T - 1).long()]

    def step_at(self, c: Tensor) -> Tensor:
        """Between whole steps linear, as the clock is."""
        hands = self._hands(c)
        below = (torch.searchsorted(hands, c.contiguous()) - 1).clamp(0, self.T - 1)
        return below + (c - hands[below]) / (hands[below + 1] - hands[below])


@dataclass(frozen=True)
class ScheduleRow:
    """A row: a schedule that can be chosen. build: of T and gamma; parameters: which of the two shape it.

    side: of a comparison, "ours" (each pixel at its own rate) or "theirs". The browser's twin of `build` stands in
    `static/instrument/process.js`, under the same name.
    """

    name: str
    title: str
    build: Callable[[int, float], Schedule]
    citation: str
    parameters: tuple[str, ...] = ("T",)
    side: Literal["ours", "theirs"] = "ours"


SCHEDULES: Table[ScheduleRow] = Table(
    "schedule",
    (
        ScheduleRow("pixel-aware", "Pixel-aware", PixelAware, "paper Eq. 7-11", ("T", "gamma")),
        ScheduleRow("generalised", "Generalised rate", GeneralisedRate, "paper Eq. 26", ("T", "gamma")),
        ScheduleRow("uniform", "Uniform", Uniform, "Song et al. 2021b, constant beta", ("T", "gamma"), side="theirs"),
        ScheduleRow("ddpm", "DDPM, as printed", lambda T, gamma: LinearBeta(T), "Ho et al. 2020", side="theirs"),
        ScheduleRow(
            "ddpm-rescaled",
            "DDPM, rescaled",
            lambda T, gamma: LinearBeta(T, "rescaled"),
            "Ho et al. 2020",
            side="theirs",
        ),
    ),
    ConfigError,
)


def by_pixel() -> list[str]:
    """The schedules under which each pixel has its own rate."""
    return [name for name, row in SCHEDULES.items() if row.side == "ours"]


def schedule_of(config: ModelConfig) -> ByPixel:
    """The schedule that a model's configuration names; raises ConfigError for none, or one that has no gamma."""
    schedule = SCHEDULES.find(config.schedule).build(config.T, config.gamma)
    if not isinstance(schedule, ByPixel):
        known = [name for name, row in SCHEDULES.items() if "gamma" in row.parameters]
        raise ConfigError(
            f"a model cannot have the schedule {config.schedule}: its rate does not come from gamma. Choose one of "
            f"{', '.join(known)}."
        )
    return schedule
