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
from pixelviz.lesson.answers import (
    by_thirds,
    detail,
    error_growth,
    flat,
    strongest,
    what_passes_change,
    what_remains,
    where_noise_ends,
    who_leads,
)
from pixelviz.measure.ladder import read_ladder
from pixelviz.process import theory
from pixelviz.process.forward import closed_form, marginal, noise
from pixelviz.process.open_loop import FORMS, known_noise_errors, open_loop_errors
from pixelviz.process.reverse import known_share
from pixelviz.process.schedules import SCHEDULES, PixelAware, Schedule
from pixelviz.service.catalog import Found
from pixelviz.service.service import Service
from pixelviz.view import DEFAULTS, View, shown

CLOSED_FLOOR = 0.2  # of the bundled model that generates: it closes the terminal gap
APART = 0.25  # of the picture's side: markers closer than this would hide each other
SAMPLES, MANY = 8, 10  # images, and passes, of the step on one pass and many
HEAD_ERROR = 0.01
CHART_POINTS = 50

Numbers = dict[str, float | int | str]


def at_brightness(x0: Tensor, wanted: Sequence[float], top: float = 1.0) -> list[list[int]]:
    """[row, column, channel] of the pixel of each wanted brightness; of near ones a central one, apart from others.

    top: the share of the picture's height, from above, in which they are looked for.
    """
    _, rows, columns = x0[:, : round(top * x0.shape[1])].shape
    row, column = torch.meshgrid(torch.arange(rows) / (rows - 1), torch.arange(columns) / (columns - 1), indexing="ij")
    cost = 0.02 * torch.hypot(row - 0.5, column - 0.5)
    found = []
    for brightness in wanted:
        at = divmod(int((cost + (x0[0, :rows] - brightness).abs()).argmin()), columns)
        found.append([*at, 0])
        cost = cost + 0.1 * (torch.hypot(row - row[at], column - column[at]) < APART)
    return found


@dataclass(frozen=True)
class Scene:
    """An example in the instrument; its pixels are those nearest in brightness to `wanted`, the darkest first.

    top: see `at_brightness`. DDPM's range is rescaled so that it reaches noise in T steps: the comparison that is fair
    to it. The schedule is the paper's, whatever another tab shows.
    """

    example: str
    wanted: tuple[float, ...]
    floor: float = PAPER_FLOOR
    top: float = 1.0

    @cached_property
    def view(self) -> View:
        """The picture with its settings, read when it is first needed."""
        path = dict(EXAMPLES)[self.example]
        view = View.of(path, name=self.example, ddpm="rescaled", floor=self.floor, schedule=SCHEDULES.first)
        return view.but(pixels=at_brightness(view.x0, self.wanted, self.top))


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


# --- The steps


def _pixel(view: View, service: Service) -> Outcome:
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


def bits_rate(schedule: Schedule, x0: Tensor, i: float | Tensor) -> Tensor:
    """How fast each pixel loses bits of signal at step i > 0, in bits per unit of t: -d/dt of 1/2 log2(1 + SNR)."""
    return schedule.snr_derivative(x0, i).abs() / (2 * math.log(2) * (1 + schedule.snr(x0, i)))


def _pouring(view: View, service: Service) -> Outcome:
    x0 = view.x0_at_pixels
    rates = view.ours.snr_derivative(x0, POUR_AT * view.T).abs()
    steps = torch.arange(1, view.T + 1).double()
    fastest = torch.stack([bits_rate(view.ours, one, steps) for one in x0]).argmax(0)
    since = {int(k): steps[fastest == k].min().item() / view.T for k in fastest.unique()}
    return Outcome(
        strongest(bits_rate(view.ours, x0, POUR_AT * view.T)),
        {f"rate{k}": rate for k, rate in enumerate(rates.tolist(), 1)}
        | {f"speed{k}": speed for k, speed in enumerate((view.gamma * x0).tolist(), 1)}
        | {
            "middle_from": since[1],
            "dark_from": since[0],
            "all_pairs": theory.all_pairs_until(view.gamma),
            "u": theory.U_STAR,
        },
    )


