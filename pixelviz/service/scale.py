"""What the Scale tab and /scale show: G_theta's estimate of x_delta from a noised picture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pixelviz.checks import ServiceError, choice, whole
from pixelviz.config import MAX_SEED
from pixelviz.data.images import Picture, fit_between, fit_square
from pixelviz.data.pictures import last_channel, to_bytes
from pixelviz.data.sets import to_unit
from pixelviz.devices import Compute, halving
from pixelviz.measure.metrics import scale_range, ssim
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.forward import closed_form
from pixelviz.process.schedules import image_scale
from pixelviz.samplers import ImageNoise
from pixelviz.service.turns import ModelTurn
from pixelviz.store.checkpoints import Checkpoint

MOST_STEPS = 201  # points of one curve over i
MOST_SIDE = 256  # of a picture that is estimated in tiles
TILES_AT_ONCE = 32
STEPS_AT_ONCE = 16
IMAGES = ("x0", "x_i", "x0_hat", "twin_x0_hat")
SCALES = ("x_delta", "x_delta_hat", "alpha_bar", "alpha_bar_hat")


class ScalePoint(NamedTuple):
    """SSIM of the estimate from x_i; that of alpha_bar_i is None at i = 0, where it is 1 everywhere."""

    i: int
    ssim_x_delta: float
    ssim_alpha_bar: float | None


@dataclass(frozen=True)
class ScaleResult:
    """An estimate from one x_i; all images are float64 (C, H, W), `twin_x0_hat` None without a twin.

    x_i is made from the true x0 (Eq. 9); x0_hat = -log(x_delta_hat)/gamma; alpha_bar = exp(-gamma x0 i/T)
    (Eq. 9), alpha_bar_hat the same of x0_hat (Fig. 5). tiles: how many blended estimates make up the whole, 1 at the
    checkpoint's own size; fitted: where there are several, the similarities at that size; seconds: of the networks.
    """

    name: str
    i: int
    T: int
    gamma: float
    floor: float
    seed: int
    x0: np.ndarray
    x_i: np.ndarray
    x_delta: np.ndarray
    x_delta_hat: np.ndarray
    alpha_bar: np.ndarray
    alpha_bar_hat: np.ndarray
    x0_hat: np.ndarray
    twin_x0_hat: np.ndarray | None
    ssim_x_delta: float
    ssim_alpha_bar: float | None
    tiles: int
    fitted: ScalePoint | None
    seconds: float
    notes: tuple[str, ...]

    def picture(self, which: str) -> np.ndarray:
        """One of the images as uint8 (H, W, C): black to white is [floor, 1], or the range that a scale can have."""
        choice("the picture", which, IMAGES + SCALES)
        values = getattr(self, which)
        if values is None:
            raise ServiceError("this checkpoint has no twin.")
        if which in IMAGES:
            return last_channel(to_bytes(values, self.floor))
        rate = self.gamma * (self.i / self.T if which.startswith("alpha_bar") else 1.0)
        low, high = float(image_scale(1.0, rate)), float(image_scale(self.floor, rate))
        # At i = 0 alpha_bar is 1 everywhere: white.
        return last_channel(to_bytes((values - low) / (high - low) if high > low else np.ones_like(values), 0.0))


class Estimates(NamedTuple):
    """Of a batch of x_i: float64, (B, C, H, W)."""

    x_delta_hat: Tensor
    twin_x0_hat: Tensor | None


class Tiling(NamedTuple):
    """How far an estimate in tiles is: done of total, seconds of the networks; what was found comes with the last."""

    done: int
    total: int
    seconds: float
    found: Estimates | None = None


def noised(model: PixelAwareModel, x0: Tensor, steps: Sequence[int], seed: int) -> Tensor:
    """x_i of one picture (C, H, W) at each step, all with one noise: float64, (B, C, H, W) (Eq. 9)."""
    eps = ImageNoise(seed, 1).normal(*x0.shape).double()
    return closed_form(model.schedule, x0, torch.tensor(list(steps))[:, None, None, None], eps)


@torch.no_grad()
def estimate(model: PixelAwareModel, x_i: Tensor, steps: Sequence[int], compute: Compute) -> Estimates:
    """G_theta's and the twin's estimates from x_i (B, C, H, W) at the networks' size, each at its own step."""
    model.need("scale_vae")
    batch, i = x_i.float().to(model.device), torch.tensor(list(steps), device=model.device)
    with compute.autocast():
        x_delta_hat = model.scale_vae(batch, i)
        twin = model.twin(batch, i).double().cpu() if model.twin is not None else None
    return Estimates(x_delta_hat.double().cpu(), twin)


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


def estimate_tiles(model: PixelAwareModel, x_i: Tensor, i: int, compute: Compute, turn: ModelTurn) -> Iterator[Tiling]:
    """Estimates from one x_i (C, H, W) of any size, in tiles of the networks' own size; found: (1, C, H, W).

    Blended is what the networks say of the image: -log(x_delta_hat)/gamma, since x_delta spans many decades.
    The turn is taken for a batch of tiles at a time.
    """
    side = model.config.image_size
    corners = [(top, left) for top in tile_starts(x_i.shape[1], side) for left in tile_starts(x_i.shape[2], side)]
    image, twin = _Blend(x_i.shape, side), _Blend(x_i.shape, side) if model.twin is not None else None
    done, batch, seconds = 0, TILES_AT_ONCE, 0.0

    def run(n: int) -> Estimates:
        cut = [x_i[:, top : top + side, left : left + side] for top, left in corners[done : done + n]]
        return estimate(model, torch.stack(cut), [i] * len(cut), compute)

    while done < len(corners):
        with turn.foreground():
            began = time.perf_counter()
            found, batch = halving(run, batch)
            seconds += time.perf_counter() - began
        for k, (top, left) in enumerate(corners[done : done + batch]):
            image.add(model.rate_x0(found.x_delta_hat[k]), top, left)
            if twin is not None:
                twin.add(found.twin_x0_hat[k], top, left)
        done = min(done + batch, len(corners))
        if done < len(corners):
            yield Tiling(done, len(corners), seconds)
    whole = image_scale(image.mean(), model.config.gamma)[None]
    yield Tiling(done, done, seconds, Estimates(whole, None if twin is None else twin.mean()[None]))


