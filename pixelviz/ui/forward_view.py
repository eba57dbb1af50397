"""What the Forward tab and /curves show: one picture noised by two schedules with the same noise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from pixelviz.config import MAX_T, ConfigError, check_process
from pixelviz.data import to_image, to_unit
from pixelviz.images import Picture, fit
from pixelviz.process import theory
from pixelviz.process.forward import walk_both
from pixelviz.process.schedules import LinearBeta, PixelAware, Schedule
from pixelviz.ui.checks import MAX_SEED, ServiceError, check_pixels, choice, number, quoted, whole
from pixelviz.ui.pictures import last_channel, to_bytes, to_rgb

METHODS = ("pixel_aware", "ddpm")
MAX_SIDE = 256  # rows and columns; larger pictures are shrunk to this
FILM_BYTES = 12 * 2**20  # of frames kept in memory, per method


class Suggestion(NamedTuple):
    """The smallest gamma, and the smallest floor, that would meet a tolerance; None where none does (see notes)."""

    gamma: float | None
    floor: float | None
    notes: tuple[str, ...]


def _moments(x: np.ndarray, scratch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance per channel, as `process.forward.empirical_moments`; scratch is (C, pixels)."""
    pixels = x.reshape(len(x), -1)
    mean = pixels.mean(1)
    np.subtract(pixels, mean[:, None], out=scratch)
    return mean, np.einsum("cp,cp->c", scratch, scratch) / pixels.shape[1]


@dataclass(frozen=True)
class Forward:
    """One picture's way into noise, by both METHODS with the same noise.

    x0: (C, H, W) float64 in [floor, 1]. mean, variance: per method (C, T+1), over the pixels of the exact
    trajectory. gap: per method, how far x_T is from N(0, 1). kept_steps: the steps whose frames are in
    memory; others are computed again when asked for. pixels: (row, column, channel) each.
    """

    x0: np.ndarray
    notes: tuple[str, ...]
    gamma: float
    T: int
    floor: float
    seed: int
    rescaled: bool
    mean: dict[str, np.ndarray]
    variance: dict[str, np.ndarray]
    gap: dict[str, theory.TerminalGap]
    kept_steps: tuple[int, ...]
    films: dict[str, np.ndarray] = field(repr=False)  # uint8 (len(kept_steps), C, H, W)
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
        return {"pixel_aware": PixelAware(self.T, self.gamma), "ddpm": LinearBeta(self.T, self.rescaled)}

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

    @property
    def gap_map(self) -> np.ndarray:
        """KL(q(x_T) || N(0, 1)) of every value under the pixel-aware schedule, nats, (C, H, W)."""
        return self.gap["pixel_aware"].kl.numpy()

    @property
    def t_delta(self) -> float | None:
        """Where dSNR/dt of the first two pixels cross (Proposition 1); None for fewer, or equal ones."""
        if len(self.pixels) < 2 or self.x0_at_pixels[0] == self.x0_at_pixels[1]:
            return None
        return theory.t_delta(*self.x0_at_pixels[:2], self.gamma).item()

    def with_pixels(self, pixels: Any) -> Forward:
        """The same walk with other pixels (JSON text or a list); raises ServiceError."""
        return replace(self, pixels=check_pixels(pixels, self.shape))

    def _ahead(self, i: int) -> theory.Ahead:
        i = whole("i", i, 1, self.T)
        ours, theirs = self.schedules.values()
        return theory.who_is_ahead(ours, theirs, torch.from_numpy(self.x0), i / self.T)

    def ahead(self, i: int) -> np.ndarray:
        """Where our mean is the smaller at step i (Proposition 2), bool (C, H, W); i from 1 to T."""
        return self._ahead(i).mean.numpy()

    def ahead_rate(self, i: int) -> np.ndarray:
        """Where our mean falls faster at step i (Eq. 13), bool (C, H, W); i from 1 to T."""
        return self._ahead(i).rate.numpy()

    def advice(self, tolerance: float = 0.01) -> Suggestion:
        """The least gamma at this floor, and the least floor at this gamma, for a mean terminal gap in nats."""
        tolerance = number("the tolerance", tolerance)
        pixels = to_image(torch.from_numpy(self.x0), self.floor)
        found: list[float | None] = []
        notes: list[str] = []
        for ask in (
            lambda: theory.advise_gamma(pixels, tolerance, self.T, self.floor).gamma,
            lambda: theory.advise_floor(pixels, tolerance, self.gamma).floor,
        ):
            try:
                found.append(ask())
            except ConfigError as error:
                found.append(None)
                notes.append(str(error))
        return Suggestion(*found, tuple(notes))

    def frames(self, method: str, steps: Iterable[int]) -> np.ndarray:
        """x_i at these steps, uint8 (N, H, W, 3): [floor, 1] is shown as black to white, the rest clipped."""
        choice("the method", method, METHODS)
        steps = [whole("i", i, 0, self.T) for i in steps]
        film = dict(zip(self.kept_steps, self.films[method], strict=True))
        wanted = {i for i in steps if i not in film}
        walk = walk_both([self.schedules[method]], self.x0, self.seed)
        for i in range(max(wanted, default=-1) + 1):
            (x,) = next(walk)
            if i in wanted:
                film[i] = to_bytes(x, self.floor)
        frames = np.stack([film[i] for i in steps]) if steps else np.zeros((0, *self.shape), np.uint8)
        return to_rgb(last_channel(frames))

    def frame(self, method: str, i: int) -> np.ndarray:
        """One of `frames`, (H, W, 3)."""
        return self.frames(method, [i])[0]


