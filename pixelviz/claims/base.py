"""What a claim is, what a verdict on it is, and the settings that it is judged for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partialmethod
from typing import Any, Literal

import torch
from pydantic import Field, InstanceOf
from torch import Tensor

from pixelviz.checks import ServiceError
from pixelviz.declare import declared
from pixelviz.devices import Compute
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.numerals import in_words
from pixelviz.view import View

HOLDS, WHERE, SLIP, CANNOT, UNCHECKED = VERDICTS = (
    "holds",
    "holds where",
    "slip",
    "cannot work as printed",
    "not checked here",
)
EXACT = 1e-7  # relative difference that float64 may leave between two derivations of one number
CLOSE = 0.05  # relative; for words like “exponentially” and “together”
GONE = 0.01  # nats of KL to N(0, 1), or an SNR, that counts as "reached noise"

Formula = Callable[..., Any]


@dataclass(frozen=True)
class Number:
    """One computed number and what it is; `percent` for shares."""

    label: str
    value: float
    percent: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.value, Tensor):
            object.__setattr__(self, "value", self.value.item())

    @property
    def text(self) -> str:
        """The value, to read."""
        return f"{100 * self.value:.4g} %" if self.percent else in_words(self.value)


@dataclass(frozen=True)
class Curve:
    """A line of a small plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """A small plot; `label` says in words what it shows."""

    label: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log: bool = False

    @classmethod
    def over(cls, label: str, axes: tuple[str, str], x: Any, curves: Mapping[str, Any], log: bool = False) -> Plot:
        """Curves by name over the same x, tensors of n values or lists; axes: the labels of x and y."""
        columns = (x, *curves.values())
        x, *ys = (c.flatten().tolist() if isinstance(c, Tensor) else list(c) for c in columns)
        return cls(label, *axes, tuple(Curve(name, x, y) for name, y in zip(curves, ys, strict=True)), log)


@dataclass(frozen=True)
class Verdict:
    """What was found: one of VERDICTS, the numbers it rests on, and a sentence or two."""

    verdict: Literal["holds", "holds where", "slip", "cannot work as printed", "not checked here"]
    numbers: tuple[Number, ...]
    text: str
    plot: Plot | None = None


class Finding:
    """The numbers of a check, and its plot: `found.holds(text)` is the verdict that rests on them."""

    def __init__(self, *numbers: Number, plot: Plot | None = None) -> None:
        self.numbers, self.plot = numbers, plot

    def __call__(self, verdict: Any, text: str) -> Verdict:
        """The verdict, one of VERDICTS, with these numbers and this plot."""
        return Verdict(verdict, self.numbers, text, self.plot)

    holds = partialmethod(__call__, HOLDS)
    where = partialmethod(__call__, WHERE)
    slip = partialmethod(__call__, SLIP)
    cannot = partialmethod(__call__, CANNOT)
    unchecked = partialmethod(__call__, UNCHECKED)


@dataclass(frozen=True)
class Bench:
    """A checkpoint's model, and the picture as it takes it: x0, float64 (C, H, W) in [floor, 1]."""

    name: str
    model: PixelAwareModel
    x0: Tensor
    compute: Compute
    figures: dict[str, Any] = field(default_factory=dict)  # what `evaluate` measured
    images_seen: dict[str, int] = field(default_factory=dict)  # in training, by part
    data: str = ""  # what it was trained on


