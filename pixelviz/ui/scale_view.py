"""What the Scale tab and /scale show: G_theta's estimate of x_delta from a noised picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pixelviz.checkpoints import Checkpoint
from pixelviz.data import to_unit
from pixelviz.devices import Compute
from pixelviz.images import Picture, fit_square
from pixelviz.metrics import scale_range, ssim
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.forward import closed_form
from pixelviz.process.schedules import image_scale
from pixelviz.samplers import ImageNoise
from pixelviz.ui.checks import MAX_SEED, ServiceError, choice, whole
from pixelviz.ui.pictures import last_channel, to_bytes
from pixelviz.ui.turns import ModelTurn

MOST_STEPS = 201  # points of one curve over i
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
    (Eq. 9), alpha_bar_hat the same of x0_hat (Fig. 5).
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
    """Of a batch of x_i, one a step: float64, (B, C, H, W)."""

    x_i: Tensor
    x_delta_hat: Tensor
    twin_x0_hat: Tensor | None


@torch.no_grad()
def estimate(model: PixelAwareModel, x0: Tensor, steps: Sequence[int], seed: int, compute: Compute) -> Estimates:
    """G_theta's and the twin's estimates from x_i at each step, all with one noise; x0 is (C, H, W) float64."""
    model.need("scale_vae")
    i = torch.tensor(list(steps))
    eps = ImageNoise(seed, 1).normal(*x0.shape).double()
    x_i = closed_form(model.schedule, x0, i[:, None, None, None], eps)
    batch, i = x_i.float().to(model.device), i.to(model.device)
    with compute.autocast():
        x_delta_hat = model.scale_vae(batch, i)
        twin = model.twin(batch, i).double().cpu() if model.twin is not None else None
    return Estimates(x_i, x_delta_hat.double().cpu(), twin)


def _prepare(loaded: Checkpoint, picture: Picture) -> tuple[Tensor, tuple[str, ...]]:
    """A picture as x0 (C, H, W) float64 in [floor, 1], fitted to the model, and what was done to it."""
    config = loaded.model.config
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


def scale_result(
    name: str, loaded: Checkpoint, picture: Picture, i: Any, seed: Any, compute: Compute, turn: ModelTurn
) -> ScaleResult:
    """Estimate the scale from x_i of one picture; raises ServiceError, MissingPart or ImageError."""
    model, config = loaded.model, loaded.model.config
    i, seed = whole("i", i, 0, config.T), whole("seed", seed, 0, MAX_SEED)
    x0, notes = _prepare(loaded, picture)
    with turn.foreground():
        found = estimate(model, x0, [i], seed, compute)
    x_delta, x_delta_hat = image_scale(x0, config.gamma), found.x_delta_hat[0]
    point = _similarities(x_delta, x_delta_hat, i, model)
    if i == 0:
        notes = (*notes, "At i = 0 alpha_bar is 1 everywhere, so there is nothing to compare.")
    share = i / config.T
    return ScaleResult(
        name=name,
        i=i,
        T=config.T,
        gamma=config.gamma,
        floor=config.floor,
        seed=seed,
        x0=x0.numpy(),
        x_i=found.x_i[0].numpy(),
        x_delta=x_delta.numpy(),
        x_delta_hat=x_delta_hat.numpy(),
        alpha_bar=(x_delta**share).numpy(),
        alpha_bar_hat=(x_delta_hat**share).numpy(),
        x0_hat=model.rate_x0(x_delta_hat).numpy(),
        twin_x0_hat=None if found.twin_x0_hat is None else found.twin_x0_hat[0].numpy(),
        ssim_x_delta=point.ssim_x_delta,
        ssim_alpha_bar=point.ssim_alpha_bar,
        notes=notes,
    )


def scale_curve(
    loaded: Checkpoint, picture: Picture, seed: Any, steps: Sequence[Any], compute: Compute, turn: ModelTurn
) -> list[ScalePoint]:
    """SSIM at each of `steps`, all with one noise; raises as `scale_result`."""
    model, config = loaded.model, loaded.model.config
    seed = whole("seed", seed, 0, MAX_SEED)
    steps = [whole("i", i, 0, config.T) for i in steps]
    if not 1 <= len(steps) <= MOST_STEPS:
        raise ServiceError(f"a curve has 1 to {MOST_STEPS} steps; there are {len(steps)}.")
    x0, _ = _prepare(loaded, picture)
    x_delta = image_scale(x0, config.gamma)
    points = []
    for first in range(0, len(steps), 16):
        part = steps[first : first + 16]
        with turn.foreground():
            found = estimate(model, x0, part, seed, compute)
        points += [
            _similarities(x_delta, estimated, i, model) for i, estimated in zip(part, found.x_delta_hat, strict=True)
        ]
    return points
