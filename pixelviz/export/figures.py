"""The paper's Figures 1 to 12 for a view: from the process and a checkpoint to arrays to a Figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pixelviz.claims import Bench
from pixelviz.config import ModelConfig
from pixelviz.data.pictures import frame_steps, scale_image
from pixelviz.devices import Compute
from pixelviz.export import architecture, paper_figures
from pixelviz.measure.estimate import ask, image_similarity, noised
from pixelviz.models.parallel_unet import LinearTwin
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.forward import expected_moments, noise, trajectory
from pixelviz.process.schedules import RANGES, image_scale
from pixelviz.samplers import draw
from pixelviz.samplers.batches import sample_images
from pixelviz.view import FIRST_STEPS, GRID, METHODS, NAMES, View, first_steps, shown

VESSEL_STEPS = 6  # of Fig. 1, after its beginning
EARLY = 20  # steps of Fig. 5
TILE_SIDE = 128  # of an image in a grid; larger ones are thinned, which keeps the noise as strong as it is

DENOISED = 9  # steps of Fig. 6
DDPM_STEPS = 500  # of Fig. 8 and 10, as in the paper
SHEET, SHEET_PASSES = 64, (1, 10)  # images of Fig. 11 and 12, and runs of the network for them

spread = partial(frame_steps, frames=GRID)


class Candidate(NamedTuple):
    """What decides whether a checkpoint fits a figure; data: the id of what it was trained on."""

    name: str
    config: ModelConfig
    parts: tuple[str, ...]
    data: str = ""


def best_fit(
    candidates: Iterable[Candidate], needs: tuple[str, ...], view: View, data: tuple[str, ...] = ()
) -> str | None:
    """The checkpoint with these parts that is nearest to a view: what it was trained on, where `data` asks for it, its
    channels, then its floor, then gamma and T.

    Not one with eps heads where R_phi is needed: the figures show the stable form.
    """

    def distance(candidate: Candidate) -> tuple:
        config = candidate.config
        learnt = data.index(candidate.data) if candidate.data in data else len(data)
        off = abs(config.floor - view.floor), abs(config.gamma / view.gamma - 1)
        return learnt, config.channels != len(view.x0), *off

    fitting = [
        candidate
        for candidate in candidates
        if set(needs) <= set(candidate.parts) and ("parallel_unet" not in needs or candidate.config.head_target == "v")
    ]
    return min(fitting, key=distance).name if fitting else None


# --- Arrays for the figures


def _thin(frames: np.ndarray) -> np.ndarray:
    k = -(-max(frames.shape[1:3]) // TILE_SIDE)
    return frames[:, ::k, ::k]


def _settings_note(view: View) -> str:
    return rf"$\gamma={view.gamma:g}$, $T={view.T}$, floor {view.floor:g}"


def _about(found: Bench) -> str:
    config = found.model.config
    size = f"{config.image_size}×{config.image_size}{', gray' if config.channels == 1 else ''}"
    return rf"checkpoint {found.name} ({size}, $\gamma={config.gamma:g}$, $T={config.T}$, floor {config.floor:g})"


def _figure_1(view: View, _: Bench | None):
    steps = sorted({max(1, i) for i in frame_steps(view.T, VESSEL_STEPS + 1)})  # i = 0 has an infinite SNR
    snr = view.ours.snr(view.x0_at_pixels, torch.tensor(steps)[:, None])
    return paper_figures.snr_vessels(steps, snr.numpy(), view.x0_at_pixels.tolist(), view.T)


def _figure_2(view: View, _: Bench | None):
    measured = view.walk.moments
    methods = []
    for method, name in reversed(list(zip(METHODS, NAMES, strict=True))):
        expected = expected_moments(view.schedules[method], view.x0[:1])
        methods.append(
            paper_figures.MomentCurves(
                name, *(m[0] for m in measured[method]), *(e[:, 0].numpy() for e in (expected.mean, expected.variance))
            )
        )
    return paper_figures.moments(methods, view.channels[0])


def _figure_3(view: View, found: Bench):
    config = found.model.config
    x_T = trajectory(found.model.schedule, found.x0, noise(view.seed, found.x0.shape, config.T), [config.T])
    x_delta_hat = ask(found.model, found.compute, x_T, config.T)[0]
    pictures = [
        shown(found.x0, config.floor),
        *(
            scale_image(scale, config.gamma, config.floor)
            for scale in (image_scale(found.x0, config.gamma), x_delta_hat)
        ),
    ]
    captions = (r"Real image, $x_0$", r"Image scale, $x_\delta$", r"Estimate $\hat{x}_\delta=G_\theta(x_T, T)$")
    return paper_figures.image_row(pictures, captions, _about(found))


def _figure_5(view: View, found: Bench):
    config = found.model.config
    steps = list(range(1, min(EARLY, config.T) + 1))
    x_i = trajectory(found.model.schedule, found.x0, noise(view.seed, found.x0.shape, config.T), steps)
    hat = ask(found.model, found.compute, x_i, steps)
    share = found.model.schedule.clock(torch.tensor(steps).double())[:, None, None, None]
    # Both on the range that alpha_bar_i = x_delta^(i/T) has at that step, so that early steps are not all white.
    real, estimated = (
        np.stack([scale_image(bar, config.gamma * s.item(), config.floor) for bar, s in zip(bars, share, strict=True)])
        for bars in (image_scale(found.x0, config.gamma)[None] ** share, hat**share)
    )
    panels = (
        paper_figures.Grid(real, r"Real $\bar{\alpha}_i$, $i=1,\dots," + f"{steps[-1]}$"),
        paper_figures.Grid(estimated, r"Estimated $\bar{\alpha}_i$, from $\hat{x}_\delta=G_\theta(x_i, i)$"),
    )
    return paper_figures.grids(panels, 5, _about(found) + "; each image on the range it can have")


def _forward_grid(view: View, method: str, caption: str, steps: list[int]) -> paper_figures.Grid:
    frames = view.walk.frames[method]
    return paper_figures.Grid(_thin(np.stack([frames[i] for i in steps])), caption)


@lru_cache(maxsize=3)
def _way(model: PixelAwareModel, compute: Compute, seed: int, T: int, apart: int, **settings: Any) -> dict[int, Tensor]:
    """One image on its way back from a sampler's own start, x_i by i/apart at the steps of Fig. 7 to 10."""
    wanted = {*spread(T), *first_steps(T)}
    steps = draw(model, compute, n=1, seed=seed, **settings)
    return {int(step.i) // apart: step.x[0].double().cpu() for step in steps if step.i / apart in wanted}


def _film(view: View, found: Bench, steps: list[int], T: int, apart: int = 1, **settings: Any) -> np.ndarray:
    """The frames of `_way` at these steps, from the greatest down."""
    way = _way(found.model, found.compute, view.seed, T, apart, **settings)
    return _thin(shown(torch.stack([way[i] for i in reversed(steps)]), found.model.config.floor))


def _pixel_aware(view: View, found: Bench, steps: Callable[[int], list[int]], which: str):
    """Fig. 7 and 9: both ways of our process, back by one run of R_phi, and by as many as there are steps."""
    T = found.model.config.T
    panels = [_forward_grid(view, METHODS[0], f"Pixel-aware, forward{which}", steps(view.T))]
    panels += [
        paper_figures.Grid(_film(view, found, steps(T), T, passes=passes), f"Reverse, {text}")
        for passes, text in ((1, "one run"), (T, f"{T} runs"))
    ]
    note = f"(A): {_settings_note(view)}. (B), (C): {_about(found)}, from its prior's scale and its own start"
    return paper_figures.grids(panels, 5, note)


def _ddpm(view: View, found: Bench, steps: Callable[[int], list[int]], which: str):
    """Fig. 8 and 10: both ways of the conventional process, back by the twin network."""
    apart = LinearTwin.STEPS // DDPM_STEPS
    forward = rf"DDPM, forward{which}, $T={view.T}$, range {RANGES[view.ddpm].in_words}"
    back = _film(view, found, steps(DDPM_STEPS), DDPM_STEPS, apart, sampler="ddpm", passes=DDPM_STEPS)
    panels = (
        _forward_grid(view, METHODS[1], forward, steps(view.T)),
        paper_figures.Grid(back, f"DDPM, reverse, {DDPM_STEPS} runs"),
    )
    twin = f"{_about(found)}: its linear-beta twin, every {apart}nd of {LinearTwin.STEPS} steps, from N(0, I)"
    return paper_figures.grids(panels, 5, f"(B): {twin}")


def _figure_4(view: View, found: Bench):
    i = min(max(1, round(view.t * found.model.config.T)), found.model.config.T)
    return architecture.draw_networks(architecture.run(found, view.seed, i), _about(found))


def _figure_6(view: View, found: Bench):
    model, T = found.model, found.model.config.T
    steps = frame_steps(T, DENOISED + 1)[1:]
    x_i = noised(model.schedule, found.x0, steps, view.seed)
    twin = ask(model, found.compute, x_i, steps, "twin")
    ours = model.rate_x0(ask(model, found.compute, x_i, steps))
    panels = [paper_figures.Grid(shown(x_i, model.config.floor), rf"$x_i$, $i={steps[0]},\dots,{T}$")]
    for images, text in ((twin, r"Denoising VAE, $\hat{x}_0$"), (ours, r"$-\log\,G_\theta(x_i, i)\,/\,\gamma$")):
        likeness = image_similarity(model.config, found.x0.expand_as(images), images)
        panels.append(paper_figures.Grid(shown(images, model.config.floor), f"{text}, SSIM {likeness:.3f}"))
    seen = " and ".join(f"{found.images_seen.get(part, 0):,}" for part in ("twin", "scale_vae"))
    return paper_figures.grids(panels, 3, f"{_about(found)}; (B) and (C) learnt from {seen} images")


def _examples(view: View, found: Bench):
    """Fig. 11 and 12: images that a checkpoint draws."""
    panels = []
    for passes in dict.fromkeys(min(k, found.model.config.T) for k in SHEET_PASSES):
        drawn = [b.images for b in sample_images(found.model, found.compute, SHEET, passes=passes, seed=view.seed)]
        caption = f"{passes} run{'s' if passes > 1 else ''} of the network"
        panels.append(paper_figures.Grid(np.moveaxis(torch.cat(drawn).numpy(), 1, -1), caption))
    return paper_figures.grids(panels, math.isqrt(SHEET), f"{_about(found)}, trained on {found.data}")


class PaperFigure(NamedTuple):
    """A figure: what it shows, the parts of a model that it needs, how it is drawn, and what a model for it had best be
    trained on, the first the best.
    """

    title: str
    needs: tuple[str, ...]
    draw: Callable[[View, Bench | None], Any]
    data: tuple[str, ...] = ()


BenchFor = Callable[[PaperFigure], Bench | None]
OURS = ("scale_vae", "parallel_unet")
FACES = ("celeba", "faces", "faces-10k", "fashion-mnist")
FIRST = f", first {FIRST_STEPS} steps"
FIGURES: dict[str, PaperFigure] = {
    "1": PaperFigure("SNR left in the picked pixels", (), _figure_1),
    "2": PaperFigure("Mean and variance", (), _figure_2),
    "3": PaperFigure("Image, scale, estimate", OURS[:1], _figure_3),
    "4": PaperFigure("The networks, lit by a run", OURS, _figure_4),
    "5": PaperFigure("Real and estimated schedule", OURS[:1], _figure_5),
    "6": PaperFigure("The denoising VAE", ("scale_vae", "twin"), _figure_6),
    "7": PaperFigure("Pixel-aware, forward and reverse", OURS, partial(_pixel_aware, steps=spread, which="")),
    "8": PaperFigure("DDPM, forward and reverse", ("linear_twin",), partial(_ddpm, steps=spread, which="")),
    "9": PaperFigure("Pixel-aware, 100 steps closer", OURS, partial(_pixel_aware, steps=first_steps, which=FIRST)),
    "10": PaperFigure("DDPM, 100 steps closer", ("linear_twin",), partial(_ddpm, steps=first_steps, which=FIRST)),
    "11": PaperFigure("Samples, small color images", OURS, _examples, ("cifar10",)),
    "12": PaperFigure("Samples, faces where a model knows them", OURS, _examples, FACES),
}
