"""One optimiser step after another: which images and random numbers, the gradient, the update, what memory allows."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from pixelviz.config import TrainConfig
from pixelviz.data.sets import to_unit
from pixelviz.devices import Compute, largest_batch, out_of_memory, release
from pixelviz.learning.losses import Draws, Pairs, TrainingObjective, draw_step, with_ends, with_pairs
from pixelviz.learning.state import Run, TrainingError

if TYPE_CHECKING:
    from accelerate import Accelerator


@lru_cache(maxsize=2)
def _epoch(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def batches(n: int, batch: int, seed: int, step: int) -> Tensor:
    """Indices of step's batch (step counts from 0): every epoch is its own permutation, the same on resume."""
    positions = torch.arange(step * batch, (step + 1) * batch)
    epochs = positions // n
    return torch.cat([_epoch(n, seed, e)[positions[epochs == e] % n] for e in epochs.unique().tolist()])


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


class Steps:
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
        run.scaler.unscale_(self.optimiser)  # the one that is stepped: its state is kept by the object
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
