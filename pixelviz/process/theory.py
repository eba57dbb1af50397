"""What the paper claims, where it holds, and what its process leaves undone.

| code       | paper, audit                                                                        |
|------------|-------------------------------------------------------------------------------------|
| u          | gamma t x0 (u_j, u_k for two pixels)                                                |
| ours       | the pixel-aware schedule (Eq. 7-11)                                                 |
| theirs     | the schedule it is compared with: LinearBeta, or its idealisation LinearRate        |
| gap        | KL(q(x_T | x0) || N(0, 1)) in nats, per value: what starting from N(0, I) ignores   |

Images are tensors of any shape with values in (0, 1]; results have the same shape, float64 for arrays.
Settings and pixels that cannot work raise ConfigError.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelviz.config import PAPER_FLOOR, ConfigError, check_process
from pixelviz.process.forward import check_x0, raise_to_floor
from pixelviz.process.schedules import PixelAware, Schedule, as_float


def _fixed_point(f: Callable[[float], float], u: float) -> float:
    """u = f(u), for an f whose slope there is well below 1 (0.38 and 0.41 below)."""
    for _ in range(60):
        u = f(u)
    return u


U_STAR = _fixed_point(lambda u: 3 * math.tanh(u / 2), 2.5)  # 2.5757, where |dSNR/dt| peaks over x0
U_SNR_PEAK = _fixed_point(lambda u: -2 * math.expm1(-u), 1.5)  # 1.5936, where SNR peaks over x0
BARELY_NOISY = 0.9  # a terminal variance below this still shows the image
LARGEST_FLOOR = 0.9  # above, an image keeps less than a tenth of its contrast
LARGEST_GAMMA = 500.0  # config's limit
# The gap falls with x0 where (2u - u^2)(e^u - 1) < gamma^2, u = gamma x0: for every u from gamma = 1.62 on.
LEAST_GAMMA_FOR_FLOOR = 1.7


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be greater than 0; it is {value}.")


def _last_true(holds: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Per element, the end of the stretch from `low` on which `holds`, by bisection; `high` where it never ends."""
    end = holds(high)
    a, b = low, high
    for _ in range(64):
        middle = (a + b) / 2
        true = holds(middle)
        a, b = torch.where(true, middle, a), torch.where(true, b, middle)
    return torch.where(end, high, a)


# --- Proposition 1: brighter pixels lose SNR faster, for a while


def t_delta(x_j, x_k, gamma: float) -> Tensor:
    """t at which dSNR/dt of two pixels cross (Proposition 1); shapes broadcast, order does not matter.

    Before it the brighter pixel loses SNR faster, after it the darker one. A value above 1 means that the
    brighter one is faster throughout. For equal pixels: the limit U_STAR / (gamma x).
    """
    _require_positive("gamma", gamma)
    x_j, x_k = torch.broadcast_tensors(check_x0(x_j), check_x0(x_k))
    dark, bright = torch.minimum(x_j, x_k), torch.maximum(x_j, x_k)
    ratio = dark / bright

    def log_sinh(x: Tensor) -> Tensor:
        return x + torch.log(-torch.expm1(-2 * x))  # without its constant -log 2

    def bright_faster(u_k: Tensor) -> Tensor:
        # g(u) = u^3 / (4 sinh^2(u/2)): log g(u_k) > log g(u_j). It rises to U_STAR and falls after, so the
        # root has u_j < U_STAR < u_k, and there is one.
        return 2 * (log_sinh(ratio * u_k / 2) - log_sinh(u_k / 2)) > 3 * torch.log(ratio)

    return _last_true(bright_faster, torch.full_like(ratio, U_STAR), U_STAR / ratio) / (gamma * bright)


def all_pairs_until(gamma: float, brightest: float = 1.0) -> float:
    """t up to which Proposition 1 holds for every pair of pixels in (0, brightest]: U_STAR / (gamma brightest)."""
    _require_positive("gamma", gamma)
    _require_positive("brightest", brightest)
    return U_STAR / (gamma * brightest)


def snr_peak(gamma: float, t: float) -> float:
    """The x0 with the highest SNR at t > 0: U_SNR_PEAK / (gamma t). Above 1 SNR rises over all of (0, 1]."""
    _require_positive("gamma", gamma)
    _require_positive("t", t)
    return U_SNR_PEAK / (gamma * t)


@dataclass(frozen=True)
class Bounds:
    """Strict bounds, each of the shape of x0 and t broadcast."""

    lower: Tensor
    upper: Tensor


def snr_bounds(gamma: float, x0, t) -> Bounds:
    """x0 e^-u/(gamma t) < SNR < x0 e^(-u/2)/(gamma t) (Eq. 18), t > 0."""
    x0, t = as_float(x0), as_float(t)
    u, scale = gamma * t * x0, x0 / (gamma * t)
    return Bounds(scale * torch.exp(-u), scale * torch.exp(-u / 2))


