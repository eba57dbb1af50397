"""Arrays and tensors as pictures for a screen."""

from __future__ import annotations

import base64
import math
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelviz.data.sets import to_image
from pixelviz.process.schedules import image_scale

# At least 3:1 against white and against the dark theme's background, so one set serves both.
PIXEL_COLOURS = ("#2f7de1", "#d6510b", "#12924f", "#c2379a", "#8b62dc", "#9a7400")
GRAY_CHANNEL = ("value", "#2f7de1")
RGB_CHANNELS = (("red", "#e0463c"), ("green", "#12924f"), ("blue", "#2f7de1"))
MAX_PIXELS_SHOWN = len(PIXEL_COLOURS)
FRAMES = 31  # kept steps that the time slider walks through
PIECE = 2**15 - 1  # values; torch spreads more over threads, which here costs more than it saves


def to_bytes(x: Tensor | np.ndarray, floor: float) -> np.ndarray:
    """x in [floor, 1], shown as 0 to 255, rounded and clipped: uint8 of the same shape. Not-a-number becomes 0."""
    x = torch.as_tensor(x)
    pieces = [to_image(piece, floor).cpu().numpy() for piece in x.reshape(-1).split(PIECE)]
    # np.rint, and not torch.round, which can take a hundred times as long on a CPU.
    return np.concatenate([np.rint(piece * 255).astype(np.uint8) for piece in pieces]).reshape(x.shape)


def stretched(x: Tensor) -> np.ndarray:
    """x_i of images (n, C, H, W) with each image's own range shown as 0 to 255 (its 1st to 99th percentile).

    Inside a pass x_i is a conditional mean near 0, mostly below the floor: shown as an image it would be black.
    """
    values = x.cpu().double().flatten(1)
    finite = torch.where(values.isfinite(), values, torch.nan)
    low, high = (finite.nanquantile(q, dim=1, keepdim=True).nan_to_num(0.0) for q in (0.01, 0.99))
    # Infinities land on black and white; what is not a number is black.
    shown = ((values - low) / (high - low).clamp(min=1e-6)).nan_to_num(0.0).clamp(0, 1)
    return np.rint(shown.numpy() * 255).astype(np.uint8).reshape(x.shape)


def last_channel(frames: np.ndarray) -> np.ndarray:
    """(..., C, H, W) to (..., H, W, C)."""
    return np.ascontiguousarray(np.moveaxis(frames, -3, -1))


def scale_image(scale: Tensor, rate: float, floor: float) -> np.ndarray:
    """exp(-rate x0) of images (..., C, H, W) as uint8 (..., H, W, C): black to white is what x0 in [floor, 1] gives.

    At rate 0 it is 1 everywhere: white.
    """
    low, high = image_scale(1.0, rate), image_scale(floor, rate)
    return last_channel(to_bytes((scale - low) / (high - low) if high > low else torch.ones_like(scale), 0.0))


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


def to_pil(image: np.ndarray) -> Image.Image:
    """A uint8 image (H, W), (H, W, 1) or (H, W, 3)."""
    return Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def data_uri(image: np.ndarray, *, lossy: bool = False) -> str:
    """A uint8 image (H, W), (H, W, 1) or (H, W, 3) as a data URI: PNG, or JPEG where `lossy`."""
    image = np.asarray(image, np.uint8)
    if image.ndim == 3 and image.shape[2] == 3 and not np.ptp(image, axis=2).any():
        image = image[..., :1]
    buffer = BytesIO()
    picture = to_pil(image)
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
