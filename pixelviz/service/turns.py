"""Who may run a network now: one computation at a time, people before a training in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ModelTurn:
    """A lock for the processor that all networks share.

    Two networks running side by side on the same cores take longer than one after the other. A job (a
    generation) asks for the lock at each of its steps and not for its whole life, so one that is
    suspended, or whose viewer went away, blocks nobody. A training asks at each of its steps, too, and
    lets people go first, but takes a step at least every `patience` seconds.
    """

    def __init__(self, patience: float = 2.0) -> None:
        self.patience = patience
        self._condition = threading.Condition()
        self._busy = False
        self._waiting = 0
        self._jobs = 0

    @contextmanager
    def job(self) -> Iterator[None]:
        """While open, a training in the background holds back between this job's steps."""
        with self._condition:
            self._jobs += 1
        try:
            yield
        finally:
            with self._condition:
                self._jobs -= 1
                self._condition.notify_all()

    @contextmanager
    def foreground(self) -> Iterator[None]:
        """Hold the lock for one computation that a person waits for."""
        with self._condition:
            self._waiting += 1
            try:
                self._condition.wait_for(lambda: not self._busy)
            finally:
                self._waiting -= 1
            self._busy = True
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def background(self) -> Iterator[None]:
        """Hold the lock for one training step, after the people who wait, or after `patience` seconds."""
        with self._condition:
            self._condition.wait_for(
                lambda: not self._busy and not self._waiting and not self._jobs, timeout=self.patience
            )
            self._condition.wait_for(lambda: not self._busy)
            self._busy = True
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        with self._condition:
            self._busy = False
            self._condition.notify_all()
