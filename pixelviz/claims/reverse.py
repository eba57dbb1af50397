"""Section 3.3, Appendices B and D: Algorithm 1, and what the T heads of one run can carry."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixelviz.claims.base import SLIP, WHERE, Context, Finding, Number, Plot, Register, Verdict
from pixelviz.numerals import in_words
from pixelviz.process import reverse, theory
from pixelviz.process.open_loop import FORMS, FormName, known_noise_errors, open_loop_errors

register = Register("3.3 Reverse process and Algorithm 1")
BRIGHTNESSES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
TRIALS = 128
HEAD_ERROR = 0.01  # root mean square, of an estimate whose own is about 1: far better than any network
FINE = 0.05  # root mean square error of an image in [0, 1] that one would accept


def _pixels(context: Context) -> Tensor:
    """Pixel values from the floor to 1, (P,)."""
    return torch.tensor((context.floor, *(v for v in BRIGHTNESSES if v > context.floor)), dtype=torch.float64)


def _one_run(context: Context, form: FormName, fresh_noise: bool) -> Tensor:
    """Errors over i of the open loop with the best heads that one run can give, off by HEAD_ERROR, (T+1, P)."""
    return open_loop_errors(
        context.ours, _pixels(context), HEAD_ERROR, form, TRIALS, context.seed, fresh_noise=fresh_noise
    )


@register(
    "algorithm1",
    "Algorithm 1, Eq. 6",
    "One run of the network, then T steps",
    r"$\mathbf Z=R_\phi(x_T,\hat x_\delta,T)$ once; then $\hat x_{j-1}=\frac{1}{\sqrt{\alpha_j}}\big(\hat x_j-"
    r"\frac{1-\alpha_j}{\sqrt{1-\bar\alpha_j}}\mathbf Z^j\big)+\sqrt{\tilde\beta_j}\,\epsilon$ for $j=T,\dots,1$.",
    code="process/reverse.py, printed_step and v_step",
    formula="printed",
)
def algorithm1(context: Context, form: FormName) -> Verdict:
    """The error of x_0 from the best heads of one run with a small error, by this form and by the v-form."""
    fresh = FORMS[form].fresh
    way, stable_way = _one_run(context, form, fresh), _one_run(context, "v", False)
    printed, stable = way[0], stable_way[0]
    quiet, stable_fresh = _one_run(context, form, False)[0], _one_run(context, "v", True)[0]
    mid = (_pixels(context) - 0.5).abs().argmin()
    x_mid = _pixels(context)[mid].item()
    amplification = theory.amplification(context.ours, torch.tensor([x_mid, 1.0]).double(), context.T)

    made = range(0, context.T, max(1, context.T // 100))[::-1]  # of i, about 100 points
    plot = Plot.over(
        "Error of a white pixel over the reverse steps made, on a log axis: Algorithm 1 and the v-form",
        ("reverse steps", "error"),
        [context.T - i for i in made],
        {"Algorithm 1": way[list(made), -1], "v-form": stable_way[list(made), -1]},
        log=True,
    )
    found = Finding(
        Number("root mean square error of x_0, white pixel", printed[-1]),
        Number(f"the same, x0 = {x_mid:g}", printed[mid]),
        Number("without the fresh noise, white pixel", quiet[-1]),
        Number("the v-form, white pixel, the same head error", stable[-1]),
        Number("the same with line 8's noise", stable_fresh[-1]),
        Number("amplification e^(gamma/2) of a white pixel's error", amplification[1]),
        plot=plot,
    )
    setting = f"With the best possible heads, off by {HEAD_ERROR:g}, and line 8's fresh noise"
    if bool((printed <= FINE).all()):
        return found.holds(f"{setting} every pixel comes back to within {FINE:g}.")
    if printed.max() < 1:
        return found.where(f"{setting} some pixels come back to within {FINE:g}; bright ones do not.")
    return found.cannot(
        f"{setting} a white pixel is off by {in_words(printed[-1].item())}, where 1 is the whole range; without that "
        f"noise by {in_words(quiet[-1].item())}. Nothing looks at x_j again, so each step multiplies every error by "
        f"1/sqrt(alpha). The v-form shrinks that of the heads to {in_words(stable[-1].item())}; noise after the one "
        f"run would hurt it too ({in_words(stable_fresh[-1].item())}), so inside a pass it has none."
    )


@register(
    "toy",
    "Appendix B",
    "The toy experiment with known noise",
    "With the forward noise “completely known beforehand” (“the noise samples Z”) and the true scale, the recursion "
    r"returns an image close to $x_0$; $\gamma$ was chosen by its mean square error.",
    code="process/open_loop.py, known_noise_errors",
    formula=("printed", "letter"),
)
def toy(context: Context, readings) -> Verdict:
    """The error of x_0 where the recursion gets the noise of its own forward way, by each reading of Z."""
    errors_of = {
        (form, fresh): known_noise_errors(
            context.ours, _pixels(context), form, fresh_noise=fresh, copies=TRIALS, seed=context.seed
        )
        for form in readings
        for fresh in (FORMS[form].fresh, False)
    }
    of_x_j, of_steps = ([errors_of[form, fresh] for fresh in (FORMS[form].fresh, False)] for form in readings)
    found = Finding(
        *(
            Number(f"{whose}: error of {pixel} pixel{noise}", errors[k])
            for whose, pair in (("Z the noise of x_j (Eq. 3, 4)", of_x_j), ("Z the step noises (Eq. 2)", of_steps))
            for errors, noise in zip(pair, ("", ", without line 8's noise"), strict=True)
            for k, pixel in ((-1, "a white"), (0, "the darkest"))
        )
    )
    best, quiet = (torch.stack([pair[k] for pair in (of_x_j, of_steps)]).amax(1).min().item() for k in (0, 1))
    letter = (
        "Line 9 to the letter, with sqrt(1 − alpha_j) and the noise of each step of Eq. 2, undoes the chain exactly "
        "where line 8's noise is left out; with it a white pixel is off by "
        f"{in_words(of_steps[0][-1].item())}. No network can use this: from x_T it cannot tell step noises."
    )
    eq4 = (
        f" With Eq. 4's denominator and the noise in x_j it is off by {in_words(of_x_j[1][-1].item())} even without: "
        "the recursion walks another way than the one that was walked, and nothing tells it."
    )
    if best <= FINE:
        return found.holds("The known noise brings the image back.")
    if quiet <= FINE:
        return found.where(letter + eq4)
    if best < 1:
        return found.where("It comes near for some pixels only.")
    return found.cannot(f"Under neither reading does the image come back.{eq4}")


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
    """The noise that the last step has to take away from each value of the image, beside DDPM's."""
    schedule, values = schedule_of(context), torch.cat([context.levels, torch.ones(1).double()])
    left = schedule.noise_variance(values, 1).sqrt()
    share = context.share(left[:-1] <= FINE)
    ddpm = context.theirs.noise_variance(torch.ones(()).double(), 1).sqrt().item() / 2  # its images are in [-1, 1]
    enough = context.gamma / -math.log1p(-(FINE**2))
    i = torch.linspace(0, min(20, context.T), 81, dtype=torch.float64)

    white = torch.ones(1).double()
    plot = Plot.over(
        "Deviation of a white pixel's noise over the first steps: the paper's process, and DDPM's",
        ("i", "deviation"),
        i,
        {
            "white pixel": schedule.noise_variance(white, i).sqrt(),
            "DDPM": context.theirs.noise_variance(white, i).sqrt() / 2,
        },
    )
    found = Finding(
        Number("deviation of a white pixel's noise at i = 1, which the last step must take away at once", left[-1]),
        Number("DDPM's, on the same range", ddpm),
        Number(f"share of the image with at most {FINE:g}", share, percent=True),
        Number(f"equal steps that would leave a white pixel {FINE:g}", math.ceil(enough)),
        Number(f"or the i between 0 and 1 that does, at T = {context.T}", min(1.0, context.T / enough)),
        plot=plot,
    )
    if bool((left <= FINE).all()):
        return found.holds(f"The last step has at most {FINE:g} to take away, from any pixel.")
    text = (
        "The rest of the way back is one estimate E[x0 | x_1], a mean over all images within that noise, and blurred. "
        "Equal steps are coarse just where detail appears; steps between 0 and 1 (i_min) mend it."
    )
    return found(WHERE if share else SLIP, text)


