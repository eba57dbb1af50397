"""Section 3.2.1: the schedule, its end, and its signal-to-noise ratio."""

from __future__ import annotations

import math

import torch

from pixelviz.claims.base import (
    CLOSE,
    EXACT,
    GONE,
    HOLDS,
    SLIP,
    WHERE,
    Context,
    Finding,
    Number,
    Plot,
    Register,
    Verdict,
    error,
    exact_or_slip,
    percent,
    slope,
)
from pixelviz.measure import residuals
from pixelviz.process import theory
from pixelviz.process.energy import energy_over
from pixelviz.process.schedules import PixelAware, image_scale

register = Register("3.2.1 The pixel-aware forward process")


@register(
    "eq7",
    "Eq. 7",
    "The image scale",
    r"$x_\delta=e^{-\gamma x_0}$ with $x_0\ll\gamma<T$.",
    code="process/schedules.py, image_scale",
    formula=lambda gamma, x0: torch.exp(-gamma * x0),
)
def eq7(context: Context, scale) -> Verdict:
    """The scale of the image's values, and whether a logarithm gives them back."""
    x_delta = scale(context.gamma, context.levels)
    back = -torch.log(x_delta) / context.gamma
    found = Finding(
        Number("least scale in the image", x_delta.min()),
        Number("largest scale in the image", x_delta.max()),
        Number("gamma / T (the paper keeps 0.1)", context.gamma / context.T),
    )
    verdict = exact_or_slip(back, context.levels)
    text = "A definition; −log(x_delta)/gamma gives the image back." if verdict == HOLDS else "It cannot be inverted."
    return found(verdict, text)


@register(
    "scale-detail",
    "Section 3.2.3",
    "The scale holds only coarse structure",
    r"$x_\delta$ “lacks finer details (unlike $x_0$) as a result of exponentiation and the large value of $\gamma$”.",
    code="process/schedules.py, image_scale",
    formula=lambda gamma, x0: image_scale(x0, gamma),
)
def scale_detail(context: Context, scale) -> Verdict:
    """How many of the image's brightnesses are left in x_delta shown with 8 bits, and in its logarithm."""
    x_delta = scale(context.gamma, context.levels)
    shown = ((x_delta - x_delta.min()) / (x_delta.max() - x_delta.min()).clamp(min=1e-300) * 255).round()
    left, there = len(shown.unique()), len((context.levels * 255).round().unique())
    found = Finding(
        Number("brightnesses in the image, shown with 8 bits", there),
        Number("left when x_delta is shown with 8 bits", left),
        Number("error of −log(x_delta)/gamma as an image", error(-torch.log(x_delta) / context.gamma, context.levels)),
    )
    if left < there:
        return found.where(
            "True of the picture one sees: bright parts all look black. As numbers x_delta is the whole image: a "
            "logarithm brings every detail back, and a network can learn to take it."
        )
    return found.slip("At these settings the scale shows as many brightnesses as the image.")


@register(
    "eq8",
    "Eq. 8",
    "One alpha for all steps",
    r"$\alpha_i=1-\beta_i=x_\delta^{1/T}$ at every step.",
    code="process/schedules.py, PixelAware",
    formula=lambda x_delta, T: x_delta ** (1 / T),
)
def eq8(context: Context, alpha) -> Verdict:
    """T equal alphas multiplied, beside the scale."""
    x_delta = image_scale(context.picked, context.gamma)
    each = alpha(x_delta, context.T)
    product = each.expand(context.T, -1).prod(0)
    found = Finding(
        Number("alpha of the darkest picked pixel", each[0]),
        Number("alpha of the brightest", each[-1]),
        Number("relative difference of the product of T alphas from x_delta", error(product, x_delta)),
    )
    good = error(product, x_delta) < 1e-7 and bool(((each > 0) & (each < 1)).all())
    return found(
        HOLDS if good else SLIP, f"The product of {context.T} equal alphas {'is' if good else 'is not'} the scale."
    )


@register(
    "markov",
    "Section 5",
    "Gamma above T breaks the Markov property",
    r"A $\gamma$ greater than $T$ “breaks the Markovian condition”.",
    code="process/schedules.py, PixelAware",
    formula=lambda gamma, T, x0: torch.exp(-gamma * x0 / T),
)
def markov(context: Context, alpha) -> Verdict:
    """The alphas at gamma = 2T: do they stay in (0, 1)?"""
    gamma = 2.0 * context.T
    each = alpha(gamma, context.T, context.levels)
    found = Finding(
        Number("gamma tried, twice T", gamma), Number("least alpha", each.min()), Number("largest alpha", each.max())
    )
    if bool(((each > 0) & (each < 1)).all()):
        return found.slip(
            "Every alpha still lies in (0, 1), so every step is a proper Gaussian one and the chain is Markov. It only "
            "becomes coarse: one step takes 63 % of a white pixel's amplitude."
        )
    return found.holds("Some alpha leaves (0, 1): that step does not exist.")


