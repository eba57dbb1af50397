"""The instrument's picture, and the numbers of /curves: one picture noised by two schedules with the same noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from pixelviz.checks import ServiceError, check_pixels, choice, number, whole
from pixelviz.config import MAX_SEED, MAX_T, check_process
from pixelviz.data.images import Picture, fit
from pixelviz.data.sets import to_unit
from pixelviz.declare import quoted
from pixelviz.process.forward import noise, walk_both
from pixelviz.process.schedules import SCHEDULES, LinearBeta, Schedule, by_pixel
from pixelviz.service import payloads

THEIRS = "ddpm"  # the other method's name, beside that of our schedule
MAX_SIDE = 256  # rows and columns; larger pictures are shrunk to this
MOST_STATES = 300_000_000  # values times steps that are walked for one answer: about half a minute on two cores


def _moments(x: np.ndarray, scratch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance per channel, as `process.forward.empirical_moments`; scratch is (C, pixels)."""
    pixels = x.reshape(len(x), -1)
    mean = pixels.mean(1)
    np.subtract(pixels, mean[:, None], out=scratch)
    return mean, np.einsum("cp,cp->c", scratch, scratch) / pixels.shape[1]


@dataclass(frozen=True)
class Forward:
    """One picture's way into noise, by our schedule and DDPM's with the same noise.

    x0: (C, H, W) float64 in [floor, 1]. mean, variance: per method (C, T+1), over the pixels of the exact
    trajectory. pixels: (row, column, channel) each.
    """

    x0: np.ndarray
    notes: tuple[str, ...]
    gamma: float
    T: int
    floor: float
    seed: int
    rescaled: bool
    schedule: str
    mean: dict[str, np.ndarray]
    variance: dict[str, np.ndarray]
    pixels: tuple[tuple[int, int, int], ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.x0.shape

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.x0.shape[1:]

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of each method."""
        return schedules_of(self)

    @property
    def t(self) -> np.ndarray:
        """i/T for i = 0..T, (T+1,)."""
        return np.arange(self.T + 1) / self.T

    @property
    def x0_at_pixels(self) -> np.ndarray:
        """x0 of each chosen pixel, (P,)."""
        return np.array([self.x0[channel, row, column] for row, column, channel in self.pixels])

    @cached_property
    def snr(self) -> dict[str, np.ndarray]:
        """Signal-to-noise ratio of each chosen pixel (Eq. 16), per method (P, T+1); infinite at i = 0."""
        x0, i = torch.from_numpy(self.x0_at_pixels)[:, None], torch.arange(self.T + 1)
        return {method: schedule.snr(x0, i).numpy() for method, schedule in self.schedules.items()}

    def with_pixels(self, pixels: Any) -> Forward:
        """The same walk with other pixels (JSON text or a list); raises ServiceError."""
        return replace(self, pixels=check_pixels(pixels, self.shape))


class ForwardSettings(NamedTuple):
    """What fixes both trajectories of a picture, checked."""

    gamma: float
    T: int
    floor: float
    seed: int
    rescaled: bool
    schedule: str = SCHEDULES.first


def schedules_of(settings: ForwardSettings | Forward) -> dict[str, Schedule]:
    """Ours, under its name in Python's letters, and DDPM's."""
    T, name = settings.T, settings.schedule
    return {name.replace("-", "_"): SCHEDULES[name].build(T, settings.gamma), THEIRS: LinearBeta(T, settings.rescaled)}


def check_settings(
    gamma: Any, T: Any, floor: Any, seed: Any, rescaled: Any, schedule: Any = SCHEDULES.first
) -> ForwardSettings:
    """Settings that will run; raises ServiceError or ConfigError with what would."""
    if not isinstance(rescaled, bool):
        raise ServiceError(f"whether DDPM's range is rescaled must be true or false; it is {quoted(rescaled)}.")
    settings = ForwardSettings(
        number("gamma", gamma),
        whole("T", T, 1, MAX_T),
        number("floor", floor),
        whole("seed", seed, 0, MAX_SEED),
        rescaled,
        choice("schedule", schedule, by_pixel()),
    )
    check_process(settings.gamma, settings.T, settings.floor)
    return settings


def build_forward(picture: Picture, settings: ForwardSettings) -> Forward:
    """Walk both trajectories of a picture, shrunk to at most MAX_SIDE."""
    T, floor, seed = settings.T, settings.floor, settings.seed
    fitted = fit(picture, MAX_SIDE)
    notes = fitted.notes
    if fitted is not picture:
        notes = (*notes, "Rows and columns of pixels are counted in the shrunk picture.")
    x0 = to_unit(fitted.tensor(), floor, torch.float64)
    if T * x0.numel() > MOST_STATES:
        raise ServiceError(
            f"a picture with {x0.numel():,} values takes too long in {T:,} steps; choose T up to "
            f"{MOST_STATES // x0.numel():,}, or a smaller picture."
        )
    schedules = schedules_of(settings)
    channels = x0.shape[0]
    moments = {method: np.empty((2, channels, T + 1)) for method in schedules}
    scratch = np.empty((channels, x0[0].numel()))
    for i, states in enumerate(walk_both(list(schedules.values()), x0.numpy(), seed)):
        for method, x in zip(schedules, states, strict=True):
            moments[method][:, :, i] = _moments(x, scratch)
    return Forward(
        x0=x0.numpy(),
        notes=notes,
        **settings._asdict(),
        mean={method: moments[method][0] for method in schedules},
        variance={method: moments[method][1] for method in schedules},
    )


def instrument_value(picture: Picture, seed: Any, **about: Any) -> str:
    """A picture and its noise for the instrument (`payloads.instrument`), shrunk to at most MAX_SIDE.

    The noise is the first of the walk with the same seed: x_t = sqrt(abar) x0 + sqrt(1 - abar) eps in the browser.
    """
    seed = whole("seed", seed, 0, MAX_SEED)
    fitted = fit(picture, MAX_SIDE)
    pixels = fitted.tensor().numpy()
    eps = next(noise(seed, pixels.shape, 1)).numpy()
    return payloads.instrument(pixels, eps, seed=seed, notes=fitted.notes, **about)


def finite_or_none(values: np.ndarray) -> list:
    """Nested lists for JSON, with None for infinity and NaN."""
    return np.where(np.isfinite(values), values.astype(object), None).tolist()


def curves_json(forward: Forward) -> dict[str, Any]:
    """The answer of /curves: t, x0, and per method snr, mean and variance."""
    answer: dict[str, Any] = {"t": forward.t.tolist(), "x0": forward.x0_at_pixels.tolist()}
    for method in forward.schedules:
        answer[method] = {
            "snr": finite_or_none(forward.snr[method]),
            "mean": finite_or_none(forward.mean[method]),
            "variance": finite_or_none(forward.variance[method]),
        }
    channels, rows, columns = forward.shape
    return answer | {
        "pixels": [list(pixel) for pixel in forward.pixels],
        "image": {"rows": rows, "columns": columns, "channels": channels},
        "settings": {
            "gamma": forward.gamma,
            "T": forward.T,
            "floor": forward.floor,
            "seed": forward.seed,
            "ddpm_rescaled": forward.rescaled,
            "schedule": forward.schedule,
        },
        "notes": list(forward.notes),
    }
