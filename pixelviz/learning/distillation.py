"""One run that gives what many give: R_phi's T heads learn where its own closed loop ends (Luhman & Luhman 2021),
from x_T and from a state on the way (Song et al. 2023), where the later of a few passes begin.

Under Eq. 15 all heads of one run say E[x0 | x_T, x_delta_hat], which is blurred (`process.reverse.head_coefficients`).
The sampler "rotation" takes (x_T, x_delta_hat) to one sharp image without drawing any noise, so that image can be
learnt instead: the mean of a single value is the value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from pixelviz.config import TrainConfig
from pixelviz.data.sets import ImageSet
from pixelviz.devices import Compute, choose
from pixelviz.learning.losses import Pairs
from pixelviz.learning.training import TrainingError, TrainStep, train
from pixelviz.models.parallel_unet import one_hot
from pixelviz.models.pixel_aware import PixelAwareModel, Told
from pixelviz.progress import Progress
from pixelviz.samplers import ImageNoise, told
from pixelviz.samplers.rotation import rotation
from pixelviz.samplers.starts import consistent
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import Checkpoint, Record, digest
from pixelviz.store.fetch import name_of
from pixelviz.store.files import write_tensors

PAIRS = "pairs.safetensors"
BATCH = 128
KEPT = ("unet_step_power", "deviation", "class_drop")  # of how R_phi was trained: its images are still learnt that way


def _teacher(
    model: PixelAwareModel, noise: ImageNoise, guidance: float, drop: float, generator: torch.Generator
) -> tuple[Any, Tensor | None]:
    """What draws the pairs, and what it is told of the classes, (B,); None where the model has none."""
    teacher = told(model, noise, guidance=guidance)
    if not isinstance(teacher, Told):
        return teacher, None
    untold = (torch.rand(len(noise), generator=generator) < drop).to(teacher.labels.device)
    labels = teacher.labels.masked_fill(untold, -1)
    return Told(model, teacher.labels, guidance, one_hot(labels, len(model.config.classes))), labels


def draw_pairs(
    loaded: Checkpoint,
    compute: Compute,
    n: int,
    *,
    passes: int,
    seed: int = 0,
    first: int = 0,
    guidance: float = 1.0,
    drop: float = 0.0,
) -> Iterator[Pairs]:
    """Pairs of images first..n-1 of a seed, in batches on the CPU: float16, x_delta_hat and i float32.

    x0 is what `passes` runs of "rotation" make of the start "consistent", x_i one of the states at which a run but the
    first began, i being T where there is but one. Of a model of classes each image is of one at random, which R_phi
    follows by `guidance` (`samplers.told`), and is not told for a share `drop` of them. Raises MissingPart or
    SamplerError.
    """
    model = loaded.model
    for begin in range(first, n, BATCH):
        generator = torch.Generator().manual_seed(seed * 7_919 + begin)
        noise = ImageNoise(seed, min(BATCH, n - begin), first=begin, device=compute.device)
        with torch.inference_mode(), compute.autocast():
            teacher, labels = _teacher(model, noise, guidance, drop, generator)
            start = consistent(teacher, noise)
            *begun, last = rotation(teacher, start, noise, passes=passes)
        x0 = last.x.clamp(model.config.floor, 1)
        way = begun[1:] or begun
        chosen = torch.randint(len(way), (len(noise),), generator=generator)
        i = torch.tensor([float(state.i) for state in way])[chosen]
        x_i = torch.stack([way[k].x[row] for row, k in enumerate(chosen.tolist())])
        # x_delta_hat reaches exp(-gamma), which float16 would round to 0, and its logarithm to infinity.
        x_T, x_i, x0 = (x.half().cpu() for x in (start.x_T, x_i, x0))
        yield Pairs(x_T, x_i, i, start.x_delta.float().cpu(), x0, None if labels is None else labels.cpu())


def _stored(path: Path, key: str) -> Pairs | None:
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        if (file.metadata() or {}).get("key") != key:
            return None
        return Pairs(**{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def _joined(parts: Sequence[Pairs]) -> Pairs | None:
    """All of them; None for none."""
    if not parts:
        return None
    fields = ((name, [getattr(part, name) for part in parts]) for name in Pairs._fields)
    return Pairs(**{name: torch.cat(found) for name, found in fields if found[0] is not None})


def begin_from(source: Path, out: Path, what: str, device: str, precision: str) -> tuple[Compute, Checkpoint]:
    """Where to run, and the checkpoint `source`, from which `what` is to make another. Raises TrainingError."""
    if out.resolve() == source.resolve():
        raise TrainingError("--out must be another folder: the checkpoint to learn from stays as it is.")
    compute = choose(device, precision)
    loaded = checkpoints.load(source, compute.device)
    loaded.model.need("scale_vae", "parallel_unet")
    if loaded.model.config.head_target != "v":
        raise TrainingError(f"{what} needs v heads; this checkpoint's are eps, which have no stable closed loop.")
    return compute, loaded


def kept_settings(record: Record) -> dict[str, float]:
    """Of how R_phi was trained, what another training of it keeps."""
    return {key: value for key, value in record.training.items() if key in KEPT}


def distill(
    source: Path,
    out: Path,
    images: ImageSet,
    training: TrainConfig,
    *,
    pairs: int = 20_000,
    passes: int = 10,
    guidance: float = 1.0,
    device: str = "auto",
    precision: str = "auto",
    **options: Any,
) -> Iterator[Progress | TrainStep]:
    """Draw pairs from the checkpoint `source`, then train R_phi on them and on images; `out` is the new checkpoint.

    Args: training, whose `pair_share` of every batch are pairs, the others images as in any training, so that many
    passes stay as good, spread and weighed as R_phi was trained (`KEPT`); pairs, how many; passes, runs per pair;
    guidance, of a model of classes, by which their images follow them: afterwards one run without any does;
    options, such as data, as for `train`.
    Where it was interrupted, the same call goes on.
    Yields Progress while pairs are drawn, then TrainStep. Raises TrainingError, CheckpointError, MissingPart.
    """
    compute, loaded = begin_from(source, out, "distilling", device, precision)
    if pairs < 1:
        raise TrainingError(f"pairs must be at least 1; it is {pairs}.")
    # Images at i = T would teach the very mean that the pairs are to replace.
    settings = replace(training, parts=("parallel_unet",), terminal_share=0.0, **kept_settings(loaded.record))
    of_classes = {"guidance": guidance, "drop": settings.class_drop}
    key = json.dumps(
        [digest(source), pairs, passes, training.seed, *(of_classes.values() if loaded.model.config.classes else ())]
    )
    path = out / PAIRS
    stored = _stored(path, key)
    if stored is None:  # nothing of this distillation is here, or it is finished
        checkpoints.claim(out)
    parts = [stored] if stored else []
    done = began = len(stored.x0) if stored else 0
    try:
        for part in draw_pairs(loaded, compute, pairs, passes=passes, seed=training.seed, first=done, **of_classes):
            parts.append(part)
            done += len(part.x0)
            yield Progress("pairs", done, pairs)
    finally:  # an hour's pairs are not lost to Ctrl-C
        bank = _joined(parts)
        if bank and done > began:
            write_tensors(
                path, {name: value for name, value in bank._asdict().items() if value is not None}, {"key": key}
            )
    if not (out / checkpoints.CONFIG).exists():
        note = f"R_phi was distilled from {source.name}: {pairs:,} images of its own closed loop, {passes} runs each."
        figures = loaded.record.figures
        before = figures.get("before_distillation") or figures.get("generation")
        kept = {"before_distillation": before} if before else {}
        record = replace(loaded.record, figures=kept, notes=[*loaded.record.notes, note], base=name_of(source))
        checkpoints.save(out, loaded.model, record)
    options |= {"device": device, "precision": precision, "pairs": bank}
    yield from train(images, loaded.model.config, settings, out, resume=True, **options)
    path.unlink(missing_ok=True)
