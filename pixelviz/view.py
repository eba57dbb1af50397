"""What is exported: a picture with the instrument's settings, as a value that JSON can hold and rebuild."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch

from pixelviz.config import MAX_SEED, PAPER_FLOOR, ConfigError, check_process
from pixelviz.data.images import Picture, fit
from pixelviz.data.pictures import RGB_CHANNELS, as_bytes, frame_steps, suggest_pixels
from pixelviz.data.sets import to_image, to_unit
from pixelviz.process.forward import walk_both
from pixelviz.process.schedules import LinearBeta, PixelAware, Schedule

MAX_SIDE = 256  # rows and columns of the picture, as on the screen
SETTINGS_FORMAT = 1
METHODS = ("pixel_aware", "ddpm")
NAMES = ("Pixel-aware", "DDPM")
IMAGE_FILE = "image.png"
GRID, GIF_FRAMES, MP4_FRAMES = 25, 40, 100  # states that are kept of a walk: for Fig. 7 and 8, and the films


def shown(x: torch.Tensor, floor: float) -> np.ndarray:
    """(..., C, H, W) as uint8 (..., H, W, C), [floor, 1] shown as black to white."""
    return np.moveaxis(as_bytes(to_image(x, floor).numpy()), -3, -1)


class Walk(NamedTuple):
    """What is kept of one walk of both METHODS, with one noise.

    moments: per method mean and variance over the pixels of each channel, each (C, T+1). frames: per method and step
    (those of Fig. 7 and 8 and of the films) uint8 (H, W, C).
    """

    moments: dict[str, tuple[np.ndarray, np.ndarray]]
    frames: dict[str, dict[int, np.ndarray]]


class ExportError(ValueError):
    """A request that gives nothing to export; the message says what to do."""


@dataclass(frozen=True)
class View:
    """What is to be exported: a picture and the settings that the instrument has.

    picture: at most MAX_SIDE a side. pixels: (row, column, channel) each; three are suggested where there are none.
    t: from 0 to 1, the time on the screen. Raises ConfigError.
    """

    picture: Picture
    name: str = "picture"
    gamma: float = 20.0
    T: int = 200
    floor: float = PAPER_FLOOR
    seed: int = 0
    pixels: tuple[tuple[int, int, int], ...] = ()
    t: float = 0.16
    rescaled: bool = False

    def __post_init__(self) -> None:
        check_process(self.gamma, self.T, self.floor)
        object.__setattr__(self, "picture", fit(self.picture, MAX_SIDE))
        if isinstance(self.t, bool) or not isinstance(self.t, int | float) or not 0 <= self.t <= 1:
            raise ConfigError(f"t must be a number between 0 and 1; it is {self.t!r}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed must be a whole number from 0 to {MAX_SEED:,}; it is {self.seed!r}.")
        rows, columns, channels = self.picture.pixels.shape
        pixels = self.pixels or suggest_pixels(self.x0.numpy())
        for pixel in pixels:
            if len(pixel) != 3 or any(isinstance(n, bool) or not isinstance(n, Integral) for n in pixel):
                raise ConfigError(f"a pixel is a row, a column and a channel, all whole; one is {list(pixel)!r}.")
            row, column, channel = pixel
            if not (0 <= row < rows and 0 <= column < columns and 0 <= channel < channels):
                raise ConfigError(
                    f"the pixel {[row, column, channel]} lies outside the picture of {rows} rows, {columns} columns "
                    f"and {channels} channel{'s' if channels > 1 else ''}."
                )
        object.__setattr__(self, "pixels", tuple(tuple(int(n) for n in pixel) for pixel in pixels))

    @cached_property
    def x0(self) -> torch.Tensor:
        """float64 (C, H, W) in [floor, 1]."""
        return to_unit(self.picture.tensor(), self.floor, torch.float64)

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of each method."""
        both = PixelAware(self.T, self.gamma), LinearBeta(self.T, self.rescaled)
        return dict(zip(METHODS, both, strict=True))

    @property
    def x0_at_pixels(self) -> list[float]:
        """x0 of each pixel."""
        return [self.x0[channel, row, column].item() for row, column, channel in self.pixels]

    @property
    def channels(self) -> list[str]:
        """The names of the picture's channels."""
        return [name for name, _ in RGB_CHANNELS] if len(self.x0) == 3 else ["value"]

    @cached_property
    def walk(self) -> Walk:
        """The exact chain from x_0 to x_T, walked once."""
        kept = {i for count in (GRID, GIF_FRAMES, MP4_FRAMES) for i in frame_steps(self.T, count)}
        values = {method: np.empty((2, len(self.x0), self.T + 1)) for method in METHODS}
        frames: dict[str, dict[int, np.ndarray]] = {method: {} for method in METHODS}
        for i, states in enumerate(walk_both(list(self.schedules.values()), self.x0.numpy(), self.seed)):
            for method, x in zip(METHODS, states, strict=True):
                values[method][:, :, i] = x.mean((1, 2)), x.var((1, 2))
                if i in kept:
                    frames[method][i] = shown(torch.from_numpy(x), self.floor)
        return Walk({method: tuple(values[method]) for method in METHODS}, frames)

    def settings(self) -> dict[str, Any]:
        """All but the picture, for JSON; `from_settings` takes it back."""
        return {
            "format": SETTINGS_FORMAT,
            "picture": self.name,
            "image_file": IMAGE_FILE,
            "gamma": self.gamma,
            "T": self.T,
            "floor": self.floor,
            "seed": self.seed,
            "t": self.t,
            "i": round(self.t * self.T),
            "ddpm_rescaled": self.rescaled,
            "pixels": [list(pixel) for pixel in self.pixels],
            "x0_at_pixels": self.x0_at_pixels,
            "notes": list(self.picture.notes),
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], picture: Picture) -> View:
        """The view that `settings` came from, given its picture; raises ExportError or ConfigError."""
        if settings.get("format") != SETTINGS_FORMAT:
            raise ExportError(
                f"these settings have format {settings.get('format')!r}; this app reads {SETTINGS_FORMAT}."
            )
        keys = ("gamma", "T", "floor", "seed", "t")
        try:
            values = {key: settings[key] for key in keys}
            pixels = tuple(tuple(pixel) for pixel in settings["pixels"])
            return cls(picture, settings["picture"], pixels=pixels, rescaled=settings["ddpm_rescaled"], **values)
        except KeyError as missing:
            raise ExportError(f"these settings lack {missing}.") from None
        except TypeError as error:
            raise ExportError(f"a value of these settings is of the wrong kind ({error}).") from None
