"""How far off R_phi's estimate of x0 is, by brightness and by u = gamma t: what `process.energy` chooses gamma by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelviz.data.assets import ASSETS
from pixelviz.data.sets import to_unit
from pixelviz.declare import read_object
from pixelviz.devices import Compute
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.energy import Residuals, energy_over
from pixelviz.process.reverse import x0_from_drift
from pixelviz.progress import Progress
from pixelviz.samplers import ImageNoise, SamplerError

BUNDLED = ASSETS / "energy" / "fashion-mnist.json"
LEVELS = 16  # of brightness
SHARES = (0.005, 0.01, 0.015, 0.02, 0.03, 0.045, 0.065, 0.1, 0.15, 0.2, 0.3, 0.45, 0.65, 1.0)  # of T: the steps asked
BATCH = 50
GAMMAS = [float(f"{1.1**k:.4g}") for k in range(44)]  # 1 to 60
PAPER_T = 200


@torch.inference_mode()
def errors_at(model: PixelAwareModel, compute: Compute, x0: Tensor, i: int, seed: int, first: int) -> Tensor:
    """(x0 - x0_hat)^2 from x_i of x0 (B, C, H, W), float32: noised, as in training, by the schedule of its estimate."""
    schedule, noise = model.schedule, ImageNoise(seed, len(x0), first=first, device=model.device)
    with compute.autocast():
        x_delta = model.scale_vae(x0, model.step_tensor(0, len(x0))).float()
        rate = model.rate_x0(x_delta)
        x_i = schedule.alpha_bar(rate, i).sqrt() * x0
        x_i = x_i + schedule.noise_variance(rate, i).sqrt() * noise.normal(*x0.shape[1:])
        head, at = torch.tensor([i], device=model.device), model.step_tensor(i, len(x0))
        drift = model.parallel_unet(x_i, model.scale_read(x_i, at, x_delta), at, head, drift=True)[:, 0]
    found = x0_from_drift(schedule, rate, i, x_i, drift.float()).clamp(model.config.floor, 1)
    return (found - x0).square().cpu()


def residual_errors(model: PixelAwareModel, compute: Compute, images: Tensor, seed: int = 0) -> Iterator[Progress]:
    """The error of uint8 images (N, C, H, W) from x_i at the steps SHARES of T; the last Progress has it as `figures`.

    Raises SamplerError for a model without v heads, or MissingPart.
    """
    model.need("scale_vae", "parallel_unet")
    config = model.config
    if config.head_target != "v":
        raise SamplerError("the energy needs v heads, whose estimate of x0 is stable at every step.")
    x0 = to_unit(images, config.floor)
    edges = torch.linspace(config.floor, 1, LEVELS + 1)
    which = torch.bucketize(x0, edges[1:-1])
    count = torch.bincount(which.flatten(), minlength=LEVELS)
    mean = torch.bincount(which.flatten(), x0.flatten().double(), minlength=LEVELS) / count
    there = count > 0
    steps = sorted({max(1, round(config.T * share)) for share in SHARES})
    columns = []
    for k, i in enumerate(steps):
        total = torch.zeros(LEVELS, dtype=torch.float64)
        for first in range(0, len(x0), BATCH):
            yield Progress(f"error of x0 at i = {i}", k * len(x0) + first, len(steps) * len(x0))
            part = slice(first, first + BATCH)
            square = errors_at(model, compute, x0[part].to(model.device), i, seed, first)
            total += torch.bincount(which[part].flatten(), square.flatten().double(), minlength=LEVELS)
        columns.append((total / count)[there])
    found = Residuals(mean[there], config.gamma * torch.tensor(steps).double() / config.T, torch.stack(columns, 1))
    shares = (count / count.sum()).double()[there]
    least, value = energy_over(found, GAMMAS, PAPER_T, found.levels, shares).best
    figures = {
        "images": len(images), "gamma": config.gamma, "T": config.T, "floor": config.floor, "i": steps,
        "levels": found.levels.tolist(), "shares": shares.tolist(), "u": found.u.tolist(),
        "error": found.error.tolist(), "least": {"T": PAPER_T, "gamma": least, "nats_per_value": value},
        "measured_on": compute.describe(),
    }  # fmt: skip
    yield Progress("done", 1, 1, figures)


def bundled(path: Path = BUNDLED) -> tuple[Residuals, dict[str, Any]] | None:
    """What was measured on the bundled R_phi, and the file's figures; None where the file is not there."""
    if not path.is_file():
        return None
    figures = read_object(path.read_bytes())
    columns = (torch.tensor(figures[key], dtype=torch.float64) for key in ("levels", "u", "error"))
    return Residuals(*columns), figures
