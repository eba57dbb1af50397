"""Section 2: what the paper takes over from DDPM (Eq. 1-6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixelviz.claims.base import GONE, Context, Finding, Number, Register, Verdict, error
from pixelviz.config import MAX_T
from pixelviz.process.reverse import printed_step
from pixelviz.process.schedules import LinearBeta
from pixelviz.process.theory import kl_to_noise

register = Register("2 Background: DDPM")


def _gap(context: Context, betas: Tensor) -> float:
    """Mean KL of x_T to N(0, 1) after these steps."""
    return context.mean(kl_to_noise(context.levels, torch.log1p(-betas).sum())).item()


def _is_noise(context: Context, betas: Tensor) -> bool:
    """Whether x_T is: in the mean over the image, and by its variance (a dark image has a small KL all along)."""
    return _gap(context, betas) <= GONE and -torch.expm1(torch.log1p(-betas).sum()).item() >= 0.99


def _steps_needed(context: Context, betas) -> int | None:
    """The least T after whose betas(T) x_T is noise; None where no T up to MAX_T does."""
    if not _is_noise(context, betas(MAX_T)):
        return None
    low, high = 1, MAX_T
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_noise(context, betas(middle)) else (middle + 1, high)
    return high


@register(
    "eq1",
    "Eq. 1",
    "DDPM's chain ends in pure noise",
    r"With $0<\beta_i<1$ increasing and T large enough, $x_T\sim\mathcal N(0,\mathbf I)$.",
    code="process/schedules.py, LinearBeta",
    formula=lambda T, beta_range: LinearBeta(T, beta_range).betas,
)
def eq1(context: Context, betas) -> Verdict:
    """The rates lie in (0, 1) and rise; whether x_T is noise, by its KL and by its variance, and from which T on."""
    now = betas(context.T, context.ddpm)
    if not bool(((now > 0) & (now < 1)).all()) or bool((now.diff() < 0).any()):
        return Finding().slip("These rates do not lie in (0, 1), or they do not increase.")
    gap, needed = _gap(context, now), _steps_needed(context, lambda T: betas(T, "printed"))
    found = Finding(
        Number("last rate, beta_T", now[-1]),
        Number(f"mean KL to N(0, 1) at T = {context.T}", gap),
        Number("variance of x_T's noise", 1 - (1 - now).prod().item()),
        *((Number("least T at which it is noise, range as printed", needed),) if needed else ()),
    )
    end = f"The range as printed needs {needed} steps for that" if needed else f"No T up to {MAX_T} does that"
    if _is_noise(context, now):
        return found.holds(f"At T = {context.T} DDPM's x_T is noise. {end}.")
    return found.where(f"{end}; at T = {context.T} it is not there yet.")


@register(
    "eq2-3",
    "Eq. 2, 3",
    "The chain in one jump",
    r"$x_{i+1}=\sqrt{\bar\alpha_i}\,x_0+\sqrt{1-\bar\alpha_i}\,\tilde\epsilon_i$ with "
    r"$\bar\alpha_i=\prod_{k=1}^{i}\alpha_k$.",
    code="process/forward.py, closed_form",
    formula=lambda schedule, x0, i: schedule.alpha_bar(x0, i),
)
def eq2_3(context: Context, alpha_bar) -> Verdict:
    """The printed abar_i of x_{i+1} beside the product of the chain's own alphas, for both schedules."""
    # Eq. 1 says what x_{i+1} is: i + 1 factors, alpha_1 to alpha_{i+1}.
    i = torch.arange(context.T)[:, None]
    worst, first = 0.0, []
    for schedule in (context.ours, context.theirs):
        product = schedule.alpha(context.picked, i + 1).cumprod(0)
        printed = alpha_bar(schedule, context.picked, i)
        worst = max(worst, error(1 - printed, 1 - product))
        first.append((1 - printed[0].max().item(), 1 - product[0].max().item()))
    found = Finding(
        Number("noise variance of DDPM's x_1, printed", first[1][0]),
        Number("noise variance of DDPM's x_1, by Eq. 1", first[1][1]),
        Number("largest relative difference of the variances", worst),
    )
    if worst < 1e-9:
        return found.holds("Both sides agree at every step, for both schedules.")
    return found.slip(
        "An index is off by one. By Eq. 1 the state x_{i+1} has i + 1 factors; as printed, x_1 would hold no noise. "
        "Read x_i on the left, as Eq. 9 does."
    )


