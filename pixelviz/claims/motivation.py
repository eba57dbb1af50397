"""Section 3.1: the water-pouring analogy, and Fig. 1."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelviz.claims.base import CLOSE, GONE, Context, Finding, Number, Plot, Register, Verdict, error
from pixelviz.process import theory, water

register = Register("3.1 Motivation: water pouring")


def _concordance(a: Tensor, b: Tensor) -> float:
    """1 where b rises with a for every pair, −1 where it falls for every pair (Kendall's tau-a)."""
    i, j = torch.triu_indices(len(a), len(a), 1)
    return (torch.sign(a[i] - a[j]) * torch.sign(b[i] - b[j])).mean().item()


def _noise_to_signal(context: Context) -> Tensor:
    """1/SNR of the picked pixels when the brightest has lost most of its signal (u = 1)."""
    t = min(1.0, 1 / (context.gamma * context.picked[-1].item()))
    return 1 / context.ours.snr(context.picked, t * context.T)


@register(
    "water-power",
    "Section 1",
    "Water pouring helps the degraded channels",
    "The water pouring algorithm allocates power by noise level, “with more degraded channels getting more power”.",
    code="process/water.py, water_filling",
    formula=lambda noise, power: water.water_filling(noise, power).amounts,
)
def water_power(context: Context, allocate) -> Verdict:
    """The order of noise and power that Gallager's water-filling gives the picked pixels."""
    noise = _noise_to_signal(context)
    power = (len(noise) * noise.max()).item()  # enough to wet every channel, so that none are tied at 0
    amounts = allocate(noise, power)
    order = _concordance(noise, amounts)
    cleanest, noisiest = amounts[noise.argmin()].item(), amounts[noise.argmax()].item()
    found = Finding(
        Number("share of power of the cleanest picked pixel", cleanest / power, percent=True),
        Number("share of power of the noisiest picked pixel", noisiest / power, percent=True),
        Number("does power rise with noise? (1 always, −1 never)", order),
    )
    if order == 1:
        return found.holds("The noisier a channel, the more power it gets.")
    return found.slip(
        "Gallager's water-filling does the opposite: P_k = max(0, level − N_k), so the cleaner channels get more."
    )


@register(
    "water-dual",
    "Section 3.1, Fig. 1",
    "The process is a dual of water pouring",
    "SNR degradation over the pixels is “a dual of water pouring algorithm”.",
    code="process/water.py, reverse_water_filling",
    formula=lambda schedule, x0, i: schedule.noise_variance(x0, i),
)
def water_dual(context: Context, noise_variance) -> Verdict:
    """The noise of the picked pixels beside reverse water-filling's distortion, of the same sum."""
    x0 = context.picked
    i = min(context.T, max(1, round(context.T / (context.gamma * x0.mean().item()))))
    added = noise_variance(context.ours, x0, i)
    # The nearest classical relative: the distortion of Gaussian sources of variance x0^2, of the same sum.
    total = min(added.sum().item(), (x0**2).sum().item())
    poured = water.reverse_water_filling(x0**2, total).amounts
    forward, reverse = _concordance(x0, added), _concordance(x0, poured)
    apart = error(added / added.sum(), poured / poured.sum())
    found = Finding(
        Number("step i looked at", i),
        Number("does the process's noise rise with x0? (1 always)", forward),
        Number("does reverse water-filling's? (0 where all are equal)", reverse),
        Number("largest relative difference of the two shares", apart),
    )
    if apart < CLOSE:
        return found.holds("The process adds noise as reverse water-filling does.")
    if forward > 0 and reverse >= 0:
        return found.where(
            "An analogy, in its order only: like reverse water-filling, the process adds at least as much noise to "
            "brighter pixels. But the amounts differ: reverse water-filling gives every strong component the same."
        )
    return found.slip("Not even the order is that of reverse water-filling.")


@register(
    "fig1",
    "Fig. 1",
    "All pixels reach SNR 0 together",
    "The brightest pixel starts with the highest SNR, and the pixels “reach 0 SNR simultaneously” at the last step.",
    code="process/schedules.py, Schedule.snr",
    formula=lambda gamma, t, x0: x0**2 / torch.expm1(gamma * t * x0),
)
def fig1(context: Context, snr) -> Verdict:
    """When the picked pixels' SNR reaches GONE, and which of them starts highest."""
    x0, gamma = context.picked, context.gamma
    t = torch.linspace(1 / 2000, 1, 2000, dtype=torch.float64)[:, None]
    curves = snr(gamma, t, x0)
    gone = curves <= GONE
    reached = gone.any(0)
    when = t[gone.double().argmax(0), 0]
    ordered = _concordance(x0, snr(gamma, torch.tensor(1e-3 / gamma).double(), x0)) == 1
    peak = min(1.0, theory.U_SNR_PEAK / gamma)
    share = context.share(snr(gamma, torch.ones(1).double(), context.levels) <= GONE)

    shown = {f"x0 = {v:.3g}": curves[::20, k] for k, v in enumerate(x0[:6])}
    plot = Plot.over("SNR of the picked pixels over time, on a log axis", ("t", "SNR"), t[::20], shown, log=True)
    found = Finding(
        *(
            Number(f"t at which SNR is {GONE:g}, x0 = {v:.3g}", w)
            for v, w, r in zip(x0, when, reached, strict=True)
            if r
        ),
        Number(f"share of the image with SNR below {GONE:g} at t = 1", share, percent=True),
        Number("x0 with the highest SNR at t = 1", peak),
        plot=plot,
    )
    if not ordered or not bool(reached.any()):
        return found.slip(f"No picked pixel falls below {GONE:g}, or the brightest does not start highest.")
    if bool(reached.all()) and when.max() <= (1 + CLOSE) * when.min():
        return found.holds("The picked pixels reach it within 5 % of the same time.")
    late = "" if bool(reached.all()) else " Some picked pixels never do."
    return found.where(
        f"The brightest does start highest, but the pixels get there at different times.{late} Late in the process "
        f"SNR peaks at x0 = {peak:.3g}: brighter pixels then have less of it left."
    )
