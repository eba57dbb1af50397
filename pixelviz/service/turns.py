"""Whose turn it is: short work before long, visitors in turns, and one computation of a network at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from pixelviz.checks import ServiceError

SHORT, LONG = "short", "long"  # the lanes of what runs a network
MOST_WAITING = 64  # of one visitor in one lane; more are refused
AT_ONCE = {SHORT: 8, LONG: 3}  # begun and not ended, of all visitors
EACH = {SHORT: 2, LONG: 1}  # of these of one visitor
SHORT_RUNS = 64  # of a network for one image: about a second


def lane(images: int, passes: int) -> str:
    """The lane of a generation."""
    return SHORT if images * passes <= SHORT_RUNS else LONG


LOOK_SECONDS = 0.5  # between two looks whether who waits is still wanted


class AbandonedError(ServiceError):
    """Whoever asked has gone away."""


class ModelTurn:
    """A lock for the processor that all networks share.

    Two networks running side by side on the same cores take longer than one after the other. Long work asks for the
    lock at each of its steps and not for its whole life, so one that is suspended, or whose viewer went away, blocks
    nobody. Whoever does short work goes first, but long work takes a step at least every `patience` seconds. In a lane
    the first who asked is the first to have it.

    wanted: called in the thread that asks for the lock; whether somebody waits for its work. Where it says no,
    AbandonedError is raised there, within `LOOK_SECONDS`.
    """

    def __init__(self, patience: float = 2.0) -> None:
        self.patience = patience
        self.wanted: Callable[[], bool] = lambda: True
        self._condition = threading.Condition()
        self._busy = False
        self._waiting: dict[str, deque[object]] = {SHORT: deque(), LONG: deque()}
        self._long_step = 0.0  # when long work had its last one

    def short(self, done: Callable[[], bool] = lambda: False) -> AbstractContextManager[bool]:
        """Hold the lock for one computation that a person waits for, of a second or so.

        Gives True; or False, and no lock, as soon as `done` says that another one has seen to it.
        """
        return self._hold(SHORT, done)

    def long(self) -> AbstractContextManager[bool]:
        """Hold the lock for one step of something longer."""
        return self._hold(LONG)

    def _next(self) -> object:
        """Who is next: whose ticket."""
        short, long = self._waiting[SHORT], self._waiting[LONG]
        overdue = long and time.monotonic() - self._long_step > self.patience
        return long[0] if overdue or not short else short[0]

    @contextmanager
    def _hold(self, lane: str, done: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        ticket = object()
        with self._condition:
            self._waiting[lane].append(ticket)
            try:
                while True:
                    if not self.wanted():
                        raise AbandonedError("nobody waits for this any more.")
                    if self._condition.wait_for(
                        lambda: done() or (not self._busy and self._next() is ticket), LOOK_SECONDS
                    ):
                        break
            finally:
                self._waiting[lane].remove(ticket)
                self._condition.notify_all()
            mine = not done()
            self._busy = self._busy or mine
        if not mine:
            yield False
            return
        try:
            yield True
        finally:
            with self._condition:
                self._busy = False
                if lane == LONG:
                    self._long_step = time.monotonic()
                self._condition.notify_all()