@register(
    "eq4",
    "Eq. 4",
    "One step back, given the image",
    r"$q(x_{i-1}\mid x_i,x_0)=\mathcal N\big(\tilde\mu,\tilde\beta_i\big)$, "
    r"$\tilde\mu=\frac{1}{\sqrt{\alpha_i}}\big(x_i-\frac{1-\alpha_i}{\sqrt{1-\bar\alpha_i}}\tilde\epsilon_i\big)$, "
    r"$\tilde\beta_i=\frac{1-\bar\alpha_{i-1}}{1-\bar\alpha_i}\beta_i$.",
    code="process/reverse.py, printed_step",
    formula=lambda alpha, noise, noise_before, x_i, eps: (
        (x_i - (1 - alpha) / noise.sqrt() * eps) / alpha.sqrt(),
        noise_before / noise * (1 - alpha),
    ),
)
def eq4(context: Context, posterior) -> Verdict:
    """Mean and variance beside Bayes' rule in precisions, for both schedules at every step."""
    i = torch.arange(2, context.T + 1)[:, None]
    if not len(i):
        return Finding().holds("With T = 1 there is no step between; x_0 is given.")
    x0, x_i = context.picked, 0.7  # any x_i will do: both sides are linear in it
    worst = 0.0
    for schedule in (context.ours, context.theirs):
        alpha, noise, before = (
            schedule.alpha(x0, i),
            schedule.noise_variance(x0, i),
            schedule.noise_variance(x0, i - 1),
        )
        eps = (x_i - schedule.alpha_bar(x0, i).sqrt() * x0) / noise.sqrt()
        mean, variance = posterior(alpha, noise, before, x_i, eps)
        # Bayes: the precisions of x_i given x_{i-1} and of x_{i-1} given x_0 add up.
        beta = schedule.beta(x0, i)
        precision = alpha / beta + 1 / before
        pull = alpha.sqrt() / beta * x_i + schedule.alpha_bar(x0, i - 1).sqrt() / before * x0
        worst = max(worst, error(variance, 1 / precision), (mean - pull / precision).abs().max().item())
    found = Finding(Number("largest difference from Bayes' rule", worst))
    if worst < 1e-6:
        return found.holds("It is Bayes' rule for both schedules, at every step.")
    return found.slip("It differs from Bayes' rule.")


@register(
    "eq5",
    "Eq. 5",
    "The bound that training uses",
    r"The bound $\mathbb E_q\big[D_{KL}(q(x_T|x_0)\,\|\,p(x_T))+\sum_{i=2}^{T}D_{KL}(q(x_{i-1}|x_i,x_0)\,\|\,"
    r"p_\theta(x_{i-1}|x_i))-\log p(x_0|x_1)\big]$ “on the negative log likelihood $p_\theta(x_0)$ is maximized”.",
    formula=lambda last, between, log_first: last + between.sum() - log_first,
)
def eq5(context: Context, bound) -> Verdict:
    """The bound of Gaussian data with this image's moments beside its −log p(x_0), and the bound of a worse network."""
    # For data N(m, s2) with the image's mean and variance every term is Gaussian, and so is the model's p(x_0).
    m = context.mean(context.levels)
    s2 = (context.mean(context.levels**2) - m**2).clamp(min=1e-4)
    schedule, i = context.theirs, torch.arange(1, context.T + 1)
    bar, noise, alpha = schedule.alpha_bar(1.0, i), schedule.noise_variance(1.0, i), schedule.alpha(1.0, i)
    before, beta = schedule.noise_variance(1.0, i - 1), schedule.beta(1.0, i)
    left = s2 * noise / (bar * s2 + noise)  # variance of x_0 given x_i
    gain = bar.sqrt() * s2 / (bar * s2 + noise)  # E[x_0 | x_i] = m + gain (x_i - sqrt(bar) m)
    out = schedule.alpha_bar(1.0, i - 1).sqrt() * beta / noise
    variance = before / noise * beta
    last = (bar[-1] * (s2 + m**2) - bar[-1] - torch.log(noise[-1])) / 2
    between = out[1:] ** 2 * left[1:] / (2 * variance[1:])
    log_first = -0.5 * torch.log(2 * math.pi * math.e * left[0])  # mean over data of log p(x_0 | x_1)
    # The model's own p(x_0): N(0, 1) walked back through its linear steps.
    mean, spread = torch.zeros(()).double(), torch.ones(()).double()
    for k in range(context.T - 1, -1, -1):
        skip = alpha[k].sqrt() * before[k] / noise[k] + out[k] * gain[k]
        mean = skip * mean + out[k] * (m - gain[k] * bar[k].sqrt() * m)
        spread = skip**2 * spread + (variance[k] if k else left[0])
    surprise = 0.5 * (torch.log(2 * math.pi * spread) + ((m - mean) ** 2 + s2) / spread)
    # A worse network: its means are twice as far from the posterior's, its first step four times as uncertain.
    printed, worse = bound(last, between, log_first), bound(last, 4 * between, log_first - math.log(2))
    found = Finding(
        Number("the bound, nats per value", printed),
        Number("−log p(x_0), nats per value", surprise),
        Number("the bound of a network that is twice as far off", worse),
    )
    above, below = bool(printed >= surprise - 1e-9), bool(printed <= -surprise + 1e-9)
    if (above or below) and printed > worse:
        return found.holds("It is a bound, and the better network has the larger one.")
    if above:
        return found.slip(
            "It does lie above −log p(x_0), here for Gaussian data with this image's mean and variance. But the better "
            "network has the smaller one: for “maximized” read “minimized”, or give it the other sign."
        )
    return found.slip("It bounds neither log p(x_0) nor −log p(x_0).")


