"""A diffusers checkpoint folder as a peer: a UNet2DModel, sampled as its own scheduler is configured.

Safetensors only: a pickle could run code.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from pixelviz.devices import Compute
from pixelviz.models.pixel_aware import MissingPart
from pixelviz.samplers import SAMPLERS, draw
from pixelviz.store.checkpoints import PICKLES, CheckpointError
from pixelviz.store.fetch import located

PART = "linear_twin"  # the name under which the peers' samplers find their network
WEIGHTS = "diffusion_pytorch_model.safetensors"
VARIANTS = "diffusion_pytorch_model.*.safetensors"  # such as fp16 or non_ema
PLACES = ("unet_ema", "", "unet")  # of the weights in a folder; averaged ones are what is meant to be sampled
FILES = ("*config.json", WEIGHTS, VARIANTS, f"*/{WEIGHTS}", f"*/{VARIANTS}")
MAX_SIDE = 256


@dataclass(frozen=True)
class PeerConfig:
    """What a sampler must know: (C, H, W) of an image, and that its darkest value is shown as floor."""

    channels: int
    image_size: int
    floor: float = 0.0
    classes: tuple[str, ...] = ()  # without names: a network that must be told one is told one at random

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.image_size, self.image_size


class Predictor(nn.Module):
    """A UNet2DModel with the linear-beta twin's signature.

    scheduler: its scheduler's configuration; classes: how many it must be told one of (None: none).
    """

    def __init__(self, unet: nn.Module, scheduler: dict[str, Any], classes: int | None) -> None:
        super().__init__()
        self.unet, self.scheduler, self.classes = unet, scheduler, classes
        # Among the weights, so that figures of another configuration count as another model's.
        text = json.dumps(scheduler, sort_keys=True).encode()
        self.register_buffer("configuration", torch.frombuffer(bytearray(text), dtype=torch.uint8))

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """x_t (B, C, H, W) of images in [-1, 1], t (B,) counted from 0 -> noise, v or x0, as the scheduler says."""
        return self.unet(x_t, t, **({} if labels is None else {"class_labels": labels})).sample.float()


class _Nothing(nn.Module):
    """In the network's place where only the schedulers are tried: it costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x_t: Tensor, *_: Any, **labels: Any) -> SimpleNamespace:
        return SimpleNamespace(sample=x_t / 2)


class PeerModel(nn.Module):
    """A model with one part, the predictor; what PixelAwareModel is to the peers' samplers.

    refused: the methods that cannot run on it, and why.
    """

    parts = (PART,)

    def __init__(self, name: str, predictor: Predictor, config: PeerConfig) -> None:
        super().__init__()
        self.name, self.config = name, config
        self.linear_twin = predictor
        self.refused: dict[str, str] = {}

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


def _weights(folder: Path) -> tuple[Path, str | None]:
    """The folder of the network's weights, and which variant of them, if not the plain ones; raises CheckpointError."""
    for place in (folder / name for name in PLACES):
        if (place / WEIGHTS).is_file():
            return place, None
        if found := sorted(path.name.split(".")[1] for path in place.glob(VARIANTS)):
            return place, found[0]
    places = [folder / name for name in PLACES if (folder / name).is_dir()]  # never below: it may be a whole disk
    pickles = sorted(path.name for place in places for path in place.iterdir() if path.suffix in PICKLES)
    hint = f" It holds pickles ({', '.join(pickles[:3])}), which are refused: convert them." if pickles else ""
    raise CheckpointError(f"{folder} has no {WEIGHTS}, nor one in unet_ema/ or unet/.{hint}")


def _scheduler(folder: Path) -> dict[str, Any]:
    """The scheduler's configuration; raises CheckpointError unless its noise is that of a DDPM."""
    from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

    places = [folder / name for name in ("scheduler_config.json", "scheduler/scheduler_config.json")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder} has no scheduler_config.json, nor one in scheduler/.")
    values = _json(path, "a scheduler's configuration")
    if values.get("_class_name") not in KarrasDiffusionSchedulers.__members__:
        raise CheckpointError(f"{folder} has a {values.get('_class_name')}, which is none of a DDPM.")
    return values


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _refused(name: str, predictor: Predictor, config: PeerConfig) -> dict[str, str]:
    """The methods that a dry run shows not to run with this scheduler's configuration, and why.

    Raises CheckpointError where none does.
    """
    dry: Any = PeerModel(name, Predictor(_Nothing(), predictor.scheduler, predictor.classes), config)
    found = {}
    steps = predictor.scheduler.get("num_train_timesteps", 1000)
    passes = next((k for k in range(2, steps) if steps % k == 0), 1)
    methods = [row.name for row in SAMPLERS.values() if row.fits(config, dry.parts)]
    for method in methods:
        try:
            last = deque(draw(dry, Compute(torch.device("cpu"), None), n=1, sampler=method, passes=passes), 1).pop()
            if not last.x.isfinite().all():
                found[method] = "its images are not finite numbers"
        except Exception as error:  # whatever diffusers makes of a configuration that it does not know
            found[method] = _reason(error)
    if len(found) == len(methods):
        raise CheckpointError(f"{name} cannot be sampled as its scheduler is configured: {found[methods[0]]}.")
    return found


def load_peer(folder: Path | str, device: torch.device | str = "cpu") -> PeerModel:
    """Load a diffusers folder, a pipeline's (unet/, scheduler/) or a flat one, or USER/NAME of the Hub.

    All that can fail fails here: the network is run once, every method with its scheduler. Raises CheckpointError.
    """
    folder = located(Path(folder), FILES)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; a diffusers checkpoint is a folder with {WEIGHTS}.")
    place, variant = _weights(folder)
    config = _json(place / "config.json", "a network's configuration")
    if config.get("_class_name") != "UNet2DModel":
        raise CheckpointError(f"{folder} holds a {config.get('_class_name')}; only a UNet2DModel will do.")
    channels, side = config.get("in_channels"), config.get("sample_size")
    if channels not in (1, 3) or config.get("out_channels") != channels:
        raise CheckpointError(f"{folder} makes images of {config.get('out_channels')!r} channels; 1 or 3 will do.")
    if isinstance(side, bool) or not isinstance(side, int) or not 4 <= side <= MAX_SIDE:
        raise CheckpointError(f"{folder} makes images of side {side!r}; 4 to {MAX_SIDE} pixels will do.")
    if config.get("class_embed_type") is not None:
        raise CheckpointError(f"{folder} is told classes as {config['class_embed_type']}; only numbers will do.")
    scheduler = _scheduler(folder)
    from diffusers.models.unets.unet_2d import UNet2DModel  # takes seconds to import, which only peers need

    try:
        unet = UNet2DModel.from_pretrained(place, variant=variant, use_safetensors=True, local_files_only=True).float()
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{place / WEIGHTS} does not fit its configuration: {_reason(error)}") from None
    if bad := [key for key, value in unet.state_dict().items() if not torch.isfinite(value).all()]:
        raise CheckpointError(f"{place / WEIGHTS} holds values that are not finite, first in {bad[0]}.")
    predictor, shape = Predictor(unet, scheduler, config.get("num_class_embeds")), PeerConfig(channels, side)
    model = PeerModel(folder.resolve().name, predictor, shape)
    model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    x, none = torch.zeros(1, *shape.shape, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    try:
        predictor(x, none, none if predictor.classes else None)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(f"{folder} does not run: {_reason(error)}.") from None
    model.refused = _refused(model.name, predictor, shape)
    return model