class ForwardSettings(NamedTuple):
    """What fixes both trajectories of a picture, checked."""

    gamma: float
    T: int
    floor: float
    seed: int
    rescaled: bool


def check_settings(gamma: Any, T: Any, floor: Any, seed: Any, rescaled: Any) -> ForwardSettings:
    """Settings that will run; raises ServiceError or ConfigError with what would."""
    if not isinstance(rescaled, bool):
        raise ServiceError(f"whether DDPM's range is rescaled must be true or false; it is {quoted(rescaled)}.")
    settings = ForwardSettings(
        number("gamma", gamma),
        whole("T", T, 1, MAX_T),
        number("floor", floor),
        whole("seed", seed, 0, MAX_SEED),
        rescaled,
    )
    check_process(settings.gamma, settings.T, settings.floor)
    return settings


def build_forward(picture: Picture, settings: ForwardSettings) -> Forward:
    """Walk both trajectories of a picture, shrunk to at most MAX_SIDE."""
    gamma, T, floor, seed, rescaled = settings
    fitted = fit(picture, MAX_SIDE)
    notes = fitted.notes
    if fitted is not picture:
        notes = (*notes, "Rows and columns of pixels are counted in the shrunk picture.")
    x0 = to_unit(fitted.tensor(), floor, torch.float64)
    schedules = dict(zip(METHODS, (PixelAware(T, gamma), LinearBeta(T, rescaled)), strict=True))
    channels = x0.shape[0]
    count = min(T + 1, max(2, FILM_BYTES // x0.numel()))
    kept = tuple(int(i) for i in np.linspace(0, T, count).round())
    moments = {method: np.empty((2, channels, T + 1)) for method in METHODS}
    films = {method: np.empty((len(kept), *x0.shape), np.uint8) for method in METHODS}
    scratch = np.empty((channels, x0[0].numel()))
    place = {i: k for k, i in enumerate(kept)}
    for i, states in enumerate(walk_both(list(schedules.values()), x0.numpy(), seed)):
        for method, x in zip(METHODS, states, strict=True):
            moments[method][:, :, i] = _moments(x, scratch)
            if i in place:
                films[method][place[i]] = to_bytes(x, floor)
    return Forward(
        x0=x0.numpy(),
        notes=notes,
        **settings._asdict(),
        mean={method: moments[method][0] for method in METHODS},
        variance={method: moments[method][1] for method in METHODS},
        gap={method: theory.terminal_gap(schedule, x0) for method, schedule in schedules.items()},
        kept_steps=kept,
        films=films,
    )


def finite_or_none(values: np.ndarray) -> list:
    """Nested lists for JSON, with None for infinity and NaN."""
    return np.where(np.isfinite(values), values.astype(object), None).tolist()


def curves_json(forward: Forward) -> dict[str, Any]:
    """The answer of /curves: t, x0, and per method snr, mean and variance."""
    answer: dict[str, Any] = {"t": forward.t.tolist(), "x0": forward.x0_at_pixels.tolist()}
    for method in METHODS:
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
        },
        "notes": list(forward.notes),
    }
