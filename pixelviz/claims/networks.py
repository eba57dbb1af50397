"""Claims that need a trained model, checked on the picture as that model takes it."""

from __future__ import annotations

import math
import time

import torch

from pixelviz import paper
from pixelviz.claims.base import SLIP, WHERE, Bench, Context, Finding, Number, Plot, Register, Verdict
from pixelviz.measure.estimate import ScalePoint, ask, image_similarity, noised, similarities, similarity
from pixelviz.process.schedules import image_scale
from pixelviz.process.theory import BARELY_NOISY
from pixelviz.samplers import STARTS, ImageNoise, draw, starts

scale = Register("3.2.3 Estimating the scale, Appendices E and F")
register = Register("3.3 Reverse process and Algorithm 1")
IMAGES = 8
NEARER = 0.9  # of the average image's error: what an estimate that saw the picture must stay below
AVERAGE = 0.5  # below this share of the spread, starts are all nearly the average image


def _points(context: Context, steps: list[int], network: str) -> list[ScalePoint]:
    """SSIM of a network's estimates from x_i at each step, all with one noise."""
    bench = context.bench
    return list(similarities(bench.model, bench.compute, bench.x0, steps, context.seed, network=network))


def _bars(points: list[ScalePoint]) -> list[float]:
    """Their SSIM of alpha_bar_i, i > 0; none by a schedule that is one for all pixels."""
    return [point.ssim_alpha_bar for point in points if point.ssim_alpha_bar is not None]


def _on(bench: Bench) -> str:
    config = bench.model.config
    return f"On {bench.name} (gamma {config.gamma:g}, T {config.T}, floor {config.floor:g})"


def _against_paper(values: list[float], numbers, text: str, plot: Plot | None = None) -> Verdict:
    low, found = paper.SSIM[0], Finding(*numbers, plot=plot)
    if min(values) >= low:
        return found.holds(f"{text} it is at least {low:g} everywhere.")
    reached = sum(value >= low for value in values)
    where = f"reached in {reached} of {len(values)} cases" if reached else "nowhere reached"
    return found(WHERE if reached else SLIP, f"{text} {low:g} is {where}; the least is {min(values):.3f}.")


@scale(
    "fig3",
    "Fig. 3, Section 3.2.3",
    "The scale is seen in pure noise",
    r"$G_\theta(x_T,T)=\hat x_\delta\approx x_\delta$ from the noisiest $x_T$ alone.",
    code="models/scale_vae.py",
    formula="scale_vae",
    needs=("scale_vae",),
)
def fig3(context: Context, network) -> Verdict:
    """SSIM of the scale that the network sees in x_T."""
    bench, config = context.bench, context.bench.model.config
    found = _points(context, [config.T], network)[0].ssim_x_delta
    variance = bench.model.schedule.noise_variance(bench.x0, config.T)
    numbers = (
        Number("SSIM of x_delta_hat from x_T", found),
        Number("least variance of x_T in this image (1: pure noise)", variance.min()),
    )
    leans = variance.min() < BARELY_NOISY
    why = "whose dark pixels never become noise in x_T," if leans else "whose x_T is nearly pure noise,"
    return _against_paper([found], numbers, f"{_on(bench)}, {why}")


@scale(
    "ssim",
    "Section 3.2.3",
    "SSIM of 0.86 to 0.99",
    r"The SSIM of real and estimated images is “in the range of 0.86 to 0.99 for both $x_\delta$ and "
    r"$\bar\alpha_i$” across $i$.",
    code="measure/metrics.py, ssim",
    formula="scale_vae",
    needs=("scale_vae",),
)
def ssim_across_i(context: Context, network) -> Verdict:
    """SSIM of the scale and of abar_i at six steps."""
    bench, T = context.bench, context.bench.model.config.T
    steps = sorted({1, *(max(1, round(T * k)) for k in (0.1, 0.25, 0.5, 0.75, 1.0))})
    points = _points(context, steps, network)
    curves = {"x_delta_hat": [point.ssim_x_delta for point in points], "alpha_bar_i": _bars(points)}
    curves = {name: values for name, values in curves.items() if values}
    numbers = [
        Number(f"{word} SSIM of {name}", end(values))
        for name, values in curves.items()
        for word, end in (("least", min), ("largest", max))
    ]
    plot = Plot.over(
        "SSIM of the estimated scale and of alpha_bar_i over the step i",
        ("step i", "SSIM"),
        steps,
        curves,
    )
    values = [value for curve in curves.values() for value in curve]
    return _against_paper(values, numbers, f"{_on(bench)}, for this picture,", plot)


