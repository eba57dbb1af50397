"""Training in the background: one run for the whole server, owned by no tab."""

from __future__ import annotations

import atexit
import itertools
import multiprocessing
import re
import signal
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from pixelviz.checks import ServiceError, Whole, one_of
from pixelviz.config import PRESETS, TrainConfig, preset
from pixelviz.data.sets import DATASETS
from pixelviz.declare import declared, quoted
from pixelviz.learning.training import TrainStep
from pixelviz.process.schedules import SCHEDULES, by_pixel
from pixelviz.service.catalog import Found
from pixelviz.service.service import Service
from pixelviz.service.worker import Plan, kept, work
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import CheckpointError

MOST_STEPS = 1_000_000
MOST_BATCH = 512
POINTS = 500  # of each loss curve
STOP_SECONDS = 5.0  # how long `stop` waits before it answers that saving goes on
START = "spawn"  # how the process begins: with nothing of this one
ENDED = ("finished", "stopped", "failed")
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


def _a_name(name: Any) -> Any:
    if name is None or name == "":
        return None
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ServiceError(f"a name has up to 64 letters, digits, - and _; this one is {quoted(name)}.")
    return name


def _some_data(data: Any) -> Any:
    if data is None or (isinstance(data, str) and data in DATASETS):
        return data
    if not isinstance(data, str) or not _is_folder(data):
        raise ServiceError(
            f"data must be {', '.join(DATASETS)} or a folder of images on the computer that runs this app; it is "
            f"{quoted(data)}."
        )
    return data


@declared(ServiceError)
class Asked:
    """A training as one asks for it; raises ServiceError.

    What is None stays as it was; a new model has what `TrainConfig` says, the first data set, and a name made from
    preset and data. A run that goes on keeps its own model, whatever preset, schedule and classes are.
    """

    data: Annotated[str | None, BeforeValidator(_some_data)] = Field(None, description="A data set or a folder.")
    preset: Annotated[str, one_of(lambda: PRESETS)] = PRESETS.first
    schedule: Annotated[str, one_of(by_pixel)] = SCHEDULES.first
    steps: Whole | None = Field(None, ge=1, le=MOST_STEPS, description="In all, a resumed run's included.")
    batch: Whole | None = Field(None, ge=1, le=MOST_BATCH, description="Images per step.")
    learning_rate: float | None = Field(None, description="Adam's peak learning rate.")
    name: Annotated[str | None, BeforeValidator(_a_name)] = Field(None, description="Of the new checkpoint.")
    resume: str | None = Field(None, description="The run to go on with.")
    classes: bool = Field(False, description="Learn the data's folders, or labels, as classes that can be drawn.")

    @model_validator(mode="after")
    def _has_classes(self) -> Asked:
        row = DATASETS.get(self.data or DATASETS.first)  # a folder's are found when it is read
        if self.classes and self.resume is None and row is not None and not row.classes:
            raise ServiceError(f"{row.called} has no classes to be learnt; train without them, or on other data.")
        return self


