"""Proposition 2, Appendix B and Fig. 2: the stochastic differential equation, the mean, and who is faster."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelviz.claims.base import GONE, Context, Finding, Number, Plot, Register, Verdict, error, integrate, percent
from pixelviz.process import theory
from pixelviz.process.forward import closed_form, noise
from pixelviz.process.schedules import DDPM_STEPS, GeneralisedRate, LinearBeta, Schedule

register = Register("3.2.3 Proposition 2 and Appendix B")
NEAR = 0.05  # of the way that is left when a mean or a variance counts as arrived
AGREES = 1e-7


def _mean_of(context: Context, rate, t: float) -> Tensor:
    """E[x_t] of the picked pixels from dE/ds = -rate(s, x0)/2 E (Eq. 21, 24), solved numerically."""
    x0 = context.picked
    return integrate(lambda s, x: -rate(s, x0) / 2 * x, x0.clone(), t, atol=0.0)


@register(
    "eq20-21",
    "Eq. 20, 21",
    "DDPM as a differential equation",
    r"$dx_t=-\frac{\beta_t}{2}x_t\,dt+\sqrt{\beta_t}\,dw$, so $\frac{dE[x_t]}{dt}=-\frac{\beta_t}{2}E[x_t]$.",
    code="process/theory.py, LinearRate",
    formula=lambda beta: (-beta / 2, beta),
)
def eq20_21(context: Context, terms) -> Verdict:
    """Mean and variance of the equation solved numerically, beside those of the idealised DDPM."""
    idealised, chain = theory.LinearRate(DDPM_STEPS, 20.0), LinearBeta(DDPM_STEPS)
    bars = [schedule.alpha_bar(1.0, DDPM_STEPS / 2).item() for schedule in (idealised, chain)]
    return _sde(
        context,
        terms,
        idealised,
        "abar_t = exp(−a t²/2), the closed form for beta_t = a t. DDPM's own chain of 1000 steps is near it: "
        f"abar = {bars[1]:.4f} for {bars[0]:.4f} at t = 0.5",
    )


@register(
    "eq23-25",
    "Eq. 23–25",
    "The pixel-aware process as a differential equation",
    r"$dx=-\frac{\gamma x_0}{2}x\,dt+\sqrt{\gamma x_0}\,dw$, so $E[x_t]=x_0\,e^{-\gamma x_0 t/2}$.",
    code="process/schedules.py, PixelAware.rate",
    formula=lambda rate: (-rate / 2, rate),
)
def eq23_25(context: Context, terms) -> Verdict:
    """Mean and variance of the equation solved numerically, beside those of Eq. 9."""
    return _sde(context, terms, context.ours, "Eq. 9, and so of the discrete chain")


def _sde(context: Context, terms, schedule: Schedule, whose: str) -> Verdict:
    """Solve the equations of mean and variance that drift and diffusion give, and compare with Eq. 9's."""
    x0, t = context.picked, 0.5

    def moments(s: float, x: Tensor) -> Tensor:
        drift, spread = terms(schedule.rate(x0, s * schedule.T))
        return torch.stack([drift * x[0], 2 * drift * x[1] + spread])

    mean, variance = integrate(moments, torch.stack([x0, torch.zeros_like(x0)]), t)
    wanted = schedule.alpha_bar(x0, t * schedule.T)
    worst = max((mean - wanted.sqrt() * x0).abs().max().item(), (variance - (1 - wanted)).abs().max().item())
    found = Finding(
        Number("rate at t = 0.5, brightest picked pixel", schedule.rate(x0, t * schedule.T)[-1]),
        Number("largest error of mean or variance at t = 0.5", worst),
    )
    if worst < AGREES:
        return found.holds(f"Solved numerically, its mean and variance are those of {whose}.")
    return found.slip(f"Its mean or variance is not that of {whose}.")


@register(
    "eq22",
    "Eq. 22",
    "DDPM's mean",
    r"With $\beta_t=at$: $E[x_t]=x_0\,e^{-at^2/2}$.",
    code="process/theory.py, LinearRate",
    formula=lambda a, t, x0: x0 * torch.exp(-torch.as_tensor(a * t**2 / 2)),
)
def eq22(context: Context, mean) -> Verdict:
    """The printed mean beside Eq. 21 solved numerically, and beside DDPM's own chain."""
    a = context.a
    solved, printed = _mean_of(context, lambda s, x0: a * s + 0 * x0, 1.0), mean(a, 1.0, context.picked)
    bar = context.theirs.alpha_bar(1.0, context.T).item()
    found = Finding(
        Number("a of DDPM's range here", a),
        Number("printed, t = 1, share of x0", (printed / context.picked)[0]),
        Number("Eq. 21 solved, share of x0", (solved / context.picked)[0]),
        Number("DDPM's own chain, share of x0", bar**0.5),
    )
    if error(printed, solved) < AGREES:
        return found.holds("It solves Eq. 21.")
    return found.slip(
        "The half in Eq. 21 is lost: its solution is x0 exp(−a t²/4). So the printed DDPM falls faster than the real "
        "one, and the comparison of Proposition 2 is harder on the paper's method than it need be."
    )


