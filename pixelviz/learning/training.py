"""Training as a generator of TrainStep records; it knows nothing of who is looking.

Alone, or on several GPUs or machines through Hugging Face accelerate (`accelerate launch -m pixelviz train ...`): each
process takes its share of every batch, and the result is that of one process.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from pixelviz.config import DataConfig, ModelConfig, TrainConfig, Watch
from pixelviz.data.sets import ImageSet, from_unit, to_unit
from pixelviz.devices import Compute, together
from pixelviz.learning.losses import Pairs
from pixelviz.learning.prior import PRIOR_IMAGES, fit_prior
from pixelviz.learning.state import Run, TrainingError, insist, locked, new_run, resume_run, save_run, unlock
from pixelviz.learning.steps import Steps
from pixelviz.learning.watch import Watcher
from pixelviz.measure.environment import commit
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers import draw, first_fitting
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import Learnt, Record
from pixelviz.store.runs import LossLog, Recipe, write_run

PREVIEW_IMAGES = 8
Result = TypeVar("Result")
log = logging.getLogger(__name__)
SAVED_NUMBERS = 9 * 4  # bytes for each parameter: weights, raw and averaged, Adam's two moments, and these again while
# they are replaced: 5 + 4 numbers of 4 bytes


@dataclass(frozen=True)
class TrainStep:
    """One optimiser step.

    step counts from 1, over all runs of this checkpoint; losses are per part, unweighted means;
    images_per_second and eta_seconds over the last steps; seconds of this run; preview, where one was
    drawn: uint8 (rows, n, C, H, W), see `preview`; saved, whether the checkpoint was just written; held_out, losses of
    images that are not learnt, where they were just measured.
    """

    step: int
    steps: int
    losses: dict[str, float]
    images_per_second: float
    eta_seconds: float
    seconds: float
    preview: Tensor | None = None
    saved: bool = False
    held_out: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def preview(model: PixelAwareModel, x0: Tensor, compute: Compute, seed: int = 0) -> Tensor:
    """Rows to look at, uint8 (rows, n, C, H, W): x0; G_theta's image of it; one-pass samples (where trained)."""
    rows = [x0]
    zero = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
    with compute.autocast():
        if "scale_vae" in model.parts:
            rows.append(model.rate_x0(model.scale_vae(x0, zero).float()))
        elif "twin" in model.parts:
            rows.append(model.twin(x0, zero).float())
    if {"scale_vae", "parallel_unet"} <= set(model.parts):
        steps = draw(model, compute, n=len(x0), sampler=first_fitting(model.config), seed=seed)
        last = deque(steps, maxlen=1).pop()
        rows.append(last.x.float())
    return from_unit(torch.stack(rows), model.config.floor).cpu()


def _history(record: Record, name: str) -> list[Learnt]:
    """The data sets of a record, the one that is learnt next at the end, with no images of it yet if it is new."""
    before = list(record.history)
    if not before and record.images_seen:  # of a checkpoint from before there was a history
        before = [Learnt(data=str(record.data), images_seen=record.images_seen)]
    return before if before and before[-1]["data"] == name else [*before, Learnt(data=name, images_seen={})]


