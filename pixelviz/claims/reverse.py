"""Section 3.3, Appendices B and D: Algorithm 1, and what the T heads of one run can carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pixelviz.claims.base import (
    CANNOT,
    HOLDS,
    SLIP,
    WHERE,
    Context,
    Curve,
    Number,
    Plot,
    Register,
    Verdict,
)
from pixelviz.numerals import in_words
from pixelviz.process import reverse, theory
from pixelviz.process.forward import closed_form, walk

register = Register("3.3 Reverse process and Algorithm 1")
BRIGHTNESSES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
TRIALS = 128
HEAD_ERROR = 0.01  # root mean square, of an estimate whose own is about 1: far better than any network
FINE = 0.05  # root mean square error of an image in [0, 1] that one would accept
LARGEST = 1e300


class Recursion(NamedTuple):
    """How T heads become an image: what they estimate, the step, and whether fresh noise comes in at each."""

    target: Literal["eps", "v"]
    step: Callable[..., Tensor]  # (schedule, x0, j, x_j, head) -> x_{j-1}
    fresh: bool


PRINTED = Recursion("eps", reverse.printed_step, True)
V_FORM = Recursion("v", reverse.v_step, False)


def _pixels(context: Context) -> Tensor:
    """Pixel values from the floor to 1, (P,)."""
    return torch.tensor((context.floor, *(v for v in BRIGHTNESSES if v > context.floor)), dtype=torch.float64)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _rms(difference: Tensor) -> Tensor:
    """Over the trials (second axis from the end); what overflows becomes LARGEST."""
    return difference.square().mean(-2).sqrt().nan_to_num(LARGEST, LARGEST).clamp(max=LARGEST)


def one_run(context: Context, recursion: Recursion, head_error: float) -> tuple[Tensor, Curve]:
    """The open loop from a true x_T, with the best heads that one run can give, E[. | x_T, x0], off by `head_error`.

    Returns the error of x_0, (2, P): as the recursion is, and without fresh noise; and that of x_j of the brightest
    over the steps made, about 100 points each.
    """
    schedule, x0, shape = context.ours, _pixels(context), (TRIALS, len(_pixels(context)))
    generator = torch.Generator().manual_seed(context.seed)
    x_T = closed_form(schedule, x0, context.T, _normal(generator, *shape))
    x = x_T.repeat(2, 1, 1)
    fresh = torch.tensor([recursion.fresh, False]).double()[:, None, None]
    made, errors, thin = [], [], max(1, context.T // 100)
    for j in range(context.T, 0, -1):
        skip, out = reverse.head_coefficients(schedule, x0, context.T, j, recursion.target)
        x = recursion.step(schedule, x0, j, x, skip * x_T + out * x0 + head_error * _normal(generator, *shape))
        if recursion.fresh:
            x = x + fresh * schedule.posterior_variance(x0, j).sqrt() * _normal(generator, *shape)
        if (j - 1) % thin == 0:
            best = reverse.skip_posterior(schedule, x0[-1:], context.T, j - 1, x_T[:, -1:], x0[-1:]).mean
            made.append(context.T - j + 1)
            errors.append(_rms(x[0, :, -1:] - best).item())
    name = "Algorithm 1" if recursion.target == "eps" else "v-form"
    return _rms(x - x0), Curve(name, made, errors, dashed=recursion.target == "v")


@register(
    "algorithm1",
    "Algorithm 1, Eq. 6",
    "One run of the network, then T steps",
    r"$\mathbf Z=R_\phi(x_T,\hat x_\delta,T)$ once; then $\hat x_{j-1}=\frac{1}{\sqrt{\alpha_j}}\big(\hat x_j-"
    r"\frac{1-\alpha_j}{\sqrt{1-\bar\alpha_j}}\mathbf Z^j\big)+\sqrt{\tilde\beta_j}\,\epsilon$ for $j=T,\dots,1$.",
    code="process/reverse.py, printed_step and v_step",
    formula=PRINTED,
)
def algorithm1(context: Context, recursion) -> Verdict:
    (printed, quiet), way = one_run(context, recursion, HEAD_ERROR)
    (stable, _), stable_way = one_run(context, V_FORM, HEAD_ERROR)
    (stable_fresh, _), _ = one_run(context, V_FORM._replace(fresh=True), HEAD_ERROR)
    mid = (_pixels(context) - 0.5).abs().argmin()
    x_mid = _pixels(context)[mid].item()
    amplification = theory.amplification(context.ours, torch.tensor([x_mid, 1.0]).double(), context.T)
    numbers = (
        Number("root mean square error of x_0, white pixel", printed[-1].item()),
        Number(f"the same, x0 = {x_mid:g}", printed[mid].item()),
        Number("without the fresh noise, white pixel", quiet[-1].item()),
        Number("the v-form, white pixel, the same head error", stable[-1].item()),
        Number("the same with line 8's noise", stable_fresh[-1].item()),
        Number("amplification e^(gamma/2) of a white pixel's error", amplification[1].item()),
    )
    plot = Plot(
        "Error of a white pixel over the reverse steps made, on a log axis: Algorithm 1 and the v-form",
        "reverse steps",
        "error",
        (way, stable_way),
        log=True,
    )
    setting = f"With the best possible heads, off by {HEAD_ERROR:g}, and line 8's fresh noise"
    if bool((printed <= FINE).all()):
        return Verdict(HOLDS, numbers, f"{setting} every pixel comes back to within {FINE:g}.", plot)
    if printed.max() < 1:
        return Verdict(WHERE, numbers, f"{setting} some pixels come back to within {FINE:g}; bright ones do not.", plot)
    return Verdict(
        CANNOT,
        numbers,
        f"{setting} a white pixel is off by {in_words(printed[-1].item())}, where 1 is the whole range; without that "
        f"noise by {in_words(quiet[-1].item())}. Nothing looks at x_j again, so each step multiplies every error by "
        f"1/sqrt(alpha). The v-form shrinks that of the heads to {in_words(stable[-1].item())}; noise after the one "
        f"run would hurt it too ({in_words(stable_fresh[-1].item())}), so inside a pass it has none.",
        plot,
    )


@register(
    "toy",
    "Appendix B",
    "The toy experiment with known noise",
    "With the forward noise “completely known beforehand” and the true scale, the recursion returns an image close to "
    r"$x_0$; $\gamma$ was chosen by its mean square error.",
    code="process/reverse.py, printed_step",
    formula=PRINTED,
)
def toy(context: Context, recursion) -> Verdict:
    schedule, x0 = context.ours, _pixels(context)
    generator, shape = torch.Generator().manual_seed(context.seed), (TRIALS, len(x0))
    states = list(walk(schedule, x0.repeat(TRIALS, 1), (_normal(generator, *shape) for _ in range(context.T))))
    x = states[-1].repeat(2, 1, 1)
    fresh = torch.tensor([recursion.fresh, False]).double()[:, None, None]
    for j in range(context.T, 0, -1):
        bar = schedule.alpha_bar(x0, j)
        eps = (states[j] - bar.sqrt() * x0) / schedule.noise_variance(x0, j).sqrt()
        head = eps if recursion.target == "eps" else reverse.v_from_eps(schedule, x0, j, x0, eps)
        x = recursion.step(schedule, x0, j, x, head)
        x = x + fresh * schedule.posterior_variance(x0, j).sqrt() * _normal(generator, *shape)
    printed, quiet = _rms(x - x0)
    numbers = (
        Number("root mean square error, white pixel", printed[-1].item()),
        Number("the same, darkest pixel", printed[0].item()),
        Number("without fresh noise, white pixel", quiet[-1].item()),
        Number("without fresh noise, darkest pixel", quiet[0].item()),
    )
    if bool((printed <= FINE).all()):
        return Verdict(HOLDS, numbers, "The known noise brings the image back.")
    if printed.max() < 1:
        return Verdict(WHERE, numbers, "It comes near for some pixels only.")
    return Verdict(
        CANNOT,
        numbers,
        "Even with the true noise of every step. Z^j is the noise in x_j of the way that was walked; the recursion "
        "walks another one, and nothing tells it.",
    )


@register(
    "last-step",
    "Section 4, Eq. 8",
    "200 steps are enough",
    r"Every step has the same $\alpha=x_\delta^{1/T}$, and the trajectory has “only 200 time-steps” ($\gamma=20$), or "
    r"500 ($\gamma=50$).",
    code="samplers/parallel.py, boundaries",
    formula=lambda context: context.ours,
)
def last_step(context: Context, schedule_of) -> Verdict:
    schedule, values = schedule_of(context), torch.cat([context.levels, torch.ones(1).double()])
    left = schedule.noise_variance(values, 1).sqrt()
    share = context.share(left[:-1] <= FINE)
    ddpm = context.theirs.noise_variance(torch.ones(()).double(), 1).sqrt().item() / 2  # its images are in [-1, 1]
    enough = context.gamma / -math.log1p(-(FINE**2))
    i = torch.linspace(0, min(20, context.T), 81, dtype=torch.float64)
    numbers = (
        Number(
            "deviation of a white pixel's noise at i = 1, which the last step must take away at once", left[-1].item()
        ),
        Number("DDPM's, on the same range", ddpm),
        Number(f"share of the image with at most {FINE:g}", share, percent=True),
        Number(f"equal steps that would leave a white pixel {FINE:g}", math.ceil(enough)),
        Number(f"or the i between 0 and 1 that does, at T = {context.T}", min(1.0, context.T / enough)),
    )
    plot = Plot(
        "Deviation of a white pixel's noise over the first steps: the paper's process, and DDPM's",
        "i",
        "deviation",
        (
            Curve("white pixel", i.tolist(), schedule.noise_variance(torch.ones(1).double(), i).sqrt().tolist()),
            Curve(
                "DDPM",
                i.tolist(),
                (context.theirs.noise_variance(torch.ones(1).double(), i).sqrt() / 2).tolist(),
                dashed=True,
            ),
        ),
    )
    if bool((left <= FINE).all()):
        return Verdict(HOLDS, numbers, f"The last step has at most {FINE:g} to take away, from any pixel.", plot)
    text = (
        "The rest of the way back is one estimate E[x0 | x_1], a mean over all images within that noise, and blurred. "
        "Equal steps are coarse just where detail appears; steps between 0 and 1 (i_min) mend it."
    )
    return Verdict(WHERE if share else SLIP, numbers, text, plot)


@register(
    "algorithm1-line9",
    "Algorithm 1, line 9",
    "The denominator of the step",
    r"In the text at hand line 9 divides by $\sqrt{1-\alpha_j}$, Eq. 4 by $\sqrt{1-\bar\alpha_j}$.",
    code="process/reverse.py, printed_step",
    formula=lambda alpha, noise: (1 - alpha).sqrt(),
)
def line9(context: Context, denominator) -> Verdict:
    schedule, x0 = context.ours, context.picked
    j = torch.arange(1, context.T + 1)[:, None]
    alpha, noise, eps = schedule.alpha(x0, j), schedule.noise_variance(x0, j), 1.0
    x_j = schedule.alpha_bar(x0, j).sqrt() * x0 + noise.sqrt() * eps
    found = (x_j - (1 - alpha) / denominator(alpha, noise) * eps) / alpha.sqrt()
    wanted = reverse.skip_posterior(schedule, x0, j, j - 1, x_j, x0).mean
    worst = (found - wanted).abs().max().item()
    numbers = (Number("largest error of one step with perfect noise", worst),)
    if worst < 1e-7:
        return Verdict(HOLDS, numbers, "One step with the true noise gives the posterior's mean.")
    return Verdict(
        SLIP,
        numbers,
        "Only the denominator of Eq. 4 gives the posterior's mean. A bar may also have been lost when the text was "
        "taken from the page; this app uses Eq. 4's.",
    )


@register(
    "heads",
    "Section 3.3, Eq. 14, 15",
    "T heads give T noises at once",
    r"One run predicts the noise of all preceding steps: $L(\phi,j)=\mathbb E\,\|\mathbf Z^j-\tilde\epsilon_j\|^2$ for "
    r"$j=1,\dots,T$, in parallel.",
    code="process/reverse.py, head_coefficients",
    formula=lambda schedule, x0, i, j: reverse.head_coefficients(schedule, x0, i, j, "eps"),
)
def heads(context: Context, coefficients) -> Verdict:
    # The best estimates under Eq. 15 are E[eps_j | x_T, x0]. Here from the chain of Eq. 1, step by step.
    schedule, T = context.ours, context.T
    x0 = context.picked[len(context.picked) // 2 :][:1]
    alpha = schedule.alpha(x0, 1).item()
    spread = [0.0]  # variance of x_j given x0
    for _ in range(T):
        spread.append(alpha * spread[-1] + 1 - alpha)
    spread, k = torch.tensor(spread[1:], dtype=torch.float64), torch.arange(1, T + 1).double()
    covariance = alpha ** ((T - k) / 2) * spread  # of x_j and x_T: what later steps keep of x_j
    pull = covariance / spread.sqrt() / spread[-1]  # regression of eps_j on x_T
    best = torch.stack([pull, -pull * alpha ** (T / 2)], 1)
    found = torch.cat(tuple(coefficients(schedule, x0, T, k[:, None])), 1)
    off = (best - found).abs().max().item()
    first, *rest = torch.linalg.svdvals(found).tolist()  # T = 1 has one head, and nothing beside it
    second = max(rest, default=0.0)
    known = (pull**2 * spread[-1])[[0, T // 2, -1]]  # of eps_j's variance, explained by x_T
    numbers = (
        Number("images that the T best heads span: second singular value over the first", second / first),
        Number("share of head 1's noise that x_T tells, given x0", known[0].item(), percent=True),
        Number(f"of head {T // 2 + 1}'s", known[1].item(), percent=True),
        Number("largest difference of two derivations of the best heads", off),
    )
    if off > 1e-6:
        return Verdict(SLIP, numbers, "These are not the conditional means that Eq. 15 asks for.")
    if second > 1e-6 * first:
        return Verdict(HOLDS, numbers, "The best heads differ from each other by more than known factors.")
    return Verdict(
        WHERE,
        numbers,
        "They can be predicted, but the best T heads are one image times known factors: they carry the estimate of "
        "x0, and nothing else. A trajectory of T steps needs a target that is a function of x_T.",
    )
