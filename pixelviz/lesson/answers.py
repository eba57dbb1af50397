"""What is true of numbers, as the option of a question: pure functions of what a step computed."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from pixelviz.process import theory
from pixelviz.process.forward import marginal
from pixelviz.process.schedules import Schedule


def what_remains(schedule: Schedule, x0: float, i: int) -> str:
    """Which of three Gaussians x_i given x0 is nearest to (2-Wasserstein): x0 itself, black for certain, N(0, 1)."""
    mean, variance = (value.item() for value in marginal(schedule, x0, i))
    candidates = {"same": (x0, 0.0), "black": (0.0, 0.0), "noise": (0.0, 1.0)}
    return min(candidates, key=lambda key: math.hypot(mean - candidates[key][0], variance**0.5 - candidates[key][1]))


def strongest(values: Tensor) -> str:
    """Which of a dark, a middle and a bright pixel has the greatest value."""
    return ("dark", "middle", "bright")[int(values.argmax())]


def who_leads(ours: Schedule, theirs: Schedule, x0: Tensor, t: float) -> str:
    """Where our mean has decayed further at t: all pixels, none, the bright or the dark ones."""
    ahead = theory.who_is_ahead(ours, theirs, x0, t).mean
    if bool(ahead.all()) or not bool(ahead.any()):
        return "all" if bool(ahead.all()) else "none"
    return "bright" if x0[ahead].mean() > x0[~ahead].mean() else "dark"


def where_noise_ends(dark: float, bright: float) -> str:
    """Which of a dark and a bright pixel has (nearly) N(0, 1)'s variance: all, none, the bright or the dark one."""
    noisy = [variance >= theory.BARELY_NOISY for variance in (dark, bright)]
    return "all" if all(noisy) else "bright" if noisy[1] else "dark" if noisy[0] else "none"


def by_thirds(ssim: float) -> str:
    """SSIM by thirds."""
    return "lost" if ssim < 1 / 3 else "half" if ssim < 2 / 3 else "kept"


def detail(images: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels, in units of white; images uint8 (n, H, W, C)."""
    values = images.astype(np.float64) / 255
    return float(np.abs(np.diff(values, axis=1)).mean() + np.abs(np.diff(values, axis=2)).mean()) / 2


def flat(images: np.ndarray) -> float:
    """Median difference of neighbours in a row, in units of white: of flat parts, where those are the larger half."""
    return float(np.median(np.abs(np.diff(images.astype(np.float64) / 255, axis=2))))


def same_pictures(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether each image of a is nearest in b (in mean square) to the one of its own number."""
    flat = [images.reshape(len(images), -1).astype(np.float64) for images in (a, b)]
    distance = ((flat[0][:, None] - flat[1][None]) ** 2).mean(-1)
    return bool((distance.argmin(1) == np.arange(len(a))).all())


def what_passes_change(one: np.ndarray, many: np.ndarray) -> str:
    """Samples of one seed by one pass and by many, uint8 (n, H, W, C): other pictures, or the same with more detail?"""
    if not same_pictures(one, many):
        return "other"
    ratio = detail(many) / detail(one)
    return "detail" if ratio > 1.02 else "blur" if ratio < 0.98 else "same"


def error_growth(error: float, head_error: float, T: int) -> str:
    """What T head errors became: no more than a random walk of them, no more than their sum, or more than that."""
    return "stays" if error <= math.sqrt(T) * head_error else "adds" if error <= T * head_error else "explodes"
