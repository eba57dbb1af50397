"""One picture with the settings of the process: what the screen shows, and what is asked, judged and exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import BeforeValidator, Field, field_validator, model_validator
from torch import Tensor

from pixelviz.checks import ServiceError, Whole, check_pixels, one_of
from pixelviz.config import MAX_SEED, MAX_T, PAPER_FLOOR, check_process
from pixelviz.data.images import EXAMPLES, MIDDLE, Picture
from pixelviz.data.picture_store import PICTURES
from pixelviz.data.pictures import RGB_CHANNELS, as_bytes, frame_steps, suggest_pixels
from pixelviz.data.sets import to_image, to_unit
from pixelviz.declare import declared, fields_of
from pixelviz.process.formulas import PAPERS, FormulaRate
from pixelviz.process.forward import Moments, closed_form_moments, noise, raise_to_floor, walk_both
from pixelviz.process.schedules import RANGES, SCHEDULES, LinearBeta, PixelAware, Schedule, by_pixel

SETTINGS_FORMAT = 1
METHODS = ("pixel_aware", "ddpm")
OWN_RATE = "formula"  # the schedule whose rate `View.formula` says
NAMES = ("Pixel-aware", "DDPM")
IMAGE_FILE = "image.png"
GRID, GIF_FRAMES, MP4_FRAMES = 25, 40, 100  # states that are kept of a walk: for Fig. 7 and 8, and the films
FIRST_STEPS, EVERY = 100, 5  # and for Fig. 9 and 10


def shown(x: Tensor, floor: float) -> np.ndarray:
    """(..., C, H, W) as uint8 (..., H, W, C), [floor, 1] shown as black to white."""
    return np.moveaxis(as_bytes(to_image(x, floor).numpy()), -3, -1)


def first_steps(T: int) -> list[int]:
    """Every 5th of the first 100 steps from 0, at most T of them."""
    return list(range(0, min(FIRST_STEPS, T), EVERY))


class Walk(NamedTuple):
    """What is kept of one walk of both METHODS, with one noise.

    moments: per method mean and variance over the pixels of each channel, each (C, T+1). frames: per method and step
    (those of Fig. 7 to 10 and of the films) uint8 (H, W, C).
    """

    moments: dict[str, tuple[np.ndarray, np.ndarray]]
    frames: dict[str, dict[int, np.ndarray]]


def read_state(text: str | None) -> dict[str, Any]:
    """The instrument's state as its script tells it in JSON, unchecked, without what is null; raises ServiceError."""
    try:
        state = json.loads(text) if text else None
    except (TypeError, ValueError, RecursionError):
        raise ServiceError("the instrument's settings arrived damaged; reload the page.") from None
    if not isinstance(state, dict | None):
        raise ServiceError("the instrument's settings must be names and values; reload the page.")
    return {key: value for key, value in (state or {}).items() if value is not None}


def _range(value: Any) -> Any:
    """DDPM's range, also as files and calls of earlier versions say it: whether it is rescaled."""
    return ("printed", "rescaled")[value] if isinstance(value, bool) else value


class ExportError(ValueError):
    """A request that gives nothing to export; the message says what to do."""


def _slider(default: float, low: float, high: float, step: float, description: str, **bounds: Any) -> Any:
    """A number that the screen has a slider for, from low to high; `bounds` are wider."""
    extra: dict[str, Any] = {"min": low, "max": high, "step": step}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


