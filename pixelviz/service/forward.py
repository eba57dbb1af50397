"""A view as the browser's instrument gets it, and as the answer of /curves."""

from __future__ import annotations

from typing import Any

import torch

from pixelviz.service import payloads
from pixelviz.view import View

IN_THE_SHRUNK = "Rows and columns of pixels are counted in the shrunk picture."


def instrument_value(view: View, *, known: bool = False, **about: Any) -> str:
    """A view's picture and noise for the instrument, as JSON; known: whether it has the picture, and wants the noise.

    about: what goes along (example, request).
    """
    if not known:
        about |= {"notes": view.image.notes}
    levels = None if known else view.image.levels
    return payloads.instrument(view.eps.numpy(), levels, picture=view.picture, seed=view.seed, **about)


def finite_or_none(values: torch.Tensor) -> list:
    """Nested lists for JSON, with None for infinity and NaN."""
    told = values.numpy().astype(object)
    told[~values.isfinite().numpy()] = None
    return told.tolist()


def curves_json(view: View) -> dict[str, Any]:
    """The answer of /curves: t, x0, and per method snr, mean and variance, as the instrument draws them."""
    x0, i = view.x0_at_pixels, torch.arange(view.T + 1)
    answer: dict[str, Any] = {"t": (i.double() / view.T).tolist(), "x0": x0.tolist()}
    for method, schedule in view.schedules.items():
        moments = view.moments[method]
        found = {"snr": schedule.snr(x0[:, None], i), "mean": moments.mean.T, "variance": moments.variance.T}
        answer[method] = {key: finite_or_none(values) for key, values in found.items()}
    channels, rows, columns = view.x0.shape
    return answer | {
        "pixels": [list(pixel) for pixel in view.pixels],
        "image": {"rows": rows, "columns": columns, "channels": channels},
        "settings": {
            "gamma": view.gamma,
            "T": view.T,
            "floor": view.floor,
            "seed": view.seed,
            "ddpm": view.ddpm,
            "schedule": view.schedule,
        },
        "notes": [*view.image.notes, *([IN_THE_SHRUNK] if view.image is not view.original else [])],
    }