LEAD_AT = 0.5
SLOW_GAMMA, FAST_GAMMA = DEFAULTS["gamma"], 50.0


def _share_ahead(schedule: Schedule, view: View, t: float) -> float:
    return theory.who_is_ahead(schedule, view.theirs, view.x0, t).mean_share


def _ahead(view: View, service: Service) -> Outcome:
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
            "dark": 100 * view.ours.alpha_bar(dark, i).sqrt().item(),
            "dark_ddpm": 100 * view.theirs.alpha_bar(dark, i).sqrt().item(),
        },
    )


def _gap(view: View, service: Service) -> Outcome:
    raised = view.but(floor=CLOSED_FLOOR)
    before, after = (theory.terminal_gap(one.ours, one.x0) for one in (view, raised))
    black, white = view.ours.noise_variance(view.x0_at_pixels, view.T)[[0, -1]].tolist()
    return Outcome(
        where_noise_ends(black, white),
        {
            "spread": math.sqrt(black),
            "spread_white": math.sqrt(white),
            "spread_raised": math.sqrt(after.least_variance),
            "share": 100 * before.share_barely_noisy,
            "kl": before.mean,
            "kl_raised": after.mean,
        },
    )


# The checkpoints that the lesson is about: what a visitor trains meanwhile changes no answer of the class.
PINNED = ("fashion-mnist-paper-floor", "fashion-mnist", "faces")


def _pinned(service: Service, *parts: str, fits: Callable[[Found], bool]) -> list[Found]:
    """Checkpoints with these parts that fit: those of PINNED; where they are not installed, the bundled ones; else all.

    Raises ServiceError for none.
    """
    found = [one for one in map(service.find, service.names(*parts)) if fits(one)]
    bundled = [one for one in found if one.kind == "bundled"]
    chosen = [one for one in bundled if one.name in PINNED] or bundled or found
    if not chosen:
        raise ServiceError("this step runs a network, and no checkpoint here has one that fits. Train one, or go on.")
    return chosen


def _scale(view: View, service: Service) -> Outcome:
    found = _pinned(service, "scale_vae", fits=lambda one: one.config.channels == 1)
    names = [one.name for one in sorted(found, key=lambda one: one.config.floor)]
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


def _causes() -> Numbers:
    """FID of the bundled ladder's rows: the start alone, and one pass from it under either schedule."""
    rows = {row["name"]: row for row in read_ladder()["rows"]}
    named = {"prior": "prior", "uniform": "uniform-1", "ours": "pixel-aware-1"}
    return {f"fid_{key}": rows[name]["fid"] for key, name in named.items()} | {"seeds": len(rows["prior"]["seeds"])}


