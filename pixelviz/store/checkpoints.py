"""The only save and load: a folder with safetensors (EMA weights), config.json and a model card.

Pickles are refused: loading one runs whatever code it holds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from typing_extensions import NotRequired, TypedDict

from pixelviz.config import PRECISIONS, ConfigError, ModelConfig, Part, Parts
from pixelviz.data.image_set import DataError, Origin
from pixelviz.data.sets import DATASETS, origin_of
from pixelviz.declare import checked, declared, quoted, read_object
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.schedules import schedule_of
from pixelviz.store.files import write_json, write_tensors, write_text

# How weights may be stored; a loaded model always has float32.
DTYPES = {name: getattr(torch, name) for name in PRECISIONS}
_FLOATS = {"F64", "F32", "F16", "BF16"}  # safetensors' names
WEIGHTS, CONFIG, CARD, STATE = "model.safetensors", "config.json", "README.md", "training.safetensors"
FORMAT = 1
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says what does not fit."""


Count = Annotated[int, Field(ge=0, le=2**53)]
_CLOSED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Samples(TypedDict):
    """What `evaluate` says of the samples of one start and number of passes."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]
    method: NotRequired[str]
    start: str
    passes: Count
    fid: float
    network_evaluations: Count
    seconds_per_image: float
    judge: NotRequired[dict[str, float]]  # FID, KID, precision and recall by the neutral judge


class Figures(TypedDict, total=False):
    """What `evaluate` measures; SSIM over steps i, FID in the features of a bundled classifier."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]
    ssim_images: Count
    ssim_x_delta: dict[str, float]
    ssim_alpha_bar: dict[str, float]
    ssim_x0: dict[str, float]
    test_images: str
    fid_samples: Count
    prior_fid: dict[str, float]
    generation: list[Samples]
    before_distillation: list[Samples]  # `generation` of the model that this one was distilled from: by Eq. 15 alone
    features: str  # whose the FID is
    bits_per_dimension: dict[str, dict[str, float]]  # at most so many, of "ours" and "twin", by part and `all`
    held_out: dict[str, float]  # the losses of its training on test images
    nearest: dict[str, float | None]  # of samples among the training images; None: cannot be judged
    judge: str
    measured_on: str


class Learnt(TypedDict):
    """A data set that a model has learnt from, by its name, and how many images of it, per part."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]
    data: str
    images_seen: dict[Part, Count]


@declared(CheckpointError)
class Record:
    """What config.json says of a checkpoint besides the model's configuration; raises CheckpointError."""

    data: Origin = field(default_factory=Origin)  # the last that it learnt
    steps: dict[Part, Count] = field(default_factory=dict)  # optimiser steps, per part
    images_seen: dict[Part, Count] = field(default_factory=dict)  # per part
    seconds: Annotated[float, Field(ge=0)] = 0.0  # of training, all parts together
    device: str = "unknown"
    training: dict[str, Any] = field(default_factory=dict)  # the last run's TrainConfig, resolved
    figures: Figures = field(default_factory=dict)  # type: ignore[arg-type]  # measured by `evaluate`
    notes: list[str] = field(default_factory=list)  # what was tried and what it gave
    history: list[Learnt] = field(default_factory=list)  # all that it learnt, the first first
    licence: str | None = None  # of the weights, as the Hub writes it
    base: str | None = None  # the model that this one was distilled or tuned from


@dataclass
class Checkpoint:
    """A loaded checkpoint: the model (EMA weights, eval mode), its record, its folder (None: never saved), and how
    its file stores the weights (a key of DTYPES).
    """

    model: PixelAwareModel
    record: Record
    folder: Path | None = None
    stored_as: str = "float32"

    @property
    def home(self) -> Path:
        """Its folder; raises CheckpointError where it was never saved."""
        if self.folder is None:
            raise CheckpointError("this model has not been saved: it has no folder.")
        return self.folder


def unwritten(folder: Path, error: OSError) -> CheckpointError:
    """What to say where a checkpoint's files cannot be written."""
    return CheckpointError(f"the checkpoint could not be written to {folder} ({error.strerror or error}).")