@register(
    "eq26",
    "Eq. 26",
    "The generalised rate",
    r"With $\Gamma=\gamma\frac{\beta_t}{2}x_0$ and $\beta_t=at$: $E[x_t]=x_0\odot e^{-\gamma a x_0 t^2/2}$.",
    code="process/schedules.py, GeneralisedRate",
    formula=lambda gamma, a, t, x0: x0 * torch.exp(-gamma * a * x0 * t**2 / 2),
)
def eq26(context: Context, mean) -> Verdict:
    """The printed mean beside the equation of its drift solved numerically."""
    a, gamma, t = context.a, context.gamma, 0.5
    # The paper's drift is −Gamma x, with Gamma as it defines it just before.
    solved = integrate(lambda s, x: -gamma * a * s / 2 * context.picked * x, context.picked.clone(), t, atol=0.0)
    printed = mean(gamma, a, t, context.picked)
    built = GeneralisedRate(context.T, gamma, context.ddpm).alpha_bar(context.picked, context.T * t).sqrt()
    found = Finding(
        Number("printed, t = 0.5, darkest picked pixel, share of x0", (printed / context.picked)[0]),
        Number("solved", (solved / context.picked)[0]),
        Number("this app's schedule of that rate", built[0]),
        Number(
            "share of the image it is faster for than DDPM (gamma x0 > 1)",
            context.share(gamma * context.levels > 1),
            True,
        ),
    )
    if error(printed, solved) < AGREES:
        return found.holds("It solves the equation of its drift.")
    return found.slip(
        "The half is lost again: this drift gives exp(−gamma a x0 t²/4). (The drift itself should read −Gamma x_t, "
        "not −Gamma x_0.)"
    )


@register(
    "prop2",
    "Proposition 2, Eq. 13",
    "Our mean moves faster than DDPM's",
    r"Choosing $\gamma x_0^j>at$ for all $j$ and $t\in(0,1]$ ensures "
    r"$\left|\frac{d\chi_C}{dt}\right|<\left|\frac{d\chi_N}{dt}\right|$, with $\chi_C=x_0e^{-at^2/2}$ and "
    r"$\chi_N=x_0\odot e^{-\gamma x_0t/2}$.",
    code="process/theory.py, ahead_until",
    formula=lambda T, a: theory.LinearRate(T, 2 * a),  # the schedule whose mean is the printed chi_C
)
def prop2(context: Context, theirs) -> Verdict:
    """For the pixels that meet the condition, the t up to which Eq. 13 holds: of the printed means, and of DDPM's."""
    chosen = context.gamma * context.levels > context.a
    until = theory.ahead_until(context.ours, theirs(context.T, context.a), context.levels)
    real = theory.ahead_until(context.ours, context.theirs, context.levels)
    rate_until = until.rate[chosen]
    least = rate_until.min().item() if len(rate_until) else None
    plot = Plot.over(
        "Up to which t the pixel-aware mean is ahead of DDPM's, over the pixel's value: by its mean and by its rate",
        ("x0", "ahead until t"),
        context.levels,
        {"mean": real.mean, "rate (Eq. 13)": real.rate},
    )
    found = Finding(
        Number("share of the image with gamma x0 > a", context.share(chosen), percent=True),
        *([] if least is None else [Number("of these: Eq. 13 holds up to t, at worst", least)]),
        Number("of DDPM itself: share whose mean is ahead at t = 1", context.share(real.mean >= 1), percent=True),
        Number("of DDPM itself: mean t up to which our rate is ahead", context.mean(real.rate)),
        plot=plot,
    )
    if least is None:
        return found.where(f"No pixel here meets the condition: gamma x0 stays below a = {context.a:.3g}. Raise gamma.")
    if least >= 1 and bool(chosen.all()):
        return found.holds("For every pixel of the image, at every t.")
    dark = " Dark pixels keep more of it than with DDPM." if bool((real.mean < 1).any()) else ""
    return found.where(
        f"The condition holds for {percent(context.share(chosen))} of the image. Even there the rate is ahead only "
        f"up to t = {least:.3g}: chi_C falls by the share a t per unit of time, which grows, ours by gamma x0/2, and "
        f"ours has less left to lose.{dark}"
    )


