"""The toy experiment of Appendix B over gamma and T, for a picture's brightnesses or for one."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field

from pixelviz.checks import ServiceError
from pixelviz.claims import Plot
from pixelviz.config import PAPER_FLOOR, ConfigError
from pixelviz.data.images import Picture, example_file
from pixelviz.declare import declared
from pixelviz.measure import residuals
from pixelviz.process.energy import energy_over
from pixelviz.process.forward import raise_to_floor
from pixelviz.process.open_loop import FORMS
from pixelviz.process.theory import advise_gamma
from pixelviz.process.toy import error_map

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
    how: dict[str, Any] = {"forward_noise": toy.forward_noise, "fresh_noise": toy.fresh_noise}
    if not toy.forward_noise:
        how["head_error"] = toy.head_error
    maps = {form: error_map(TOY_GAMMAS, TOY_STEPS, x0, form, **how) for form in FORMS}
    try:
        advice = advise_gamma(pixels, toy.tolerance, TOY_STEPS[-1], toy.floor)
        words = f"The adviser's γ is {advice.gamma:.3g}: the terminal gap is {toy.tolerance:g} nats."
        return ToyMaps(maps, advice.gamma, words, float(x0.max()))
    except ConfigError as error:
        return ToyMaps(maps, None, f"The adviser has no γ here: {error}", float(x0.max()))


def toy_command(example: str | None, **settings: Any) -> str:
    """Python that computes the same maps, of an example's pixels or (None) of one brightness."""
    picture = f"View.of({example_file(example)!r}).original" if example else "None"
    given = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    lines = ["from pixelviz.service.toy import toy_maps", "from pixelviz.view import View", ""]
    return "\n".join([*lines, f"maps = toy_maps({picture}, {given})"])


def gamma_energy(picture: Picture | None, floor: float) -> tuple[Plot, float, str] | None:
    """E(gamma) at T = 200 with the bundled R_phi's error: its plot, where it is least, and that in words.

    For a picture's pixels, raised to `floor`, or (None) those of the images that it was measured on. None where no
    error has been measured.
    """
    found = residuals.bundled()
    if found is None:
        return None
    error, figures = found
    x0, shares = error.levels, torch.tensor(figures["shares"], dtype=torch.float64)
    if picture is not None:
        x0, shares = raise_to_floor(brightnesses(picture, 0), floor), None
    measured, gaussian = (
        energy_over(e, residuals.GAMMAS, residuals.PAPER_T, x0, shares) for e in (error, error.gaussian)
    )
    gamma, value = measured.best
    curves = {
        "energy, R_φ's measured error": measured.total,
        "the same, were the residual Gaussian": gaussian.total,
        "of it the terminal gap": measured.gap,
    }
    label, axes = f"Energy over gamma, least at {gamma:.3g}", ("γ", "nats per value")
    plot = Plot.over(label, axes, residuals.GAMMAS, curves)
    ends = (residuals.GAMMAS[0], residuals.GAMMAS[-1])
    said, theirs = (f"{g:.3g}" + ", the end of those tried" * (g in ends) for g in (gamma, gaussian.best[0]))
    whose = "their" if picture is None else "these"
    words = (
        f"Energy KL_T + Σ ½(SNR_j−1 − SNR_j) MMSE_j at T = {residuals.PAPER_T}, with the error that "
        f"{figures['checkpoint']} makes on {figures['images']} test images, for {whose} pixels: least at γ = {said}, "
        f"{value:.3f} nats per value. Below γ = {error.u[0] * residuals.PAPER_T:.3g} the first steps lie before all "
        f"that was measured: the error goes on as a Gaussian's. Were the residual Gaussian throughout: γ = {theirs}."
    )
    return plot, gamma, words
