"""A diffusers checkpoint folder as a peer: a UNet2DModel and the configuration of its scheduler.

Safetensors only: a pickle could run code. Nothing is downloaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelviz.models.pixel_aware import MissingPart
from pixelviz.store.checkpoints import PICKLES, CheckpointError

PART = "linear_twin"  # the name under which the peers' samplers find their network
WEIGHTS = "diffusion_pytorch_model.safetensors"
SCHEDULE_KEYS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
MAX_SIDE = 256


@dataclass(frozen=True)
class PeerConfig:
    """What a sampler must know: (C, H, W) of an image, and that its darkest value is shown as floor."""

    channels: int
    image_size: int
    floor: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.image_size, self.image_size


class NoisePredictor(nn.Module):
    """A UNet2DModel with the linear-beta twin's signature."""

    def __init__(self, unet: nn.Module, training_schedule: dict[str, Any]) -> None:
        super().__init__()
        self.unet, self.training_schedule = unet, training_schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (B, C, H, W) of images in [-1, 1], t (B,) counted from 0 -> the estimate of the noise."""
        return self.unet(x_t, t).sample.float()


class PeerModel(nn.Module):
    """A model with one part, the noise predictor; what PixelAwareModel is to the peers' samplers."""

    parts = (PART,)

    def __init__(self, name: str, predictor: NoisePredictor, config: PeerConfig) -> None:
        super().__init__()
        self.name, self.config = name, config
        self.linear_twin = predictor

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def need(self, *parts: str) -> None:
        """Raise MissingPart unless all of these are the predictor."""
        if missing := set(parts) - set(self.parts):
            raise MissingPart(f"{self.name} is a diffusers model, without {', '.join(sorted(missing))}.")

    def parameter_counts(self) -> dict[str, int]:
        """Trainable numbers per part."""
        return {PART: sum(p.numel() for p in self.parameters())}


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as {what} ({error}).") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not {what}.")
    return values


def _first(folder: Path, *names: str) -> Path:
    """The first of these files that there is; raises CheckpointError."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    places = [place for place in (folder, folder / "unet") if place.is_dir()]  # never below: it may be a whole disk
    pickles = sorted(path.name for place in places for path in place.iterdir() if path.suffix in PICKLES)
    hint = f" It holds pickles ({', '.join(pickles[:3])}), which are refused: convert them." if pickles else ""
    raise CheckpointError(f"{folder} has no {names[0]} (nor {', '.join(names[1:])}).{hint}")


def load_peer(folder: Path | str, device: torch.device | str = "cpu") -> PeerModel:
    """Load a diffusers folder: a pipeline's (unet/, scheduler/) or a flat one. Raises CheckpointError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; a diffusers checkpoint is a folder with {WEIGHTS}.")
    weights = _first(folder, WEIGHTS, f"unet/{WEIGHTS}")
    config = _json(weights.with_name("config.json"), "a network's configuration")
    schedule = _json(
        _first(folder, "scheduler_config.json", "scheduler/scheduler_config.json"), "a scheduler's configuration"
    )
    if config.get("_class_name") != "UNet2DModel":
        raise CheckpointError(f"{folder} holds a {config.get('_class_name')}; only a UNet2DModel will do.")
    if schedule.get("prediction_type", "epsilon") != "epsilon":
        raise CheckpointError(f"{folder} predicts {schedule['prediction_type']}; only a noise prediction will do.")
    channels, side = config.get("in_channels"), config.get("sample_size")
    if channels not in (1, 3) or config.get("out_channels") != channels:
        raise CheckpointError(f"{folder} makes images of {config.get('out_channels')!r} channels; 1 or 3 will do.")
    if isinstance(side, bool) or not isinstance(side, int) or not 4 <= side <= MAX_SIDE:
        raise CheckpointError(f"{folder} makes images of side {side!r}; 4 to {MAX_SIDE} pixels will do.")
    known = {key: schedule[key] for key in SCHEDULE_KEYS if schedule.get(key) is not None}
    from diffusers import UNet2DModel  # takes seconds to import, which only peers need

    try:
        unet = UNet2DModel.from_pretrained(weights.parent, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{weights} does not fit its configuration: {str(error).splitlines()[0]}") from None
    if bad := [key for key, value in unet.state_dict().items() if not torch.isfinite(value).all()]:
        raise CheckpointError(f"{weights} holds values that are not finite, first in {bad[0]}.")
    model = PeerModel(folder.resolve().name, NoisePredictor(unet, known), PeerConfig(channels, side))
    return model.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)