def _passes(view: View, service: Service) -> Outcome:
    """By R_phi as the paper trains it, and beside it by one that was distilled, where there is one."""
    found = _pinned(service, "parallel_unet", "scale_vae", fits=lambda one: one.config.head_target == "v")
    plain = [one for one in found if not one.distilled] or found
    taught = [one for one in found if one.distilled and one is not plain[0]]
    numbers: Numbers = _causes()
    made: list[Shown] = []
    answers = []
    for one, suffix in [(plain[0], ""), *((one, "_taught") for one in taught[:1])]:
        passes = min(MANY, one.config.T)
        first, last = (list(service.generate(one.name, SAMPLES, k))[-1] for k in (1, passes))
        answers.append(what_passes_change(first.images, last.images))
        numbers |= {
            "passes": passes,
            f"name{suffix}": one.name,
            f"detail{suffix}": 100 * (detail(last.images) / detail(first.images) - 1),
            f"slower{suffix}": last.seconds / first.seconds,
            f"flat{suffix}": 100 * flat(first.images),
            f"flat_many{suffix}": 100 * flat(last.images),
        }
        pairs = (("one", first), ("many", last))
        made += [Shown(key + suffix, pictures.tile(drawn.images, SAMPLES // 2)) for key, drawn in pairs]
    return Outcome(answers[0], numbers, tuple(made))


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
    shows the outcome's pictures or curves instead. columns: what the live table shows, which is what the lesson has
    introduced. tries: states to try afterwards, by the key of their button. short: part of the short route.
    network: the step runs a model, so it belongs on the queue. quoted: further numbers of the question.
    """

    key: str
    minutes: int
    options: tuple[str, ...]
    scene: Scene
    ask: Staging
    see: Staging | None
    outcome: Callable[[View, Service], Outcome]
    columns: tuple[str, ...] = ()
    tries: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    short: bool = False
    network: bool = False
    quoted: Numbers = field(default_factory=dict)

    def given(self) -> Numbers:
        """The numbers that the question quotes."""
        return numbers_of(self.scene.view) | self.quoted


SKY = Scene("Camera", (0.8,), top=0.3)
THREE = Scene("Camera", (0.05, 0.3, 0.95))
BLACK_AND_WHITE = Scene("Camera", (0.1, 1.0))
BOOT = Scene("Ankle boot", (PAPER_FLOOR, 1.0))
NOISE_AT_LAST = Scene("Ankle boot", (CLOSED_FLOOR, 1.0), floor=CLOSED_FLOOR)
LEVELS = ("dark", "middle", "bright")
PARTS = ("all", "bright", "dark", "none")

STEPS: tuple[Step, ...] = (
    Step(
        "ahead", 3, PARTS, THREE,
        Staging(("image",)), Staging(("image", "ours", "ddpm", "ahead"), until=LEAD_AT, look="ahead"), _ahead,
        ("x0", "left_ours", "left_ddpm"),
        {"end": {"t": 1.0}, "fast": {"gamma": FAST_GAMMA, "t": 1.0}, "slow": {"gamma": SLOW_GAMMA, "t": LEAD_AT}},
        short=True, quoted={"t": LEAD_AT, "fast": FAST_GAMMA},
    ),
    Step(
        "pixel", 4, ("same", "black", "noise"), SKY,
        Staging(("image",)), Staging(("image", "cloud"), until=1.0, look="cloud"), _pixel,
        ("x0", "mean", "spread"),
    ),
    Step(
        "pouring", 3, LEVELS, THREE,
        Staging(("image",)), Staging(("image", "water"), until=2.5 * POUR_AT, look="water"), _pouring,
        ("x0", "snr", "bits"),
        {"start": {"t": POUR_AT}, "later": {"t": LATER}}, short=True, quoted={"t": POUR_AT, "later": LATER},
    ),
    Step(
        "gap", 3, PARTS, BOOT,
        Staging(("image",)), Staging(("image", "ours", "gap"), until=1.0, look="gap"), _gap,
        ("x0", "spread"),
        {"raise": {"floor": CLOSED_FLOOR, "t": 1.0}, "printed": {"floor": PAPER_FLOOR, "t": 1.0}},
        short=True, quoted={"raised": CLOSED_FLOOR},
    ),
    Step(
        "scale", 5, ("lost", "half", "kept"), BOOT,
        Staging(("image", "ours"), t=1.0), None, _scale, network=True,
    ),
    Step(
        "passes", 3, ("other", "detail", "blur", "same"), NOISE_AT_LAST,
        Staging(("ours",), t=1.0), None, _passes, short=True, network=True,
        quoted={"n": SAMPLES, "passes": MANY},
    ),
    Step(
        "diverge", 4, ("stays", "adds", "explodes"), BLACK_AND_WHITE,
        Staging(("image", "ours"), t=1.0), None, _diverge,
        quoted={
            "error": HEAD_ERROR,
            "walk": HEAD_ERROR * math.sqrt(DEFAULTS["T"]),
            "sum": HEAD_ERROR * DEFAULTS["T"],
        },
    ),
)  # fmt: skip
ROUTES: Mapping[str, tuple[Step, ...]] = {"whole": STEPS, "short": tuple(step for step in STEPS if step.short)}
