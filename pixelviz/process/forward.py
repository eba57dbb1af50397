"""Noising an image: the closed form, the exact Markov trajectory, and its statistics over time (Fig. 2).

An image x0 is a tensor (C, H, W), or of any shape, with values in (0, 1]; its dtype is kept (arrays
become float64). A trajectory is walked one step at a time, so T = 1000 steps of a large image need the
memory of a few images. Two schedules walked with `noise` of the same seed share every xi_j.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pixelviz.config import ConfigError
from pixelviz.process.reverse import Gaussian
from pixelviz.process.schedules import Schedule, as_float

VALUES_AT_ONCE = 2**15 - 1  # torch spreads more over threads, which here costs more than it saves


def raise_to_floor(pixels, floor: float) -> Tensor:
    """x0 = floor + (1 - floor) p: [0, 1] onto [floor, 1] (Section 4), shape kept."""
    return floor + (1 - floor) * as_float(pixels)


def check_x0(x0) -> Tensor:
    """x0 as a tensor of floats; raises ConfigError unless it has values and all lie in (0, 1]."""
    x0 = as_float(x0)
    if x0.numel() == 0:
        raise ConfigError("the image has no pixels.")
    if not bool(((x0 > 0) & (x0 <= 1)).all()):  # also refuses NaN
        raise ConfigError(
            f"pixel values must lie in (0, 1]; they run from {x0.min():g} to {x0.max():g}. "
            "Scale the image to [0, 1] and raise it to the floor first."
        )
    return x0


def marginal(schedule: Schedule, x0, i) -> Gaussian:
    """Mean sqrt(abar_i) x0 and variance 1 - abar_i of x_i given x0 (Eq. 9, 25), per pixel."""
    return Gaussian(torch.exp(schedule.log_alpha_bar(x0, i) / 2) * as_float(x0), schedule.noise_variance(x0, i))


def closed_form(schedule: Schedule, x0, i, eps) -> Tensor:
    """x_i = sqrt(abar_i) x0 + sqrt(1 - abar_i) eps (Eq. 9); `eps` of x0's shape, i broadcasts."""
    mean, variance = marginal(schedule, x0, i)
    return mean + variance.sqrt() * torch.as_tensor(eps).to(mean)


