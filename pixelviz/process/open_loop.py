"""What the T heads of one run leave in the image when each of them is a little wrong (audit, section 3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pixelviz.config import ConfigError
from pixelviz.process.forward import check_x0, closed_form, noise
from pixelviz.process.reverse import head_coefficients, printed_step, v_step
from pixelviz.process.schedules import Schedule

FORMS = {"printed": (printed_step, "eps"), "v": (v_step, "v")}


def open_loop_errors(
    schedule: Schedule,
    x0,
    head_error: float,
    form: Literal["printed", "v"],
    copies: int = 200,
    seed: int = 0,
) -> Tensor:
    """Root-mean-square distance of x_i from the way that errorless heads take, i = 0..T: (T+1, P), float64.

    Each of P pixels x0 in (0, 1] runs back from its true x_T `copies` times. The heads are the best that one run can
    have, E[. | x_T, x0], plus independent normal errors of standard deviation `head_error`; no noise is injected.
    At i = 0 the errorless way ends in x0 itself. Raises ConfigError for pixels outside (0, 1], or no copies.
    """
    step, target = FORMS[form]
    x0 = check_x0(x0)[:, None]
    if copies < 1:
        raise ConfigError(f"at least one copy of each pixel must run; there are {copies}.")
    T = schedule.T
    draws = noise(seed, (len(x0), copies), T + 1)
    wrong = right = x_T = closed_form(schedule, x0.expand(-1, copies), T, next(draws))
    errors = torch.zeros(T + 1, len(x0), dtype=torch.float64)
    for j, error in zip(range(T, 0, -1), draws, strict=True):
        skip, out = head_coefficients(schedule, x0, T, j, target)
        head = skip * x_T + out * x0
        right = step(schedule, x0, j, right, head)
        wrong = step(schedule, x0, j, wrong, head + head_error * error)
        errors[j - 1] = (wrong - right).square().mean(1).sqrt()
    return errors
