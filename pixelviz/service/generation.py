"""What the Generate tab and /generate show: the reverse process as it runs, its costs, and its film."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from pixelviz.checks import ServiceError, Whole, one_of, whole
from pixelviz.config import MAX_SEED, ModelConfig
from pixelviz.data.pictures import last_channel, stretched, to_bytes
from pixelviz.declare import declared
from pixelviz.devices import Compute, out_of_memory, release
from pixelviz.models.pixel_aware import PixelAwareModel, runs_of
from pixelviz.process import theory
from pixelviz.process.schedules import Schedule, image_scale
from pixelviz.samplers import MOST_GUIDANCE, SAMPLERS, STARTS, check_told, draw, ours
from pixelviz.samplers.batches import heads_batch
from pixelviz.samplers.parallel import SPACING
from pixelviz.service.catalog import Found
from pixelviz.service.together import SCARCE, Pool, Share
from pixelviz.service.turns import SHORT, lane

MOST_IMAGES = 256
MOST_AT_ONCE = 64
FILM_BYTES = 2**26  # of frames kept, all images together
MOST_FRAMES = 49
REPORT_SECONDS = 0.1  # between two reports
CLOSED_LOOP_RUNS = 1000
ONE_RUN_HOLDS = 60.0  # seconds for which the measured time of one run holds


@declared(ServiceError)
class Settings:
    """What to draw, and how; raises ServiceError."""

    n: Whole = Field(4, ge=1, le=MOST_IMAGES, description="Images.")
    passes: Whole = Field(1, description="Passes, from 1 to T.")
    start: Annotated[str, one_of(lambda: STARTS)] = STARTS.first
    sampler: Annotated[str, one_of(ours)] = SAMPLERS.first
    seed: Whole = Field(0, ge=0, le=MAX_SEED, description="Seed of all that is drawn.")
    classes: Annotated[str | None, BeforeValidator(lambda name: None if name == "" else name)] = Field(
        None, max_length=60, description="Class of all images, of a model that has any; none: at random."
    )
    guidance: float = Field(
        1.0, ge=0, le=MOST_GUIDANCE, description="How far to follow the class: 0 not at all, 1 as learnt."
    )

    def fitting(self, config: ModelConfig) -> Settings:
        """These; raises ServiceError or SamplerError where they cannot run with this model."""
        whole("passes", self.passes, 1, config.T)
        SAMPLERS[self.sampler].check(config, self.passes)
        check_told(config.classes, (self.classes,) if self.classes else (), self.guidance)
        return self

    @property
    def runs(self) -> int:
        """Runs of the network for one image."""
        return SAMPLERS[self.sampler].runs(self.passes) * runs_of(self.guidance)


def command_line(name: str, found: Found, **given: object) -> str:
    """A command on a checkpoint with these options, from where the bundled checkpoints and the runs are."""
    folder = {"bundled": f"checkpoints/{found.name}", "trained": f"runs/{found.name}"}.get(found.kind, found.name)
    options = " ".join(f"--{key} {shlex.quote(str(value))}" for key, value in {"checkpoint": folder, **given}.items())
    return f"python -m pixelviz {name} {options}"


def sample_command(
    found: Found,
    n: int,
    passes: object,
    start: str,
    sampler: str,
    seed: int,
    classes: str | None = None,
    guidance: float = 1.0,
    out: str = "samples.png",
) -> str:
    """The command line that draws the same images."""
    settings = {"n": n, "passes": passes, "start": start, "sampler": sampler, "seed": seed}
    told = {key: value for key, value in (("class", classes), ("guidance", guidance)) if value not in (None, "", 1)}
    return command_line("sample", found, **settings, **told, out=out)


def parse_passes(text: str) -> int:
    """The number of passes as typed; raises ServiceError."""
    try:
        return int(str(text).strip())
    except ValueError:
        raise ServiceError(f"passes must be a whole number, 1 for one run of the network; it is “{text}”.") from None


class Film:
    """Frames of all images at some steps from T down to 0, and how large x_i is there.

    Every frame but the image itself is stretched to its own range (`pictures.stretched`), when it is looked at.
    """

    def __init__(self, config: ModelConfig, n: int, states: list[float]) -> None:
        """states: the steps that the sampler yields, from T to 0."""
        self.floor = config.floor
        per_step = 4 * n * math.prod(config.shape)
        count = min(len(states), MOST_FRAMES, max(2, FILM_BYTES // per_step))
        if count < len(states):  # as close together near i = 0 as boundaries are: an image takes shape there
            wanted = states[0] * np.linspace(1, 0, count) ** SPACING
            nearest = np.abs(np.array(states)[None] - wanted[:, None]).argmin(1)
            states = [states[k] for k in np.unique(nearest)]
        self.steps, count = states, len(states)
        self._place = {i: k for k, i in enumerate(self.steps)}
        self._states = np.zeros((count, n, *config.shape), np.float32)
        self._squares = np.zeros((count, n))  # mean of x_i's squares
        self._reached = np.zeros((count, n), bool)

    def record(self, i: float, first: int, x: Tensor) -> None:
        """Keep images first.. of step i, if it is one of `steps`."""
        if (k := self._place.get(i)) is not None:
            self._states[k, first : first + len(x)] = x.cpu()
            self._squares[k, first : first + len(x)] = x.double().square().flatten(1).mean(1).cpu()
            self._reached[k, first : first + len(x)] = True

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return self._states.nbytes + self._squares.nbytes

    def magnitudes(self) -> tuple[tuple[float, float], ...]:
        """(i, root mean square of x_i) of the steps reached so far; infinite or NaN where x_i is."""
        rows = zip(self.steps, self._squares, self._reached, strict=True)
        return tuple((i, float(np.sqrt(squares[seen].mean()))) for i, squares, seen in rows if seen.any())

    def choose(self, frames: int) -> list[int]:
        """Places of at most `frames` steps, evenly spread, the first and the last among them."""
        frames = min(whole("frames", frames, 2, 1000), len(self.steps))
        return [int(k) for k in np.linspace(0, len(self.steps) - 1, frames).round()]

    def of(self, image: int, places: list[int]) -> np.ndarray:
        """Frames of one image, uint8 (len(places), H, W, C)."""
        states = torch.from_numpy(self._states[places, image])
        frames = (
            stretched(x[None]) if self.steps[k] else to_bytes(x[None], self.floor)
            for k, x in zip(places, states, strict=True)
        )
        return last_channel(np.concatenate([*frames]))


@dataclass(frozen=True)
class Generation:
    """How far a generation is.

    i: the step just reached by the images in work (n may be worked off in several batches); progress: of
    the whole, 0 to 1; network_evaluations: runs of R_phi per image so far; seconds: spent on start and
    sampler, for all n images, waiting excluded. The last one is `done`: then seconds_per_image, and
    closed_loop_seconds, what 1000 closed-loop runs would take per image, computed from one measured run
    of the backbone with one head.
    """

    i: float
    T: int
    n: int
    progress: float
    network_evaluations: int
    seconds: float
    done: bool
    notes: tuple[str, ...]
    film: Film = field(repr=False)
    canvas: np.ndarray = field(repr=False)  # uint8 (n, C, H, W), images of finished batches
    seconds_per_image: float | None = None
    closed_loop_seconds: float | None = None
    first: int = 0
    working: Tensor | None = field(repr=False, default=None)  # x_i of images first..

    @property
    def nbytes(self) -> int:
        """What keeping it takes."""
        return self.film.nbytes + self.canvas.nbytes

    @property
    def x(self) -> np.ndarray:
        """All images as they are now, uint8 (n, H, W, C), [floor, 1] shown as 0 to 255; 0 where not begun."""
        shown = self.canvas.copy()
        if self.working is not None:
            shown[self.first : self.first + len(self.working)] = to_bytes(self.working, self.film.floor)
        return last_channel(shown)

    @property
    def images(self) -> np.ndarray:
        """The finished images, uint8 (n, H, W, C); raises ServiceError before the end."""
        if not self.done:
            raise ServiceError("the images are not finished yet.")
        return self.x

    @property
    def magnitudes(self) -> tuple[tuple[float, float], ...]:
        """(i, root mean square of x_i over all images), for the steps kept in the film."""
        return self.film.magnitudes()

    def amplification(self, schedule: Schedule, x0: float) -> list[float]:
        """By how much Algorithm 1 as printed has multiplied an error of x_T, at the steps of `magnitudes`."""
        whole_way = theory.amplification(schedule, x0, self.T)
        return [(whole_way / theory.amplification(schedule, x0, i)).item() for i, _ in self.magnitudes]

    @property
    def times_faster(self) -> float | None:
        """How often this would go into 1000 closed-loop runs."""
        whole, each = self.closed_loop_seconds, self.seconds_per_image
        return None if whole is None or each is None else whole / each

    def trajectory(self, k: int, frames: int = 12) -> np.ndarray:
        """Image k's way from x_T (first) to the image (last), uint8 (frames, H, W, C); fewer if fewer are kept."""
        return self.film.of(whole("the image", k, 0, self.n - 1), self.film.choose(frames))

    def trajectory_steps(self, frames: int = 12) -> list[float]:
        """The step i of each frame of `trajectory`."""
        return [self.film.steps[place] for place in self.film.choose(frames)]


