"""A training in a process of its own, which nobody waits for: it learns, saves, and tells how far it is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pixelviz.config import ModelConfig, TrainConfig
from pixelviz.data.pictures import last_channel
from pixelviz.data.sets import DATASETS, load_images
from pixelviz.devices import half_the_cores
from pixelviz.learning.training import train, with_classes
from pixelviz.service.errors import friendly, without_paths
from pixelviz.store import checkpoints

NICENESS = 5  # where all want the processor, the training then has a quarter of one
FIRST_TO_GO = "500"  # where memory runs out the kernel ends the training, not the app
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C reaches all processes of a terminal, and so does its closing
NOTHING_SAVED = "Stopped before the first step; nothing was saved."


@dataclass(frozen=True)
class Plan:
    """A training that was asked for, checked.

    folder: of its checkpoint; classes: whether the new model is to know the data's; guarded: whether a visitor sent
    these.
    """

    data: str
    preset: str | None
    config: ModelConfig
    training: TrainConfig
    folder: Path
    resume: bool
    classes: bool
    device: str
    save_every_seconds: float
    guarded: bool = False


def kept(plan: Plan) -> str:
    """What is left of a training that failed, as a sentence to be added; empty where nothing was saved."""
    saved = (plan.folder / checkpoints.CONFIG).is_file()
    return f" What was trained before is saved as {plan.folder.name}." if saved else ""


def work(plan: Plan, pipe: Connection) -> None:
    """The process: train, and send through the pipe each TrainStep, and what changes in `TrainStatus` as a dict.

    SIGNALS, whatever comes through the pipe, and its end (the app is gone) stop the training after the step in
    progress; it is saved then. While the data are still read, which can take long, they end the process at once.
    """
    stop, learns = threading.Event(), threading.Event()

    def tell(news: Any) -> None:
        with suppress(OSError):  # nobody is there any more: what was learnt is saved all the same
            pipe.send(news)

    def end(*_: Any) -> None:
        stop.set()
        if not learns.is_set():
            tell({"state": "stopped", "message": NOTHING_SAVED})
            os._exit(0)

    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    half_the_cores()

    def listen() -> None:
        with suppress(EOFError, OSError):
            pipe.recv()
        end()

    threading.Thread(target=listen, daemon=True).start()
    try:
        tell(_train(plan, tell, stop, learns))
    except Exception as error:
        tell({"state": "failed", "error": friendly(error) + kept(plan), "message": "The training failed."})


def _train(plan: Plan, tell: Callable[[Any], None], stop: threading.Event, learns: threading.Event) -> dict[str, str]:
    """Load, train, save; returns the last state and message. learns: set once there may be something to save."""
    # On a public Space a visitor's click must not fetch gigabytes.
    allowed = not os.environ.get("SPACE_ID") or (plan.data in DATASETS and DATASETS[plan.data].light)
    size, channels = plan.config.image_size, plan.config.channels
    images = load_images(plan.data, size=size, channels=channels, allow_download=allowed, guarded=plan.guarded)
    config = with_classes(plan.config, images) if plan.classes else plan.config
    learns.set()
    said = [f"Training on {images.name}.", images.note]
    if config.classes:
        said.append(f"Classes: {', '.join(config.classes)}.")
    if plan.resume and (before := checkpoints.read_config(plan.folder)[2].data) != images.origin:
        said.append(f"Until now it learnt {before}.")
    tell({"state": "running", "message": " ".join(filter(None, said))})
    run = train(
        images,
        config,
        plan.training,
        plan.folder,
        resume=plan.resume,
        device=plan.device,
        preview_every=min(200, max(10, plan.training.steps // 20)),
        save_every_seconds=plan.save_every_seconds,
        warn=lambda text: tell({"message": without_paths(text)}),
    )
    step = None
    with closing(run):  # saves, whatever happens
        while not stop.is_set() and (step is None or step.step < step.steps):
            step = next(run)
            # As an array: a tensor would travel as a file that must outlive the process.
            tell(replace(step, preview=None if step.preview is None else last_channel(step.preview.numpy())))
        tell({"state": "saving", "eta_seconds": None, "message": "Fitting the prior and saving the checkpoint."})
    if step is None:
        return {"state": "stopped", "message": NOTHING_SAVED}
    if step.step < step.steps:
        return {"state": "stopped", "message": f"Stopped at step {step.step:,}; saved as {plan.folder.name}."}
    return {"state": "finished", "message": f"Finished; saved as {plan.folder.name}."}
