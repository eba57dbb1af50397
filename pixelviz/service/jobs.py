"""Training in the background: one run for the whole server, owned by no tab."""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pixelviz.checks import ServiceError, choice, number, whole
from pixelviz.config import PRESETS, ModelConfig, TrainConfig, preset
from pixelviz.data.pictures import last_channel
from pixelviz.data.sets import DATASETS, load_images
from pixelviz.declare import quoted
from pixelviz.learning.training import TrainStep, train
from pixelviz.service.errors import friendly
from pixelviz.service.service import Service
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import CheckpointError

MOST_STEPS = 1_000_000
MOST_BATCH = 512
POINTS = 500  # of each loss curve
STOP_SECONDS = 5.0  # how long `stop` waits before it answers that saving goes on
NICENESS = 5  # of the training thread
NOTHING_SAVED = "Stopped before the first step; nothing was saved."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class LossCurve:
    """One loss over time as block means, at most POINTS of them: the blocks double in length when full."""

    def __init__(self) -> None:
        self._points: list[tuple[int, float, int]] = []  # last step of the block, sum, number of values
        self._block = 1

    def add(self, step: int, value: float) -> None:
        """The next value."""
        if self._points and self._points[-1][2] < self._block:
            _, total, count = self._points[-1]
            self._points[-1] = (step, total + value, count + 1)
            return
        if len(self._points) == POINTS:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [(late, a + b, m + n) for (_, a, m), (late, b, n) in pairs]
            self._block *= 2
        self._points.append((step, value, 1))

    def means(self) -> list[tuple[int, float]]:
        """(step, mean of the block that ends there)."""
        return [(step, total / count) for step, total, count in list(self._points)]