def snr_derivative_bounds(gamma: float, x0, t) -> Bounds:
    """x0 e^-u/(gamma t^2) < |dSNR/dt| < x0/(gamma t^2), t > 0: Eq. 19 for the right derivative.

    Eq. 19's own upper bound, x0 e^-u/(gamma t^2), is the lower one here: it bounds Eq. 17 as printed.
    """
    x0, t = as_float(x0), as_float(t)
    scale = x0 / (gamma * t**2)
    return Bounds(scale * torch.exp(-gamma * t * x0), scale)


def printed_snr_derivative(gamma: float, x0, t) -> Tensor:
    """-gamma x0^3/(e^u - 1)^2 (Eq. 17 as printed, e^u missing); `Schedule.snr_derivative` is the right one."""
    x0, t = as_float(x0), as_float(t)
    return -gamma * x0**3 / torch.expm1(gamma * t * x0) ** 2


# --- Proposition 2: whose mean decays faster


@dataclass(frozen=True)
class LinearRate(Schedule):
    """beta_t = a t in continuous time, abar = exp(-a t^2/2): DDPM as Proposition 2 idealises it.

    So E[x_t] = x0 exp(-a t^2/4) by Eq. 21. Eq. 22 prints a t^2/2 (it drops the half of Eq. 21), which is this
    schedule with 2a. DDPM's 1e-4..0.02 over 1000 steps is a = 20: abar_T = 4e-5, against e^-10.
    Args: T, steps (only the unit of i); a > 0.
    """

    a: float = 20.0

    def __post_init__(self) -> None:
        check_process(min(1.0, self.T / 2), self.T)
        _require_positive("a", self.a)

    def log_alpha_bar(self, x0, i) -> Tensor:
        """-a t^2/2, t = i/T, whatever x0 is."""
        x0 = as_float(x0)
        return -self.a * (as_float(i, like=x0) / self.T) ** 2 / 2 + 0 * x0

    def rate(self, x0, i) -> Tensor:
        """a t; unlike other schedules' it changes within a step."""
        x0 = as_float(x0)
        return self.a * as_float(i, like=x0) / self.T + 0 * x0

    def log_alpha(self, x0, i) -> Tensor:
        """-a (2i - 1)/(2 T^2), whole i in 1..T."""
        x0 = as_float(x0)
        return -self.a * (2 * as_float(i, like=x0) - 1) / (2 * self.T**2) + 0 * x0


@dataclass(frozen=True)
class Ahead:
    """Who is ahead at one t, boolean per pixel: True where ours is.

    mean: our |E x_t| is the smaller, which is also to say that we have less SNR left (both fall with abar alone).
    rate: our |dE x_t/dt| is the greater (Eq. 13).
    """

    mean: Tensor
    rate: Tensor

    @property
    def mean_share(self) -> float:
        """Share of pixels where our mean is ahead."""
        return self.mean.double().mean().item()

    @property
    def rate_share(self) -> float:
        """Share of pixels where our rate is ahead."""
        return self.rate.double().mean().item()


def _log_decay(schedule: Schedule, x0, i) -> Tensor:
    """log |dE x_t/dt| less log(x0/2), which every schedule shares."""
    return torch.log(schedule.rate(x0, i)) + schedule.log_alpha_bar(x0, i) / 2


def _mean_ahead(ours: Schedule, theirs: Schedule, x0, t) -> Tensor:
    return ours.log_alpha_bar(x0, t * ours.T) < theirs.log_alpha_bar(x0, t * theirs.T)


def _rate_ahead(ours: Schedule, theirs: Schedule, x0, t) -> Tensor:
    return _log_decay(ours, x0, t * ours.T) > _log_decay(theirs, x0, t * theirs.T)


def who_is_ahead(ours: Schedule, theirs: Schedule, x0, t: float) -> Ahead:
    """Proposition 2 at t in (0, 1], per pixel of the image x0; the schedules may differ in T."""
    x0 = check_x0(x0)
    if not 0 < t <= 1:
        raise ConfigError(f"t must be above 0 and at most 1; it is {t}. At 0 no one is ahead.")
    return Ahead(_mean_ahead(ours, theirs, x0, t), _rate_ahead(ours, theirs, x0, t))


@dataclass(frozen=True)
class AheadUntil:
    """The first t, per pixel, at which ours is no longer ahead; 1 where it stays so, 0 where it never is."""

    mean: Tensor
    rate: Tensor


def ahead_until(ours: PixelAware, theirs: Schedule, x0) -> AheadUntil:
    """Up to which t Proposition 2 holds, per pixel of x0: the mean, and the rate (Eq. 13).

    For `theirs` with a rate that rises with t (LinearBeta, LinearRate): then each lead is lost once, and the
    rate's first (LinearBeta: to within a step): when the means meet (LinearRate: at gamma x0 = a t/2), our rate
    is half of theirs.
    """
    x0 = check_x0(x0)
    start = torch.zeros_like(x0)
    mean = _last_true(lambda t: _mean_ahead(ours, theirs, x0, t), start, torch.ones_like(x0))
    rate = _last_true(lambda t: _rate_ahead(ours, theirs, x0, t), start, mean)
    return AheadUntil(mean, rate)


# --- The terminal gap, and what to choose