@declared(ServiceError)
class View:
    """A picture with settings.

    pixels: (row, column, channel) each, of the picture as `image` has it. Raises ServiceError, also where the picture
    is gone.
    """

    picture: str = Field(description="Its key in PICTURES.")
    name: str = Field("Your picture", description="What to call it.")
    gamma: float = _slider(20.0, 1, 100, 0.5, "Rate of the process, below T.")
    T: Whole = _slider(200, 1, 1000, 1, "Steps of the process.", ge=1, le=MAX_T)
    floor: float = _slider(PAPER_FLOOR, 0.001, 0.5, 0.001, "Least pixel value; the paper's is 0.004.")
    t: float = Field(0.16, ge=0, le=1, description="The time on the screen, 0 to 1.")
    seed: Whole = Field(0, ge=0, le=MAX_SEED, description="Seed of the noise.")
    schedule: Annotated[str, one_of(lambda: [*by_pixel(), OWN_RATE])] = Field(
        SCHEDULES.first, description="Ours: of those that give each pixel its own rate, or formula."
    )
    formula: str = Field(PAPERS, description="Γ(x0, t), where the schedule is formula.")
    crop: float = _slider(MIDDLE, 0, 1, 0.01, "Where along the longer side the networks' square is cut.", ge=0, le=1)
    ddpm: Annotated[str, one_of(lambda: RANGES), BeforeValidator(_range)] = Field(
        RANGES.first, description=f"DDPM's range, {' or '.join(RANGES)}."
    )
    pixels: tuple[tuple[int, int, int], ...] = Field((), description="Picked pixels.")

    @field_validator("pixels", mode="before")
    @classmethod
    def _inside(cls, pixels: Any, info: Any) -> Any:
        key = info.data.get("picture")
        return check_pixels(pixels, PICTURES[key].screen.tensor().shape) if pixels and key else ()

    @model_validator(mode="after")
    def _possible(self) -> View:
        check_process(self.gamma, self.T, self.floor)
        self.schedules  # noqa: B018  (a formula may be no rate)
        self.original  # noqa: B018  (held from now on: a view outlives its picture's place in the store)
        return self

    # --- Making one

    @classmethod
    def of(cls, source: Any, **settings: Any) -> View:
        """The view of a picture: a path, bytes or whatever else `PictureStore.keep` takes."""
        return cls(picture=PICTURES.keep(source), **settings)

    @classmethod
    def from_state(cls, text: str | None) -> View:
        """What the instrument shows (`read_state`); where it is not drawn yet, what it will show: the first example."""
        state = read_state(text)
        names = {path.stem: label for label, path in EXAMPLES}
        if "picture" not in state:
            state |= {"picture": PICTURES.keep(EXAMPLES[0][1]), "example": EXAMPLES[0][1].stem}
        about: dict[str, Any] = {"name": names[state["example"]]} if state.get("example") in names else {}
        return cls(**{key: state[key] for key in ("picture", *DEFAULTS) if key in state}, **about)

    def but(self, **changes: Any) -> View:
        """The same view with other settings, checked."""
        return replace(self, **changes)

    def pointed(self) -> View:
        """The same view, with a dark, a middling and a bright pixel where none are picked."""
        return self if self.pixels else self.but(pixels=suggest_pixels(self.x0.numpy()))

    @classmethod
    def declaration(cls) -> dict[str, dict[str, Any]]:
        """For the browser: default, least and greatest value, and step of each setting of the process."""
        found = {}
        for key, default in DEFAULTS.items():
            field = fields_of(cls)[key]
            ends = {end: getattr(b, at) for b in field.metadata for end, at in ENDS.items() if hasattr(b, at)}
            slider = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            found[key] = {"default": default, **ends, **slider}
        return found

    # --- What follows from it

    @cached_property
    def original(self) -> Picture:
        """The picture as it was decoded, to be cut where `crop` says."""
        found = PICTURES[self.picture]
        return found if self.crop == found.crop else replace(found, crop=self.crop)

    @property
    def image(self) -> Picture:
        """The picture as the screen has it."""
        return self.original.screen

    @cached_property
    def x0(self) -> Tensor:
        """float64 (C, H, W) in [floor, 1]."""
        return to_unit(self.image.tensor(), self.floor, torch.float64)

    @cached_property
    def levels(self) -> Tensor:
        """The distinct values of x0, ascending, (L,); see `Picture.levels`."""
        return raise_to_floor(self.image.levels[0], self.floor)

    @cached_property
    def counts(self) -> Tensor:
        """How many values of x0 have each level, (L,)."""
        return torch.from_numpy(np.bincount(self.image.levels[1].ravel())).double()

    @property
    def ours(self) -> PixelAware:
        """The paper's schedule, whatever `schedule` is."""
        return PixelAware(self.T, self.gamma)

    @property
    def theirs(self) -> LinearBeta:
        """DDPM's schedule, with the range chosen."""
        return LinearBeta(self.T, self.ddpm)

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of each method: ours under its name with _ for -, and DDPM's."""
        if self.schedule == OWN_RATE:
            ours: Schedule = FormulaRate(self.T, self.gamma, self.formula)
        else:
            ours = SCHEDULES[self.schedule].build(self.T, self.gamma)
        return {self.schedule.replace("-", "_"): ours, METHODS[1]: self.theirs}

    @property
    def x0_at_pixels(self) -> Tensor:
        """x0 of each pixel, (P,)."""
        row, column, channel = torch.tensor(self.pixels, dtype=torch.int64).reshape(-1, 3).T
        return self.x0[channel, row, column]

    @property
    def channels(self) -> list[str]:
        """The names of the picture's channels."""
        return [name for name, _ in RGB_CHANNELS] if len(self.x0) == 3 else ["value"]

    @cached_property
    def eps(self) -> Tensor:
        """The noise of the closed form x_i = sqrt(abar) x0 + sqrt(1 - abar) eps, for both methods, (C, H, W)."""
        return next(noise(self.seed, self.image.tensor().shape, 1))

    @cached_property
    def moments(self) -> dict[str, Moments]:
        """Per method mean and variance over the pixels of x_i, i = 0..T, as the screen shows it: from `eps`."""
        flat = self.image.levels[1].reshape(len(self.eps), -1), self.eps.flatten(1).numpy()
        tallies = [
            [np.bincount(index, weight, len(self.levels)) for weight in (None, eps, eps**2)]
            for index, eps in zip(*flat, strict=True)
        ]
        tallies = torch.from_numpy(np.array(tallies, float))
        return {method: closed_form_moments(one, self.levels, tallies) for method, one in self.schedules.items()}

    @cached_property
    def walk(self) -> Walk:
        """The exact chain from x_0 to x_T, walked once."""
        kept = {i for count in (GRID, GIF_FRAMES, MP4_FRAMES) for i in frame_steps(self.T, count)}
        kept.update(first_steps(self.T))
        values = {method: np.empty((2, len(self.x0), self.T + 1)) for method in METHODS}
        frames: dict[str, dict[int, np.ndarray]] = {method: {} for method in METHODS}
        for i, states in enumerate(walk_both(list(self.schedules.values()), self.x0.numpy(), self.seed)):
            for method, x in zip(METHODS, states, strict=True):
                values[method][:, :, i] = x.mean((1, 2)), x.var((1, 2))
                if i in kept:
                    frames[method][i] = shown(torch.from_numpy(x), self.floor)
        return Walk({method: (values[method][0], values[method][1]) for method in METHODS}, frames)

    # --- As a file

    def settings(self) -> dict[str, Any]:
        """All but the picture, for JSON; `from_settings` takes it back."""
        return {
            "format": SETTINGS_FORMAT,
            "picture": self.name,
            "image_file": IMAGE_FILE,
            "i": round(self.t * self.T),
            "x0_at_pixels": self.x0_at_pixels.tolist(),
            "notes": list(self.image.notes),
        } | {key: getattr(self, key) for key in DEFAULTS}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], source: Any) -> View:
        """The view that `settings` came from, given its picture; raises ExportError besides."""
        if settings.get("format") != SETTINGS_FORMAT:
            raise ExportError(
                f"these settings have format {settings.get('format')!r}; this app reads {SETTINGS_FORMAT}."
            )
        try:
            # What files of earlier versions lack.
            lacking = {"crop": MIDDLE, "ddpm": settings.get("ddpm_rescaled", RANGES.first)}
            values = {key: (lacking | dict(settings))[key] for key in DEFAULTS}
            return cls.of(source, name=settings["picture"], **values)
        except KeyError as missing:
            raise ExportError(f"these settings lack {missing}.") from None


# Claims, lesson and exports are about the paper's schedule, so they leave `schedule` alone.
DEFAULTS = {
    key: field.default
    for key, field in fields_of(View).items()
    if key not in ("picture", "name", "schedule", "formula")
}
ENDS = {"min": "ge", "max": "le"}
