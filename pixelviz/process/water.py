"""Water-filling and reverse water-filling: the classical relatives of the paper's analogy (Section 3.1, Fig. 1).

The paper's process is neither: its noise variance 1 - exp(-gamma t x0) rises with x0 at every t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pixelviz.config import ConfigError
from pixelviz.process.schedules import as_float


@dataclass(frozen=True)
class Water:
    """The water level, and each channel's amount in the order given, shape (n,)."""

    level: float
    amounts: Float[Tensor, " n"]


def _channels(values, what: str) -> Tensor:
    values = as_float(values)
    if values.ndim != 1 or not len(values) or not bool(((values > 0) & values.isfinite()).all()):
        raise ConfigError(f"{what} must be a list of numbers greater than 0.")
    return values


def water_filling(noise, power: float) -> Water:
    """Gallager's P_k = max(0, level - N_k) with sum(P) = power: *cleaner* channels get more power.

    Args: noise variances (n,) > 0; power > 0.
    """
    noise = _channels(noise, "noise variances")
    if not 0 < power < math.inf:
        raise ConfigError(f"the power must be greater than 0; it is {power}.")
    ordered = noise.sort().values
    levels = (power + ordered.cumsum(0)) / torch.arange(1, len(noise) + 1).to(noise)
    # levels[k-1] fills the k cleanest channels; the right k is the last whose noisiest one is under water.
    level = levels[levels >= ordered][-1]
    return Water(level.item(), (level - noise).clamp(min=0))


def reverse_water_filling(variances, distortion: float) -> Water:
    """D_k = min(level, sigma_k^2) with sum(D) = distortion: components below the level are drowned whole.

    Rate-distortion of parallel Gaussian sources. Args: variances (n,) > 0; distortion > 0, at most their sum.
    """
    variances = _channels(variances, "variances")
    total = variances.sum().item()
    if not 0 < distortion <= total:
        raise ConfigError(
            f"the distortion must be above 0 and at most the variances' sum, {total:g}; it is {distortion}."
        )
    ordered = variances.sort().values
    drowned = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)[:-1]])
    levels = (distortion - drowned) / torch.arange(len(ordered), 0, -1).to(ordered)
    # levels[k] drowns the k weakest; the right k is the first whose next component stands above the water.
    above = levels <= ordered
    level = levels[above][0] if bool(above.any()) else ordered[-1]
    return Water(level.item(), variances.clamp(max=level.item()))
