"""What G_theta says of a noised picture, and how near it comes: x_delta_hat from x_i (Section 3.2.3, Appendices E, F).

noised -> ask -> similarity, for a batch of steps (`similarities`) or for a picture of any size (`estimate_scale`, in
tiles where it is larger than the network's images). All images are float64, with values in [floor, 1] for x0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pixelviz.checks import ServiceError, choice, whole
from pixelviz.config import MAX_SEED, ModelConfig
from pixelviz.data.images import Picture, fit_between, fit_square
from pixelviz.data.pictures import last_channel, scale_image, to_bytes
from pixelviz.data.sets import to_unit
from pixelviz.devices import Compute, in_batches
from pixelviz.measure.metrics import scale_range, ssim
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.forward import closed_form
from pixelviz.process.schedules import Schedule, image_from_scale, image_scale, schedule_of
from pixelviz.samplers import ImageNoise

MOST_SIDE = 256  # of a picture that is estimated in tiles
TILES_AT_ONCE = 32
STEPS_AT_ONCE = 16
IMAGES = ("x0", "x_i", "x0_hat", "twin_x0_hat")
SCALES = ("x_delta", "x_delta_hat", "alpha_bar", "alpha_bar_hat")

Turn = Callable[[], AbstractContextManager]  # held while the networks run: whoever shares a processor waits for it


class ScalePoint(NamedTuple):
    """SSIM of the estimate from x_i; that of alpha_bar_i is None where it says nothing of the picture.

    So it is at i = 0, where alpha_bar is 1 everywhere, and by a schedule that is one for all pixels.
    """

    i: int
    ssim_x_delta: float
    ssim_alpha_bar: float | None


class Tiling(NamedTuple):
    """How far an estimate in tiles is: done of total, seconds of the networks; the last has the images by network."""

    done: int
    total: int
    seconds: float
    found: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class ScaleResult:
    """An estimate from one x_i of a picture; images are (C, H, W), `twin_x0_hat` None without a twin.

    x_i is made from the true x0 (Eq. 9). tiles: how many blended estimates make up the whole, 1 at the network's own
    size; fitted: where there are several, the similarities at that size; seconds: of the networks.
    """

    config: ModelConfig
    i: int
    seed: int
    x0: Tensor
    x_i: Tensor
    x_delta_hat: Tensor
    twin_x0_hat: Tensor | None
    ssim_x_delta: float
    ssim_alpha_bar: float | None
    tiles: int
    fitted: ScalePoint | None
    seconds: float
    notes: tuple[str, ...]

    @property
    def x_delta(self) -> Tensor:
        """exp(-gamma x0), Eq. 7."""
        return image_scale(self.x0, self.config.gamma)

    @property
    def x0_hat(self) -> Tensor:
        """-log(x_delta_hat)/gamma: the estimate, read as an image."""
        return image_from_scale(self.x_delta_hat, self.config.gamma)

    @property
    def alpha_bar(self) -> Tensor:
        """By the model's own schedule; exp(-rate x0), Eq. 9, by pixel."""
        return schedule_of(self.config).alpha_bar(self.x0, self.i)

    @property
    def alpha_bar_hat(self) -> Tensor:
        """The same of x0_hat (Fig. 5)."""
        return schedule_of(self.config).alpha_bar(self.x0_hat, self.i)

    @property
    def rate(self) -> float:
        """gamma i/T, alpha_bar_i's rate in x0; by another clock than the paper's, gamma times what that shows."""
        return rate_at(self.config, self.i)

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of the images that there are to see."""
        names = ("x0", "x_i", "x_delta", "x_delta_hat", "x0_hat")
        names += () if self.twin_x0_hat is None else ("twin_x0_hat",)
        return names + (("alpha_bar", "alpha_bar_hat") if self.i else ())

    @property
    def figures(self) -> dict[str, Any]:
        """The numbers, as JSON holds them."""
        process = {name: getattr(self.config, name) for name in ("T", "gamma", "floor")}
        own = ("i", "seed", "ssim_x_delta", "ssim_alpha_bar", "tiles", "seconds")
        small = None if self.fitted is None else self.fitted._asdict()
        return process | {name: getattr(self, name) for name in own} | {"fitted": small, "notes": list(self.notes)}

    def picture(self, which: str) -> np.ndarray:
        """One of the images as uint8 (H, W, C): black to white is [floor, 1], or the range that a scale can have.

        Raises ServiceError for another name, and for the twin's image where there is none.
        """
        values = getattr(self, choice("the picture", which, IMAGES + SCALES))
        if values is None:
            raise ServiceError("this checkpoint has no twin.")
        if which in IMAGES:
            return last_channel(to_bytes(values, self.config.floor))
        rate = self.rate if which.startswith("alpha_bar") else self.config.gamma
        return scale_image(values, rate, self.config.floor)


def rate_at(config: ModelConfig, i: float) -> float:
    """What alpha_bar_i is exp(-rate x0) with, by pixel; of a schedule that is one for all, with x0 = 1/2."""
    return config.gamma * schedule_of(config).clock(i).item()


def noised(schedule: Schedule, x0: Tensor, steps: Sequence[int], seed: int) -> Tensor:
    """x_i of one picture (C, H, W) at each step, all with one noise: (B, C, H, W) (Eq. 9)."""
    eps = ImageNoise(seed, 1).normal(*x0.shape).double()
    return closed_form(schedule, x0, torch.tensor(list(steps))[:, None, None, None], eps)


@torch.no_grad()
def ask(
    model: PixelAwareModel,
    compute: Compute,
    x_i: Tensor,
    steps: int | Sequence[int],
    network: str = "scale_vae",
) -> Tensor:
    """What a network says of x_i (B, C, H, W), each at its own step or all at one: the same shape.

    network: "scale_vae", which gives x_delta_hat, or "twin", which gives x0_hat. Raises MissingPart.
    """
    i = torch.as_tensor(steps, device=model.device).expand(len(x_i))
    with compute.autocast():
        return getattr(model, network)(x_i.float().to(model.device), i).double().cpu()


def similarity(config: ModelConfig, x0: Tensor, x_delta_hat: Tensor, i: int) -> ScalePoint:
    """SSIM of x_delta_hat, and of the alpha_bar_i made of it, over the ranges that they really have; (..., C, H, W)."""
    schedule, x0_hat = schedule_of(config), image_from_scale(x_delta_hat, config.gamma)
    scale = ssim(image_scale(x0, config.gamma), x_delta_hat, scale_range(config.gamma, config.floor)).mean
    if i == 0 or schedule.uniform:
        return ScalePoint(i, scale, None)
    true, found = (schedule.alpha_bar(x, i) for x in (x0, x0_hat))
    return ScalePoint(i, scale, ssim(true, found, scale_range(rate_at(config, i), config.floor)).mean)


def image_similarity(config: ModelConfig, x0: Tensor, x0_hat: Tensor) -> float:
    """SSIM of images over [floor, 1], as Appendix F's twin is judged; (..., C, H, W)."""
    return ssim(x0, x0_hat, 1 - config.floor).mean