@register(
    "algorithm1-line9",
    "Algorithm 1, line 9",
    "The denominator of the step",
    r"Line 9 divides by $\sqrt{1-\alpha_j}$, Eq. 4 by $\sqrt{1-\bar\alpha_j}$; $\mathbf Z$ are “the noise samples”.",
    code="process/reverse.py, letter_step and printed_step",
    formula=lambda alpha, noise: (1 - alpha).sqrt(),
)
def line9(context: Context, denominator) -> Verdict:
    """One step beside the posterior's mean, and beside the step of Eq. 2 undone."""
    schedule, x0, T = context.ours, context.picked, context.T
    j, eps, xi = torch.arange(1, T + 1)[:, None], 1.0, 0.7
    alpha, noise = schedule.alpha(x0, j), schedule.noise_variance(x0, j)

    def back(x_j: Tensor, z: float) -> Tensor:
        return (x_j - (1 - alpha) / denominator(alpha, noise) * z) / alpha.sqrt()

    x_j = schedule.alpha_bar(x0, j).sqrt() * x0 + noise.sqrt() * eps
    of_x_j = (back(x_j, eps) - reverse.skip_posterior(schedule, x0, j, j - 1, x_j, x0).mean).abs().max().item()
    of_step = (back(alpha.sqrt() * x0 + (1 - alpha).sqrt() * xi, xi) - x0).abs().max().item()  # Eq. 2 from x_{j-1} = x0
    known = {z: reverse.known_share(schedule, x0[-1], T, j[:, 0], z) for z in ("eps", "xi")}
    found = Finding(
        Number("largest error of one step, Z the noise of x_j (Eq. 15)", of_x_j),
        Number("largest error of one step, Z the noise of that step (Eq. 2)", of_step),
        *(
            Number(f"of {name}, brightest picked pixel, a network at x_T can know", known[z][T // 2], True)
            for z, name in (("eps", f"the noise of x_{T // 2 + 1}"), ("xi", f"the noise of step {T // 2 + 1}"))
        ),
        Number(f"of the {T} step noises it can know, all shares added", known["xi"].sum()),
    )
    if of_x_j < 1e-7:
        return found.holds("One step with the true noise of x_j, which Eq. 15 teaches, gives Eq. 4's mean.")
    if of_step < 1e-7:
        return found.where(
            "Where Z are the step noises of Eq. 2: then each step undoes one of the chain. But Eq. 15 teaches the "
            "noise of x_j, for which only Eq. 4's denominator gives the posterior's mean; and of step noises a network "
            "at x_T knows one of T in all. So this reading serves the toy experiment alone; this app samples by Eq. 4."
        )
    return found.slip("This denominator fits neither the noise of x_j nor that of a step.")


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
    """The best heads derived from the chain of Eq. 1, beside the given ones, and how many images they span."""
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
    given = torch.cat(tuple(coefficients(schedule, x0, T, k[:, None])), 1)
    off = (best - given).abs().max().item()
    first, *rest = torch.linalg.svdvals(given).tolist()  # T = 1 has one head, and nothing beside it
    second = max(rest, default=0.0)
    known = (pull**2 * spread[-1])[[0, T // 2, -1]]  # of eps_j's variance, explained by x_T
    found = Finding(
        Number("images that the T best heads span: second singular value over the first", second / first),
        Number("share of head 1's noise that x_T tells, given x0", known[0], percent=True),
        Number(f"of head {T // 2 + 1}'s", known[1], percent=True),
        Number("largest difference of two derivations of the best heads", off),
    )
    if off > 1e-6:
        return found.slip("These are not the conditional means that Eq. 15 asks for.")
    if second > 1e-6 * first:
        return found.holds("The best heads differ from each other by more than known factors.")
    return found.where(
        "They can be predicted, but the best T heads are one image times known factors: they carry the estimate of "
        "x0, and nothing else. A trajectory of T steps needs a target that is a function of x_T."
    )
