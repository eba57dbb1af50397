"""What one run's T heads leave in the image when each of them is a little wrong, and what known noise does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pixelviz.config import ConfigError
from pixelviz.process import reverse
from pixelviz.process.forward import check_x0, closed_form, noise, walk
from pixelviz.process.schedules import Schedule


class Form(NamedTuple):
    """A reading of Algorithm 1's line 9: its step, what Z^j is in it, and whether line 8's noise belongs to it."""

    step: Callable[..., Tensor]  # (schedule, x0, j, x_j, Z^j) -> x_{j-1}
    target: reverse.Target
    fresh: bool


# Eq. 4's denominator with the noise of x_j; the denominator as it stands, with the noise of one step; and the v-form.
FormName = Literal["printed", "letter", "v"]
FORMS: dict[FormName, Form] = {
    "printed": Form(reverse.printed_step, "eps", True),
    "letter": Form(reverse.letter_step, "xi", True),
    "v": Form(reverse.v_step, "v", False),
}


def _settings(x0, copies: int) -> Tensor:
    if copies < 1:
        raise ConfigError(f"at least one copy of each pixel must run; there are {copies}.")
    return check_x0(x0)[:, None].expand(-1, copies)


def _fresh(schedule: Schedule, x0: Tensor, j: int, drawn: Tensor | None) -> Tensor | float:
    """Line 8's noise of step j; 0 without a draw."""
    return 0.0 if drawn is None else schedule.posterior_variance(x0, j).sqrt() * drawn


def open_loop_errors(
    schedule: Schedule,
    x0,
    head_error: float,
    form: FormName,
    copies: int = 200,
    seed: int = 0,
    *,
    fresh_noise: bool = False,
) -> Float[Tensor, "states P"]:
    """Root-mean-square distance of x_i from E[x_i | x_T, x0], where errorless heads lead, i = 0..T: (T+1, P), float64.

    Each of P pixels x0 in (0, 1] runs back from its true x_T `copies` times. The heads are the best that one run can
    have, E[. | x_T, x0], plus independent normal errors of standard deviation `head_error`; fresh_noise: with line 8's
    noise. At i = 0 the errorless way ends in x0 itself. Raises ConfigError for pixels outside (0, 1], or no copies.
    """
    x0, (step, target, _), T = _settings(x0, copies), FORMS[form], schedule.T
    draws, fresh = noise(seed, x0.shape, T + 1), noise(seed + 1, x0.shape, T)
    x = x_T = closed_form(schedule, x0, T, next(draws))
    errors = torch.zeros(T + 1, len(x0), dtype=torch.float64)
    for j in range(T, 0, -1):
        skip, out = reverse.head_coefficients(schedule, x0, T, j, target)
        x = step(schedule, x0, j, x, skip * x_T + out * x0 + head_error * next(draws))
        x = x + _fresh(schedule, x0, j, next(fresh) if fresh_noise else None)
        right = reverse.skip_posterior(schedule, x0, T, j - 1, x_T, x0).mean
        errors[j - 1] = (x - right).square().mean(1).sqrt()
    return errors


def known_noise_errors(
    schedule: Schedule, x0, form: FormName, *, fresh_noise: bool, copies: int = 200, seed: int = 0
) -> Float[Tensor, " P"]:
    """Root-mean-square error of x_0 in the experiment of Appendix B, (P,) float64: walk the chain of Eq. 2, keep Z.

    The recursion gets Z^j of the very way that was walked: the noise of x_j, or of step j, as `form` has it. Pixels,
    copies and errors as for `open_loop_errors`; fresh_noise: with line 8's noise.
    """
    x0, (step, target, _), T = _settings(x0, copies), FORMS[form], schedule.T
    draws, fresh = list(noise(seed, x0.shape, T)), noise(seed + 1, x0.shape, T)
    states = list(walk(schedule, x0, draws))
    x = states[-1]
    for j in range(T, 0, -1):
        z = draws[j - 1]
        if target != "xi":
            z = (states[j] - schedule.alpha_bar(x0, j).sqrt() * x0) / schedule.noise_variance(x0, j).sqrt()
        if target == "v":
            z = reverse.v_from_eps(schedule, x0, j, x0, z)
        x = step(schedule, x0, j, x, z) + _fresh(schedule, x0, j, next(fresh) if fresh_noise else None)
    return (x - x0).square().mean(1).sqrt()
