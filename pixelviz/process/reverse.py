"""One step back, per pixel: the printed recursion, the v-form that is stable, and the skip posterior.

| code            | paper, audit                                                       |
|-----------------|--------------------------------------------------------------------|
| eps             | epsilon-tilde_j, the noise with x_j = sqrt(abar_j) x0 + sqrt(1-abar_j) eps |
| xi              | epsilon_j, the noise of one step: x_j = sqrt(alpha_j) x_{j-1} + sqrt(1-alpha_j) xi (Eq. 2) |
| v               | V^j = sqrt(abar_j) eps_j - sqrt(1-abar_j) x0 (Salimans & Ho 2022)  |
| drift           | D^j = V^j / sqrt(1-abar_j); x_{j-1} = sqrt(alpha_j) x_j - beta_j sqrt(abar_{j-1}) D^j |
| rate_x0         | the x0 that the schedule is built from (x0 itself, or -log(x_delta_hat)/gamma) |

All arguments are tensors that broadcast; dtype is kept.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pixelviz.process.schedules import Schedule

Pixels = Float[Tensor, "*#pixels"]  # of shapes that broadcast
Target = Literal["v", "eps", "xi"]  # what a head estimates


class Gaussian(NamedTuple):
    """Mean and variance, per pixel."""

    mean: Tensor
    variance: Tensor


class Affine(NamedTuple):
    """Coefficients of x_i and of x0 (or of what is said of x0)."""

    skip: Tensor
    out: Tensor


def v_from_eps(schedule: Schedule, rate_x0: Pixels, j, x0: Pixels, eps: Pixels) -> Pixels:
    """V^j of a pixel x0 with noise eps at step j."""
    return schedule.alpha_bar(rate_x0, j).sqrt() * eps - schedule.noise_variance(rate_x0, j).sqrt() * x0


def x0_from_v(schedule: Schedule, rate_x0: Pixels, j, x_j: Pixels, v: Pixels) -> Pixels:
    """x0_hat = sqrt(abar_j) x_j - sqrt(1-abar_j) V^j."""
    return schedule.alpha_bar(rate_x0, j).sqrt() * x_j - schedule.noise_variance(rate_x0, j).sqrt() * v


def v_step(schedule: Schedule, rate_x0: Pixels, j, x_j: Pixels, v: Pixels) -> Pixels:
    """x_{j-1}: DDPM's posterior mean with x0_hat from V^j; an error in x_j shrinks by sqrt(alpha)."""
    gain = (
        schedule.alpha_bar(rate_x0, j - 1).sqrt()
        * schedule.beta(rate_x0, j)
        / schedule.noise_variance(rate_x0, j).sqrt()
    )
    return schedule.alpha(rate_x0, j).sqrt() * x_j - gain * v


def shrinking(schedule: Schedule, rate_x0: Pixels, j, below) -> Affine:
    """sqrt(abar_j / abar_below) and 1 - abar_j / abar_below: for one step sqrt(alpha_j) and beta_j."""
    log_between = schedule.log_between(rate_x0, j, below)
    return Affine(torch.exp(log_between / 2), -torch.expm1(log_between))


def drift_step(schedule: Schedule, rate_x0: Pixels, below, x_j: Pixels, drift: Pixels, shrink: Affine) -> Pixels:
    """x at `below` = sqrt(abar_j / abar_below) x_j - sqrt(abar_below) (1 - abar_j / abar_below) D^j; see `shrinking`.

    Where D is one for all steps between, this is `v_step` for each of them: m_j = -x_j / sqrt(abar_j) is then a running
    average, m_{j-1} = (1 - beta_j) m_j + beta_j D^j, by which one pass averages what its heads say. But m itself
    overflows where nothing of the signal is left: float32 ends at abar = 1e-77.
    """
    gain = torch.exp(schedule.log_alpha_bar(rate_x0, below) / 2) * shrink.out
    return torch.addcmul(shrink.skip * x_j, gain, drift, value=-1)


def x0_from_drift(schedule: Schedule, rate_x0: Pixels, j, x_j: Pixels, drift: Pixels) -> Pixels:
    """x0_hat = sqrt(abar_j) x_j - (1-abar_j) D^j."""
    return torch.exp(schedule.log_alpha_bar(rate_x0, j) / 2) * x_j - schedule.noise_variance(rate_x0, j) * drift


def drift_coefficients(schedule: Schedule, rate_x0: Pixels, i) -> Affine:
    """E[D^j | x_i, x0] as skip * x_i + out * x0, the same for every j <= i (see `head_coefficients`)."""
    log_i = schedule.log_alpha_bar(rate_x0, i)
    out = 1 / torch.expm1(log_i)
    return Affine(-out * torch.exp(log_i / 2), out)


class Preconditioning(NamedTuple):
    """Coefficients of x_i, of x0_hat, and of what a network is still to say."""

    skip: Tensor
    guess: Tensor
    out: Tensor


def drift_preconditioning(schedule: Schedule, rate_x0: Pixels, i, deviation: float) -> Preconditioning:
    """E[D^j | x_i] for x0 ~ N(x0_hat, deviation^2) as skip x_i + guess x0_hat, and the scale of what is then unknown.

    The preconditioning of EDM (Karras et al. 2022, Table 1) about a known mean: `out` times a deviation of x0 is that
    of D^j given x_i. With deviation 0 all of it is x0_hat: D^j = (sqrt(abar_i) x_i - x0_hat) / (1-abar_i).
    """
    log_i = schedule.log_alpha_bar(rate_x0, i)
    noise = -torch.expm1(log_i)
    total = torch.exp(log_i) * deviation**2 + noise
    return Preconditioning(torch.exp(log_i / 2) * (1 - deviation**2) / total, -1 / total, -1 / (noise * total).sqrt())