@dataclass(frozen=True)
class TrainStatus:
    """What a training is doing, or did last.

    state: idle, preparing, running, saving, finished, stopped or failed; step of steps; losses, per part
    (step, mean) points; latest, the last value of each; preview: uint8 (rows, n, H, W, C), see
    `training.preview`; checkpoint: the name under which `Service.names` lists it once it is saved.
    """

    state: str = "idle"
    running: bool = False
    owner: str | None = None
    checkpoint: str | None = None
    data: str | None = None
    preset: str | None = None
    step: int = 0
    steps: int = 0
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)
    images_per_second: float | None = None
    eta_seconds: float | None = None
    seconds: float = 0.0
    preview: np.ndarray | None = field(default=None, repr=False)
    message: str = "No training has been started."
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the preview and the owner."""
        values = asdict(replace(self, preview=None))
        return {key: value for key, value in values.items() if key not in ("preview", "owner")}


@dataclass(frozen=True)
class Plan:
    """A training that was asked for, checked."""

    owner: str
    data: str
    preset: str | None
    config: ModelConfig
    training: TrainConfig
    folder: Path
    resume: bool


class TrainingJobs:
    """One training at a time, in a thread that outlives the tab it was started from.

    Each step takes the service's turn and gives it back, so that people who draw images meanwhile wait for
    one step at most. The thread is a daemon; `training.train` saves every `save_every_seconds`.
    """

    def __init__(self, service: Service, save_every_seconds: float = 300.0) -> None:
        self.service, self.save_every_seconds = service, save_every_seconds
        self._lock = threading.Lock()  # guards all below
        self._status = TrainStatus()
        self._curves: dict[str, LossCurve] = {}
        self._thread: threading.Thread | None = None
        self._began = 0.0
        self._stop = threading.Event()

    # --- what the screen calls

    def status(self) -> TrainStatus:
        """How things are now."""
        with self._lock:
            seconds = time.monotonic() - self._began if self._status.running else self._status.seconds
            losses = {key: curve.means() for key, curve in self._curves.items()}
            return replace(self._status, losses=losses, seconds=seconds)

    def resumable(self) -> list[str]:
        """Names of runs that can be gone on with, newest last."""
        return [name for name in self.service.names() if (self.service.runs / name / checkpoints.CONFIG).is_file()]

    def unfinished(self) -> list[str]:
        """What to say of each run that was stopped before its last step, newest last."""
        found = []
        for name in self.resumable():
            with suppress(CheckpointError):
                record = checkpoints.read_config(self.service.runs / name)[2]
                asked, made = record.training.get("steps", 0), max(record.steps.values(), default=0)
                if isinstance(asked, int) and made < asked:
                    found.append(f"{name} stopped at step {made:,} of {asked:,}")
        return found

    def start(
        self,
        owner: str,
        *,
        data: str = DATASETS.first,
        preset: str = "compact",
        steps: int | None = None,
        batch: int | None = None,
        learning_rate: float | None = None,
        name: str | None = None,
        resume: str | None = None,
    ) -> TrainStatus:
        """Start a training and return at once; raises ServiceError or ConfigError.

        Args: owner, who asked, to be shown; data, one of DATASETS or a folder of this computer; steps,
        optimiser steps in all, those of a resumed run included; name, of the new checkpoint (None: made
        from preset and data); resume, the name of a run to go on with, whose own configuration is used. Settings that
        are None stay as they were; a new model has those of `TrainConfig`.
        """
        with self._lock:
            now = self._status
            if now.running:
                minutes = (time.monotonic() - self._began) / 60
                raise ServiceError(
                    f"A training is already running ({now.checkpoint}: step {now.step:,} of {now.steps:,}, started "
                    f"{minutes:.0f} min ago). Stop it, or wait until it ends."
                )
            plan = self._plan(owner, data, preset, steps, batch, learning_rate, name, resume)
            self._curves, self._began = {}, time.monotonic()
            self._stop = threading.Event()
            self._status = TrainStatus(
                state="preparing",
                running=True,
                owner=owner,
                checkpoint=plan.folder.name,
                data=plan.data if plan.data in DATASETS else Path(plan.data).name,
                preset=plan.preset,
                steps=plan.training.steps,
                message="Reading the data.",
            )
            self._thread = threading.Thread(target=self._run, args=(plan,), name="training", daemon=True)
            self._thread.start()
        return self.status()

    def stop(self, owner: str | None = None) -> TrainStatus:
        """Stop after the step in progress and save; waits a few seconds for that, then answers anyway.

        Anyone may stop a training; `owner` is who asked, for the message.
        """
        with self._lock:
            thread, running = self._thread, self._status.running
            if running:
                self._stop.set()
                other = owner is not None and owner != self._status.owner
                by = " by another visitor" if other else ""
                self._status = replace(self._status, message=f"Stopping{by}, after the step in progress.")
        if not running:
            return replace(self.status(), message="No training is running.")
        thread.join(STOP_SECONDS)
        return self.status()

    def end(self, seconds: float | None = None) -> None:
        """Stop with the app; waits until it is saved, at most `seconds`."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            self._stop.set()
            thread.join(seconds)

    # --- checking

    def _plan(self, owner, data, preset_name, steps, batch, learning_rate, name, resume) -> Plan:
        if not isinstance(data, str) or (data not in DATASETS and not _is_folder(data)):
            raise ServiceError(
                f"data must be {', '.join(DATASETS)} or a folder of images on the computer that runs this app; it is "
                f"{quoted(data)}."
            )
        recorded: dict[str, Any] = {}
        if resume:
            found = self.service.find(resume)
            if found.folder.parent != self.service.runs:
                raise ServiceError(
                    f"{resume} was not trained here, so it is not changed; resumable are: "
                    f"{', '.join(self.resumable()) or 'none yet'}."
                )
            folder, config, preset_name = found.folder, found.config, None
            recorded = checkpoints.read_config(folder)[2].training
        else:
            config = preset(choice("preset", preset_name, PRESETS))
            folder = self._new_folder(name, f"{preset_name}-{_slug(data)}")
        training = TrainConfig.resumed(
            recorded,
            steps=None if steps is None else whole("steps", steps, 1, MOST_STEPS),
            batch=None if batch is None else whole("batch", batch, 1, MOST_BATCH),
            learning_rate=None if learning_rate is None else number("learning_rate", learning_rate),
        )
        return Plan(owner, data, preset_name, config, training, folder, bool(resume))

    def _new_folder(self, name: Any, stem: str) -> Path:
        """The folder of a new run; raises ServiceError where the name is taken or no name."""
        taken = set(self.service.names())

        def free(candidate: str) -> bool:
            return candidate not in taken and not (self.service.runs / candidate).exists()

        if name is None or name == "":
            name = next(stem for stem in (f"{stem}-{k}" for k in itertools.count(1)) if free(stem))
        elif not isinstance(name, str) or not NAME.fullmatch(name):
            raise ServiceError(f"a name has up to 64 letters, digits, - and _; this one is {quoted(name)}.")
        elif not free(name):
            raise ServiceError(f"there already is a checkpoint {name}; choose another name, or resume it.")
        return self.service.runs / name

    # --- the thread

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)

    def _run(self, plan: Plan) -> None:
        if sys.platform == "linux":  # where every thread has its own niceness
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            end = self._train(plan)
        except Exception as error:
            saved = (plan.folder / checkpoints.CONFIG).is_file()
            kept = f" What was trained before is saved as {plan.folder.name}." if saved else ""
            end = {"state": "failed", "error": friendly(error) + kept, "message": "The training failed."}
        self._update(running=False, seconds=time.monotonic() - self._began, eta_seconds=None, **end)

    def _train(self, plan: Plan) -> dict[str, str]:
        """Load, train, save; returns the last state and message."""
        # On a public Space a visitor's click must not fetch gigabytes.
        allowed = not os.environ.get("SPACE_ID") or (plan.data in DATASETS and DATASETS[plan.data].light)
        size, channels = plan.config.image_size, plan.config.channels
        images = load_images(plan.data, size=size, channels=channels, allow_download=allowed)
        if self._stop.is_set():
            return {"state": "stopped", "message": NOTHING_SAVED}
        said = [f"Training on {images.name}.", images.note]
        if plan.resume and (before := checkpoints.read_config(plan.folder)[2].data) != images.origin:
            said.append(f"Until now it learnt {before}.")
        self._update(state="running", message=" ".join(filter(None, said)))
        run = train(
            images,
            plan.config,
            plan.training,
            plan.folder,
            resume=plan.resume,
            device=self.service.device,
            preview_every=min(200, max(10, plan.training.steps // 20)),
            save_every_seconds=self.save_every_seconds,
        )
        step = None
        with closing(run):  # saves, whatever happens
            for step in self._steps(run):
                self._note(step)
            # This last save fits the prior, which can take a while; the turn is free meanwhile.
            self._update(state="saving", eta_seconds=None, message="Fitting the prior and saving the checkpoint.")
        if step is None:
            return {"state": "stopped", "message": NOTHING_SAVED}
        if step.step < step.steps:
            return {"state": "stopped", "message": f"Stopped at step {step.step:,}; saved as {plan.folder.name}."}
        return {"state": "finished", "message": f"Finished; saved as {plan.folder.name}."}

    def _steps(self, run: Iterator[TrainStep]) -> Iterator[TrainStep]:
        """The run's steps, a turn each, up to the last one or until asked to stop; leaves `run` suspended."""
        while not self._stop.is_set():
            with self.service.turn.background():
                step = next(run)
            yield step
            if step.step >= step.steps:
                return

    def _note(self, step: TrainStep) -> None:
        preview = None if step.preview is None else last_channel(step.preview.numpy())
        with self._lock:
            for key, value in step.losses.items():
                self._curves.setdefault(key, LossCurve()).add(step.step, value)
            self._status = replace(
                self._status,
                step=step.step,
                steps=step.steps,
                latest={**self._status.latest, **step.losses},
                images_per_second=step.images_per_second,
                eta_seconds=step.eta_seconds,
                preview=self._status.preview if preview is None else preview,
            )


def _is_folder(data: str) -> bool:
    try:
        return bool(data.strip()) and Path(data).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL inside, an unknown ~user
        return False


def _slug(data: str) -> str:
    """A data set's name for use in a folder's name."""
    name = data if data in DATASETS else Path(data).expanduser().resolve().name
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:30] or "folder"