def similarities(
    model: PixelAwareModel,
    compute: Compute,
    x0: Tensor,
    steps: Sequence[int],
    seed: int,
    *,
    network: str = "scale_vae",
    turn: Turn = nullcontext,
) -> Iterator[ScalePoint]:
    """`similarity` for one picture (C, H, W) at each step, all with one noise. Raises MissingPart."""

    def run(first: int, size: int) -> Tensor:
        part = steps[first : first + size]
        return ask(model, compute, noised(model.schedule, x0, part, seed), part, network)

    for first, found, _ in in_batches(run, len(steps), STEPS_AT_ONCE, turn):
        for i, x_delta_hat in zip(steps[first:], found, strict=False):
            yield similarity(model.config, x0, x_delta_hat, i)


# --- Tiles


def tile_starts(length: int, side: int) -> list[int]:
    """Where tiles of `side` pixels begin so that they cover `length` >= side, overlapping by at least a half."""
    count = 1 - (side - length) // max(side // 2, 1)  # one, and one more for each begun half
    return [round(k) for k in np.linspace(0, length - side, count)]


def tile_window(side: int) -> Tensor:
    """How much a tile's pixels count, (side, side): a raised cosine, so that no edge shows; positive everywhere."""
    line = torch.sin(torch.pi * (torch.arange(side, dtype=torch.float64) + 0.5) / side) ** 2
    return line[:, None] * line


class _Blend:
    """Tiles added up under their window."""

    def __init__(self, shape: tuple[int, ...], side: int) -> None:
        self.side, self.window = side, tile_window(side)
        self.total, self.weight = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[1:], dtype=torch.float64)

    def add(self, tile: Tensor, top: int, left: int) -> None:
        where = slice(top, top + self.side), slice(left, left + self.side)
        self.total[(slice(None), *where)] += self.window * tile
        self.weight[where] += self.window

    def mean(self) -> Tensor:
        return self.total / self.weight