@register(
    "eq9",
    "Eq. 9",
    "The noisy image at step i",
    r"$x_i=\sqrt{\bar\alpha_i}\odot x_0+\sqrt{1-\bar\alpha_i}\odot\tilde\epsilon_i$, "
    r"$\bar\alpha_i=e^{-\gamma i x_0/T}$.",
    code="process/forward.py, closed_form",
    formula=lambda gamma, T, i, x0: torch.exp(-gamma * i * x0 / T),
)
def eq9(context: Context, alpha_bar) -> Verdict:
    """Amplitude and variance beside the chain of Eq. 1 walked step by step."""
    alpha = image_scale(context.picked, context.gamma / context.T)
    amplitude, variance = [torch.ones_like(alpha)], [torch.zeros_like(alpha)]
    for _ in range(context.T):
        amplitude.append(amplitude[-1] * alpha.sqrt())
        variance.append(variance[-1] * alpha + (1 - alpha))
    printed = alpha_bar(context.gamma, context.T, torch.arange(context.T + 1)[:, None], context.picked)
    worst = max(
        (printed.sqrt() - torch.stack(amplitude)).abs().max().item(),
        (1 - printed - torch.stack(variance)).abs().max().item(),
    )
    found = Finding(Number("largest difference from the chain of Eq. 1, step by step", worst))
    if worst < 1e-9:
        return found.holds(f"Amplitude and variance of all {context.T} steps agree.")
    return found.slip("Amplitude or variance differ from those of the chain.")


@register(
    "terminal",
    "Sections 1, 3.1, 3.2.1",
    "The end is pure noise for all pixels",
    r"All pixels reach the isotropic Gaussian: $x_T\sim\mathcal N(0,\mathbf I)$, the noise variance rises from 0 to 1.",
    code="process/theory.py, terminal_gap",
)
def terminal(context: Context, _) -> Verdict:
    """KL of x_T to N(0, 1) and the variance of x_T, over the image, beside DDPM's."""
    ours, theirs = (theory.terminal_gap(s, context.x0) for s in (context.ours, context.theirs))
    variance = context.ours.noise_variance(context.levels, context.T)

    plot = Plot.over(
        "Variance of x_T over the pixel's value: 1 would be pure noise",
        ("x0", "variance of x_T"),
        context.levels,
        {"pixel-aware": variance, "N(0, 1)": torch.ones_like(variance)},
    )
    found = Finding(
        Number("mean KL of x_T to N(0, 1), nats", ours.mean),
        Number("the same of DDPM", theirs.mean),
        Number("least variance of x_T", ours.least_variance),
        Number("share of values with variance below 0.9", ours.share_barely_noisy, percent=True),
        plot=plot,
    )
    if ours.least_variance >= 0.99 and ours.mean <= GONE:
        return found.holds("At this gamma and floor every pixel does.")
    rest = "so x_T still shows the image. Raise the floor or gamma" if ours.share_barely_noisy else "which is close"
    return found.where(
        f"Only where gamma x0 is large: {percent(context.share(variance >= 0.99))} of the values have a variance of "
        f"at least 0.99. The darkest pixel ends with variance {ours.least_variance:.3g}, {rest}."
    )


@register(
    "eq10",
    "Eq. 10",
    "The schedule in continuous time",
    r"$\bar\alpha_t=e^{-\gamma t x_0/T}$, $t\in[0,1]$.",
    code="process/schedules.py, Schedule.log_alpha_bar",
    formula=lambda gamma, T, t, x0: torch.exp(-gamma * t * x0 / T),
)
def eq10(context: Context, alpha_bar) -> Verdict:
    """The printed abar_t beside the product of the chain's alphas."""
    alpha = context.ours.alpha(context.picked, torch.arange(1, context.T + 1)[:, None])
    product, t = alpha.cumprod(0), torch.arange(1, context.T + 1)[:, None].double() / context.T
    printed = alpha_bar(context.gamma, context.T, t, context.picked)

    plot = Plot.over(
        "Signal left of the brightest picked pixel: as printed, and as the product of the alphas",
        ("t", "alpha_bar"),
        t,
        {"as printed": printed[:, -1], "product of the alphas": product[:, -1]},
    )
    found = Finding(
        Number("printed, t = 1, brightest picked pixel", printed[-1, -1]),
        Number("product of its T alphas", product[-1, -1]),
        plot=plot,
    )
    verdict = exact_or_slip(printed, product)
    text = "It is the product of the alphas at t = i/T."
    if verdict == SLIP:
        text = "With t = i/T the 1/T has been used already: exp(−gamma t x0) is meant, as Eq. 11 has it."
    return found(verdict, text)