@dataclass(frozen=True)
class TerminalGap:
    """How far x_T given x0 is from N(0, 1)."""

    kl: Tensor  # nats, shape of x0
    mean: float  # of kl
    share_barely_noisy: float  # share of values with variance below BARELY_NOISY
    least_variance: float


def kl_to_noise(x0: Tensor, log_bar: Tensor) -> Tensor:
    """KL(N(sqrt(abar) x0, 1 - abar) || N(0, 1)) = (abar (x0^2 - 1) - log(1 - abar))/2 in nats, of log abar < 0."""
    bar = torch.exp(log_bar)
    # log(1 - abar): by log1p where abar is small, or a white pixel's gap of 1e-22 would be 0.
    log_noise = torch.where(log_bar < -math.log(2), torch.log1p(-bar), torch.log(-torch.expm1(log_bar)))
    return (bar * (x0**2 - 1) - log_noise) / 2


def terminal_gap(schedule: Schedule, x0) -> TerminalGap:
    """The gap of every value of an image or data set x0, and its summary."""
    x0 = check_x0(x0)
    kl = kl_to_noise(x0, schedule.log_alpha_bar(x0, schedule.T))
    variance = schedule.noise_variance(x0, schedule.T)
    share = (variance < BARELY_NOISY).double().mean().item()
    return TerminalGap(kl, kl.mean().item(), share, variance.min().item())


def amplification(schedule: Schedule, x0, i) -> Tensor:
    """By how much i steps of the printed recursion multiply an error: abar_i^(-1/2) = e^(gamma x0 i/(2T))."""
    return torch.exp(-schedule.log_alpha_bar(x0, i) / 2)


@dataclass(frozen=True)
class Advice:
    """Settings that meet a tolerance, and the mean terminal gap (nats per value) that they leave."""

    gamma: float
    floor: float
    gap: float


class _Brightnesses:
    """The distinct values of a data set and their shares: all that a mean gap depends on."""

    def __init__(self, pixels) -> None:
        pixels = as_float(pixels)
        if pixels.numel() == 0 or not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise ConfigError("the adviser needs pixels in [0, 1], before any floor is added.")
        values, counts = torch.unique(pixels, return_counts=True)
        self.values, self.shares = values.double(), counts.double() / counts.sum()

    def mean_gap(self, gamma: float, floor: float) -> float:
        x0 = raise_to_floor(self.values, floor)
        return (self.shares * kl_to_noise(x0, -gamma * x0)).sum().item()


def _smallest(meets: Callable[[float], bool], low: float, high: float) -> float:
    """The least value in (low, high] from which on `meets` is True, by bisection; meets(high) must be True."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def advise_gamma(pixels, tolerance: float, T: int, floor: float = PAPER_FLOOR) -> Advice:
    """The smallest gamma whose mean terminal gap is at most `tolerance` nats per value.

    Args: pixels of an image or data set in [0, 1], any shape, raised to `floor` here. Raises ConfigError if
    no gamma below T (and at most 500) reaches it.
    """
    check_process(min(1.0, T / 2), T, floor)
    _require_positive("the tolerance", tolerance)
    data = _Brightnesses(pixels)
    highest = LARGEST_GAMMA if T == 1 else min(math.nextafter(T, 0), LARGEST_GAMMA)
    if (left := data.mean_gap(highest, floor)) > tolerance:
        rest = ", the tolerance or T" if highest < LARGEST_GAMMA else " or the tolerance"
        raise ConfigError(
            f"no gamma below {highest:.6g} brings the mean terminal gap to {tolerance:g} at floor {floor:g}: "
            f"there it is still {left:.3g}. Raise the floor{rest}."
        )
    gamma = _smallest(lambda g: data.mean_gap(g, floor) <= tolerance, 0.0, highest)
    return Advice(gamma, floor, data.mean_gap(gamma, floor))


def advise_floor(pixels, tolerance: float, gamma: float) -> Advice:
    """The smallest floor, from the paper's 4e-3 to 0.9, whose mean terminal gap is at most `tolerance`.

    Args: pixels in [0, 1], any shape; tolerance in nats per value. Raises ConfigError if none reaches it, or
    if gamma is below 1.7, where the gap can rise with the floor.
    """
    _require_positive("the tolerance", tolerance)
    if not LEAST_GAMMA_FOR_FLOOR <= gamma <= LARGEST_GAMMA:
        raise ConfigError(f"a floor helps from gamma {LEAST_GAMMA_FOR_FLOOR} to {LARGEST_GAMMA:g}; gamma is {gamma}.")
    data = _Brightnesses(pixels)

    def meets(floor: float) -> bool:
        return data.mean_gap(gamma, floor) <= tolerance

    if not meets(LARGEST_FLOOR):
        raise ConfigError(
            f"no floor up to {LARGEST_FLOOR} brings the mean terminal gap to {tolerance:g} at gamma {gamma:g}: "
            f"there it is still {data.mean_gap(gamma, LARGEST_FLOOR):.3g}. Raise gamma or the tolerance."
        )
    floor = PAPER_FLOOR if meets(PAPER_FLOOR) else _smallest(meets, PAPER_FLOOR, LARGEST_FLOOR)
    return Advice(gamma, floor, data.mean_gap(gamma, floor))