@declared(ServiceError)
class Context(View):
    """The view that claims are judged for."""

    bench: InstanceOf[Bench] | None = Field(None, repr=False, description="A model for the claims that need one.")

    def on(self, bench: Bench) -> Context:
        """The same settings with a model."""
        return self.but(bench=bench)

    @property
    def a(self) -> float:
        """DDPM's range as Proposition 2 idealises it, see `LinearBeta.a`."""
        return self.theirs.a

    def share(self, true: Tensor) -> float:
        """The share of the image's values for which a statement about `levels` (last axis) is true."""
        return self.mean(true.double()).mean().item()

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the image of a function of `levels` (last axis)."""
        return (values * (self.counts / self.counts.sum())).sum(-1)

    @cached_property
    def picked(self) -> Tensor:
        """x0 of the picked pixels, distinct and ascending; where fewer than two differ, quantiles of its levels,
        each counted once.
        """
        chosen = self.x0_at_pixels.unique()
        if len(chosen) < 2:
            places = torch.tensor([0.1, 0.5, 0.95], dtype=torch.float64)
            chosen = torch.quantile(self.levels, places, interpolation="nearest").unique()
        if len(chosen) < 2:  # a flat image
            chosen = torch.tensor([self.floor, 1.0], dtype=torch.float64)
        return chosen

    def times(self, n: int) -> Tensor:
        """n times from 1/T to 1 as a column, (n, 1): they broadcast against `levels` and `picked`."""
        return torch.linspace(1 / self.T, 1, n, dtype=torch.float64)[:, None]


@dataclass(frozen=True)
class Claim:
    """A statement of the paper and how it is judged.

    id: short and stable. section, where: of the paper. statement: words with LaTeX between dollar signs. code: where
    the mathematics is. check(context, formula): `formula` is what the paper prints, as a function, so that another
    one can be judged in its place. needs: parts of a model.
    """

    id: str
    section: str
    where: str
    title: str
    statement: str
    code: str
    check: Callable[[Context, Formula | None], Verdict]
    formula: Formula | None = None
    needs: tuple[str, ...] = ()

    def judge(self, context: Context, formula: Formula | None = None) -> Verdict:
        """The verdict for these settings; on `formula` in place of the printed one, where one is given."""
        if self.needs and (context.bench is None or any(p not in context.bench.model.parts for p in self.needs)):
            return Verdict(UNCHECKED, (), "This claim needs a trained model; check it with a checkpoint, above.")
        return self.check(context, formula or self.formula)


class Register:
    """The claims of one file, in the order in which they stand there."""

    def __init__(self, section: str) -> None:
        self.section = section
        self.claims: list[Claim] = []

    def __call__(
        self,
        id: str,
        where: str,
        title: str,
        statement: str,
        *,
        code: str = "",
        formula: Formula | None = None,
        needs: tuple[str, ...] = (),
        section: str | None = None,
    ) -> Callable:
        """Decorate a check(context, formula); code: where the mathematics is, if not in its own file."""

        def add(check: Callable[[Context, Formula | None], Verdict]) -> Callable:
            place = code or f"{check.__module__.removeprefix('pixelviz.').replace('.', '/')}.py"
            self.claims.append(
                Claim(id, section or self.section, where, title, statement, place, check, formula, needs)
            )
            return check

        return add


def error(found: Tensor, wanted: Tensor) -> float:
    """Largest difference relative to the larger of the two, 0 where both are 0; infinite for NaN."""
    found, wanted = torch.broadcast_tensors(torch.as_tensor(found), torch.as_tensor(wanted))
    size = torch.maximum(found.abs(), wanted.abs())
    worst = torch.where(size == 0, 0.0, (found - wanted).abs() / size).max().item()
    return math.inf if math.isnan(worst) else worst


def exact_or_slip(found: Tensor, wanted: Tensor) -> str:
    """HOLDS where two derivations agree to EXACT, else SLIP."""
    return HOLDS if error(found, wanted) < EXACT else SLIP


def percent(share: float) -> str:
    """A share for a sentence; never rounded to 0 or 100 % unless it is."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{100 * share:.3g} %"


def slope(function: Callable[[Tensor], Tensor], t: Tensor, step: float = 1e-5) -> Tensor:
    """d function / dt by central differences of fourth order, relative step."""
    h = step * t
    return (function(t - 2 * h) - 8 * function(t - h) + 8 * function(t + h) - function(t + 2 * h)) / (12 * h)


def integrate(rate: Callable[[float, Tensor], Tensor], start: Tensor, t: float, atol: float = 1e-14) -> Tensor:
    """x(t) of dx/ds = rate(s, x), x(0) = start, any shape, by scipy's DOP853; atol may be 0 where x never is."""
    from scipy.integrate import solve_ivp  # takes a while to import, which only this needs

    solved = solve_ivp(
        lambda s, x: rate(s, torch.from_numpy(x).reshape(start.shape)).flatten().numpy(),
        (0.0, t),
        start.flatten().numpy(),
        method="DOP853",
        rtol=1e-11,
        atol=atol,
    )
    return torch.from_numpy(solved.y[:, -1].copy()).reshape(start.shape)
