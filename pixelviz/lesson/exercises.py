"""The exercises: a view of the Forward tab to start from, and the answers, computed. Texts are in lessons/."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pixelviz.data.sets import to_image
from pixelviz.lesson.steps import BOOT, CLOSED_FLOOR, FAST_GAMMA, THREE, Numbers, Scene, numbers_of
from pixelviz.process import theory
from pixelviz.view import View

TOLERANCE = 0.01  # nats of the terminal gap
LOOK_AT = 0.5


@dataclass(frozen=True)
class Exercise:
    """view: settings of the instrument besides the scene's, None where the exercise is done in another tab.

    quoted: further numbers of the task.
    """

    key: str
    scene: Scene
    answer: Callable[[View], Numbers]
    view: Mapping[str, Any] | None = field(default_factory=dict)
    quoted: Numbers = field(default_factory=dict)

    def given(self) -> Numbers:
        """The numbers that the task quotes."""
        return numbers_of(self.scene.view) | self.quoted


def _half_life(view: View) -> Numbers:
    # E x_t = x0 exp(-gamma x0 t/2) (Eq. 25) is x0/2 at t = 2 log 2 / (gamma x0).
    times = (2 * math.log(2) / (view.gamma * view.x0_at_pixels)).tolist()
    return {f"t{k}": t for k, t in enumerate(times, 1)}


def _crossing(view: View) -> Numbers:
    dark, _, bright = view.x0_at_pixels
    slow, fast = (theory.t_delta(dark, bright, gamma).item() for gamma in (view.gamma, FAST_GAMMA))
    return {"slow": slow, "fast": fast, "ratio": slow / fast}


def _peak(view: View) -> Numbers:
    return {"peak": theory.snr_peak(view.gamma, LOOK_AT), "u": theory.U_SNR_PEAK}


def _lead(view: View) -> Numbers:
    log_bar = -view.theirs.log_alpha_bar(1.0, view.T).item()
    return {"slow": log_bar / view.gamma, "fast": log_bar / FAST_GAMMA}


def _floor(view: View) -> Numbers:
    advice = theory.advise_floor(to_image(view.x0, view.floor), TOLERANCE, view.gamma)
    raised = view.but(floor=advice.floor)
    gap = theory.terminal_gap(raised.ours, raised.x0)
    return {"least": advice.floor, "variance": gap.least_variance, "safe": CLOSED_FLOOR}


def _amplify(view: View) -> Numbers:
    slow, fast = (math.exp(gamma / 2) for gamma in (view.gamma, FAST_GAMMA))  # e^(gamma x0/2) for a white pixel
    return {"slow": slow, "fast": fast, "shrink": 1 / slow}


FAST: Numbers = {"fast_gamma": FAST_GAMMA}

EXERCISES: tuple[Exercise, ...] = (
    Exercise("half_life", THREE, _half_life, {"t": 0.0}),
    Exercise("crossing", THREE, _crossing, {"pair": [0, 2], "t": 0.05}, FAST),
    Exercise("peak", THREE, _peak, {"t": LOOK_AT}, {"t": LOOK_AT, "half": LOOK_AT / 2}),
    Exercise("lead", THREE, _lead, {"t": 1.0}, FAST),
    Exercise("floor", BOOT, _floor, {"t": 1.0}, {"tolerance": TOLERANCE}),
    Exercise("amplify", BOOT, _amplify, None, FAST),
)
