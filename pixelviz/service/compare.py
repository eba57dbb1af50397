"""What the Compare tab shows: a checkpoint's benchmark, and the toy experiment."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pixelviz.checks import ServiceError
from pixelviz.config import ConfigError
from pixelviz.data.images import Picture
from pixelviz.declare import quoted
from pixelviz.measure import report
from pixelviz.measure.benchmark import BenchmarkError, read_results
from pixelviz.process.forward import raise_to_floor
from pixelviz.process.open_loop import FORMS
from pixelviz.process.theory import advise_gamma
from pixelviz.process.toy import error_map
from pixelviz.service.catalog import Found
from pixelviz.service.service import Service
from pixelviz.store.checkpoints import digest

BRIGHTNESSES = 24  # of a picture, for the toy experiment: its quantiles
TOY_GAMMAS = tuple(float(f"{gamma:.4g}") for gamma in np.geomspace(1, 200, 47))
TOY_STEPS = (5, 6, 8, *(m * d for d in (1, 10) for m in (10, 12, 15, 20, 25, 30, 40, 50, 60, 80)), 1000)


@lru_cache(maxsize=16)
def _digest(folder: Path, stamp: tuple[int, ...]) -> str:
    """The weights' digest; `stamp` changes when they do."""
    return digest(folder)


def benchmark_of(found: Found, folder: Path = report.RESULTS) -> dict[str, Any] | None:
    """The bundled benchmark of a checkpoint; None where there is none, or where it is of other weights."""
    path = folder / f"{found.name}.json"
    if not path.is_file():
        return None
    results = read_results(path)
    return results if results["weights"] == _digest(found.folder, found.stamp) else None


def longer_benchmarks(found: Found, folder: Path = report.RESULTS) -> list[dict[str, Any]]:
    """Further bundled benchmarks of the same weights, in files named after the checkpoint and more; readable ones."""
    results = []
    for path in sorted(folder.glob(f"{found.name}-*.json")):
        try:
            one = read_results(path)
        except BenchmarkError:
            continue
        if one.get("checkpoint") == found.name and one["weights"] == _digest(found.folder, found.stamp):
            results.append(one)
    return results


def fids(results: dict[str, Any] | None) -> dict[tuple[str, str, int], float]:
    """FID of a benchmark's rows by (model, method, passes); none without a benchmark."""
    return {(row["model"], row["method"], row["passes"]): row["fid"] for row in (results or {}).get("rows", ())}


def comparable(service: Service) -> tuple[list[str], str | None]:
    """Checkpoints that can draw, and which to show first: one that is measured, or one that has a twin."""
    twins = service.names("linear_twin")
    names = list(dict.fromkeys([*service.names("parallel_unet", "scale_vae"), *twins]))
    best = [name for name in names if results_or_reason(service.find(name))[0] is not None]
    return names, next(iter(best + twins + names), None)


# --- The toy experiment


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


def toy_maps(
    picture: Picture | None,
    brightness: float = 0.5,
    floor: float = 4e-3,
    *,
    forward_noise: bool = True,
    fresh_noise: bool = False,
    head_error: float = 0.01,
    tolerance: float = 0.01,
) -> ToyMaps:
    """Every form's errors over gamma and T, and the adviser's gamma.

    picture: whose pixels x0 has, None for one brightness; head_error counts where the best heads are used
    (forward_noise False); tolerance, in nats per value, is the adviser's. Raises ConfigError or ServiceError.
    """
    for name, value, low, high in (
        ("brightness", brightness, 0, 1), ("floor", floor, 1e-3, 0.9), ("head error", head_error, 0, 1),
        ("tolerance", tolerance, 1e-6, 1),
    ):  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ServiceError(f"the {name} must be a number from {low:g} to {high:g}; it is {quoted(value)}.")
    pixels = brightnesses(picture, brightness)
    x0 = raise_to_floor(pixels, floor)
    given = {"forward_noise": True} if forward_noise else {"forward_noise": False, "head_error": head_error}
    maps = {form: error_map(TOY_GAMMAS, TOY_STEPS, x0, form, fresh_noise=fresh_noise, **given) for form in FORMS}
    try:
        advice = advise_gamma(pixels, tolerance, TOY_STEPS[-1], floor)
        advised, words = advice.gamma, f"The adviser's γ is {advice.gamma:.3g}: the terminal gap is {tolerance:g} nats."
    except ConfigError as error:
        advised, words = None, f"The adviser has no γ here: {error}"
    return ToyMaps(maps, advised if advised is not None and math.isfinite(advised) else None, words, float(x0.max()))


def results_or_reason(found: Found, folder: Path = report.RESULTS) -> tuple[dict[str, Any] | None, str]:
    """The benchmark, or None and what to say instead."""
    try:
        results = benchmark_of(found, folder)
    except BenchmarkError as error:
        return None, str(error)
    if results is not None:
        return results, ""
    file = f"{folder.parent.name}/{folder.name}/{found.name}.json"
    command = f"python -m pixelviz bench --checkpoint {found.folder.parent.name}/{found.name} --json {file}"
    return None, f"{found.name} has not been measured with these weights yet. This measures it: {command}"
