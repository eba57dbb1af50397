"""The paper's toy experiment (end of Appendix B): run the reverse recursion with the noise known, and see what is left.

Everything is linear and Gaussian, so the root-mean-square error of x_0 is known in closed form. Written for one
pixel, with u = gamma x0, abar_j = e^(-u j/T), beta = 1 - alpha and beta-tilde_j as in Eq. 4:

| what disturbs step j                | its size             | printed form multiplies it by | v-form by         |
|-------------------------------------|----------------------|-------------------------------|-------------------|
| the forward noise, which says what  | sqrt(beta-tilde_j)   | 1/sqrt(abar_{j-1})            | sqrt(abar_{j-1})  |
| x_{j-1} was only on average         |                      |                               |                   |
| fresh noise (Algorithm 1, line 8)   | sqrt(beta-tilde_j)   | 1/sqrt(abar_{j-1})            | sqrt(abar_{j-1})  |
| a head that is wrong by h           | h beta/sqrt(1-abar_j)| 1/sqrt(abar_j)                | abar_{j-1}        |

Line 9 to the letter (denominator sqrt(1 - alpha_j), Z the step noises of Eq. 2) undoes each step exactly, so the
forward noise leaves nothing. Fresh noise grows there as in the printed form, and so does a wrong head, whose size is
h sqrt(beta). A network at x_T cannot give it the step noises, only their conditional means (`reverse.known_share`).

All of these are uncorrelated: given x_j, what the forward noise leaves open of x_{j-1} is independent of the past.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pixelviz.config import ConfigError, check_process
from pixelviz.process.forward import check_x0
from pixelviz.process.open_loop import FORMS, FormName
from pixelviz.process.schedules import as_float


def square_error(
    gamma: float | Tensor,
    T: int,
    x0,
    form: FormName,
    *,
    forward_noise: bool = True,
    fresh_noise: bool = True,
    head_error: float = 0.0,
) -> Tensor:
    """E[(x_0 of the recursion - x0)^2], float64, of the shape of gamma and x0 broadcast.

    forward_noise: the recursion gets the noise of its own forward trajectory, as in the paper's experiment; else the
    best T heads that one run can have, E[. | x_T, x0], which alone leave no error. fresh_noise: whether line 8's noise
    is injected. head_error: standard deviation of an independent error of each head. Raises ConfigError.
    """
    if form not in FORMS:
        raise ConfigError(f"the form is one of {', '.join(FORMS)}; it is {form!r}.")
    if not 0 <= head_error < math.inf:
        raise ConfigError(f"the heads' error must be 0 or more; it is {head_error}.")
    gamma = as_float(gamma)
    check_process(min(1.0, T / 2), T)
    if not bool(((gamma > 0) & (gamma <= 500)).all()):
        raise ConfigError("gamma must be above 0 and at most 500.")
    step = (gamma * check_x0(x0))[..., None].double() / T  # u/T
    j = torch.arange(1, T + 1, dtype=torch.float64)
    # Noise variances by expm1: at small u the difference 1 - abar would lose its digits.
    beta, after, before = -torch.expm1(-step), -torch.expm1(-step * j), -torch.expm1(-step * (j - 1))
    sign = -1.0 if form == "v" else 1.0
    gain = torch.exp(sign * step * (j - 1))  # of variance, from x_{j-1} to x_0
    open_part = (before / after * beta * gain).sum(-1)
    error = (float(forward_noise and form != "letter") + float(fresh_noise)) * open_part
    if head_error:
        heads = {
            "printed": beta**2 / after * gain * torch.exp(step),
            "letter": beta * gain * torch.exp(step),
            "v": beta**2 / after * gain**2,
        }[form]
        error = error + head_error**2 * heads.sum(-1)
    return error


def error_map(
    gammas, steps: Sequence[int], x0, form: FormName, shares: Float[Tensor, " P"] | None = None, **settings
) -> Float[Tensor, "steps gammas"]:
    """Root-mean-square error over pixels x0 (P,) at each of gammas, float64 (len(steps), len(gammas)).

    NaN where gamma >= T. shares: of each pixel value, summing to 1 (None: all alike). Other settings as for
    `square_error`.
    """
    x0, gammas = check_x0(x0), torch.as_tensor(gammas, dtype=torch.float64)
    shares = torch.full_like(x0, 1 / len(x0)) if shares is None else shares
    rows = []
    for T in steps:
        error = (square_error(gammas[:, None], T, x0, form, **settings) * shares).sum(-1).sqrt()
        rows.append(torch.where(gammas < T, error, torch.nan))
    return torch.stack(rows)