@torch.inference_mode()
def _one_run(model: PixelAwareModel, x_T: Tensor, compute: Compute) -> float:
    """Seconds per image of one run of the backbone with one head; what x_delta_hat holds does not matter to it."""
    config = model.config
    i, x_delta = model.step_tensor(config.T, len(x_T)), torch.full_like(x_T, float(image_scale(0.5, config.gamma)))
    began = time.perf_counter()
    with compute.autocast():
        # .cpu() waits for an accelerator to finish.
        model.parallel_unet(x_T, x_delta, i, i[:1]).cpu()
    return (time.perf_counter() - began) / len(x_T)


_MEASURED: WeakKeyDictionary[PixelAwareModel, tuple[float, float]] = WeakKeyDictionary()  # when, and seconds per image


def _closed_loop(model: PixelAwareModel, x: Tensor, pool: Pool) -> float:
    """What 1000 closed-loop runs would take per image, by one run measured now, or within the last minute."""
    when, seconds = _MEASURED.get(model, (-math.inf, 0.0))
    if time.monotonic() - when > ONE_RUN_HOLDS:
        with pool.turn.short():
            seconds = _one_run(model, x.to(model.device), pool.compute)
        _MEASURED[model] = time.monotonic(), seconds
    return CLOSED_LOOP_RUNS * seconds