def _log_bars(context: Context, t: Tensor) -> dict[str, Tensor]:
    """log alpha_bar of each method at times t (n, 1), for all levels."""
    printed, rescaled = LinearBeta(context.T, "printed"), LinearBeta(context.T, "rescaled")
    return {
        "pixel-aware": context.ours.log_alpha_bar(context.levels, t * context.T),
        "DDPM, range as printed": printed.log_alpha_bar(context.levels, t * context.T),
        "DDPM, range rescaled": rescaled.log_alpha_bar(context.levels, t * context.T),
    }


def _first(true: Tensor, t: Tensor) -> Tensor:
    """Per column, the first t from which on `true` stays; 2 where it is false at the end."""
    stays = true.flip(0).cummin(0).values.flip(0)
    return torch.where(stays[-1], t[stays.double().argmax(0), 0], 2.0)


def _until(true: Tensor, t: Tensor) -> str:
    """Up to which t a statement about t > 0 is true, in words; both (n,) from t = 0 on."""
    false = (~true[1:]).nonzero()
    if not len(false):
        return "throughout"
    return f"up to t = {t[false[0, 0]].item():.3g}" if false[0, 0] else "at no time"


@register(
    "faster",
    "Abstract, Section 1, App. G",
    "All pixels reach the Gaussian faster",
    "The process reaches “isotropic Gaussian distribution on all the pixels much faster than the conventional pixel "
    "agnostic diffusion scheduling”.",
    code="process/theory.py, kl_to_noise",
    formula=lambda context, t: context.ours.log_alpha_bar(context.levels, t * context.T),
)
def faster(context: Context, log_bar) -> Verdict:
    """When each value of the image comes within GONE nats of noise, beside DDPM with either range."""
    t = torch.linspace(0.005, 1, 200, dtype=torch.float64)[:, None]
    bars = _log_bars(context, t) | {"pixel-aware": log_bar(context, t)}
    gone = {name: theory.kl_to_noise(context.levels, bar) <= GONE for name, bar in bars.items()}
    when = {name: _first(true, t) for name, true in gone.items()}
    ours = when["pixel-aware"]
    sooner = {name: context.share(ours < other) for name, other in when.items() if name != "pixel-aware"}

    plot = Plot.over(
        f"Share of the image's values within {GONE:g} nats of N(0, 1), over time",
        ("t", "share at noise"),
        t,
        {name: context.mean(true.double()) for name, true in gone.items()},
    )
    found = Finding(
        *(
            Number(f"share of the image that is sooner there than {name}", v, percent=True)
            for name, v in sooner.items()
        ),
        Number("share that gets there by t = 1", context.share(ours <= 1), percent=True),
        plot=plot,
    )
    if min(sooner.values()) > 1 - 1e-9:
        return found.holds("Every pixel of this image is there sooner, whichever range DDPM has.")
    if max(sooner.values()) > 0:
        return found.where(
            "Bright pixels are sooner there, dark ones later. The paper compares with DDPM's 1000-step range run in T "
            f"steps; with the range that fits T, our process is ahead for {percent(sooner['DDPM, range rescaled'])}."
        )
    return found.slip("No pixel is there sooner.")


@register(
    "fig2",
    "Fig. 2",
    "Mean and variance converge faster",
    "Over T steps the mean over the pixels reaches 0 and the variance 1 “much faster” than DDPM's.",
    code="process/forward.py, expected_moments",
    formula=lambda context, t: context.ours.log_alpha_bar(context.levels, t * context.T),
)
def fig2(context: Context, log_bar) -> Verdict:
    """When mean and variance over the image's pixels come within NEAR of 0 and 1, beside DDPM with either range."""
    t = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    bars = _log_bars(context, t) | {"pixel-aware": log_bar(context, t)}
    means, variances = {}, {}
    for name, bar in bars.items():
        mean = torch.exp(bar / 2) * context.levels
        means[name] = context.mean(mean)
        variances[name] = context.mean(-torch.expm1(bar) + mean**2) - means[name] ** 2
    start = context.mean(context.levels)
    arrive = {
        name: max(
            _first(means[name][:, None] <= NEAR * start, t).item(),
            _first((variances[name][:, None] - 1).abs() <= NEAR, t).item(),
        )
        for name in bars
    }
    ours, printed, rescaled = arrive.values()

    plot = Plot.over("Variance over the image's pixels, expected, over time", ("t", "variance"), t, variances)
    found = Finding(
        Number("mean at t = 1, pixel-aware", means["pixel-aware"][-1]),
        Number("mean at t = 1, DDPM's range as printed", means["DDPM, range as printed"][-1]),
        Number("variance at t = 1, pixel-aware", variances["pixel-aware"][-1]),
        Number("variance at t = 1, DDPM's range as printed", variances["DDPM, range as printed"][-1]),
        *(Number(f"both within 5 % from t = ({name})", when) for name, when in arrive.items() if when <= 1),
        plot=plot,
    )
    if ours < min(printed, rescaled):
        return found.holds("Sooner than DDPM with either range.")
    if ours < printed:
        return found.where(
            "Against DDPM's 1000-step range squeezed into T steps, as in the paper. With the range that fits T, DDPM "
            "is sooner."
        )
    lower = " and ".join(
        f"{_until(means['pixel-aware'] < mean, t[:, 0])} with the {name.removeprefix('DDPM, ')}"
        for name, mean in means.items()
        if name != "pixel-aware"
    )
    ends = "never comes within 5 % of both" if ours > 1 else f"comes within 5 % of both only from t = {ours:.3g}"
    theirs = {"printed": printed, "rescaled": rescaled}
    others = [f"DDPM's, {name}, does from t = {when:.3g}" for name, when in theirs.items() if when <= 1]
    text = f"Our mean is below DDPM's {lower}, but the process {ends}; {', '.join(others) or 'nor does that of DDPM'}."
    return found.where(text)


