"""A rate Gamma(x0, t) of one's own (end of Appendix B), written as a formula: read without eval, checked, and run."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pixelviz.config import ConfigError, check_process
from pixelviz.process.schedules import Schedule, as_float

LONGEST = 120  # characters of a formula
PAPERS = "gamma*x0/2"  # Gamma of Eq. 23
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip
LETTERS = ("x0", "t", "gamma", "pi")
GRID = 50  # values of x0, from the least floor to 1, and of t, at which a rate is checked
LEAST = 1e-3

Values = dict[str, Tensor]


def _compiled(node: ast.expr) -> Callable[[Values], Tensor]:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            constant = torch.tensor(float(number), dtype=torch.float64)
            return lambda values: constant
        case ast.Name(id=name) if name in LETTERS:
            return lambda values: values[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            a, b, run = _compiled(left), _compiled(right), OPERATORS[type(op)]
            return lambda values: run(a(values), b(values))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            inner, turn = _compiled(operand), OPERATORS[type(op)]
            return lambda values: turn(inner(values))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            inner, function = _compiled(argument), FUNCTIONS[name]
            return lambda values: function(inner(values))
    known = ", ".join((*LETTERS, "numbers, + - * / ^ ( )", *FUNCTIONS))
    raise ConfigError(f"the formula may hold {known}; “{ast.unparse(node)[:40]}” is none of these.")


@lru_cache(maxsize=64)
def read_formula(text: str) -> Callable[[Values], Tensor]:
    """The function of x0, t, gamma and pi that a formula means; raises ConfigError for what is none."""
    if not text.strip() or len(text) > LONGEST:
        raise ConfigError(f"a formula for Γ has 1 to {LONGEST} characters, like {PAPERS}.")
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(f"the formula for Γ cannot be read; write it like {PAPERS} or gamma*x0*(1 + t)/3.") from None
    return _compiled(tree.body)


@dataclass(frozen=True)
class FormulaRate(Schedule):
    """The drift -Gamma(x0, t) x of Appendix B for any Gamma that is positive and rises with x0; Gamma at mid-step.

    Args: T, gamma (which the formula may name); formula. Raises ConfigError, for a rate that is neither too.
    """

    gamma: float
    formula: str = PAPERS

    def __post_init__(self) -> None:
        check_process(self.gamma, self.T)
        x0 = torch.linspace(LEAST, 1, GRID, dtype=torch.float64)
        t = (torch.arange(GRID, dtype=torch.float64)[:, None] + 0.5) / GRID
        found = self.drift(x0, t)
        good = found.isfinite() & (found > 0)
        if not bool(good.all()):
            k, n = (~good).nonzero()[0].tolist()
            raise ConfigError(
                f"Γ must be positive: {self.formula} is {found[k, n]:.3g} at x0 = {x0[n]:.2g}, t = {t[k, 0]:.2g}."
            )
        if not bool((falls := found.diff(dim=1) > 0).all()):
            k, n = (~falls).nonzero()[0].tolist()
            raise ConfigError(
                f"Γ must rise with x0: at t = {t[k, 0]:.2g}, {self.formula} is {found[k, n]:.3g} at x0 = {x0[n]:.2g} "
                f"and {found[k, n + 1]:.3g} at {x0[n + 1]:.2g}."
            )

    def drift(self, x0: Tensor, t: Tensor) -> Tensor:
        """Gamma(x0, t), the shape of both broadcast."""
        numbers = {"gamma": torch.tensor(self.gamma).to(x0), "pi": torch.tensor(math.pi).to(x0)}
        return read_formula(self.formula)({"x0": x0, "t": t, **numbers}).to(x0) + 0 * (x0 + t)

    def rate(self, x0, i) -> Tensor:
        """2 Gamma(x0, t) at the middle of the step that i lies in."""
        x0 = as_float(x0)
        return 2 * self.drift(x0, (as_float(i, like=x0).to(x0).ceil().clamp(1, self.T) - 0.5) / self.T)

    def log_alpha_bar(self, x0, i) -> Tensor:
        """-sum of the steps' rates over T, between whole steps linear."""
        x0 = as_float(x0)
        values, where = torch.unique(x0, return_inverse=True)
        steps = torch.arange(1, self.T + 1, device=x0.device)
        table = torch.nn.functional.pad(-self.rate(values[:, None], steps).cumsum(1) / self.T, (1, 0))
        i = as_float(i, like=x0).to(x0)
        below = i.floor().clamp(0, self.T - 1).long()
        where, below, i = torch.broadcast_tensors(where, below, i)
        return torch.lerp(table[where, below], table[where, below + 1], i - below)