def run_generation(model: PixelAwareModel, settings: Settings, pool: Pool) -> Generator[Generation]:
    """Draw images; yields the first state, then about ten reports a second, then the one that is `done`.

    What is short (`turns.lane`) is drawn in one go, with what others ask for meanwhile; of what is long the turn is
    taken for one step at a time, so closing or forgetting the generator frees everything.
    """
    config, n = model.config, settings.n
    states = SAMPLERS[settings.sampler].states
    assert states is not None  # every one of ours has them
    film = Film(config, n, states(config, settings.passes))
    state = Generation(
        i=config.T,
        T=config.T,
        n=n,
        progress=0.0,
        network_evaluations=0,
        seconds=0.0,
        done=False,
        notes=(),
        film=film,
        canvas=np.zeros((n, *config.shape), np.uint8),
    )
    if lane(n, settings.runs) == SHORT:
        yield state
        state = _drawn_together(model, settings, state, pool)
    else:
        for drawn in _drawn_alone(model, settings, state, pool):
            yield (state := drawn)
    assert state.working is not None  # all are drawn
    yield replace(
        state,
        i=0,
        progress=1.0,
        done=True,
        working=None,
        seconds_per_image=state.seconds / n,
        closed_loop_seconds=_closed_loop(model, state.working, pool),
    )


def _drawn_together(model: PixelAwareModel, settings: Settings, state: Generation, pool: Pool) -> Generation:
    """The end of a short generation."""

    def record(i: float, first: int, x: Tensor) -> None:
        state.film.record(i, first, x)
        if not i:
            state.canvas[first : first + len(x)] = to_bytes(x, model.config.floor)

    share = Share(settings.seed, settings.n, record)
    how = {key: value for key, value in asdict(settings).items() if key not in ("n", "seed")}
    pool.draw(model, share, **how)
    return replace(
        state, network_evaluations=share.network_evaluations, seconds=share.seconds, notes=share.notes, working=share.x
    )


def _drawn_alone(model: PixelAwareModel, settings: Settings, state: Generation, pool: Pool) -> Iterator[Generation]:
    """A long generation's states, a step a turn, in batches that fit in memory; the last one has all images."""
    config, n, canvas, turn = model.config, settings.n, state.canvas, pool.turn
    batch = heads_batch(config, min(MOST_AT_ONCE, n))
    notes = (f"Drawn in {-(-n // batch)} batches of up to {batch} images.",) if batch < n else ()
    state = replace(state, notes=notes)
    reported, first = -math.inf, 0
    while first < n:
        asked: dict[str, Any] = asdict(settings) | {"n": min(batch, n - first)}
        steps = draw(model, pool.compute, **asked, first=first)
        short = False
        while True:
            with turn.long():
                began = time.perf_counter()
                try:
                    if (step := next(steps, None)) is None:
                        break
                    x = step.x.float().cpu()  # waits for an accelerator, so it belongs to the time
                except (MemoryError, RuntimeError) as error:
                    if not out_of_memory(error) or batch == 1:
                        raise
                    short = True
                    break
                seconds = state.seconds + time.perf_counter() - began
            state.film.record(step.i, first, x)
            state = replace(
                state,
                i=step.i,
                progress=(first + len(x) * (1 - step.i / config.T)) / n,
                network_evaluations=step.network_evaluations,
                seconds=seconds,
                first=first,
                working=x,
            )
            if time.monotonic() - reported > REPORT_SECONDS:
                yield state
                reported = time.monotonic()
        if short:  # begun again with half as many; each image has its own random numbers, so it stays the same
            release()
            batch //= 2
            state = replace(state, notes=(SCARCE.format(batch),))
            continue
        canvas[first : first + len(x)] = to_bytes(x, config.floor)
        first += len(x)
    yield state
