"""The paper's Figures 1, 2, 3, 5, 7 and 8 for a view: from the process and a checkpoint to arrays to a Figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from pixelviz.claims import Bench
from pixelviz.config import ModelConfig
from pixelviz.data.pictures import frame_steps, scale_image
from pixelviz.export import paper_figures
from pixelviz.measure.estimate import ask
from pixelviz.process.forward import expected_moments, noise, trajectory
from pixelviz.process.reverse import skip_posterior
from pixelviz.process.schedules import image_scale
from pixelviz.samplers import ImageNoise, Start
from pixelviz.samplers.parallel import parallel
from pixelviz.view import GRID, METHODS, NAMES, View, shown

VESSEL_STEPS = 6  # of Fig. 1, after its beginning
EARLY = 20  # steps of Fig. 5
TILE_SIDE = 128  # of an image in a grid; larger ones are thinned, which keeps the noise as strong as it is

BenchFor = Callable[[tuple[str, ...]], Bench | None]


def best_fit(
    candidates: Iterable[tuple[str, ModelConfig, tuple[str, ...]]], needs: tuple[str, ...], view: View
) -> str | None:
    """The checkpoint with these parts that is nearest to a view: its channels, then its floor, then gamma and T.

    Not one with eps heads where R_phi is needed: the figures show the stable form.
    """

    def distance(candidate: tuple[str, ModelConfig, tuple[str, ...]]) -> tuple:
        config = candidate[1]
        return config.channels != len(view.x0), abs(config.floor - view.floor), abs(config.gamma / view.gamma - 1)

    fitting = [
        candidate
        for candidate in candidates
        if set(needs) <= set(candidate[2]) and ("parallel_unet" not in needs or candidate[1].head_target == "v")
    ]
    return min(fitting, key=distance)[0] if fitting else None


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


def _forward_grid(view: View, method: str, caption: str) -> paper_figures.Grid:
    frames = view.walk.frames[method]
    return paper_figures.Grid(_thin(np.stack([frames[i] for i in frame_steps(view.T, GRID)])), caption)


def _figure_7(view: View, found: Bench):
    model, config = found.model, found.model.config
    steps = frame_steps(config.T, GRID)
    x_T = trajectory(model.schedule, found.x0, noise(view.seed, found.x0.shape, config.T), [config.T])
    x_delta_hat = ask(model, found.compute, found.x0[None], 0)
    start = Start(x_T.float().to(model.device), x_delta_hat.float().to(model.device))
    kept: dict[int, torch.Tensor] = {}
    with torch.inference_mode(), found.compute.autocast():
        for step in parallel(model, start, ImageNoise(view.seed, 1, device=model.device), passes=config.T):
            if step.i in steps:
                kept[step.i] = step.x[0].double().cpu()
    back = shown(torch.stack([kept[i] for i in reversed(steps)]), config.floor)
    panels = (
        _forward_grid(view, "pixel_aware", f"Pixel-aware, forward, {_settings_note(view)}"),
        paper_figures.Grid(_thin(back), "Pixel-aware, reverse"),
    )
    note = f"(B): {_about(found)}, given its own estimate of the picture's scale; the network runs at each step"
    return paper_figures.grids(panels, 5, note)


def _figure_8(view: View, _: Bench | None):
    schedule, steps = view.theirs, frame_steps(view.T, GRID)
    x = trajectory(schedule, view.x0, noise(view.seed, view.x0.shape, view.T), [view.T])[0]
    fresh = noise(view.seed + 1, view.x0.shape, len(steps))
    back = [x]
    for i, j, xi in zip(reversed(steps), reversed(steps[:-1]), fresh, strict=False):
        mean, variance = skip_posterior(schedule, torch.ones(1).double(), i, j, x, view.x0)  # one rate for all pixels
        x = mean + variance.sqrt() * xi
        back.append(x)
    range_ = "range rescaled" if view.rescaled else "range as printed"
    panels = (
        _forward_grid(view, "ddpm", rf"Conventional DDPM, forward, $T={view.T}$, {range_}"),
        paper_figures.Grid(_thin(shown(torch.stack(back), view.floor)), "Conventional DDPM, reverse"),
    )
    return paper_figures.grids(
        panels, 5, r"(B): drawn from the exact posterior $q(x_j\,|\,x_i,x_0)$; no network is used"
    )


class PaperFigure(NamedTuple):
    """A figure: what it shows, the parts of a model that it needs, and how it is drawn."""

    title: str
    needs: tuple[str, ...]
    draw: Callable[[View, Bench | None], Any]


FIGURES: dict[str, PaperFigure] = {
    "1": PaperFigure("SNR left in the picked pixels", (), _figure_1),
    "2": PaperFigure("Mean and variance", (), _figure_2),
    "3": PaperFigure("Image, scale, estimate", ("scale_vae",), _figure_3),
    "5": PaperFigure("Real and estimated schedule", ("scale_vae",), _figure_5),
    "7": PaperFigure("Pixel-aware, forward and reverse", ("scale_vae", "parallel_unet"), _figure_7),
    "8": PaperFigure("DDPM, forward and reverse", (), _figure_8),
}
