"""The lesson's steps: what each one shows, and what is true there. Every answer is computed; texts are in lessons/.

A step asks a question with a few options (predict), sets the instrument (see), and explains with the numbers of its
`Outcome`. `options` and the answers are keys of the language files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixelviz.checks import ServiceError
from pixelviz.config import PAPER_FLOOR
from pixelviz.data import pictures
from pixelviz.data.images import EXAMPLES
from pixelviz.process import theory
from pixelviz.process.forward import closed_form, marginal, noise
from pixelviz.process.open_loop import FORMS, known_noise_errors, open_loop_errors
from pixelviz.process.reverse import known_share
from pixelviz.process.schedules import PixelAware, Schedule
from pixelviz.service.service import Service
from pixelviz.view import DEFAULTS, View, shown

CLOSED_FLOOR = 0.2  # of the bundled model that generates: it closes the terminal gap
APART = 0.25  # of the picture's side: markers closer than this would hide each other
SAMPLES, MANY = 8, 10  # images, and passes, of the step on one pass and many
HEAD_ERROR = 0.01
HARDLY_MOVED = 0.25  # of the variance that a pixel should reach
CHART_POINTS = 50

Numbers = dict[str, float | int | str]


def at_brightness(x0: Tensor, wanted: Sequence[float]) -> list[list[int]]:
    """[row, column, channel] of the pixel of each wanted brightness; of near ones a central one, apart from others."""
    _, rows, columns = x0.shape
    row, column = torch.meshgrid(torch.arange(rows) / (rows - 1), torch.arange(columns) / (columns - 1), indexing="ij")
    cost = 0.02 * torch.hypot(row - 0.5, column - 0.5)
    found = []
    for brightness in wanted:
        at = divmod(int((cost + (x0[0] - brightness).abs()).argmin()), columns)
        found.append([*at, 0])
        cost = cost + 0.1 * (torch.hypot(row - row[at], column - column[at]) < APART)
    return found


@dataclass(frozen=True)
class Scene:
    """An example in the instrument; its pixels are those nearest in brightness to `wanted`, the darkest first.

    DDPM's range is rescaled so that it reaches noise in T steps: the comparison that is fair to it.
    """

    example: str
    wanted: tuple[float, ...]

    @cached_property
    def view(self) -> View:
        """The picture with its settings, read when it is first needed."""
        view = View.of(dict(EXAMPLES)[self.example], name=self.example, ddpm="rescaled")
        return view.but(pixels=at_brightness(view.x0, self.wanted))


def numbers_of(view: View) -> Numbers:
    """What a question may quote of a view."""
    values = {f"x{k}": value for k, value in enumerate(view.x0_at_pixels.tolist(), 1)}
    return {"gamma": view.gamma, "T": view.T, "floor": view.floor} | values


@dataclass(frozen=True)
class Staging:
    """How the instrument is shown: its views, the time, up to where the time then runs, and where to look."""

    views: tuple[str, ...]
    t: float = 0.0
    until: float | None = None
    look: str | None = None


@dataclass(frozen=True)
class Shown:
    """A picture beside the explanation: uint8 (H, W, C), and the key of its caption."""

    key: str
    image: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What is true in a step: the right option, the numbers of its explanation, pictures and curves.

    curves: key to (x, y), drawn over step i on a log axis.
    """

    answer: str
    numbers: Numbers
    pictures: tuple[Shown, ...] = ()
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)


# --- The answers


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


def noise_share(variance: float) -> str:
    """How much of N(0, 1)'s variance a pixel has reached."""
    return "full" if variance >= theory.BARELY_NOISY else "half" if variance >= HARDLY_MOVED else "little"


def by_thirds(ssim: float) -> str:
    """SSIM by thirds."""
    return "lost" if ssim < 1 / 3 else "half" if ssim < 2 / 3 else "kept"