def noise(seed: int, shape: Sequence[int], T: int, dtype: torch.dtype = torch.float64) -> Iterator[Tensor]:
    """xi_1, ..., xi_T: standard normal tensors of `shape`, drawn when asked for; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(T):
        yield torch.randn(tuple(shape), generator=generator, dtype=dtype)


def walk(schedule: Schedule, x0, xi: Iterable[Tensor]) -> Iterator[Tensor]:
    """x_0, x_1, ..., x_T of the Markov chain x_i = sqrt(alpha_i) x_{i-1} + sqrt(1 - alpha_i) xi_i (Eq. 2, 8).

    `xi` gives xi_1..xi_T (see `noise`), each of x0's shape. Raises ConfigError if it ends early, or
    if x0 leaves (0, 1].
    """
    x = x0 = check_x0(x0)
    yield x
    source = iter(xi)
    log_alpha = None
    for i in range(1, schedule.T + 1):
        step = next(source, None)
        if step is None:
            raise ConfigError(f"the noise ends after {i - 1} steps, but T is {schedule.T}.")
        previous, log_alpha = log_alpha, schedule.log_alpha(x0, i)
        # The paper's alpha is the same at every step (Eq. 8): its roots are taken once.
        if previous is None or not torch.equal(previous, log_alpha):
            keep, add = torch.exp(log_alpha / 2), torch.expm1(log_alpha).neg().sqrt()
        x = keep * x + add * torch.as_tensor(step).to(x)
        yield x


def trajectory(
    schedule: Schedule, x0, xi: Iterable[Tensor], steps: Iterable[int] | None = None
) -> Float[Tensor, "steps ..."]:
    """The states of one walk (see `walk`) at `steps`, in that order; all of 0..T where None.

    Returns (len(steps), *x0.shape), holding no other states. Raises ConfigError on a step outside 0..T.
    """
    kept = list(range(schedule.T + 1) if steps is None else steps)
    if not kept:
        raise ConfigError("name at least one step to keep.")
    if outside := [i for i in kept if not (0 <= i <= schedule.T and i == int(i))]:
        raise ConfigError(f"steps must be whole numbers from 0 to {schedule.T}; {outside[0]} is not.")
    last = max(kept)
    states: dict[int, Tensor] = {}
    for i, x in enumerate(walk(schedule, x0, xi)):
        if i in kept:
            states[i] = x
        if i == last:
            break
    return torch.stack([states[int(i)] for i in kept])


@dataclass(frozen=True)
class Moments:
    """Mean and variance over an image's pixels, per step and channel, each (steps, C).

    The variance is biased, divided by the number of pixels: the pixels are the whole population.
    """

    mean: Float[Tensor, "steps C"]
    variance: Float[Tensor, "steps C"]


def empirical_moments(schedule: Schedule, x0, xi: Iterable[Tensor]) -> Moments:
    """Moments of one trajectory's pixels at i = 0..T (Fig. 2), each (T+1, C), storing no states.

    x0 is (C, H, W); `xi` as in `walk`, which says what is raised.
    """
    mean, variance = [], []
    for x in walk(schedule, x0, xi):
        pixels = x.flatten(1)
        mean.append(pixels.mean(1))
        variance.append(pixels.var(1, correction=0))
    return Moments(torch.stack(mean), torch.stack(variance))


def expected_moments(schedule: Schedule, x0, steps: Iterable[float] | None = None) -> Moments:
    """What `empirical_moments` tends to as the pixels grow many, at `steps` (0..T where None), each (steps, C).

    The law of total variance: the mean over pixels of 1 - abar, plus the variance over pixels of
    sqrt(abar) x0. With n pixels the expected empirical variance lacks 1/n of the first term.
    x0 is (C, H, W); raises ConfigError if it leaves (0, 1].
    """
    x0 = check_x0(x0)
    # An image has few distinct values: the law is taken once for each, and weighed by its share of each channel.
    values, index = torch.unique(x0, return_inverse=True)
    shares = torch.stack([torch.bincount(channel.flatten(), minlength=len(values)) for channel in index])
    shares = shares.to(x0) / x0[0].numel()
    mean, variance = [], []
    for i in range(schedule.T + 1) if steps is None else steps:
        pixel = marginal(schedule, values, i)
        mean.append(shares @ pixel.mean)
        spread = (shares * (pixel.mean - mean[-1][:, None]) ** 2).sum(1)
        variance.append(shares @ pixel.variance.expand_as(values) + spread)
    return Moments(torch.stack(mean), torch.stack(variance))


def closed_form_moments(schedule: Schedule, levels, tallies: Float[Tensor, "C 3 L"]) -> Moments:
    """Moments over an image's pixels of x_i = sqrt(abar_i) x0 + sqrt(1 - abar_i) eps, one eps for all i = 0..T.

    At each i they have the law of `empirical_moments`, but not from one i to the next: a chain adds fresh noise at
    every step, which costs 2 T normal numbers a pixel. Here the pixels are counted once, and each step costs a few
    operations a level. Args: levels (L,), distinct x0; tallies (C, 3, L), of a channel's pixels at each level how many
    there are, the sum of their eps, and of its square. Returns (T+1, C) each.
    """
    levels, mean, variance = check_x0(levels), [], []
    number, first, second = (tallies[:, k].T.to(levels) for k in range(3))  # (L, C) each
    pixels = number.sum(0)
    for i in torch.arange(schedule.T + 1).split(max(1, VALUES_AT_ONCE // len(levels))):
        m, v = marginal(schedule, levels, i[:, None])
        s = v.sqrt()
        middle = m.mean(1, keepdim=True)  # the squares are of differences from it, or little of them would be left
        m = m - middle
        shifted = (m @ number + s @ first) / pixels
        mean.append(middle + shifted)
        square = (m.square() @ number + 2 * (m * s) @ first + v @ second) / pixels
        variance.append((square - shifted.square()).clamp(min=0))
    return Moments(torch.cat(mean), torch.cat(variance))


def _step_factors(schedule: Schedule, x0: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """sqrt(alpha_i) and sqrt(1 - alpha_i) for i = 1..T, no larger than they need be."""

    def roots(log_alpha: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return torch.exp(log_alpha / 2).numpy(), torch.expm1(log_alpha).neg().sqrt().numpy()

    pixels = torch.from_numpy(x0)
    if schedule.stationary:  # one image for all steps (Eq. 8)
        return repeat(roots(schedule.log_alpha(pixels, 1)), schedule.T)
    if schedule.uniform:  # one number a step, whatever the pixel
        return zip(*roots(schedule.log_alpha(1.0, torch.arange(1, schedule.T + 1))), strict=True)
    return (roots(schedule.log_alpha(pixels, i)) for i in range(1, schedule.T + 1))


def walk_both(schedules: Sequence[Schedule], x0: np.ndarray, seed: int) -> Iterator[list[np.ndarray]]:
    """x_i of every schedule for i = 0, 1, ..., T, with one noise for all; the arrays are reused at each step.

    The same numbers as `walk` with `noise(seed, ...)` gives, in place: a large picture's time goes into memory.
    """
    x0 = np.ascontiguousarray(x0)
    factors = [_step_factors(schedule, x0) for schedule in schedules]
    states, scratch = [x0.copy() for _ in schedules], np.empty_like(x0)
    yield states
    for xi, *step in zip(noise(seed, x0.shape, schedules[0].T), *factors, strict=True):
        for x, (keep, add) in zip(states, step, strict=True):
            x *= keep
            np.multiply(xi.numpy(), add, out=scratch)
            x += scratch
        yield states