def ask_in_tiles(
    model: PixelAwareModel, compute: Compute, x_i: Tensor, i: int, turn: Turn = nullcontext
) -> Iterator[Tiling]:
    """What G_theta and the twin say of one x_i (C, H, W) of any size, in tiles of the networks' own size.

    Blended, and found in the end, is what either says of the image (G_theta: -log(x_delta_hat)/gamma), since x_delta
    spans many decades.
    """
    side = model.config.image_size
    corners = [(top, left) for top in tile_starts(x_i.shape[1], side) for left in tile_starts(x_i.shape[2], side)]
    networks = [name for name in ("scale_vae", "twin") if name == "scale_vae" or name in model.parts]
    blends, seconds = {name: _Blend(x_i.shape, side) for name in networks}, 0.0

    def run(first: int, size: int) -> list[Tensor]:
        cut = [x_i[:, top : top + side, left : left + side] for top, left in corners[first : first + size]]
        return [ask(model, compute, torch.stack(cut), i, name) for name in networks]

    for first, found, took in in_batches(run, len(corners), TILES_AT_ONCE, turn):
        seconds += took
        for name, tiles in zip(networks, found, strict=True):
            images = model.rate_x0(tiles) if name == "scale_vae" else tiles
            for tile, corner in zip(images, corners[first:], strict=False):
                blends[name].add(tile, *corner)
        if (done := first + len(found[0])) < len(corners):
            yield Tiling(done, len(corners), seconds)
    yield Tiling(len(corners), len(corners), seconds, {name: blend.mean() for name, blend in blends.items()})


# --- A picture


def fitted(config: ModelConfig, picture: Picture, *, tiled: bool = False) -> tuple[Tensor, tuple[str, ...]]:
    """A picture as x0 (C, H, W), fitted to a model, and what was done to it; tiled: at its own size, to MOST_SIDE."""
    size, channels = config.image_size, config.channels
    if tiled:
        picture = fit_between(picture, size, max(MOST_SIDE, size), channels)
    else:
        picture = fit_square(picture, size, channels)
    return to_unit(picture.tensor(), config.floor, torch.float64), picture.notes


def estimate_scale(
    model: PixelAwareModel,
    compute: Compute,
    picture: Picture,
    i: int | None = None,
    seed: int = 0,
    *,
    tiled: bool = False,
    turn: Turn = nullcontext,
) -> Iterator[Tiling | ScaleResult]:
    """Estimate the scale from x_i of a picture (i None: half of T); yields how far it is, and the result last.

    tiled: not at the network's size, but in tiles, at the picture's own, up to MOST_SIDE pixels. The turn is taken for
    a batch of tiles at a time. Raises ServiceError, MissingPart or ImageError.
    """
    config = model.config
    i, seed = whole("i", config.T // 2 if i is None else i, 0, config.T), whole("seed", seed, 0, MAX_SEED)
    model.need("scale_vae")
    x0, notes = fitted(config, picture, tiled=tiled)
    x_i = noised(model.schedule, x0, [i], seed)[0]
    for tiling in ask_in_tiles(model, compute, x_i, i, turn):
        if (found := tiling.found) is None:
            yield tiling
    small = None
    if tiling.total > 1:
        [small] = similarities(model, compute, fitted(config, picture)[0], [i], seed, turn=turn)
        notes = (
            *notes,
            f"{x0.shape[2]}x{x0.shape[1]} pixels in {tiling.total} tiles of {config.image_size}x{config.image_size}, "
            "which overlap by at least a half and are blended; the network sees one tile at a time.",
        )
    if i == 0:
        notes = (*notes, "At i = 0 alpha_bar is 1 everywhere, so there is nothing to compare.")
    elif model.schedule.uniform:
        notes = (*notes, "By this model's schedule alpha_bar is one for all pixels, so there is nothing to compare.")
    x_delta_hat = image_scale(found["scale_vae"], config.gamma)
    point = similarity(config, x0, x_delta_hat, i)
    yield ScaleResult(
        config=config,
        i=i,
        seed=seed,
        x0=x0,
        x_i=x_i,
        x_delta_hat=x_delta_hat,
        twin_x0_hat=found.get("twin"),
        ssim_x_delta=point.ssim_x_delta,
        ssim_alpha_bar=point.ssim_alpha_bar,
        tiles=tiling.total,
        fitted=small,
        seconds=tiling.seconds,
        notes=notes,
    )
