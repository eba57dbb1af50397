"""A training as one looks at it: a bar in a terminal, a line now and then elsewhere; and what stops it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from pixelviz.commands.common import console
from pixelviz.learning.training import TrainStep
from pixelviz.progress import Progress as State

SECONDS = 30.0  # between two lines where the output is no terminal
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a scheduler, a closed terminal; Windows has no SIGHUP


class Stop:
    """Whether a run was asked to stop: by Ctrl-C, SIGTERM or SIGHUP.

    The first asks, so that the step in progress is finished; a second interrupts it. Nothing disturbs the saving but
    a third: it may wait for a disk.
    """

    def __init__(self) -> None:
        self.asked = self.saving = self.again = False

    def __call__(self, *_: Any) -> None:
        """The signals' handler."""
        if self.again or (self.asked and not self.saving):
            raise KeyboardInterrupt
        self.asked, self.again = True, self.asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The block in which the signals are heard."""
        known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        if threading.current_thread() is not threading.main_thread():  # only that one may listen
            known = []
        before = {one: signal.signal(one, self) for one in known}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def losses_text(losses: dict[str, float]) -> str:
    """A line a part: its name, then its losses."""
    parts: dict[str, list[str]] = {}
    for key, value in losses.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, []).append(f"{name} {value:.4f}")
    return "\n".join(f"  {part}: {'  '.join(found)}" for part, found in parts.items())


class _Bar(Progress):
    """The bar, step, images/s and time left in one line; the losses below."""

    def __init__(self) -> None:
        self.losses = ""
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            expand=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is drawn at each refresh."""
        yield self.make_tasks_table(self.tasks)
        if self.losses:
            yield Text(self.losses)


def time_left(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _lines(run: Iterator[State | TrainStep]) -> Iterator[State | TrainStep]:
    """The run, with a line of it now and then, for a log."""
    said = 0.0
    for state in run:
        last = isinstance(state, TrainStep) and state.step in (state.steps, 1)
        if last or time.monotonic() - said > SECONDS:
            said = time.monotonic()
            if isinstance(state, TrainStep):
                pace = f"{state.images_per_second:.0f} images/s, {time_left(state.eta_seconds)} left"
                console.print(f"step {state.step:,} of {state.steps:,}, {pace}\n{losses_text(state.losses)}")
            else:
                console.print(f"{state.what}: {state.done:,} of {state.total:,}")
        yield state


def _bars(run: Iterator[State | TrainStep]) -> Iterator[State | TrainStep]:
    """The run, with bars of it: one for what is drawn before, one for the training."""
    with _Bar() as bar:
        tasks: dict[str, Any] = {}
        for state in run:
            drawn = isinstance(state, State)
            what, done = (state.what, state.done) if drawn else ("training", state.step)
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=state.total if drawn else state.steps, pace="", left="")
            pace = "" if drawn else f"{state.images_per_second:.0f} images/s"
            left = "" if drawn else f"{time_left(state.eta_seconds)} left"
            bar.losses = "" if drawn else losses_text(state.losses)
            bar.update(tasks[what], completed=done, pace=pace, left=left)
            yield state


def follow(run: Generator[State | TrainStep, None, None]) -> None:
    """Show a run to its end, or until Ctrl-C, SIGTERM or SIGHUP, after which it saves what there is."""
    stop = Stop()
    with stop.listening():
        try:
            for state in _bars(run) if console.is_terminal else _lines(run):
                if isinstance(state, TrainStep) and state.held_out:
                    console.print(f"step {state.step:,}, held out:\n{losses_text(state.held_out)}")
                if stop.asked:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            console.print("Stopping; saving what there is.")
        finally:
            stop.saving = True
            run.close()
