"""Training as a generator of TrainStep records; it knows nothing of who is looking.

Alone, or on several GPUs or machines through Hugging Face accelerate (`accelerate launch -m pixelviz train ...`): each
process takes its share of every batch, and the result is that of one process.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor

from pixelviz.config import DataConfig, ModelConfig, TrainConfig, Watch
from pixelviz.data.sets import ImageSet, from_unit, to_unit
from pixelviz.devices import Compute, halving, largest_batch, out_of_memory, release, together
from pixelviz.learning.losses import Draws, Pairs, TrainingObjective, draw_step, with_ends, with_pairs
from pixelviz.learning.state import Run, TrainingError, insist, locked, new_run, resume_run, save_run
from pixelviz.learning.watch import Watcher
from pixelviz.measure.environment import commit
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.models.prior import fit_classes, fit_mixture
from pixelviz.models.scale_vae import ScaleVAE
from pixelviz.samplers import draw, first_fitting
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import Learnt, Record
from pixelviz.store.runs import LossLog, Recipe, write_run

if TYPE_CHECKING:
    from accelerate import Accelerator

PRIOR_IMAGES = 20_000  # codes that the prior is fitted to, at most
PREVIEW_IMAGES = 8
Result = TypeVar("Result")
log = logging.getLogger(__name__)
ENCODED_VALUES = 2**20  # of the images that are encoded at once for the prior
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


@lru_cache(maxsize=2)
def _epoch(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def batches(n: int, batch: int, seed: int, step: int) -> Tensor:
    """Indices of step's batch (step counts from 0): every epoch is its own permutation, the same on resume."""
    positions = torch.arange(step * batch, (step + 1) * batch)
    epochs = positions // n
    return torch.cat([_epoch(n, seed, e)[positions[epochs == e] % n] for e in epochs.unique().tolist()])


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