def claim(folder: Path, resume: bool = False, need: int = 0) -> bool:
    """Make the folder of a checkpoint, before the work that will fill it; returns whether it was not there.

    Raises CheckpointError where a file, or `need` bytes (with what is there to be replaced), cannot be written or,
    unless it is to `resume`, where it holds a checkpoint or a file that would be overwritten.
    """
    new, probe = not folder.exists(), folder / (CONFIG + ".partial")
    if (folder / CONFIG).exists() and not resume:
        raise CheckpointError(f"{folder} already holds a checkpoint; resume it, or choose another folder.")
    if not resume and (taken := [name for name in (WEIGHTS, CARD) if (folder / name).exists()]):
        raise CheckpointError(f"{folder} holds a {taken[0]}, which would be overwritten; choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)  # several processes may try at once
    except OSError as error:
        raise CheckpointError(f"a checkpoint cannot be written to {folder}: {error.strerror}.") from None
    need -= sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if (free := shutil.disk_usage(folder).free) < need:
        if new:
            folder.rmdir()
        raise CheckpointError(
            f"{folder} lies on a disk with {free / 1e6:,.0f} MB free, and this run writes {need / 1e6:,.0f} MB; make "
            "room, or choose another folder."
        )
    return new


def digest(folder: Path) -> str:
    """The first 16 hexadecimal digits of the weights' SHA-256, by which results name the weights they are of."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16]


def part_digest(module: torch.nn.Module) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a loaded part's values, however they are stored."""
    found = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        found.update(key.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _stored(model: PixelAwareModel, dtype: str) -> dict[str, torch.Tensor]:
    """The model's tensors as a file holds them; raises CheckpointError for values that the dtype cannot hold."""
    if dtype not in DTYPES:
        raise CheckpointError(f"weights are stored as {', '.join(DTYPES)}; not as {dtype!r}.")
    tensors = {}
    for key, value in model.state_dict().items():
        # The prior's log weights are few, and their exponentials must add up to one.
        small = value.is_floating_point() and not key.endswith("prior_log_weight")
        tensors[key] = value.to(DTYPES[dtype]) if small else value
        if value.isfinite().all() and not tensors[key].isfinite().all():
            raise CheckpointError(f"{key} has values that {dtype} cannot hold; store it as bfloat16 or float32.")
    return tensors


def save(folder: Path, model: PixelAwareModel, record: Record, dtype: str = "float32", name: str | None = None) -> None:
    """Write configuration, weights and card; each file is replaced atomically. Raises CheckpointError.

    dtype: a key of DTYPES; float16 and bfloat16 take half the space, and are float32 again when loaded. name: what the
    card calls the model (None: as its folder).
    """
    tensors = _stored(model, dtype)
    try:
        config = {"format": FORMAT, "model": model.config.to_dict(), "parts": list(model.parts), **asdict(record)}
        write_json(folder / CONFIG, config)  # first: with it, what a run keeps beside can be resumed
        write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
        write_text(folder / CARD, model_card(name or folder.name, model, record))
    except OSError as error:
        raise unwritten(folder, error) from None


def read_record(values: dict[str, Any]) -> Record:
    """The record that `asdict` made plain values of; raises CheckpointError."""
    try:
        origin = origin_of(values["data"]) if "data" in values else Origin()
    except DataError as error:
        raise CheckpointError(f"of data, {error}") from None
    return checked(Record, values | {"data": origin}, CheckpointError)


def read_config(folder: Path) -> tuple[ModelConfig, tuple[str, ...], Record]:
    """config.json, checked; raises CheckpointError."""
    path = folder / CONFIG
    if not folder.is_dir():
        kind = " Pickled checkpoints are refused: convert it to safetensors." if folder.suffix in PICKLES else ""
        raise CheckpointError(f"{folder} is not a folder; a checkpoint is a folder with {CONFIG} and {WEIGHTS}.{kind}")
    if not path.is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        hint = f" It holds pickles ({', '.join(pickles[:3])}), which are refused." if pickles else ""
        raise CheckpointError(f"{folder} has no {CONFIG}.{hint}")
    try:
        values = read_object(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON of a checkpoint: {error}.") from None
    version, parts = values.pop("format", None), values.pop("parts", None)
    if version != FORMAT or isinstance(version, bool):
        raise CheckpointError(f"{path} has format {quoted(version)}; this version reads format {FORMAT}.")
    try:
        parts = checked(Parts, parts, CheckpointError, "parts")
        config = ModelConfig.from_dict(values.pop("model", None))
        schedule_of(config)
        record = read_record(values)
    except (ConfigError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return config, parts, record


def _check_shapes(path: Path, model: PixelAwareModel) -> None:
    """Compare the file's header with the model before any weight is read."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            found = {key: tuple(part.get_shape()) for key, part in slices.items()}
            dtypes = {key: part.get_dtype() for key, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}); copy it again.") from None
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    wrong = [f"{k} is {found[k]}, should be {wanted[k]}" for k in wanted if k in found and found[k] != wanted[k]]
    wrong += [f"{k} is missing" for k in wanted if k not in found]
    wrong += [f"{k} is not part of this model" for k in found if k not in wanted]
    wrong += [f"{k} holds {d}, should be floating-point numbers" for k, d in dtypes.items() if d not in _FLOATS]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(f"{path} does not fit its {CONFIG}: {'; '.join(wrong[:5])}{more}.")


def load(folder: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a checkpoint folder; raises CheckpointError with what does not fit."""
    folder = Path(folder)
    config, parts, record = read_config(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}. Checkpoints are safetensors; pickles are refused.")
    with torch.device("meta"):  # a few bytes may ask for gigabytes
        _check_shapes(path, PixelAwareModel(config, parts))
    model = PixelAwareModel(config, parts)
    weights = load_file(path, device="cpu")
    if bad := [key for key, value in weights.items() if not torch.isfinite(value).all()]:
        raise CheckpointError(f"{path} holds values that are not finite, first in {bad[0]}.")
    model.load_state_dict(weights)  # into float32, whatever the file has
    model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    found = {weights[key].dtype for key, _ in model.named_parameters()}
    stored_as = next((name for name, dtype in DTYPES.items() if found == {dtype}), "float32")
    return Checkpoint(model, record, folder, stored_as)


def update_figures(checkpoint: Checkpoint, figures: dict[str, Any]) -> None:
    """Merge measured figures into config.json and the card of a checkpoint that has a folder."""
    folder = checkpoint.home
    checkpoint.record = replace(checkpoint.record, figures={**checkpoint.record.figures, **figures})
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["figures"] = checkpoint.record.figures
    write_json(folder / CONFIG, config)
    write_text(folder / CARD, model_card(folder.name, checkpoint.model, checkpoint.record))


def _table(figures: dict[str, Any]) -> list[str]:
    lines = []
    if ssim := figures.get("ssim_x_delta"):
        lines += ["", "| step i | " + " | ".join(ssim) + " |", "|---|" + "---|" * len(ssim)]
        for key, title in (("ssim_x_delta", "SSIM of x_delta_hat"), ("ssim_alpha_bar", "SSIM of alpha_bar_i")):
            if key in figures:
                lines.append(f"| {title} | " + " | ".join(f"{value:.3f}" for value in figures[key].values()) + " |")
        lines += ["", f"SSIM is a mean over {figures['test_images']}."] if "test_images" in figures else []
    if rows := figures.get("generation"):
        lines += ["", "| start | passes | FID | network evaluations | s/image |", "|---|---|---|---|---|"]
        lines += [
            f"| {r['start']} | {r['passes']} | {r['fid']:.2f} | {r['network_evaluations']} "
            f"| {r['seconds_per_image']:.4f} |"
            for r in rows
        ]
    return lines


def generates(parts: Collection[str]) -> bool:
    """Whether a checkpoint with these parts draws images."""
    return {"scale_vae", "parallel_unet"} <= set(parts)


def _front(model: PixelAwareModel, record: Record) -> list[str]:
    """The card's YAML, by which the Hub files it; what is not known is left out."""
    known = DATASETS.get(record.data.id)
    values = {
        "license": record.licence,
        "datasets": [known.hub] if known and known.hub else None,
        "base_model": record.base,
        "pipeline_tag": "unconditional-image-generation" if generates(model.parts) else None,
    }
    # JSON is YAML: a folder's name may hold whatever YAML gives a meaning.
    found = [f"{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
    return ["---", "library_name: pixelviz", *found, "tags: [diffusion, pixel-aware]", "---"]


def model_card(name: str, model: PixelAwareModel, record: Record) -> str:
    """The short Markdown card that lies beside the weights."""
    config = model.config
    counts = model.parameter_counts()
    of_class = f", classes={json.dumps(config.classes[0])}" if config.classes else ""
    lines = [
        *_front(model, record),
        f"# {name}",
        "",
        f"Pixel-aware diffusion, {config.image_size}x{config.image_size}x{config.channels}, T = {config.T}, "
        f"gamma = {config.gamma:g}, floor = {config.floor:g}, {config.head_target} heads.",
        *(["", "Classes: " + ", ".join(f"`{name}`" for name in config.classes) + "."] if config.classes else []),
        "",
        "| part | parameters | steps | images seen |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {part} | {n:,} | {record.steps.get(part, 0):,} | {record.images_seen.get(part, 0):,} |"
        for part, n in counts.items()
    ]
    lines += ["", f"Trained on {record.data}, {record.seconds / 60:.0f} minutes in all on {record.device}."]
    if record.figures:
        lines += ["", "## Measured", *_table({**record.figures})]
    if record.notes:
        lines += ["", "## What was tried", "", *(f"- {note}" for note in record.notes)]
    lines += [
        "",
        "```python",
        "from pixelviz import PixelAware",
        "",
        f'model = PixelAware.from_pretrained("{name}")  # this folder, or its name on the Hub',
        *([f"images = model.sample(8, passes=1, seed=0{of_class})"] if generates(model.parts) else []),
        "```",
    ]
    return "\n".join(lines) + "\n"
