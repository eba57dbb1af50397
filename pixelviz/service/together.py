"""One computation for all who ask for the same: small generations share a run of the network, equal ones an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor

from pixelviz.devices import Compute, out_of_memory, release
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers import ImageNoise, draw_noise
from pixelviz.samplers.batches import heads_batch
from pixelviz.service.kept import Kept
from pixelviz.service.turns import AbandonedError, ModelTurn

ROWS = 8  # of a run of the network, always: a product's last bits depend on how many rows there are
MOST_ROWS = 64  # of several visitors, worked off in one turn
KEPT_BYTES = 2**26  # of answers
SCARCE = "There was not enough memory for more than {} at once."


@dataclass(eq=False)
class Share:
    """One visitor's part of a run: images 0..n-1 of a seed.

    record: called with i, the first image's number and x_i (b, C, H, W) for every state; seconds: this part's own of
    the run's; network_evaluations: per image.
    """

    seed: int
    n: int
    record: Callable[[float, int, Tensor], None]
    seconds: float = 0.0
    network_evaluations: int = 0
    notes: tuple[str, ...] = ()
    error: BaseException | None = None
    done: bool = False
    x: Tensor | None = field(default=None, repr=False)  # the last states drawn


class Pool:
    """Small generations that wait for the same model, sampler, start and passes run together.

    Whoever comes to the turn first runs all that wait for the same. Every run has `ROWS` rows, the last of which may
    be there for the number's sake alone, so an image's arithmetic is the same whoever else is drawn beside it.
    """

    def __init__(self, compute: Compute, turn: ModelTurn) -> None:
        self.compute, self.turn = compute, turn
        self._lock = threading.Lock()
        self._waiting: WeakKeyDictionary[PixelAwareModel, dict[Hashable, list[Share]]] = WeakKeyDictionary()

    def draw(self, model: PixelAwareModel, share: Share, **settings: Any) -> None:
        """Draw a share; settings: as for `draw_noise`. Raises what the sampler raises, or a lack of memory."""
        key = tuple(sorted(settings.items()))
        with self._lock:
            waiting = self._waiting.setdefault(model, {}).setdefault(key, [])
            waiting.append(share)
        try:
            with self.turn.short(lambda: share.done) as mine:
                if mine:
                    self._run(model, self._take(waiting, share), settings)
        finally:
            with self._lock, suppress(ValueError):
                waiting.remove(share)  # where its visitor has gone away
        if share.error is not None:
            raise share.error

    def _take(self, waiting: list[Share], mine: Share) -> list[Share]:
        """The shares for one turn, out of those that wait."""
        taken, rows = [mine], mine.n
        with self._lock:
            for one in waiting:
                if one is not mine and rows + one.n <= MOST_ROWS:
                    taken.append(one)
                    rows += one.n
            waiting[:] = [one for one in waiting if one not in taken]
        return taken

    def _run(self, model: PixelAwareModel, shares: list[Share], settings: dict[str, Any]) -> None:
        places = [(share, k) for share in shares for k in range(share.n)]
        batch, first = heads_batch(model.config, ROWS), 0
        try:
            while first < len(places):
                try:
                    self._batch(model, places[first : first + batch], batch, settings)
                except (MemoryError, RuntimeError) as error:
                    if not out_of_memory(error) or batch == 1:
                        raise
                else:
                    first += batch
                    continue
                release()  # here, as the error's traceback keeps alive what filled the memory
                batch //= 2
                for share in shares:
                    share.notes = (SCARCE.format(batch),)
        except Exception as error:
            for share in shares:
                share.error = error
        finally:
            for share in shares:
                share.done = True

    def _batch(self, model: PixelAwareModel, places: list[tuple[Share, int]], rows: int, settings: dict) -> None:
        """Draw these images in `rows` rows, the last one repeated; every state goes to its share."""
        padded = [*places, *[places[-1]] * (rows - len(places))]
        noise = ImageNoise.of([(share.seed, k) for share, k in padded], model.device)
        parts: dict[int, list[int]] = {}
        for row, (share, _) in enumerate(places):
            parts.setdefault(id(share), []).append(row)
        steps, began = draw_noise(model, self.compute, noise, **settings), time.perf_counter()
        while (step := next(steps, None)) is not None:
            x = step.x.float().cpu()  # waits for an accelerator, so it belongs to the time
            seconds = (time.perf_counter() - began) / len(places)
            for mine in parts.values():
                share, first = places[mine[0]]
                share.x = x[mine[0] : mine[-1] + 1]
                share.seconds += seconds * len(mine)
                share.network_evaluations = step.network_evaluations
                share.record(step.i, first, share.x)
            began = time.perf_counter()


class _Sized(Protocol):
    @property
    def done(self) -> bool: ...
    @property
    def nbytes(self) -> int: ...


State = TypeVar("State", bound=_Sized)


class _Running(Generic[State]):
    """A computation that several watch, and that whoever wants its next state takes on."""

    def __init__(self, states: Generator[State]) -> None:
        self.states = states
        self.lock = threading.Lock()
        self.watching = self.count = 0
        self.latest: State | None = None
        self.error: BaseException | None = None

    def after(self, seen: int) -> tuple[int, State]:
        """The latest state, and its number, where that is above `seen`; otherwise the next one. Raises its error."""
        with self.lock:
            if self.error is None and self.count == seen:
                try:
                    self.latest, self.count = next(self.states), self.count + 1
                except Exception as error:
                    self.error = error
            if self.error is not None:
                raise self.error
            assert self.latest is not None
            return self.count, self.latest


class Answers(Generic[State]):
    """Of those who ask the same, one has it computed and all watch; answers are kept, up to a number of bytes.

    A computation ends when nobody watches it any more; one that was given up because the visitor who drove it has gone
    away is begun again. wanted: as of `ModelTurn`.
    """

    def __init__(self, wanted: Callable[[], bool] = lambda: True, most: int = KEPT_BYTES) -> None:
        self.wanted = wanted
        self._kept: Kept[State] = Kept(most)
        self._lock = threading.Lock()
        self._running: dict[Hashable, _Running[State]] = {}

    def ask(self, key: Hashable, begin: Callable[[], Generator[State]]) -> Iterator[State]:
        """The states of begin(), or of the one that runs already under this key, the last of which is `done`."""
        with self._lock:
            known = self._kept.get(key)
            if known is None:
                run = self._running.get(key) or self._running.setdefault(key, _Running(begin()))
                run.watching += 1
        if known is not None:
            yield known
            return
        seen, state, again = 0, None, False
        try:
            while not again and (state is None or not state.done):
                try:
                    seen, state = run.after(seen)
                except AbandonedError:  # by whoever had it computed
                    again = self.wanted()
                    if not again:
                        raise
                    continue
                if state.done:
                    self._kept.put(key, state, state.nbytes)
                yield state
        finally:
            with self._lock:
                run.watching -= 1
                if self._running.get(key) is run and (run.error is not None or not run.watching):
                    del self._running[key]
                if not run.watching:
                    run.states.close()
        if again:
            yield from self.ask(key, begin)