@torch.no_grad()
def fit_prior(
    vae: ScaleVAE,
    images: Tensor,
    compute: Compute,
    *,
    labels: Tensor | None = None,
    limit: int = PRIOR_IMAGES,
    seed: int = 0,
) -> None:
    """Fit the mixture over z to codes drawn from q(z | x0, i = 0) of at most `limit` uint8 training images.

    Fewer components are used where there are fewer than 4 codes per latent dimension for each. Of a model of classes,
    labels (N,), each class has a mixture of its own, weighed by its share of the images.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)[:limit]
    chosen = images[order]

    def encode(n: int) -> list[Tensor]:
        codes = []
        for part in chosen.split(n):
            x0 = to_unit(part, vae.config.floor).to(compute.device)
            with compute.autocast():
                code = vae.encode(x0, torch.zeros(len(x0), dtype=torch.int64, device=x0.device))
            codes.append(code.sample(generator).float())
        return codes

    # Training that fitted in memory must not be lost because its last step, this one, does not.
    codes, _ = halving(encode, max(1, min(256, ENCODED_VALUES // math.prod(vae.config.shape))))
    found, number = torch.cat(codes).cpu(), vae.config.gaussians
    if labels is None:
        fitted = fit_mixture(found, number, generator)
    else:
        fitted = fit_classes(found, labels[order], len(vae.config.classes), number, generator)
    for name, value in zip(("prior_log_weight", "prior_mean", "prior_factor"), fitted, strict=True):
        getattr(vae, name).copy_(value)


def learning_rate(train: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth at the last step; step counts from 0."""
    warm = min(train.warmup, max(train.steps // 10, 1))
    if step < warm:
        return train.learning_rate * (step + 1) / warm
    share = (step - warm) / max(train.steps - warm, 1)
    return train.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def _rows(x0: Tensor, draws: Draws, rows: slice) -> tuple[Tensor, Draws]:
    """Some rows of a batch and its draws."""
    from accelerate.utils import slice_tensors

    return x0[rows], cast(Draws, slice_tensors(draws, rows))


def _flipped(images: Tensor, mirrored: Tensor | None) -> Tensor:
    """Images (B, C, H, W), those mirrored left to right that `mirrored` (B,) says; None: none."""
    return images if mirrored is None else torch.where(mirrored[:, None, None, None], images.flip(-1), images)


class _Steps:
    """The optimiser steps of a run, shared by all processes: batch `training.batch` is that of all together."""

    def __init__(
        self,
        run: Run,
        images: Tensor,
        train: TrainConfig,
        compute: Compute,
        accelerator: Accelerator,
        pairs: Pairs | None = None,
        labels: Tensor | None = None,
    ):
        share, rest = divmod(train.batch, accelerator.num_processes)
        if rest:
            raise TrainingError(
                f"a batch of {train.batch} cannot be shared evenly by {accelerator.num_processes} processes; choose a "
                f"multiple of {accelerator.num_processes}."
            )
        self.run, self.images, self.train, self.compute, self.accelerator = run, images, train, compute, accelerator
        self.pairs, self.labels = pairs, labels
        self.rows = slice(share * accelerator.process_index, share * (accelerator.process_index + 1))
        self.alone = TrainingObjective(run.model, train, compute)
        if compute.compiled:
            self.alone.compile()
        self.objective, self.optimiser = accelerator.prepare(self.alone, run.optimiser)
        self.parameters = [p for group in run.optimiser.param_groups for p in group["params"]]
        self.batch = self._prepare(run.step)

    def _prepare(self, step: int) -> tuple[Tensor, Draws]:
        """This process's rows of a step's images and random numbers, on its device."""
        from accelerate.utils import send_to_device, slice_tensors

        train, config, device = self.train, self.run.model.config, self.compute.device
        generator = torch.Generator().manual_seed(train.seed * 7_919 + step)
        indices = batches(len(self.images), train.batch, train.seed, step)
        labels = None if self.labels is None else self.labels[indices]
        draws = draw_step(config, train, train.batch, generator, labels)
        if train.least_gap and "parallel_unet" in draws:
            draws["parallel_unet"] = with_ends(config, train, draws["parallel_unet"], step)
        mirrored = torch.rand(train.batch, generator=generator) < 0.5 if train.flips else None
        if self.pairs is None:
            mirrored = None if mirrored is None else mirrored[self.rows]
            x0 = to_unit(_flipped(self.images[indices[self.rows]], mirrored).to(device), config.floor)
        else:
            x0 = to_unit(_flipped(self.images[indices], mirrored), config.floor)
            mine = draws["parallel_unet"]
            x0, draws["parallel_unet"] = with_pairs(config, train, x0, mine, self.pairs, generator)
            x0 = x0[self.rows]
        return self.compute.images(x0), cast(Draws, send_to_device(slice_tensors(draws, self.rows), device))

    def next(self) -> dict[str, float]:
        """Forward, backward and update of every trained part; returns the losses, means over the whole batch."""
        try:
            return self._next()
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        # Here and not above: the error's traceback keeps the failed step's tensors alive.
        raise TrainingError(self._advice())

    def _next(self) -> dict[str, float]:
        run, train, accelerator = self.run, self.train, self.accelerator
        self.optimiser.zero_grad()
        tallies = self._backward()
        run.scaler.unscale_(run.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, train.clip)
        if run.step + 1 < train.steps:
            self.batch = self._prepare(run.step + 1)  # while a GPU is still at work on this one
        sums = cast(Tensor, accelerator.reduce(torch.stack(list(tallies.values())), "sum")).tolist()
        losses = {key: total / images for key, (total, images) in zip(tallies, sums, strict=True) if images}
        overflow = run.scaler.is_enabled() and run.scaler.get_scale() >= 1  # float16's, after which the scale is halved
        # Checked before the update: weights that are not finite must never replace a good checkpoint.
        if not all(map(math.isfinite, losses.values())) or not (overflow or math.isfinite(norm)):
            raise TrainingError(
                f"the loss or its gradient is no longer a finite number at step {run.step + 1}; lower the learning "
                f"rate (it is {train.learning_rate:g}) and resume from the last checkpoint."
            )
        for group in run.optimiser.param_groups:
            group["lr"] = learning_rate(train, run.step)
        run.scaler.step(self.optimiser)
        run.scaler.update()
        run.average.update_parameters(run.model)
        run.step += 1
        for part in train.parts:
            run.record.steps[part] = run.record.steps.get(part, 0) + 1
            for seen in (run.record.images_seen, run.record.history[-1]["images_seen"]):
                seen[part] = seen.get(part, 0) + train.batch
        return losses

    def _backward(self) -> dict[str, Tensor]:
        """The gradient of the batch's mean loss, in `accumulate` parts; returns the tallies of all of it."""
        (x0, draws), tallies = self.batch, {}
        rows = torch.arange(len(x0)).tensor_split(min(self.train.accumulate, len(x0)))
        for part in rows:
            mine = slice(int(part[0]), int(part[-1]) + 1)
            last = mine.stop == len(x0)  # processes exchange gradients once a step
            with nullcontext() if last else self.accelerator.no_sync(self.objective):
                total, found = self.objective(*((x0, draws) if len(rows) == 1 else _rows(x0, draws, mine)))
                self.accelerator.backward(self.run.scaler.scale(total * (len(part) / len(x0))))
            tallies = {key: tallies.get(key, 0) + value for key, value in found.items()}
        return tallies

    def _advice(self) -> str:
        """Which batch would fit, found by trying; the weights are not touched."""
        x0, draws = self.batch
        self.optimiser.zero_grad()
        release()
        # Adam's two moments are made in the first update.
        moments = [] if self.run.optimiser.state else [torch.empty_like(p) for p in self.parameters for _ in range(2)]

        def attempt(n: int) -> None:
            try:
                total, _ = self.alone(*_rows(x0, draws, slice(n)))
                total.backward()
            finally:
                self.optimiser.zero_grad()

        fits = largest_batch(attempt, len(x0)) * self.accelerator.num_processes
        moments.clear()
        need = f"there is not enough memory for a batch of {self.train.batch} on {self.compute.describe()}"
        if fits:
            parts = -(-self.train.batch // fits)
            return (
                f"{need}. A batch of {fits} fits: train with that, or with this one in {parts} parts (--accumulate "
                f"{parts}); what was saved before can be resumed."
            )
        return f"{need}, nor for a single image; choose a smaller preset, or a device with more memory."


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
    if out is not None and not resume and (out / checkpoints.CONFIG).exists():
        raise TrainingError(f"{out} already holds a checkpoint; resume it, or choose another folder.")
    if not resume:
        run = new_run(config, training, compute, Record())
    elif out is None:
        raise TrainingError("resuming needs the folder of the checkpoint to go on from.")
    else:
        run = resume_run(out, training, compute)
    config = run.model.config
    if tuple(images.images.shape[1:]) != config.shape:
        raise TrainingError(f"the images are {tuple(images.images.shape[1:])}, but the model takes {config.shape}.")
    labels = _labels(images, config.classes)
    if "parallel_unet" in training.parts and "scale_vae" not in run.model.parts:
        raise TrainingError("R_phi learns from G_theta's estimate: train the part scale_vae too, or first.")
    if run.step >= training.steps:
        raise TrainingError(f"this checkpoint has made {run.step:,} steps already; ask for more than that in all.")
    need = SAVED_NUMBERS * sum(p.numel() for p in run.model.parameters())
    made = out is not None and checkpoints.claim(out, resume, need)
    lock = locked(out) if out is not None and accelerator.is_main_process else None
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
        steps = _Steps(run, images.images, training, compute, accelerator, pairs, labels)
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
                with suppress(OSError):  # Windows does not remove what is open
                    Path(lock.lock_file).unlink(missing_ok=True)
                lock.release()
            if made and out is not None and run.step == start:
                with suppress(OSError):  # not empty: another process is at work in it
                    out.rmdir()