def _prepare(loaded: Checkpoint, picture: Picture, *, tiled: bool = False) -> tuple[Tensor, tuple[str, ...]]:
    """A picture as x0 (C, H, W) float64 in [floor, 1], fitted to the model, and what was done to it."""
    config = loaded.model.config
    if tiled:
        most = max(MOST_SIDE, config.image_size)
        fitted = fit_between(picture, config.image_size, most, config.channels)
    else:
        fitted = fit_square(picture, config.image_size, config.channels)
    return to_unit(fitted.tensor(), config.floor, torch.float64), fitted.notes


def _similarities(x_delta: Tensor, x_delta_hat: Tensor, i: int, model: PixelAwareModel) -> ScalePoint:
    config = model.config
    scale = ssim(x_delta, x_delta_hat, scale_range(config.gamma, config.floor)).mean
    if i == 0:
        return ScalePoint(0, scale, None)
    share = i / config.T
    # alpha_bar_i = x_delta^(i/T), Eq. 8 and 9.
    bar = ssim(x_delta**share, x_delta_hat**share, scale_range(config.gamma, config.floor, i, config.T)).mean
    return ScalePoint(i, scale, bar)


def scale_run(
    name: str,
    loaded: Checkpoint,
    picture: Picture,
    i: Any,
    seed: Any,
    compute: Compute,
    turn: ModelTurn,
    *,
    tiled: bool,
) -> Iterator[Tiling | ScaleResult]:
    """Estimate the scale from x_i of one picture; yields how far it is, and the result last.

    tiled: not at the checkpoint's size, but in tiles, at the picture's own, up to MOST_SIDE pixels.
    Raises ServiceError, MissingPart or ImageError.
    """
    model, config = loaded.model, loaded.model.config
    i, seed = whole("i", i, 0, config.T), whole("seed", seed, 0, MAX_SEED)
    x0, notes = _prepare(loaded, picture, tiled=tiled)
    x_i = noised(model, x0, [i], seed)[0]
    for tiling in estimate_tiles(model, x_i, i, compute, turn):
        if (found := tiling.found) is None:
            yield tiling
    fitted = None
    if tiling.total > 1:
        fitted = scale_curve(loaded, picture, seed, [i], compute, turn)[0]
        rows, columns = x0.shape[1:]
        notes = (
            *notes,
            f"{columns}x{rows} pixels in {tiling.total} tiles of {config.image_size}x{config.image_size}, which "
            "overlap by at least a half and are blended; the network sees one tile at a time.",
        )
    x_delta, x_delta_hat = image_scale(x0, config.gamma), found.x_delta_hat[0]
    point = _similarities(x_delta, x_delta_hat, i, model)
    if i == 0:
        notes = (*notes, "At i = 0 alpha_bar is 1 everywhere, so there is nothing to compare.")
    share = i / config.T
    yield ScaleResult(
        name=name,
        i=i,
        T=config.T,
        gamma=config.gamma,
        floor=config.floor,
        seed=seed,
        x0=x0.numpy(),
        x_i=x_i.numpy(),
        x_delta=x_delta.numpy(),
        x_delta_hat=x_delta_hat.numpy(),
        alpha_bar=(x_delta**share).numpy(),
        alpha_bar_hat=(x_delta_hat**share).numpy(),
        x0_hat=model.rate_x0(x_delta_hat).numpy(),
        twin_x0_hat=None if found.twin_x0_hat is None else found.twin_x0_hat[0].numpy(),
        ssim_x_delta=point.ssim_x_delta,
        ssim_alpha_bar=point.ssim_alpha_bar,
        tiles=tiling.total,
        fitted=fitted,
        seconds=tiling.seconds,
        notes=notes,
    )


def scale_curve(
    loaded: Checkpoint, picture: Picture, seed: Any, steps: Sequence[Any], compute: Compute, turn: ModelTurn
) -> list[ScalePoint]:
    """SSIM at each of `steps`, all with one noise; raises as `scale_run`."""
    model, config = loaded.model, loaded.model.config
    seed = whole("seed", seed, 0, MAX_SEED)
    steps = [whole("i", i, 0, config.T) for i in steps]
    if not 1 <= len(steps) <= MOST_STEPS:
        raise ServiceError(f"a curve has 1 to {MOST_STEPS} steps; there are {len(steps)}.")
    x0, _ = _prepare(loaded, picture)
    x_delta = image_scale(x0, config.gamma)
    points, batch = [], STEPS_AT_ONCE

    def run(n: int) -> Estimates:
        part = steps[len(points) : len(points) + n]
        return estimate(model, noised(model, x0, part, seed), part, compute)

    while len(points) < len(steps):
        with turn.foreground():
            found, batch = halving(run, batch)
        part = steps[len(points) : len(points) + batch]
        points += [
            _similarities(x_delta, estimated, i, model) for i, estimated in zip(part, found.x_delta_hat, strict=True)
        ]
    return points
