"""What the browser's widgets draw: specifications of charts and pictures, as JSON. Arrays only."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pixelviz.data.pictures import PIXEL_COLOURS, data_uri, grid_columns, suggest_pixels, tile
from pixelviz.paper import SSIM

MAX_LEVELS = 4096  # of a picture in the browser, which computes per level and not per pixel


def _packed(values: np.ndarray, dtype: str) -> str:
    """An array, flattened, as base64 of little-endian numbers."""
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")


def markers(pixels: Sequence[tuple[int, int, int]]) -> list[dict[str, Any]]:
    """Number, colour and place of each chosen pixel (row, column, channel)."""
    return [
        {"number": k + 1, "color": PIXEL_COLOURS[k], "row": row, "col": col, "channel": channel}
        for k, (row, col, channel) in enumerate(pixels)
    ]


def picture(
    image: np.ndarray,
    label: str,
    *,
    pixels: Sequence[tuple[int, int, int]] = (),
    channels: int = 0,
    example: int | None = None,
) -> str:
    """The picture a tab works on: uint8 (H, W, C), with markers at `pixels`.

    channels: of the image whose pixels can be clicked, 0 where clicks mean nothing; example: the chosen thumbnail.
    """
    return json.dumps(
        {
            "source": data_uri(image),
            "label": label,
            "pixels": markers(pixels),
            "channels": channels,
            "example": example,
        }
    )


def instrument(pixels: np.ndarray, noise: np.ndarray, **about: Any) -> str:
    """A picture for the instrument, which noises it in the browser.

    Args: pixels (C, H, W) in [0, 1], before any floor; noise (C, H, W), the eps that both methods share; about,
    what goes along (example, seed, notes, ...). The picture travels as its distinct levels (float64) and an index
    into them; where there are more than MAX_LEVELS they are rounded to that many steps.
    """
    if len(np.unique(pixels)) > MAX_LEVELS:
        pixels = np.rint(pixels * (MAX_LEVELS - 1)) / (MAX_LEVELS - 1)
    levels, index = np.unique(pixels, return_inverse=True)
    wide = len(levels) > 256
    return json.dumps(
        {
            "shape": list(pixels.shape),
            "levels": _packed(levels, "<f8"),
            "index": _packed(index, "<u2" if wide else "<u1"),
            "wide": wide,
            "noise": _packed(noise, "<f4"),
            "suggested": suggest_pixels(pixels),
            **about,
        }
    )


def sample_sheet(
    images: np.ndarray | None,
    status: str,
    *,
    progress: float | None = None,
    done: bool = True,
    chosen: int = -1,
    keep: bool = False,
) -> str:
    """A grid of samples uint8 (N, H, W, C), or None before the first.

    progress from 0 to 1, None for no bar; done, whether images can be chosen; keep, whether the images shown before
    stay where there are none here.
    """
    payload: dict[str, Any] = {
        "status": status,
        "progress": progress,
        "done": done,
        "chosen": chosen,
        "keep": keep,
        "sheet": None,
    }
    if images is not None:
        columns = grid_columns(len(images))
        payload |= {
            "sheet": data_uri(tile(images, columns)),
            "size": images.shape[1],
            "columns": columns,
            "count": len(images),
        }
    else:
        payload["columns"] = 1
    return json.dumps(payload)


# --- Charts


def _numbers(values: Sequence[float]) -> list[float | None]:
    """Plain numbers to five significant digits; what JSON cannot hold becomes None."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in map(float, values)]


def chart(
    series: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    label: str,
    x_label: str,
    y_label: str,
    whole_x: bool = False,
    log: bool = False,
    y_range: tuple[float | None, float | None] | None = None,
    targets: Sequence[tuple[float, str]] = (),
    points: bool = False,
    dashed: Sequence[str] = (),
    height: int = 240,
    cursor: float | None = None,
) -> str:
    """A line chart's specification: series of (name, x, y); `dashed` names those drawn with dashes.

    whole_x: x counts something; targets: horizontal lines (y, name); cursor: a vertical line at that x.
    """
    return json.dumps(
        {
            "label": label,
            "xLabel": x_label,
            "yLabel": y_label,
            "log": log,
            "wholeX": whole_x,
            "yRange": list(y_range) if y_range else None,
            "height": height,
            "cursor": cursor,
            "targets": [{"y": y, "name": name} for y, name in targets],
            "series": [
                {
                    "name": name,
                    "color": PIXEL_COLOURS[k % len(PIXEL_COLOURS)],
                    # From the seventh on the colours come again, dotted.
                    "dash": "6 4" if name in dashed else "2 3" if k >= len(PIXEL_COLOURS) else "",
                    "points": points,
                    "x": _numbers(x),
                    "y": _numbers(y),
                }
                for k, (name, x, y) in enumerate(series)
            ],
        }
    )


def ssim_over_i(curves: Mapping[str, Sequence[tuple[int, float, float | None]]], i: int) -> str:
    """SSIM of x_delta_hat over i for several checkpoints, and of alpha_bar_i for the first; a cursor at i.

    curves: (i, ssim_x_delta, ssim_alpha_bar) points of each checkpoint; the last is None at i = 0.
    """
    series = [(f"x_δ, {name}", [p[0] for p in points], [p[1] for p in points]) for name, points in curves.items()]
    first, points = next(iter(curves.items()))
    there = [(step, bar) for step, _, bar in points if bar is not None]
    series.append((f"ᾱᵢ, {first}", [step for step, _ in there], [bar for _, bar in there]))
    lowest = min((y for _, _, ys in series for y in ys if math.isfinite(y)), default=0.0)
    return chart(
        series,
        label=f"SSIM between the true and the estimated scale over the step i, now at i = {i}",
        x_label="step i",
        whole_x=True,
        y_label="SSIM",
        y_range=(min(0.0, lowest), 1.0),
        targets=[(SSIM[0], f"{SSIM[0]:g}, the paper's lowest")],
        points=True,
        dashed=[series[-1][0]],
        height=300,
        cursor=i,
    )


def losses(history: Mapping[str, Sequence[tuple[int, float]]]) -> str | None:
    """Losses over steps on a log axis, a curve a loss; None before the first step."""
    shown = {name: points for name, points in history.items() if points}
    if not shown:
        return None
    return chart(
        [(name.replace("/", ": "), [p[0] for p in points], [p[1] for p in points]) for name, points in shown.items()],
        label="Training losses over steps, on a log axis",
        x_label="step",
        whole_x=True,
        y_label="loss",
        log=True,
        height=300,
    )


def magnitudes(points: Sequence[tuple[int, float]], bounds: Mapping[str, Sequence[float]]) -> str:
    """Root mean square of x_i over the steps left to i = 0, T - i, on a log axis.

    points: (i, rms); bounds: named curves over the same steps, drawn dashed.
    """
    T = max(i for i, _ in points)
    done = [T - i for i, _ in points]
    series = [("root mean square of x_i", done, [rms for _, rms in points])]
    series += [(name, done, values) for name, values in bounds.items()]
    return chart(
        series,
        label="Size of the values along the reverse trajectory, on a log axis",
        x_label="reverse steps made, T − i",
        whole_x=True,
        y_label="size",
        log=True,
        dashed=list(bounds),
    )