@register(
    "law-of-large-numbers",
    "Section 3.2.3",
    "One image's statistics are the theory's",
    "With enough pixels “the empirical statistics match theoretical statistics with high probability”.",
    code="process/forward.py, expected_moments",
    formula=lambda context, i: context.ours.alpha_bar(context.x0, i),
)
def law_of_large_numbers(context: Context, alpha_bar) -> Verdict:
    """Mean and variance of one draw beside the expected ones, in standard errors."""
    i = max(1, context.T // 2)
    bar = alpha_bar(context, i)
    x = closed_form(context.ours, context.x0, i, next(iter(noise(context.seed, context.x0.shape, 1))))
    n = context.x0.numel()
    centre, spread = bar.sqrt() * context.x0, 1 - bar  # of each value
    mean, variance = centre.mean(), spread.mean() + centre.var(correction=0)
    # Standard errors of the mean, and of the mean square about `mean`, of independent Gaussians.
    mean_error = (spread.mean() / n).sqrt().item()
    variance_error = ((2 * spread**2 + 4 * spread * (centre - mean) ** 2).mean() / n).sqrt().item()
    drawn = (x.mean(), (x - mean).square().mean())
    off = max(abs((drawn[0] - mean).item()) / mean_error, abs((drawn[1] - variance).item()) / variance_error)
    found = Finding(
        Number(f"values in this image, drawn at i = {i}", n),
        Number("mean of the draw", drawn[0]),
        Number("mean expected", mean),
        Number("its standard error", mean_error),
        Number("variance of the draw", drawn[1]),
        Number("variance expected", variance),
        Number("its standard error", variance_error),
        Number("larger difference, in standard errors", off),
    )
    if off >= 4:
        return found.slip("The difference is too large for chance.")
    if max(mean_error, variance_error) <= NEAR:
        return found.holds("The differences are what chance leaves of this many pixels, and small.")
    return found.where(
        f"This image has too few pixels: chance alone moves its mean by {mean_error:.2g} and its variance by "
        f"{variance_error:.2g}."
    )


@register(
    "fewer-steps",
    "Abstract",
    "Fewer steps thanks to the pixels' own rates",
    "The process cuts “the required diffusion time-steps from around 1000 … to 200–500”.",
    code="process/theory.py, terminal_gap",
    formula=lambda context: context.ours,
)
def fewer_steps(context: Context, schedule) -> Verdict:
    """KL of x_T to noise: ours in T steps, DDPM's in 1000, and DDPM's in T with its range rescaled."""
    ours = theory.terminal_gap(schedule(context), context.x0).mean
    long = theory.terminal_gap(LinearBeta(DDPM_STEPS), context.x0).mean
    short = theory.terminal_gap(LinearBeta(context.T, "rescaled"), context.x0).mean
    found = Finding(
        Number(f"KL of x_T to N(0, 1): pixel-aware, {context.T} steps", ours),
        Number("DDPM, 1000 steps", long),
        Number(f"DDPM, {context.T} steps, range rescaled", short),
    )
    if ours <= min(long, short):
        return found.holds("In T steps it ends closer to noise than DDPM does, with 1000 steps or with T.")
    if ours <= long:
        return found.where("It ends as close as DDPM's 1000 steps; so does DDPM in T steps, rescaled.")
    text = "x_T is further from noise than DDPM's, because gamma x0 is too small in the darkest pixels."
    if short <= 2 * long:
        text += (
            " And DDPM with its range rescaled to T steps ends as near as with 1000: fewer forward steps do not need "
            "each pixel's own rate."
        )
    return found.where(text)