@register(
    "scalar",
    "Section 2.1",
    "Others have one rate for all pixels",
    r"“In all these cases” (linear, harmonic, squared cosine) “a simple scalar $\beta_i$ is invariably used for each "
    r"element of the vector $\mathbf x_i$”; pixel-wise rates are the paper's own.",
    formula=lambda frequency: blurring(frequency, 0.5),
)
def scalar(context: Context, relative) -> Verdict:
    """DDPM's alpha over the pixels, and the signal that Blurring diffusion leaves of different frequencies."""
    frequency = torch.arange(32, dtype=torch.float64)
    values = relative(frequency)
    spread = (values.max() / values.min()).item()
    alike = context.theirs.alpha_bar(context.picked, 1)
    found = Finding(
        Number("DDPM's alpha_1: brightest over darkest picked pixel", alike[-1] / alike[0]),
        Number("Blurring diffusion, t = 0.5, 32 pixels: signal of the lowest frequency over the highest's", spread),
    )
    if spread < 1 + 1e-9:
        return found.holds("They all have one rate for every element.")
    return found.where(
        "Of those three schedules it is true. But the paper's has relatives: Blurring diffusion (Hoogeboom & Salimans, "
        "arXiv 2209.05557) has a rate for every frequency, fixed beforehand; MuLAN (Sahoo et al., arXiv 2312.13236) "
        "one for every pixel, learnt with the bound, from a code of the image."
    )


def blurring(frequency: Tensor, t: float, pixels: int = 32, largest: float = 20.0, least: float = 1e-3) -> Tensor:
    """The signal that Blurring diffusion leaves of each frequency k of `pixels`, before the scale that all share.

    d_t = (1 - d_min) exp(-lambda tau) + d_min, lambda = (pi k / pixels)^2, tau = (largest sin^2(t pi/2))^2 / 2.
    """
    width = largest * math.sin(t * math.pi / 2) ** 2
    return (1 - least) * torch.exp(-((math.pi * frequency / pixels) ** 2) * width**2 / 2) + least


@register(
    "eq6",
    "Eq. 6",
    "A step back with fresh noise",
    r"$x_{i-1}=\tilde\mu(x_i,\epsilon_\theta(x_i,i))+\sqrt{\tilde\beta_i}\,\sigma_i$.",
    code="process/reverse.py, printed_step",
    formula=lambda schedule, x0, i: schedule.posterior_variance(x0, i),
)
def eq6(context: Context, added) -> Verdict:
    """One step with the noise that x_i holds: does it take the law of x_i to that of x_{i-1}, for both schedules?"""
    i = torch.arange(1, context.T + 1)[:, None]
    x0, reached, wanted = context.picked, [], []
    for schedule in (context.ours, context.theirs):
        bar, noise = schedule.alpha_bar(x0, i), schedule.noise_variance(x0, i)

        def step(x, schedule=schedule, bar=bar, noise=noise):  # with the noise that x really holds
            return printed_step(schedule, x0, i, x, (x - bar.sqrt() * x0) / noise.sqrt())

        mean = step(bar.sqrt() * x0)
        gain = step(bar.sqrt() * x0 + 1) - mean
        reached += [mean, gain**2 * noise + added(schedule, x0, i)]
        wanted += [schedule.alpha_bar(x0, i - 1).sqrt() * x0, schedule.noise_variance(x0, i - 1)]
    # Absolute: at i = 1 the variance must be 0, and rounding leaves a little.
    worst = max((r - w).abs().max().item() for r, w in zip(reached, wanted, strict=True))
    found = Finding(Number("largest error of a mean or a variance", worst))
    if worst < 1e-6:
        return found.holds(
            "Where the network looks at x_i again before each step, one step takes the distribution of x_i exactly "
            "to that of x_{i-1}. Algorithm 1 does not look again."
        )
    return found.slip("One step does not give the distribution of x_{i-1}.")