@scale(
    "fig5",
    "Fig. 5, Appendix E",
    "The early schedule is estimated well",
    r"Real and estimated $\bar\alpha_i$ look alike for $i=1,\dots,20$.",
    code="measure/metrics.py, ssim",
    formula="scale_vae",
    needs=("scale_vae",),
)
def fig5(context: Context, network) -> Verdict:
    """SSIM of abar_i at the first 20 steps."""
    bench = context.bench
    steps = list(range(1, min(20, bench.model.config.T) + 1))
    if not (bars := _bars(_points(context, steps, network))):
        return Finding().unchecked(f"{_on(bench)} alpha_bar_i is one for all pixels, so there is nothing to estimate.")
    numbers = (Number("least SSIM of alpha_bar_i", min(bars)), Number("largest", max(bars)))
    return _against_paper(bars, numbers, f"{_on(bench)}, for this picture,")


@scale(
    "fig6",
    "Fig. 6, Appendix F",
    "Denoising directly is worse",
    r"The same network trained to output $x_0$ from $x_i$ gives “unnecessary artifacts”; $x_\delta$ is easier.",
    code="models/scale_vae.py, output x0",
    formula="twin",
    needs=("scale_vae", "twin"),
)
def fig6(context: Context, twin) -> Verdict:
    """SSIM of both networks' estimates from x_T, as scales and as images, and how much each has learnt."""
    bench, config = context.bench, context.bench.model.config
    x_T = noised(bench.model.schedule, bench.x0, [config.T], context.seed)
    x_delta_hat, x0_hat = (ask(bench.model, bench.compute, x_T, config.T, name)[0] for name in ("scale_vae", twin))
    as_scale = similarity(config, bench.x0, x_delta_hat, config.T).ssim_x_delta
    through = image_similarity(config, bench.x0, bench.model.rate_x0(x_delta_hat))
    straight = image_similarity(config, bench.x0, x0_hat)
    ours, theirs = (bench.images_seen.get(part, 0) for part in ("scale_vae", "twin"))
    found = Finding(
        Number("SSIM of x_delta_hat, as scales", as_scale),
        Number("SSIM of the same as an image, −log(x_delta_hat)/gamma", through),
        Number("SSIM of the twin's x0", straight),
        *(Number(f"images that {name} has seen", n) for name, n in (("G_theta", ours), ("its twin", theirs)) if n),
    )
    if through > straight:
        better = f"{_on(bench)}: better also when both are compared as images"
        if ours and ours == theirs:
            return found.holds(f"{better}, after as many images of training.")
        seen = f"have seen {ours:,} and {theirs:,} images" if ours and theirs else "have no record of their images"
        return found.where(
            f"{better}. But G_theta and its twin {seen}: they were not trained alike (the card says what else "
            "differed), so this control does not decide."
        )
    if as_scale > straight:
        return found.where(
            f"{_on(bench)}: the scale looks better because it hides bright detail. Compared as images, "
            "−log(x_delta_hat)/gamma is no better than the twin's x0."
        )
    return found.slip(f"{_on(bench)}: the twin does better.")


