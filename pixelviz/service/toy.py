"""The toy experiment of Appendix B over gamma and T, for a picture's brightnesses or for one."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field

from pixelviz.checks import ServiceError
from pixelviz.config import PAPER_FLOOR, ConfigError
from pixelviz.data.images import Picture
from pixelviz.declare import declared
from pixelviz.process.forward import raise_to_floor
from pixelviz.process.theory import advise_gamma
from pixelviz.process.toy import FORMS, error_map

BRIGHTNESSES = 24  # of a picture, for the toy experiment: its quantiles
TOY_GAMMAS = tuple(float(f"{gamma:.4g}") for gamma in np.geomspace(1, 200, 47))
TOY_STEPS = (5, 6, 8, *(m * d for d in (1, 10) for m in (10, 12, 15, 20, 25, 30, 40, 50, 60, 80)), 1000)
Share = Annotated[float, Field(ge=0, le=1)]


@declared(ServiceError)
class Toy:
    """The experiment's settings; raises ServiceError.

    brightness: of every pixel, where there is no picture. forward_noise: see `process.toy`; where it is False the best
    heads are used, with `head_error`. tolerance, in nats per value, is the adviser's.
    """

    brightness: Share = 0.5
    floor: float = Field(PAPER_FLOOR, ge=1e-3, le=0.9)
    forward_noise: bool = True
    fresh_noise: bool = False
    head_error: Share = 0.01
    tolerance: float = Field(0.01, ge=1e-6, le=1)


def brightnesses(picture: Picture | None, brightness: float) -> torch.Tensor:
    """Pixel values in [0, 1]: a picture's quantiles, each for as many pixels, or one brightness."""
    if picture is None:
        return torch.tensor([brightness], dtype=torch.float64)
    shares = (torch.arange(BRIGHTNESSES, dtype=torch.float64) + 0.5) / BRIGHTNESSES
    values = picture.tensor().flatten()
    return torch.quantile(values[:: max(1, len(values) // 2**20)], shares)


class ToyMaps(NamedTuple):
    """The toy experiment's errors, (TOY_STEPS, TOY_GAMMAS) for each form, NaN where gamma >= T.

    advised: the adviser's gamma, None where it has none; advice: that in a sentence; brightest: the largest x0.
    """

    errors: dict[str, torch.Tensor]
    advised: float | None
    advice: str
    brightest: float


def toy_maps(picture: Picture | None, *asked: Any, **settings: Any) -> ToyMaps:
    """Every form's errors over gamma and T, and the adviser's gamma; settings: see `Toy`.

    picture: whose pixels x0 has, None for one brightness. Raises ConfigError or ServiceError.
    """
    toy = Toy(*asked, **settings)
    pixels = brightnesses(picture, toy.brightness)
    x0 = raise_to_floor(pixels, toy.floor)
    how = {"forward_noise": toy.forward_noise, "fresh_noise": toy.fresh_noise}
    if not toy.forward_noise:
        how["head_error"] = toy.head_error
    maps = {form: error_map(TOY_GAMMAS, TOY_STEPS, x0, form, **how) for form in FORMS}
    try:
        advice = advise_gamma(pixels, toy.tolerance, TOY_STEPS[-1], toy.floor)
        words = f"The adviser's γ is {advice.gamma:.3g}: the terminal gap is {toy.tolerance:g} nats."
        return ToyMaps(maps, advice.gamma, words, float(x0.max()))
    except ConfigError as error:
        return ToyMaps(maps, None, f"The adviser has no γ here: {error}", float(x0.max()))
