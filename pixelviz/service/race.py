"""A race: several methods draw images of the same seed, taking turns on one processor, each with its own clock."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from pixelviz.checks import ServiceError, whole
from pixelviz.config import MAX_SEED
from pixelviz.data import pictures
from pixelviz.data.pictures import last_channel, stretched, to_bytes
from pixelviz.devices import Compute
from pixelviz.measure.benchmark import Case
from pixelviz.samplers import SAMPLERS, STARTS, SampleStep, draw
from pixelviz.service.catalog import Found
from pixelviz.service.generation import sample_command
from pixelviz.service.turns import ModelTurn

Fids = Mapping[tuple[str, str, int], float]  # of a benchmark's rows, by (model, method, passes)
MOST_IMAGES = 16
MOST_LANES = 12
REPORT_SECONDS = 0.2  # between two reports


def label(case: Case, checkpoint: str) -> str:
    """A lane's name: method, passes, and the model where it is another than the checkpoint."""
    row = SAMPLERS[case.method]
    unit = (" pass" if case.passes == 1 else " passes") if row.ours else ""
    return f"{row.short or row.title}, {case.passes}{unit}" + ("" if case.model == checkpoint else f", {case.model}")


def commands(found: Found, racing: Sequence[Case], n: int, seed: int) -> str:
    """A command line a method, which draws the same images."""
    lines = []
    for case in racing:
        if case.model == found.name:
            out = f"{case.method}-{case.passes}.png"
            lines.append(sample_command(found, n, case.passes, STARTS.first, case.method, seed, out=out))
        else:
            lines.append(f"# {label(case, found.name)}: a loaded model, which only a race or `bench --peer` draws with")
    return "\n".join(lines)


class Lineup(NamedTuple):
    """Who can race: (label, `Case.key`) of each, the keys of those who shall, and whether all are ours alone."""

    choices: tuple[tuple[str, str], ...]
    chosen: tuple[str, ...]
    alone: bool


def at_best(case: Case, there: Sequence[Case], fids: Fids) -> Case:
    """Of a method and its variants, with as many passes, the one with the least FID that was measured; else itself."""
    of = (case.model, case.passes)
    forms = [one for one in there if (one.model, one.passes) == of and SAMPLERS[one.method].variant_of == case.method]
    return min((case, *forms), key=lambda one: fids.get((one.model, one.method, one.passes), math.inf))


def lineup(there: Sequence[Case], checkpoint: str, chosen: Sequence[str] = (), fids: Fids | None = None) -> Lineup:
    """Those chosen before who are still there shall race; where there are none, those that a row's `raced` names.

    fids: as of `Race.payload`, by which every peer is met at its best.
    """
    choices = tuple((label(case, checkpoint), case.key) for case in there)
    kept = tuple(case.key for case in there if case.key in chosen)
    usual = tuple(at_best(case, there, fids or {}).key for case in there if case.passes in SAMPLERS[case.method].raced)
    return Lineup(choices, kept or usual, all(SAMPLERS[case.method].ours for case in there))


@dataclass
class Lane:
    """One method: its clock (seconds of its own work), its runs of the network, and its images as they are now."""

    case: Case
    model: Any
    name: str
    steps: Iterator[SampleStep]
    seconds: float = 0.0
    runs: int = 0
    states: int = 0
    place: int | None = None
    x: Tensor | None = field(default=None, repr=False)

    @property
    def progress(self) -> float:
        """From 0 to 1, by the states that the sampler yields."""
        in_all = SAMPLERS[self.case.method].yields(self.model.config, self.case.passes)
        return min(1.0, max(0, self.states - 1) / max(1, in_all - 1))

    def picture(self) -> np.ndarray | None:
        """The images side by side, uint8 (H, n W, C), None before the first; unfinished ones are each stretched."""
        if self.x is None:
            return None
        shown = to_bytes(self.x, self.model.config.floor) if self.place else stretched(self.x)
        return pictures.tile(last_channel(shown), len(shown))


@dataclass(frozen=True)
class Race:
    """How it stands. `done`: every lane has arrived."""

    lanes: tuple[Lane, ...]
    seed: int
    done: bool

    def payload(self, fids: Fids | None = None) -> str:
        """JSON for the browser; fids: of the benchmark's rows, where there is one."""
        lanes = []
        for lane in self.lanes:
            found = (fids or {}).get((lane.case.model, lane.case.method, lane.case.passes))
            lanes.append(
                {
                    "name": lane.name,
                    "seconds": lane.seconds,
                    "runs": lane.runs,
                    "progress": lane.progress,
                    "place": lane.place,
                    "fid": found,
                    "count": len(lane.x) if lane.x is not None else 0,
                    "strip": None if (drawn := lane.picture()) is None else pictures.data_uri(drawn),
                }
            )
        return json.dumps({"lanes": lanes, "done": self.done, "status": self.status()})

    def status(self) -> str:
        """One line on how it stands."""
        arrived = [lane for lane in self.lanes if lane.place]
        if not self.done:
            return f"{len(arrived)} of {len(self.lanes)} methods have arrived; seed {self.seed}."
        first, last = (pick(self.lanes, key=lambda lane: lane.seconds) for pick in (min, max))
        if first is last:
            return f"{first.name} took {first.seconds:.2f} s; seed {self.seed}."
        times = last.seconds / first.seconds
        return f"{first.name} was the fastest; {last.name} took {times:.0f} times as long. Seed {self.seed}."


def run_race(
    entries: Sequence[tuple[Case, Any]], checkpoint: str, n: Any, seed: Any, compute: Compute, turn: ModelTurn
) -> Iterator[Race]:
    """Draw n images of `seed` by every entry (case, its model); yields how it stands, about five times a second.

    The next step is always that of the lane whose clock shows least, so none waits for another, and every clock
    counts that lane's own work alone. Raises ServiceError, SamplerError or MissingPart.
    """
    n, seed = whole("the number of images", n, 1, MOST_IMAGES), whole("seed", seed, 0, MAX_SEED)
    if not 1 <= len(entries) <= MOST_LANES:
        raise ServiceError(f"choose 1 to {MOST_LANES} methods; there are {len(entries)}.")
    settings = {"n": n, "seed": seed}

    def start(case: Case, model: Any) -> Iterator[SampleStep]:
        return draw(model, compute, passes=case.passes, sampler=case.method, **settings)

    networks = {(id(model), SAMPLERS[case.method].needs): (case, model) for case, model in entries}
    for case, model in networks.values():
        with turn.long():  # a network's first runs are slow, and belong to nobody's time
            for _ in itertools.islice(start(case, model), 3):
                pass
    lanes = tuple(Lane(case, model, label(case, checkpoint), start(case, model)) for case, model in entries)
    reported, running = 0.0, list(lanes)
    while running:
        lane = min(running, key=lambda one: one.seconds)
        with turn.long():
            began = time.perf_counter()
            if (step := next(lane.steps, None)) is not None:
                lane.x = step.x.float().cpu()  # waits for an accelerator, so it belongs to the time
            lane.seconds += time.perf_counter() - began
        if step is None:
            running.remove(lane)
            lane.place = len(lanes) - len(running)
        else:
            lane.runs, lane.states = step.network_evaluations, lane.states + 1
        if running and time.monotonic() - reported > REPORT_SECONDS:
            yield Race(lanes, seed, False)
            reported = time.monotonic()
    yield Race(lanes, seed, True)