@register(
    "eq14",
    "Eq. 14",
    "T heads and a mask",
    r"$\mathbf Z^j=\mathcal M_j\circ\mathcal G_j(\cdot)$ from one run, with $\mathcal M_j=1$ where $j\le i$, else 0.",
    code="models/parallel_unet.py",
    formula=lambda model, x, x_delta, i: model.parallel_unet(x, x_delta, i),
    needs=("parallel_unet",),
)
def eq14(context: Context, run) -> Verdict:
    """The heads of one run in the middle: T of them, those up to i not 0, the others 0."""
    bench, config = context.bench, context.bench.model.config
    i = max(1, config.T // 2)
    x = ImageNoise(context.seed, 1).normal(*config.shape).to(bench.model.device)
    x_delta = image_scale(bench.x0, config.gamma).float()[None].to(bench.model.device)
    with torch.inference_mode(), bench.compute.autocast():
        heads = run(bench.model, x, x_delta, bench.model.step_tensor(i, 1))[0].float().cpu()
    size = heads.square().flatten(1).mean(1).sqrt()
    found = Finding(
        Number(f"heads of one run at i = {i}", len(heads)),
        Number("of these not zero, j ≤ i", int((size[:i] > 0).sum())),
        Number("of these not zero, j > i", int((size[i:] > 0).sum())),
    )
    if len(heads) == config.T and bool((size[:i] > 0).all()) and not bool((size[i:] > 0).any()):
        return found.holds(f"{_on(bench)}: one run gives them all, and the mask is as printed.")
    return found.slip(f"{_on(bench)}: the mask is not as printed.")


@register(
    "start",
    "Algorithm 1, input",
    "What Algorithm 1 starts from",
    r"“Input: noisy image $\mathbf x_i$ and time-step $i$ of the forward diffusion”; then "
    r"$\hat x_\delta=G_\theta(x_i,i)$. That a new image starts so from $x_T\sim\mathcal N(0,\mathbf I)$ (as in "
    "Section 3.1) is our reading.",
    code="samplers/starts.py",
    formula=starts.printed,
    needs=("scale_vae",),
)
def start(context: Context, way) -> Verdict:
    """How much the images behind the scales differ from start to start, and how near this picture's own x_T comes."""
    bench, config = context.bench, context.bench.model.config
    images = {}
    for begin in (way, starts.consistent):
        with torch.inference_mode(), bench.compute.autocast():
            x_delta = begin(bench.model, ImageNoise(context.seed, 2 * IMAGES, device=bench.model.device)).x_delta
        images[begin] = bench.model.rate_x0(x_delta.double().cpu())
    # How much the starts differ from each other; and how near this picture one comes that is given its own x_T.
    spread, wanted = (images[begin].std(0).mean().item() for begin in (way, starts.consistent))
    x_T = noised(bench.model.schedule, bench.x0, [config.T], context.seed)
    shown = bench.model.rate_x0(ask(bench.model, bench.compute, x_T, config.T))
    near, far = ((one - bench.x0).square().mean().sqrt().item() for one in (shown, images[way]))
    found = Finding(
        Number("spread of the images behind the scales, from N(0, I)", spread),
        Number("the same, a scale decoded from the prior", wanted),
        Number("error of the image behind the scale, from this picture's own x_T", near),
        Number("the same, from N(0, I)", far),
    )
    if spread >= AVERAGE * wanted:
        return found.holds(f"{_on(bench)}: the starts differ as images do.")
    average = f"{_on(bench)}: pure noise holds no image, so every start from it gives nearly the same average one."
    if near < NEARER * far:
        return found.where(
            f"{average} As printed the input is a noised image, and what its x_T still shows brings the scale nearer "
            "to it: the algorithm then denoises a picture that one has. To generate, the app decodes a scale from the "
            "prior first."
        )
    return found.cannot(
        f"{average} Nor does the x_T of a real image, the printed input, tell more. The app also offers a consistent "
        "start: a scale from the prior, then its x_T."
    )


def _fids(rows) -> dict[int, float]:
    """FID by passes, of the consistent start's rows in a checkpoint's record."""
    return {row["passes"]: row["fid"] for row in rows if row["start"] == STARTS.first}


@register(
    "one-pass",
    "Section 3.3, Abstract",
    "One pass is enough",
    r"“Only a single execution is required of the trained model to obtain a clean image $x_0$.”",
    code="samplers/parallel.py",
    formula=1,
    needs=("scale_vae", "parallel_unet"),
)
def one_pass(context: Context, passes) -> Verdict:
    """FID of one pass and of more in the checkpoint's record, before distillation where it has that; times as well."""
    bench, config = context.bench, context.bench.model.config
    many = min(10, config.T)
    with torch.inference_mode(), bench.compute.autocast():
        noise = ImageNoise(context.seed, IMAGES, device=bench.model.device)
        first = bench.model.rate_x0(starts.consistent(bench.model, noise).x_delta).double().cpu()
    change, seconds = [], []
    for k in (passes, many):
        began = time.perf_counter()
        steps = draw(bench.model, bench.compute, n=IMAGES, passes=k, seed=context.seed)
        images = [step.x for step in steps][-1].double().cpu()
        seconds.append((time.perf_counter() - began) / IMAGES)
        change.append((images - first).square().mean().sqrt().item())
    measured = _fids(bench.figures.get("generation", ()))
    by_eq15 = _fids(bench.figures.get("before_distillation", ()))
    found = Finding(
        *(
            Number(f"FID of {k} passes{when}, in the checkpoint's record", fids[k])
            for when, fids in ((" by Eq. 15 alone", by_eq15), ("", measured))
            for k in (passes, many)
            if k in fids
        ),
        Number(f"change of the start's own image, {passes} pass", change[0]),
        Number(f"change, {many} passes", change[1]),
        Number(f"seconds per image, {passes} pass, measured now", seconds[0]),
        Number(f"seconds per image, {many} passes", seconds[1]),
    )
    if passes not in measured:
        return found.unchecked(
            f"{_on(bench)}: its record has no FID of one pass to judge by, and how far an image moves says nothing of "
            "its quality. `python -m pixelviz evaluate --write` measures it."
        )

    def enough(fids: dict[int, float]) -> bool:
        return fids.get(passes, math.inf) <= 1.1 * min(fids.values())

    if enough(by_eq15 or measured):
        return found.holds(f"{_on(bench)}: more passes gain less than a tenth.")
    if enough(measured):
        plain = " and ".join(f"{fid:.3g} at {k}" for k, fid in by_eq15.items() if k in (passes, many))
        return found.where(
            f"{_on(bench)}: only after distillation, which the paper does not have. Trained by Eq. 15 alone it had FID "
            f"{plain} passes; distilled from its own many passes, {measured[passes]:.3g} at {passes}."
        )
    if measured[passes] >= bench.figures.get("prior_fid", {}).get(STARTS.first, math.inf):
        return found.slip(f"{_on(bench)}: one run adds nothing to the image that its scale already was.")
    return found.where(
        f"{_on(bench)}: one run does give an image, but it stays near the one that its scale already was; more runs "
        "add what one cannot."
    )


@register(
    "one-pass-cost",
    "Sections 3.3, 4",
    "The cost of one pass",
    "“While the one time complexity of our model is higher … only a single execution is required”: at least 4 times "
    "faster than a network that runs at every step.",
    code="models/parallel_unet.py",
    formula=4.0,
    needs=("parallel_unet",),
)
def one_pass_cost(context: Context, factor) -> Verdict:
    """Seconds of a run with all heads and of one with a single head, measured now."""
    bench, config = context.bench, context.bench.model.config
    model = bench.model
    x = ImageNoise(context.seed, IMAGES).normal(*config.shape).to(model.device)
    x_delta = image_scale(bench.x0, config.gamma).float().expand_as(x.cpu()).to(model.device)
    i, seconds = model.step_tensor(config.T, len(x)), []
    drift = config.head_target == "v"  # as the samplers run it
    for heads in (None, i[:1], None, i[:1]):  # the first two runs only warm up
        began = time.perf_counter()
        with torch.inference_mode(), bench.compute.autocast():
            model.parallel_unet(x, x_delta, i, heads, drift=drift).cpu()
        seconds.append(time.perf_counter() - began)
    whole, one = seconds[2:]
    found = Finding(
        Number("seconds per image, one run with all heads", whole / IMAGES),
        Number("seconds per image, one run with one head", one / IMAGES),
        Number("runs with one head that cost as much", whole / one),
        Number(f"{config.T} runs with one head, over one pass", config.T * one / whole),
    )
    if config.T * one >= factor * whole:
        text = f"{_on(bench)}: against a network that runs at all {config.T} steps."
        if (runs := round(whole / one)) >= 2:
            text += f" A fast solver that makes do with fewer than {runs} runs is cheaper."
        return found.holds(text)
    return found.slip(f"{_on(bench)}: the heads cost too much.")
