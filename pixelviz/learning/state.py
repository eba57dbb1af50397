"""A training run in memory, and on disk: all that going on exactly where it was needs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from filelock import BaseFileLock, FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pixelviz.config import ModelConfig, TrainConfig
from pixelviz.devices import Compute
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import Record
from pixelviz.store.files import write_tensors

RETRY_SECONDS, PATIENCE = 5.0, 600.0  # between two tries to save, and in all, where a disk is full or gone
LOCK = "training.lock"
Result = TypeVar("Result")


class TrainingError(RuntimeError):
    """Training that cannot start or go on; the message says why and what to change."""


@dataclass
class Run:
    """A training run in memory: raw and averaged weights, optimiser, float16's scaler and counters."""

    model: PixelAwareModel
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    record: Record
    scaler: torch.amp.GradScaler
    step: int = 0

    @property
    def averaged(self) -> PixelAwareModel:
        """The EMA weights as a model."""
        return cast(PixelAwareModel, self.average.module)


def average_weights(decay: float):
    """For `AveragedModel`: an exponential moving average in place, of all tensors at once; decay in [0, 1)."""

    def blend(averages: Any, values: Any, count: Tensor | int) -> None:
        # Until `decay` is reached the average spans the whole run so far, not the random start.
        get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(averages, values, count)

    return blend


def new_run(config: ModelConfig, train: TrainConfig, compute: Compute, record: Record, source=None) -> Run:
    """Networks with fresh weights, or with those of a model that `source` holds."""
    present = tuple(dict.fromkeys((*(source.parts if source else ()), *train.parts)))
    torch.manual_seed(train.seed)
    model = PixelAwareModel(config, present)
    if source is not None:
        model.load_state_dict(source.state_dict(), strict=False)
    compute.place(model)
    average = AveragedModel(model, multi_avg_fn=average_weights(train.ema), use_buffers=False)
    for part in set(present) - set(train.parts):
        getattr(model, part).requires_grad_(False)
    trained = [p for part in train.parts for p in getattr(model, part).parameters()]
    optimiser = torch.optim.Adam(trained, lr=train.learning_rate, fused=compute.device.type in ("cpu", "cuda"))
    return Run(model, average, optimiser, record, compute.scaler())


def save_run(run: Run, folder: Path) -> None:
    """Write, in one atomic file, all that resuming needs, and then the checkpoint.

    In this order a run that is killed on the way goes on from the state before or after, never from weights without
    one. Raises CheckpointError, and TrainingError rather than replace a good checkpoint by one that is not finite.
    """
    for model in (run.averaged, run.model):
        if not all(value.isfinite().all() for value in model.state_dict().values()):
            raise TrainingError(f"the weights are no longer finite at step {run.step}; those saved before it are kept.")
    tensors = {f"model.{k}": v for k, v in run.model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in run.averaged.state_dict().items()}
    for index, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    metadata = {
        "step": str(run.step),
        "n_averaged": str(int(run.average.n_averaged)),
        "record": json.dumps(asdict(run.record)),
        "scaler": json.dumps(run.scaler.state_dict()),
    }
    try:
        write_tensors(folder / checkpoints.STATE, tensors, metadata)
    except OSError as error:
        raise checkpoints.unwritten(folder, error) from None
    checkpoints.save(folder, run.averaged, run.record)


def resume_run(folder: Path, train: TrainConfig, compute: Compute) -> Run:
    """Go on from a folder: exactly, where its training state is there and trains the same parts."""
    there = (folder / checkpoints.STATE).is_file()
    if there and not (folder / checkpoints.WEIGHTS).exists():  # killed in its first save
        config, _, record = checkpoints.read_config(folder)
        run = new_run(config, train, compute, record)
    else:
        loaded = checkpoints.load(folder)
        run = new_run(loaded.model.config, train, compute, loaded.record, loaded.model)
    if not there:
        return run
    try:
        return _with_state(run, folder / checkpoints.STATE, train)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        raise TrainingError(
            f"{folder / checkpoints.STATE} is damaged or of another model; delete it to go on from the weights alone."
        ) from None


def _with_state(run: Run, path: Path, train: TrainConfig) -> Run:
    """The run with the state that a file holds, unless that is of other parts."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    record = checkpoints.read_record(json.loads(metadata["record"]))
    if set(record.training.get("parts", ())) != set(train.parts):
        return run
    tensors = load_file(path)

    def group(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    run.model.load_state_dict(group("model."))
    run.averaged.load_state_dict(group("average."))
    run.average.n_averaged.fill_(int(metadata["n_averaged"]))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in group("optimiser.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    whole = run.optimiser.state_dict()
    run.optimiser.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
    for parameter, moments in run.optimiser.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape:
                # Fused Adam walks through memory, so the moments need the weights' layout, which a file does not keep.
                moments[name] = torch.empty_like(parameter).copy_(value)
    if run.scaler.is_enabled() and (scaler := json.loads(metadata.get("scaler", "{}"))):
        run.scaler.load_state_dict(scaler)
    run.record, run.step = record, int(metadata["step"])
    return run


def insist(save: Callable[[], Result], warn: Callable[[str], object]) -> Result:
    """Save at the end of a run, again and again where the disk is full or gone; raises the last try's error."""
    until, said = time.monotonic() + PATIENCE, False
    while True:
        try:
            return save()
        except (checkpoints.CheckpointError, OSError) as error:
            if time.monotonic() > until:
                raise
            if not said:
                warn(
                    f"{error} The weights are kept in memory: make room, or bring the disk back; it is tried every "
                    f"{RETRY_SECONDS:g} s, for {PATIENCE / 60:g} minutes."
                )
            said = True
            time.sleep(RETRY_SECONDS)


def locked(out: Path) -> BaseFileLock:
    """The right to train into a folder, which ends with this process; raises TrainingError where another has it."""
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise TrainingError(f"another training writes to {out} now; wait for it, or choose another folder.") from None
    except OSError as error:
        raise checkpoints.CheckpointError(f"a checkpoint cannot be written to {out}: {error.strerror}.") from None
    return lock


def unlock(lock: BaseFileLock) -> None:
    """Give the right of `locked` back, and remove its file."""
    with suppress(OSError):  # Windows does not remove what is open
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