def _may_fail(what: str, make: Callable[[], Result]) -> Result | None:
    """What is derived from the weights; None where it fails, which is logged: the weights are worth keeping alone."""
    try:
        return make()
    except (RuntimeError, ValueError, MemoryError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        log.warning(
            "%s failed, and is left out; if the training has diverged, lower the learning rate (%s)", what, reason
        )
        return None


def _labels(images: ImageSet, names: tuple[str, ...]) -> Tensor | None:
    """The number of each image's class in a model of these classes; None of a model without. Raises TrainingError."""
    if not names:
        return None
    labels = images.labels_among(names)
    if (labels < 0).any():
        there = f"the classes {', '.join(images.classes)}" if images.classes else "no classes"
        raise TrainingError(f"the model knows the classes {', '.join(names)}, but {images.origin.title} has {there}.")
    return labels


def with_classes(config: ModelConfig, images: ImageSet) -> ModelConfig:
    """The model that knows the images' classes; raises TrainingError where they have none, or ConfigError."""
    if not images.classes:
        raise TrainingError(
            f"{images.origin.title} has no classes; put the pictures of each class into a folder of its name."
        )
    return replace(config, classes=images.classes)


def _run(
    images: ImageSet, config: ModelConfig, training: TrainConfig, out: Path | None, resume: bool, compute: Compute
) -> Run:
    """A new run, or that of `out`, which can learn these images for so many steps; raises TrainingError."""
    if out is not None and not resume and (out / checkpoints.CONFIG).exists():
        raise TrainingError(f"{out} already holds a checkpoint; resume it, or choose another folder.")
    if resume and out is None:
        raise TrainingError("resuming needs the folder of the checkpoint to go on from.")
    run = resume_run(out, training, compute) if resume and out else new_run(config, training, compute, Record())
    config = run.model.config
    if tuple(images.images.shape[1:]) != config.shape:
        raise TrainingError(f"the images are {tuple(images.images.shape[1:])}, but the model takes {config.shape}.")
    if "parallel_unet" in training.parts and "scale_vae" not in run.model.parts:
        raise TrainingError("R_phi learns from G_theta's estimate: train the part scale_vae too, or first.")
    if run.step >= training.steps:
        raise TrainingError(f"this checkpoint has made {run.step:,} steps already; ask for more than that in all.")
    return run


def train(
    images: ImageSet,
    config: ModelConfig,
    training: TrainConfig,
    out: Path | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    precision: str = "auto",
    compiled: bool = False,
    pairs: Pairs | None = None,
    data: DataConfig | None = None,
    watch: Watch | None = None,
    held_out: ImageSet | None = None,
    preview_every: int = 200,
    save_every_seconds: float = 300.0,
    warn: Callable[[str], object] = log.warning,
) -> Generator[TrainStep, None, None]:
    """Train until `training.steps`, yielding a TrainStep after every step.

    Args: images, uint8 (N, C, size, size); config, the model to build (on resume the checkpoint's own
    configuration is used); out, the checkpoint folder, None to keep nothing; resume, go on from `out`;
    device, precision, compiled, as for `devices.choose`; pairs, which R_phi learns too (`distillation`); data, how
    the images were asked for, which run.yaml then says; watch, what is looked at and kept on the way, its losses those
    of held_out, images that are not learnt. Of several processes only the main one writes and draws
    previews. Closing the generator (or any error in the caller) stops training and saves what there is: the weights
    first. The prior and previews may fail alone, which is logged. warn, told where the disk is full or gone: on the way
    it is tried again with the next save, at the end until PATIENCE is over.
    Raises TrainingError, CheckpointError, or ConfigError.
    """
    accelerator, compute = together(device, precision, compiled)
    writes = out is not None and accelerator.is_main_process
    lock, made = None, False
    try:
        if out is not None and resume and out.is_dir():
            # Before it is read: a run that is just stopping has its last steps still to write.
            lock = locked(out) if writes else None
            accelerator.wait_for_everyone()
        run = _run(images, config, training, out, resume, compute)
        labels = _labels(images, run.model.config.classes)
        if out is not None:
            made = checkpoints.claim(out, resume, SAVED_NUMBERS * sum(p.numel() for p in run.model.parameters()))
            lock = lock or (locked(out) if writes else None)
    except BaseException:
        if lock is not None:
            unlock(lock)
        raise
    config = run.model.config
    run.model.train()
    count = f" in each of {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    run.record = replace(
        run.record,
        data=images.origin,
        device=compute.describe() + count,
        training=asdict(training),
        history=_history(run.record, images.name),
    )
    recipe = Recipe(data, config, training, watch or Watch())
    about = {"processes": accelerator.num_processes, "commit": commit()}
    fixed = to_unit(images.images[:PREVIEW_IMAGES], config.floor).to(compute.device)
    began = last_save = time.monotonic()
    before, window = run.record.seconds, []
    start = run.step
    losses_file = LossLog(out, start) if out is not None and accelerator.is_main_process else None
    watcher = None
    if out is not None and watch is not None and accelerator.is_main_process:
        watcher = Watcher(watch, out, training, compute, held_out)

    def save(final: bool) -> bool:
        run.record = replace(run.record, seconds=before + time.monotonic() - began)
        if out is None or losses_file is None:
            return False
        losses_file.flush()
        there = partial(write, out)
        (insist(there, warn) if final else there())
        if final and "scale_vae" in training.parts and _may_fail("the prior", fit):
            _may_fail("saving the prior", there)
        return True

    def write(folder: Path) -> None:
        save_run(run, folder)
        write_run(folder, recipe, run.record, **about)

    def fit() -> bool:
        # A run that has seen few images is not worth a long fit.
        limit = min(PRIOR_IMAGES, run.record.images_seen["scale_vae"])
        fit_prior(run.averaged.scale_vae, images.images, compute, labels=labels, limit=limit, seed=training.seed)
        fitted = {k: v for k, v in run.averaged.scale_vae.state_dict().items() if k.startswith("prior_")}
        run.model.scale_vae.load_state_dict(fitted, strict=False)
        return True

    def look() -> Tensor:
        return preview(run.averaged.eval(), fixed, compute)

    def watched() -> dict[str, float]:
        if watcher is None:
            return {}
        if watcher.needs_prior and "scale_vae" in training.parts:
            fit()
        return watcher.look(run)

    try:
        if watcher is not None:
            watcher.check(run)
            watcher.track(accelerator)
        steps = Steps(run, images.images, training, compute, accelerator, pairs, labels)
        accelerator.wait_for_everyone()  # the main process writes into `out`, where the others have looked by now
        while run.step < training.steps:
            losses = steps.next()
            now = time.monotonic()
            window = [*window[-50:], now]
            pace = (len(window) - 1) / (now - window[0]) if len(window) > 1 else 1 / (now - began)
            done = run.step == training.steps
            seen = accelerator.is_main_process and (run.step % preview_every == 0 or done or run.step - start == 1)
            due = watcher is not None and (done or run.step % watcher.watch.every == 0)
            not_learnt = (_may_fail("a look at the run", watched) if due else None) or {}
            if losses_file is not None:
                losses_file.add(run.step, losses, pace * training.batch, not_learnt)
            accelerator.log({**losses, **{f"held_out/{key}": value for key, value in not_learnt.items()}}, run.step)
            saved = False
            if not done and now - last_save > save_every_seconds:
                try:
                    saved = save(final=False)
                except (checkpoints.CheckpointError, OSError) as error:  # a full disk may have room soon
                    warn(f"{error} The training goes on, its weights in memory; make room for the next save.")
                last_save = time.monotonic()
            yield TrainStep(
                step=run.step,
                steps=training.steps,
                losses=losses,
                images_per_second=pace * training.batch,
                eta_seconds=(training.steps - run.step) / pace,
                seconds=now - began,
                preview=_may_fail("the preview", look) if seen else None,
                saved=saved,
                held_out=not_learnt,
            )
    finally:
        try:
            if run.step > start:
                run.averaged.eval()
                save(final=True)
        finally:
            if losses_file is not None:
                losses_file.close()
            for tracker in accelerator.trackers:
                tracker.finish()
            if lock is not None:
                unlock(lock)
            if made and out is not None and run.step == start:
                with suppress(OSError):  # not empty: another process is at work in it
                    out.rmdir()