class TrainingJobs:
    """One training at a time, in a process of its own that outlives the tab it was started from.

    It is niced, shares no lock with those who draw images meanwhile, saves every `save_every_seconds`, and where this
    process ends, in whatever way, it saves and ends, too.
    """

    def __init__(self, service: Service, save_every_seconds: float = 300.0) -> None:
        self.service, self.save_every_seconds = service, save_every_seconds
        self._lock = threading.Lock()  # guards all below
        self._status = TrainStatus()
        self._curves: dict[str, LossCurve] = {}
        self._pipe: Connection | None = None
        self._thread: threading.Thread | None = None
        self._began = 0.0
        self._starting = False  # one is being made ready to start

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

    def own(self, run: str) -> tuple[TrainConfig, str | None]:
        """How a run was trained, and on which data set (None: on other pictures).

        Raises ServiceError, CheckpointError or ConfigError.
        """
        record = checkpoints.read_config(self._resumed(run).folder)[2]
        return TrainConfig.resumed(record.training), record.data.id if record.data.id in DATASETS else None

    def start(self, owner: str, sent: Path | None = None, **asked: Any) -> TrainStatus:
        """Start a training and return at once; raises ServiceError, ConfigError or OSError.

        Args: owner, who asked, to be shown; sent, a zip of pictures to be learnt; the rest as in `Asked`.
        """
        with self._lock:
            now = self._status
            if now.running:
                minutes = (time.monotonic() - self._began) / 60
                raise ServiceError(
                    f"A training is already running ({now.checkpoint}: step {now.step:,} of {now.steps:,}, started "
                    f"{minutes:.0f} min ago). Stop it, or wait until it ends."
                )
            if self._starting:
                raise ServiceError("Somebody's training is just being started. Look at it, or try again in a moment.")
            self._starting = True
        try:
            # Only now: what is unpacked takes the place of older pictures, which a running training may be reading.
            if sent is not None:
                asked["data"] = str(self.service.uploads.pictures(sent))
            self._begin(owner, Asked(**asked))
        finally:
            self._starting = False
        return self.status()

    def _begin(self, owner: str, asked: Asked) -> None:
        with self._lock:
            plan = self._plan(asked)
            context = multiprocessing.get_context(START)
            pipe, far_end = context.Pipe()
            process = context.Process(target=work, args=(plan, far_end), name="training")
            process.start()
            self._pipe = pipe
            far_end.close()
            atexit.register(self.end)  # before multiprocessing's own, which would wait for the last step
            self._curves, self._began = {}, time.monotonic()
            self._status = TrainStatus(
                state="preparing",
                running=True,
                owner=owner,
                checkpoint=plan.folder.name,
                data=plan.data if plan.data in DATASETS else Path(plan.data).name,
                preset=plan.preset,
                steps=plan.training.steps,
                message="Starting, and reading the data.",
            )
            told = plan, process, pipe
            self._thread = threading.Thread(target=self._follow, args=told, name="training", daemon=True)
            self._thread.start()

    def stop(self, owner: str | None = None) -> TrainStatus:
        """Stop after the step in progress and save; waits a few seconds for that, then answers anyway.

        Anyone may stop a training; `owner` is who asked, for the message.
        """
        with self._lock:
            if self._status.running:
                other = owner is not None and owner != self._status.owner
                by = " by another visitor" if other else ""
                self._status = replace(self._status, message=f"Stopping{by}, after the step in progress.")
        if not self.end(STOP_SECONDS):
            return replace(self.status(), message="No training is running.")
        return self.status()

    def end(self, seconds: float | None = None) -> bool:
        """Have a training save and end; waits for that, at most `seconds`. Returns whether there was one.

        It is asked through its pipe: on Windows, to terminate it would be to kill it unsaved.
        """
        with self._lock:
            thread, pipe = self._thread, self._pipe
            if not self._status.running or thread is None or pipe is None:
                return False
            with suppress(OSError):  # it is ending already
                pipe.send("stop")
        thread.join(seconds)
        return True

    # --- checking

    def _resumed(self, run: str) -> Found:
        found = self.service.find(run)
        if found.folder.parent != self.service.runs:
            raise ServiceError(
                f"{run} was not trained here, so it is not changed; resumable are: "
                f"{', '.join(self.resumable()) or 'none yet'}."
            )
        return found

    def _plan(self, asked: Asked) -> Plan:
        data, training, device = asked.data, TrainConfig(), self.service.device
        if asked.resume:
            found, (training, learnt) = self._resumed(asked.resume), self.own(asked.resume)
            folder, config, name, data = found.folder, found.config, None, data or learnt
            if data is None:
                raise ServiceError(f"{asked.resume} learnt pictures that are no data set here; say where they are.")
        else:
            name, config, data = asked.preset, preset(asked.preset, schedule=asked.schedule), data or DATASETS.first
            folder = self._new_folder(asked.name, f"{name}-{_slug(data)}")
        changes = {key: getattr(asked, key) for key in ("steps", "batch", "learning_rate")}
        training = replace(training, **{key: value for key, value in changes.items() if value is not None})
        return Plan(
            data=data,
            preset=name,
            config=config,
            training=training,
            folder=folder,
            resume=bool(asked.resume),
            classes=asked.classes and not asked.resume,
            device=device,
            save_every_seconds=self.save_every_seconds,
            guarded=self.service.uploads.holds(data),
        )

    def _new_folder(self, name: str | None, stem: str) -> Path:
        """The folder of a new run; raises ServiceError where the name is taken."""
        taken = set(self.service.names())

        def free(candidate: str) -> bool:
            return candidate not in taken and not (self.service.runs / candidate).exists()

        if name is None:
            name = next(stem for stem in (f"{stem}-{k}" for k in itertools.count(1)) if free(stem))
        elif not free(name):
            raise ServiceError(f"there already is a checkpoint {name}; choose another name, or resume it.")
        return self.service.runs / name

    # --- the thread

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)

    def _follow(self, plan: Plan, process: BaseProcess, pipe: Connection) -> None:
        """Hear what the process tells until it has ended, in whatever way."""
        with suppress(EOFError, OSError):
            while True:
                news = pipe.recv()
                self._note(news) if isinstance(news, TrainStep) else self._update(**news)
        process.join()
        atexit.unregister(self.end)
        pipe.close()
        end = {}
        if self._status.state not in ENDED:
            end = {"state": "failed", "error": self._how_it_ended(plan, process.exitcode or 0)}
        self._update(running=False, seconds=time.monotonic() - self._began, eta_seconds=None, **end)

    def _how_it_ended(self, plan: Plan, code: int) -> str:
        """One line on a process that said nothing when it ended."""
        if code < 0:
            how = f"was killed ({signal.Signals(-code).name}), as happens where memory runs out"
        else:
            how = f"broke off (exit status {code}); the server's log says why"
        return f"The training's process {how}, at step {self._status.step:,}.{kept(plan)}"

    def _note(self, step: TrainStep) -> None:
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
                preview=self._status.preview if step.preview is None else step.preview,
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
