"""Proposition 1 and Appendix A: how fast SNR falls, and for which pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelviz.claims.base import SLIP, WHERE, Context, Finding, Number, Plot, Register, Verdict, error, percent, slope
from pixelviz.process import theory

register = Register("3.2.2 Proposition 1 and Appendix A")
POWER = 0.05  # by which a power law may be missed


def snr(gamma: float, t, x0) -> Tensor:
    """Eq. 11."""
    return x0**2 / torch.expm1(gamma * t * x0)


def _true_rate(context: Context, t: Tensor, x0: Tensor) -> Tensor:
    """|dSNR/dt| by finite differences of Eq. 11: no derivative formula is taken for granted."""
    return -slope(lambda t: snr(context.gamma, t, x0), t)


def _grid(context: Context) -> tuple[Tensor, Tensor]:
    """Times t (n, 1) at which u = gamma t x0 runs from 0.01 to at most 30 for the picked x0 (P,)."""
    u = torch.logspace(-2, 1.4, 60, dtype=torch.float64)[:, None]
    return u / (context.gamma * context.picked), context.picked


@register(
    "prop1",
    "Proposition 1, Eq. 12",
    "Brighter pixels lose SNR faster",
    r"For $x_0^j<x_0^k$ there is a $t_\delta$ with $\frac{d\,\mathrm{SNR}(k,t)}{dt}<\frac{d\,\mathrm{SNR}(j,t)}{dt}<0$ "
    r"for all $t\in[0,t_\delta]$; “thus, our choice of $\alpha_i$ makes pixels with high values experience faster SNR "
    r"reduction”.",
    code="process/theory.py, t_delta",
    formula=lambda context, t, x0: _true_rate(context, t, x0),
)
def prop1(context: Context, rate) -> Verdict:
    """Rates by finite differences of Eq. 11 around t_delta, and the t up to which all pairs of the image keep to it."""
    dark, bright = context.picked[0], context.picked[-1]
    crossing = theory.t_delta(dark, bright, context.gamma)
    values = context.levels if len(context.levels) > 1 else context.picked
    # The rate has one peak over x0, which moves down as t grows: the two brightest are the first pair to turn.
    everyone = theory.t_delta(values[-2], values[-1], context.gamma).item()

    def brighter_is_faster(t: Tensor) -> bool:
        return bool(rate(context, t, bright) > rate(context, t, dark))

    before = all(brighter_is_faster(crossing * k) for k in (0.01, 0.1, 0.5, 0.99))
    faster = rate(context, torch.ones(1).double(), values).diff() > 0

    t = torch.logspace(-3, 0, 80, dtype=torch.float64)
    plot = Plot.over(
        "Rate at which SNR falls, darkest and brightest picked pixel, on a log axis; the curves cross at t_delta",
        ("t", "|dSNR/dt|"),
        t,
        {f"x0 = {x:.3g}": rate(context, t, x) for x in (dark, bright)},
        log=True,
    )
    found = Finding(
        Number(f"t_delta of x0 = {dark:.3g} and {bright:.3g}", crossing),
        Number("all pairs of this image: up to t", min(1.0, everyone)),
        Number("neighbouring brightnesses of which the brighter is faster at t = 1", faster.double().mean(), True),
        plot=plot,
    )
    if not before:
        return found.slip("The darker pixel is faster even before the crossing.")
    if everyone >= 1:
        return found.holds("For every pair of this image, over the whole way.")
    after = "after it the darker one is the faster" if crossing < 1 else "for this pair that is the whole way"
    return found.where(
        f"There is one for every pair: t_delta = {crossing:.3g} for the darkest and the brightest picked pixel; "
        f"{after}. For all pairs of the image at once it is only the first {percent(min(1.0, everyone))} of the way."
    )


@register(
    "eq17",
    "Eq. 17",
    "The derivative of SNR",
    r"$\frac{d\,\mathrm{SNR}}{dt}=-\frac{\gamma x_0^3}{(e^{\gamma t x_0}-1)^2}$.",
    code="process/theory.py, printed_snr_derivative",
    formula=theory.printed_snr_derivative,
)
def eq17(context: Context, derivative) -> Verdict:
    """The printed derivative beside finite differences of Eq. 11."""
    t, x0 = _grid(context)
    printed, true = derivative(context.gamma, x0, t), -_true_rate(context, t, x0)
    wrong = error(printed, true)
    u = torch.ones(1).double()  # where the brightest picked pixel has u = 1
    at = derivative(context.gamma, x0[-1:], u / (context.gamma * x0[-1:]))
    real = -_true_rate(context, u / (context.gamma * x0[-1:]), x0[-1:])

    plot = Plot.over(
        "Rate of SNR of the brightest picked pixel: as printed, and by finite differences; on a log axis",
        ("t", "|dSNR/dt|"),
        t[:, -1],
        {"as printed": printed[:, -1].abs(), "finite differences": true[:, -1].abs()},
        log=True,
    )
    found = Finding(
        Number("printed, brightest picked pixel at gamma t x0 = 1", at),
        Number("finite differences of Eq. 11 there", real),
        Number("missing factor there (e = 2.718…)", real / at),
        plot=plot,
    )
    if wrong < 1e-6:
        return found.holds("It is the derivative of Eq. 11.")
    return found.slip("A factor e^(gamma t x0) is missing in the numerator.")


@register(
    "taylor",
    "Appendix A",
    "An inequality of the exponential",
    r"$0<x e^{x/2}<e^x-1<x e^x$ for small $x>0$.",
    formula=lambda x: (x * torch.exp(x / 2), x * torch.exp(x)),
)
def taylor(context: Context, bounds) -> Verdict:
    """The inequality at x from 0.03 to 100."""
    x = torch.logspace(-1.5, 2, 400, dtype=torch.float64)
    low, high = bounds(x)
    inside = (low > 0) & (low < torch.expm1(x)) & (torch.expm1(x) < high)
    share = inside.double().mean().item()
    found = Finding(Number("share of x from 0.03 to 100 where it holds", share, percent=True))
    if share == 1:
        return found.holds("Not only for small x: sinh(x/2) > x/2 for every x > 0.")
    return found(WHERE if share else SLIP, "Not for all of these x.")


def _inside(low: Tensor, value: Tensor, high: Tensor) -> float:
    return ((low < value) & (value < high)).double().mean().item()


@register(
    "eq18",
    "Eq. 18",
    "Bounds of SNR",
    r"$\frac{x_0}{\gamma t\,e^{\gamma t x_0}}<\frac{x_0^2}{e^{\gamma t x_0}-1}<"
    r"\frac{x_0}{\gamma t\,e^{\gamma t x_0/2}}$.",
    code="process/theory.py, snr_bounds",
    formula=lambda gamma, t, x0: (
        x0 / (gamma * t * torch.exp(gamma * t * x0)),
        x0 / (gamma * t * torch.exp(gamma * t * x0 / 2)),
    ),
)
def eq18(context: Context, bounds) -> Verdict:
    """SNR between the printed bounds, on a grid of pixels and times."""
    t, x0 = _grid(context)
    low, high = bounds(context.gamma, t, x0)
    share = _inside(low, snr(context.gamma, t, x0), high)
    found = Finding(Number("share of the grid inside the bounds", share, percent=True))
    if share == 1:
        return found.holds("SNR lies between the two on the whole grid of pixels and times.")
    return found.slip("SNR leaves these bounds.")


@register(
    "eq19",
    "Eq. 19",
    "Bounds of the rate",
    r"$\frac{x_0}{\gamma t^2 e^{2\gamma t x_0}}<\left|\frac{d\,\mathrm{SNR}}{dt}\right|<\frac{x_0}{\gamma t^2 "
    r"e^{\gamma t x_0}}$.",
    code="process/theory.py, snr_derivative_bounds",
    formula=lambda gamma, t, x0: (
        x0 / (gamma * t**2 * torch.exp(2 * gamma * t * x0)),
        x0 / (gamma * t**2 * torch.exp(gamma * t * x0)),
    ),
)
def eq19(context: Context, bounds) -> Verdict:
    """The rate by finite differences between the printed bounds, on a grid of pixels and times."""
    t, x0 = _grid(context)
    low, high = bounds(context.gamma, t, x0)
    true = _true_rate(context, t, x0)
    share = _inside(low, true, high)
    printed = _inside(low, -theory.printed_snr_derivative(context.gamma, x0, t), high)

    rates = {"lower bound": low, "true rate": true, "upper bound": high}
    plot = Plot.over(
        "The rate of SNR over its value 1/u² scaled, with the bounds: the true rate lies above the upper one",
        ("gamma t x0", "rate × gamma t² / x0"),
        (context.gamma * t * x0)[:45, -1],
        {name: (y * context.gamma * t**2 / x0)[:45, -1] for name, y in rates.items()},
        log=True,
    )
    found = Finding(
        Number("share of the grid where the true rate is inside", share, percent=True),
        Number("share where Eq. 17 as printed is inside", printed, percent=True),
        plot=plot,
    )
    if share == 1:
        return found.holds("The true rate lies between the two on the whole grid.")
    return found.slip(
        "These bound Eq. 17 as printed. The true rate is above the “upper” bound everywhere, which is in fact its "
        "lower one; above it lies x0/(gamma t²)."
        if bool((true > high).all())
        else "The true rate leaves these bounds."
    )


@register(
    "appendix-a-power",
    "Appendix A",
    "The law of decay at first",
    r"In $[0,t_\delta]$ “the SNR decays at the rate of $t^{-2}$”, proportionally to $x_0$.",
    code="process/schedules.py, Schedule.snr_derivative",
    formula=snr,
)
def power_law(context: Context, ratio) -> Verdict:
    """The powers of t of SNR and of its rate at first, by differences of their logarithms."""
    x0 = context.picked
    u = torch.logspace(-3, 0.5, 80, dtype=torch.float64)[:, None]
    t = u / (context.gamma * x0)

    def rate(t: Tensor) -> Tensor:
        return -slope(lambda t: ratio(context.gamma, t, x0), t, 1e-3)

    value_power = slope(lambda t: torch.log(ratio(context.gamma, t, x0)), t, 1e-3) * t
    rate_power = slope(lambda t: torch.log(rate(t)), t, 1e-3) * t
    fits = ((rate_power + 2).abs() < POWER).all(1)
    until = u[fits.double().argmin() - 1].item() if bool(fits[0]) else 0.0
    at_first = value_power[0].mean()
    found = Finding(
        Number("power of t of SNR itself, at first", at_first),
        Number("power of t of its rate, at first", rate_power[0].mean()),
        Number("the rate keeps that power, to 0.05, up to gamma t x0 =", until),
    )
    if abs(at_first + 2) < POWER:
        return found.holds("SNR itself falls like 1/t².")
    if until:
        return found.where(
            "True of the rate: |dSNR/dt| = x0/(gamma t²) while gamma t x0 is small. SNR itself falls like 1/t."
        )
    return found.slip("Neither SNR nor its rate follows that power.")