@register(
    "eq11",
    "Eq. 11, 16",
    "Signal-to-noise ratio",
    r"$\mathrm{SNR}(x_0,t)=\frac{x_0^2}{e^{\gamma t x_0}-1}$.",
    code="process/schedules.py, Schedule.snr",
    formula=lambda gamma, t, x0: x0**2 / torch.expm1(gamma * t * x0),
)
def eq11(context: Context, snr) -> Verdict:
    """The printed SNR beside squared mean over variance of the chain, walked step by step."""
    i = torch.arange(1, context.T + 1)[:, None]
    alpha = context.ours.alpha(context.picked, i)
    # The chain itself: squared mean over variance, both walked step by step.
    variance = torch.zeros_like(context.picked)
    ratios, amplitude = [], torch.ones_like(context.picked)
    for k in range(context.T):
        amplitude, variance = amplitude * alpha[k], variance * alpha[k] + (1 - alpha[k])
        ratios.append(amplitude * context.picked**2 / variance)
    wrong = error(snr(context.gamma, i.double() / context.T, context.picked), torch.stack(ratios))
    found = Finding(Number("largest relative difference from the chain's own ratio", wrong))
    if wrong < 1e-8:
        return found.holds("It is mean² over variance of the chain at every step.")
    return found.slip("It is not mean² over variance of the chain.")


@register(
    "snr-exponential",
    "Section 3.2.1",
    "SNR falls exponentially",
    "“It is clear that the SNR of any pixel decreases exponentially with time.”",
    code="process/schedules.py, Schedule.snr_derivative",
    formula=lambda gamma, t, x0: x0**2 / torch.expm1(gamma * t * x0),
)
def snr_exponential(context: Context, snr) -> Verdict:
    """The rate of decay of log SNR, by differences, beside gamma x0."""
    t, x0 = context.times(100), context.levels
    decay = -slope(lambda t: torch.log(snr(context.gamma, t, x0)), t)
    late = context.gamma * x0  # the rate of e^(-gamma x0 t)
    share = context.share((decay / late - 1).abs() < CLOSE)
    first = decay[0] / late
    found = Finding(
        Number("share of values and times with that rate, to 5 %", share, percent=True),
        Number("first step: rate of the brightest, in units of gamma x0", first[-1]),
        Number("first step: rate of the darkest, in units of gamma x0", first[0]),
    )
    if share > 0.99:
        return found.holds("The rate is gamma x0 throughout.")
    if share > 0:
        return found.where(
            f"Only once gamma t x0 is above {math.log1p(1 / CLOSE):.3g}. While gamma t x0 is small SNR is about "
            "x0/(gamma t) and falls like 1/t, at first much faster than any exponential."
        )
    return found.slip("The rate is nowhere that of an exponential.")


@register(
    "gamma-small",
    "Sections 3.2.1, 5",
    "A small gamma leaves dark pixels",
    r"“Using a smaller value results in non-convergence of some lower-valued pixels.”",
    code="process/theory.py, advise_gamma",
    formula=lambda gamma, T, x0: PixelAware(T, gamma).noise_variance(x0, T),
)
def gamma_small(context: Context, variance) -> Verdict:
    """The share of values that keep their signal at gamma, half and a quarter of it."""
    smaller = [variance(context.gamma / k, context.T, context.levels) for k in (1, 2, 4)]
    shares = [context.share(v < theory.BARELY_NOISY) for v in smaller]
    found = Finding(
        *(
            Number(f"share with variance below 0.9 at gamma {context.gamma / k:g}", share, percent=True)
            for k, share in zip((1, 2, 4), shares, strict=True)
        )
    )
    if shares == sorted(shares) and shares[-1] > 0:
        return found.holds("The smaller gamma, the more pixels keep their signal; the darkest are first.")
    return found(SLIP if shares[0] > shares[-1] else WHERE, "Not at these settings.")