def detail(images: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels, in units of white; images uint8 (n, H, W, C)."""
    values = images.astype(np.float64) / 255
    return float(np.abs(np.diff(values, axis=1)).mean() + np.abs(np.diff(values, axis=2)).mean()) / 2


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


# --- The steps


def _noise(view: View, service: Service) -> Outcome:
    x0, schedule = view.x0_at_pixels[0], view.ours
    end = marginal(schedule, x0, view.T)
    return Outcome(
        what_remains(schedule, x0.item(), view.T),
        {
            "alpha": schedule.alpha(x0, 1).item(),
            "alpha_bar": schedule.alpha_bar(x0, view.T).item(),
            "mean": end.mean.item(),
            "spread": end.variance.sqrt().item(),
            "half": 2 * math.log(2) / (view.gamma * x0.item()),  # where sqrt(abar) is 1/2
        },
    )


POUR_AT, LATER = 0.05, 0.4
PEAK_AT, LATE = 0.25, 0.8


def _pouring(view: View, service: Service) -> Outcome:
    dark, middle, bright = view.x0_at_pixels
    rates = view.ours.snr_derivative(view.x0_at_pixels, POUR_AT * view.T).abs()
    return Outcome(
        strongest(rates),
        {f"rate{k}": rate for k, rate in enumerate(rates.tolist(), 1)}
        | {
            "crossing_dark": theory.t_delta(dark, bright, view.gamma).item(),
            "crossing_middle": theory.t_delta(middle, bright, view.gamma).item(),
            "all_pairs": theory.all_pairs_until(view.gamma),
            "u": theory.U_STAR,
        },
    )


def _peak(view: View, service: Service) -> Outcome:
    snr = view.ours.snr(view.x0_at_pixels, PEAK_AT * view.T)
    return Outcome(
        strongest(snr),
        {f"snr{k}": value for k, value in enumerate(snr.tolist(), 1)}
        | {
            "peak": theory.snr_peak(view.gamma, PEAK_AT),
            "peak_late": theory.snr_peak(view.gamma, 1.0),
            "u": theory.U_SNR_PEAK,
        },
    )


LEAD_AT = 0.5
SLOW_GAMMA, FAST_GAMMA = DEFAULTS["gamma"], 50.0


def _share_ahead(schedule: Schedule, view: View, t: float) -> float:
    return theory.who_is_ahead(schedule, view.theirs, view.x0, t).mean_share


def _ddpm(view: View, service: Service) -> Outcome:
    i = LEAD_AT * view.T
    dark = view.x0_at_pixels[:1]
    log_bar = view.theirs.log_alpha_bar(1.0, torch.tensor([i, view.T])).abs()
    line, line_end = (log_bar / (view.gamma * torch.tensor([LEAD_AT, 1.0]))).tolist()
    return Outcome(
        who_leads(view.ours, view.theirs, view.x0, LEAD_AT),
        {
            "line": line,
            "line_end": line_end,
            "share": 100 * _share_ahead(view.ours, view, LEAD_AT),
            "share_end": 100 * _share_ahead(view.ours, view, 1.0),
            "share_fast": 100 * _share_ahead(PixelAware(view.T, FAST_GAMMA), view, 1.0),
            "snr_dark": view.ours.snr(dark, i).item(),
            "snr_dark_ddpm": view.theirs.snr(dark, i).item(),
        },
    )


def _gap(view: View, service: Service) -> Outcome:
    both = ("", view), ("_raised", view.but(floor=CLOSED_FLOOR))
    found = {name: theory.terminal_gap(one.ours, one.x0) for name, one in both}
    numbers: Numbers = {}
    for name, gap in found.items():
        numbers |= {
            f"variance{name}": gap.least_variance,
            f"kl{name}": gap.mean,
            f"share{name}": 100 * gap.share_barely_noisy,
        }
    black = view.ours.noise_variance(view.x0_at_pixels[0], view.T).item()
    return Outcome(noise_share(black), numbers)


# The checkpoints that the lesson is about: what a visitor trains meanwhile changes no answer of the class.
PINNED = ("fashion-mnist-paper-floor", "fashion-mnist")


def _by_floor(service: Service, *parts: str) -> list[str]:
    """Checkpoints with these parts that take gray images, the lowest floor first; raises ServiceError for none.

    Those of PINNED; where they are not installed, the bundled ones; where there are none either, all.
    """
    fit = {name: found for name in service.names(*parts) if (found := service.find(name)).config.channels == 1}
    bundled = [name for name in fit if fit[name].kind == "bundled"]
    names = [name for name in bundled if name in PINNED] or bundled or list(fit)
    if not names:
        raise ServiceError("this step runs a network, and no checkpoint here has one that fits. Train one, or go on.")
    return sorted(names, key=lambda name: fit[name].config.floor)


def _scale(view: View, service: Service) -> Outcome:
    names = _by_floor(service, "scale_vae")
    low, high = (service.scale(name, view, service.find(name).config.T) for name in (names[0], names[-1]))
    return Outcome(
        by_thirds(low.ssim_x_delta),
        {
            "ssim": low.ssim_x_delta,
            "ssim_high": high.ssim_x_delta,
            "low": low.config.floor,
            "high": high.config.floor,
            "name": names[0],
            "name_high": names[-1],
        },
        tuple(
            Shown(key + suffix, result.picture(key))
            for result, suffix in ((low, ""), (high, "_high"))
            for key in ("x_i", "x_delta", "x_delta_hat")
        ),
    )


def _passes(view: View, service: Service) -> Outcome:
    names = [n for n in _by_floor(service, "parallel_unet", "scale_vae") if service.find(n).config.head_target == "v"]
    if not names:
        raise ServiceError("this step needs a checkpoint with v heads. Train one, or go on.")
    name = names[-1]
    passes = min(MANY, service.find(name).config.T)
    one, many = (list(service.generate(name, SAMPLES, k))[-1] for k in (1, passes))
    return Outcome(
        what_passes_change(one.images, many.images),
        {
            "passes": passes,
            "others": passes - 1,
            "seconds": one.seconds,
            "seconds_many": many.seconds,
            "slower": many.seconds / one.seconds,
            "detail": 100 * (detail(many.images) / detail(one.images) - 1),
            "name": name,
        },
        (Shown("one", pictures.tile(one.images, SAMPLES)), Shown("many", pictures.tile(many.images, SAMPLES))),
    )


def with_errors(view: View, errors: Tensor, i: int) -> np.ndarray:
    """x_i with a normal error of the size that its brightness has then; errors (T+1, L) of `view.levels`."""
    eps, error = noise(view.seed, view.x0.shape, 2)
    size = errors[i][torch.from_numpy(view.image.levels[1].astype(np.int64))].reshape(view.x0.shape)
    return shown(closed_form(view.ours, view.x0, i, eps) + size * error, view.floor)


def _diverge(view: View, service: Service) -> Outcome:
    x0 = view.x0_at_pixels
    printed, letter, stable = (open_loop_errors(view.ours, x0, HEAD_ERROR, form) for form in FORMS)
    steps = pictures.frame_steps(view.T, CHART_POINTS)
    steps = [i for i in steps if i < view.T]  # at i = T nothing has gone wrong yet
    white = len(x0) - 1
    whole = {form: open_loop_errors(view.ours, view.levels, HEAD_ERROR, form, copies=20) for form in ("printed", "v")}
    frames = (("half", "printed", view.T // 2), ("printed", "printed", 0), ("stable", "v", 0))
    return Outcome(
        error_growth(printed[0, white].item(), HEAD_ERROR, view.T),
        {
            "error_end": printed[0, white].item(),
            "error_dark": printed[0, 0].item(),
            "error_stable": stable[0, white].item(),
            "error_letter": letter[0, white].item(),
            "letter_known": known_noise_errors(view.ours, x0, "letter", fresh_noise=False)[white].item(),
            "known": known_share(view.ours, x0[white], view.T, torch.arange(1, view.T + 1), "xi").sum().item(),
            "factor": theory.amplification(view.ours, x0[white], view.T).item(),
            "half": view.T // 2,
        },
        tuple(Shown(key, with_errors(view, whole[form], i)) for key, form, i in frames),
        curves={
            "printed": (steps, printed[steps, white].tolist()),
            "printed_dark": (steps, printed[steps, 0].tolist()),
            "stable": (steps, stable[steps, white].tolist()),
        },
    )


@dataclass(frozen=True)
class Step:
    """A row of the lesson.

    minutes: for the teacher. ask and see: the instrument before and after the prediction; without `see` the stage
    shows the outcome's pictures or curves instead. tries: states to try afterwards, by the key of their button.
    network: the step runs a model, so it belongs on the queue. quoted: further numbers of the question.
    """

    key: str
    minutes: int
    options: tuple[str, ...]
    scene: Scene
    ask: Staging
    see: Staging | None
    outcome: Callable[[View, Service], Outcome]
    tries: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    network: bool = False
    quoted: Numbers = field(default_factory=dict)

    def given(self) -> Numbers:
        """The numbers that the question quotes."""
        return numbers_of(self.scene.view) | self.quoted


ONE, THREE = Scene("Camera", (0.7,)), Scene("Camera", (0.05, 0.3, 0.95))
BLACK_AND_WHITE = Scene("Camera", (0.1, 1.0))
BOOT = Scene("Ankle boot", (PAPER_FLOOR, 1.0))
LEVELS = ("dark", "middle", "bright")

STEPS: tuple[Step, ...] = (
    Step(
        "noise", 4, ("same", "black", "noise"), ONE,
        Staging(("image",)), Staging(("image", "ours", "histogram"), until=1.0, look="ours"), _noise,
    ),
    Step(
        "pouring", 6, LEVELS, THREE,
        Staging(("image",)), Staging(("image", "water"), until=2.5 * POUR_AT, look="water"), _pouring,
        {"start": {"t": POUR_AT}, "later": {"t": LATER}}, quoted={"t": POUR_AT, "later": LATER},
    ),
    Step(
        "peak", 5, LEVELS, THREE,
        Staging(("image", "water"), t=POUR_AT), Staging(("image", "snr"), POUR_AT, PEAK_AT, "snr"), _peak,
        {"early": {"t": POUR_AT}, "late": {"t": LATE}}, quoted={"t": PEAK_AT, "early": POUR_AT, "late": LATE},
    ),
    Step(
        "ddpm", 6, ("all", "bright", "dark", "none"), THREE,
        Staging(("image",)), Staging(("image", "ours", "ddpm", "ahead"), until=LEAD_AT, look="ahead"), _ddpm,
        {"end": {"t": 1.0}, "fast": {"gamma": FAST_GAMMA, "t": 1.0}, "slow": {"gamma": SLOW_GAMMA, "t": LEAD_AT}},
        quoted={"t": LEAD_AT, "fast": FAST_GAMMA},
    ),
    Step(
        "gap", 6, ("full", "half", "little"), BOOT,
        Staging(("image",)), Staging(("image", "ours", "gap"), until=1.0, look="gap"), _gap,
        {"raise": {"floor": CLOSED_FLOOR, "t": 1.0}, "printed": {"floor": PAPER_FLOOR, "t": 1.0}},
        quoted={"raised": CLOSED_FLOOR, "noisy": theory.BARELY_NOISY, "moved": HARDLY_MOVED},
    ),
    Step(
        "scale", 6, ("lost", "half", "kept"), BOOT,
        Staging(("image", "ours"), t=1.0), None, _scale, network=True,
    ),
    Step(
        "passes", 6, ("other", "detail", "blur", "same"), BOOT,
        Staging(("image", "ours"), t=1.0), None, _passes, network=True,
        quoted={"n": SAMPLES, "passes": MANY, "others": MANY - 1},
    ),
    Step(
        "diverge", 6, ("stays", "adds", "explodes"), BLACK_AND_WHITE,
        Staging(("image", "ours"), t=1.0), None, _diverge,
        quoted={
            "error": HEAD_ERROR,
            "walk": HEAD_ERROR * math.sqrt(DEFAULTS["T"]),
            "sum": HEAD_ERROR * DEFAULTS["T"],
        },
    ),
)  # fmt: skip
