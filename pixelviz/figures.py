"""Numbers to pictures: image sheets, and the specifications of charts that the browser draws. Arrays only."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

# At least 3:1 against white and against the dark theme's background, so one set serves both.
PIXEL_COLOURS = ("#2f7de1", "#d6510b", "#12924f", "#c2379a", "#8b62dc", "#9a7400")
GRAY_CHANNEL = ("value", "#2f7de1")
RGB_CHANNELS = (("red", "#e0463c"), ("green", "#12924f"), ("blue", "#2f7de1"))
MAX_PIXELS_SHOWN = len(PIXEL_COLOURS)
FRAMES = 31  # kept steps that the time slider walks through
MAX_LEVELS = 4096  # of a picture in the browser, which computes per level and not per pixel


# --- Images


def as_bytes(values: np.ndarray) -> np.ndarray:
    """uint8 of values in [0, 1], rounded; what lies outside is clipped, not-a-number becomes 0."""
    return (np.clip(np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0), 0, 1) * 255).round().astype(np.uint8)


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """(N, H, W, C) as one image, row by row with `columns` images a row; cells without an image are black."""
    n, h, w, c = images.shape
    rows = math.ceil(n / columns)
    padded = np.zeros((rows * columns, h, w, c), images.dtype)
    padded[:n] = images
    return padded.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c)


def grid_columns(n: int) -> int:
    """Columns of a grid of n images: as square as it can be, at most 8."""
    return min(8, math.ceil(math.sqrt(n)))


def data_uri(image: np.ndarray, *, lossy: bool = False) -> str:
    """A uint8 image (H, W), (H, W, 1) or (H, W, 3) as a data URI: PNG, or JPEG where `lossy`."""
    image = np.asarray(image, np.uint8)
    if image.ndim == 3 and image.shape[2] == 3 and not np.ptp(image, axis=2).any():
        image = image[..., :1]
    buffer = BytesIO()
    picture = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    if lossy:
        picture.save(buffer, "JPEG", quality=60, subsampling=0)  # noise has all its colour in single pixels
    else:
        picture.save(buffer, "PNG", compress_level=4)
    kind = "jpeg" if lossy else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def frame_steps(T: int, frames: int = FRAMES) -> list[int]:
    """At most `frames` whole steps from 0 to T, both included, evenly spread."""
    return sorted({round(i) for i in np.linspace(0, T, frames)})


def suggest_pixels(x0: np.ndarray) -> list[tuple[int, int, int]]:
    """(row, column, channel) of a dark, a middling and a bright pixel of x0 (C, H, W), away from the border.

    In the middle channel; equal brightnesses are named once, so a flat image gives one pixel.
    """
    channel = x0.shape[0] // 2
    rows, columns = x0.shape[1:]
    top, left = rows // 10, columns // 10
    inner = x0[channel, top : rows - top, left : columns - left]
    chosen: dict[float, tuple[int, int, int]] = {}
    for share in (0.1, 0.5, 0.95):
        at = np.unravel_index(np.argsort(inner, axis=None, kind="stable")[int(share * (inner.size - 1))], inner.shape)
        chosen.setdefault(float(inner[at]), (int(at[0]) + top, int(at[1]) + left, channel))
    return list(chosen.values())


# --- Payloads of the browser's widgets (JSON strings)


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
        targets=[(0.86, "0.86, the paper's lowest")],
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