@register(
    "resolution",
    "Section 3.2.1",
    "Low resolution diffuses faster",
    "“Due to lower information content in lower resolution images, as in CIFAR10, the forward diffusion tunes into "
    "noise at a much faster rate in comparison to … higher resolution.”",
    code="process/schedules.py, PixelAware",
    formula=lambda context, x0, i: context.ours.log_alpha_bar(x0, i),
)
def resolution(context: Context, log_bar) -> Verdict:
    """KL to N(0, 1) on the way, of the image and of the same at half its resolution."""
    small = torch.nn.functional.avg_pool2d(context.x0[None], 2, ceil_mode=True)[0]  # half the resolution
    i = [max(1, round(context.T * share)) for share in (0.25, 0.5, 1.0)]
    left = {
        name: [theory.kl_to_noise(x0, log_bar(context, x0, k)).mean().item() for k in i]
        for name, x0 in (("full", context.x0), ("half", small))
    }
    same = error(log_bar(context, context.x0[:, :1, :1], i[1]), log_bar(context, context.x0, i[1])[:, :1, :1])
    found = Finding(
        Number("difference of one pixel's process by itself and in the whole image", same),
        *(
            Number(f"mean KL to N(0, 1) at i = {k}, {name} resolution", value)
            for name, values in left.items()
            for k, value in zip(i, values, strict=True)
        ),
        Number("rate of a white pixel over t: the paper's CelebA setting over CIFAR-10's (gamma 50 over 20)", 50 / 20),
    )
    if same > EXACT:
        return found.holds("A pixel's process depends on the image's size.")
    lifted = all(half <= full / 2 for half, full in zip(left["half"], left["full"], strict=True))
    return found(
        WHERE if lifted else SLIP,
        "Eq. 9 knows a pixel's value and nothing of its neighbours, so no pixel is faster in a smaller image. At half "
        f"the resolution this picture {'is sooner' if lifted else 'is not much sooner'} at noise: averaging lifts dark "
        "pixels beside bright ones. The paper's own settings run CelebA's process faster than CIFAR-10's.",
    )


@register(
    "gamma-ratio",
    "Sections 3.2.1, 5",
    "Gamma is a tenth of T",
    r"“We opted to keep a 1:10 ratio between $\gamma$ and T … heuristically chosen”; a systematic choice by “some "
    "associated energy functional” is left to the future.",
    code="process/energy.py",
    formula=lambda T: T / 10,
)
def gamma_ratio(context: Context, ratio) -> Verdict:
    """The energy at the printed gamma, T / 10, over its least by the error that a bundled network was measured at."""
    measured, T = residuals.bundled(), context.T
    tried = [gamma for gamma in residuals.GAMMAS if gamma < T]
    if measured is None or not tried:
        return Finding().unchecked("No error of a network is at hand to measure this by, or T is 1.")
    places = (torch.arange(24, dtype=torch.float64) + 0.5) / 24
    printed = min(ratio(T), theory.LARGEST_GAMMA)
    all_of = energy_over(measured[0], [*tried, printed], T, torch.quantile(context.x0.flatten(), places))
    total, k = all_of.total, int(all_of.total[:-1].argmin())
    excess = (total[-1] - total[k]).item()

    plot = Plot.over(
        "Energy KL_T + sum of (SNR_{j-1} - SNR_j)/2 MMSE_j over gamma, with the error of the bundled R_phi",
        ("gamma", "nats per value"),
        tried,
        {"energy": total[:-1], "terminal gap": all_of.gap[:-1]},
    )
    found = Finding(
        Number(f"energy at the paper's gamma, {printed:g}, nats per value", total[-1]),
        Number("of it the terminal gap", all_of.gap[-1]),
        Number("gamma with the least energy, of those up to 60", tried[k]),
        Number("energy there", total[k]),
        Number("of it the terminal gap", all_of.gap[k]),
        plot=plot,
    )
    least = measured[0].u[0]
    words = (
        f"By the variational bound with the measured error of {measured[1]['checkpoint']}'s R_phi this picture wants "
        f"gamma = {tried[k]:.3g} at T = {T}; the paper's {printed:g} costs {excess:.2g} nats per value more. Nothing "
        f"was measured before gamma t = {least:.2g}: a gamma below {least * T:.3g} rests on the error going on there "
        "as a Gaussian's."
    )
    return found(HOLDS if excess <= CLOSE / 5 else WHERE if excess <= 2 * CLOSE else SLIP, words)