def rotation_step(schedule: Schedule, rate_x0: Pixels, j, x_j: Pixels, v: Pixels, below=None) -> Pixels:
    """x at `below` (j - 1 unless given) = cos(d) x_j - sin(d) V^j, cos of each step's angle being sqrt(abar).

    The DDIM step in v-form: the same x0_hat and eps_hat, whatever the number of steps between.
    """
    angle = [
        torch.atan2(
            schedule.noise_variance(rate_x0, k).sqrt(),
            schedule.alpha_bar(rate_x0, k).sqrt(),
        )
        for k in (j, j - 1 if below is None else below)
    ]
    d = angle[0] - angle[1]
    return torch.cos(d) * x_j - torch.sin(d) * v


def _step_back(schedule: Schedule, rate_x0: Pixels, j, x_j: Pixels, taken: Pixels, noise: Pixels | None) -> Pixels:
    """(x_j - taken) / sqrt(alpha_j), and line 8's noise where there is some."""
    x = (x_j - taken) / schedule.alpha(rate_x0, j).sqrt()
    return x if noise is None else x + schedule.posterior_variance(rate_x0, j).sqrt() * noise


def printed_step(
    schedule: Schedule, rate_x0: Pixels, j, x_j: Pixels, eps: Pixels, noise: Pixels | None = None
) -> Pixels:
    """Algorithm 1, line 9, with the denominator of Eq. 4, sqrt(1 - abar_j), and the noise eps that x_j holds.

    An error in x_j grows by 1/sqrt(alpha) at every step. `noise` is line 8's epsilon, None for none.
    """
    taken = schedule.beta(rate_x0, j) / schedule.noise_variance(rate_x0, j).sqrt() * eps
    return _step_back(schedule, rate_x0, j, x_j, taken, noise)


def letter_step(schedule: Schedule, rate_x0: Pixels, j, x_j: Pixels, xi: Pixels, noise: Pixels | None = None) -> Pixels:
    """Algorithm 1, line 9, to the letter: the denominator sqrt(1 - alpha_j), and the step noise xi_j of Eq. 2.

    Without `noise` (line 8's epsilon) it undoes that step exactly. Errors grow as in `printed_step`.
    """
    return _step_back(schedule, rate_x0, j, x_j, schedule.beta(rate_x0, j).sqrt() * xi, noise)


def skip_posterior(schedule: Schedule, rate_x0: Pixels, i, j, x_i: Pixels, x0: Pixels) -> Gaussian:
    """q(x_j | x_i, x0) for 0 <= j < i: DDPM's posterior (Eq. 4) over any number of steps.

    Variance (1-abar_j)(1 - abar_i/abar_j)/(1-abar_i), which is 0 at j = 0, where the mean is x0.
    """
    log_i, log_j = schedule.log_alpha_bar(rate_x0, i), schedule.log_alpha_bar(rate_x0, j)
    noise_i, noise_j = -torch.expm1(log_i), -torch.expm1(log_j)
    log_between = schedule.log_between(rate_x0, i, j)
    between = -torch.expm1(log_between)  # the noise that steps j+1..i add
    skip = torch.exp(log_between / 2) * noise_j / noise_i
    out = torch.exp(log_j / 2) * between / noise_i
    return Gaussian(skip * x_i + out * x0, noise_j * between / noise_i)


def head_coefficients(schedule: Schedule, rate_x0: Pixels, i, j, target: Target = "v") -> Affine:
    """E[V^j | x_i, x0], E[eps_j | x_i, x0] or E[xi_j | x_i, x0], as skip * x_i + out * x0, for 1 <= j <= i.

    Put x_j's posterior mean (`skip_posterior`) into V^j = (sqrt(abar_j) x_j - x0) / sqrt(1-abar_j):
      E[V^j | x_i]   = sqrt((1-abar_j) / (1-abar_i)) E[V^i | x_i],
      E[eps_j | x_i] = sqrt((abar_i/abar_j) (1-abar_j) / (1-abar_i)) E[eps_i | x_i],
      E[xi_j | x_i]  = sqrt((abar_i/abar_j) (1-alpha_j) / (1-abar_i)) E[eps_i | x_i].
    So under Eq. 15 the best T heads of one run are one image times known factors: they carry
    E[x0 | x_i, x_delta_hat], and nothing else.
    """
    drift, noise_j = drift_coefficients(schedule, rate_x0, i), schedule.noise_variance(rate_x0, j)
    if target == "v":
        return Affine(noise_j.sqrt() * drift.skip, noise_j.sqrt() * drift.out)
    log_i = schedule.log_alpha_bar(rate_x0, i)
    held = noise_j if target == "eps" else schedule.beta(rate_x0, j)
    fall = held.sqrt() * torch.exp((log_i - schedule.log_alpha_bar(rate_x0, j)) / 2)
    return Affine(-fall * drift.out, fall * torch.exp(log_i / 2) * drift.out)


def known_share(schedule: Schedule, x0: Pixels, i, j, target: Literal["eps", "xi"]) -> Tensor:
    """The share of eps_j's or xi_j's variance, given x0, that a network at x_i can know: R^2 of its best head.

    Of the i step noises the shares add up to 1: x_i is one number, and holds one number's worth of them.
    """
    return head_coefficients(schedule, x0, i, j, target).skip ** 2 * schedule.noise_variance(x0, i)
