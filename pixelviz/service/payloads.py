"""What the browser's widgets draw besides charts: pictures as JSON. Arrays only."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelviz.data.pictures import PIXEL_COLOURS, data_uri, grid_columns, suggest_pixels, tile
from pixelviz.service.sides import difference


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
    example: str | None = None,
) -> str:
    """The picture a tab works on: uint8 (H, W, C), with markers at `pixels`.

    channels: of the image whose pixels can be clicked, 0 where clicks mean nothing; example: id of the chosen one.
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


def instrument(noise: np.ndarray, levels: tuple[np.ndarray, np.ndarray] | None, **about: Any) -> str:
    """A picture for the instrument, which noises it in the browser, or other noise for the picture that it has.

    Args: noise (C, H, W), the eps that both methods share; levels, the picture's as `Picture.levels` gives them, None
    where the browser has it; about, what goes along (picture, example, seed, ...).
    """
    about |= {"noise": _packed(noise, "<f4")}
    if levels is not None:
        values, index = levels
        wide = len(values) > 256
        about |= {
            "shape": list(index.shape),
            "levels": _packed(values, "<f8"),
            "index": _packed(index, "<u2" if wide else "<u1"),
            "wide": wide,
            "suggested": suggest_pixels(values[index]),
        }
    return json.dumps(about)


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


def a_and_b(a: tuple[str, np.ndarray], b: tuple[str, np.ndarray]) -> str:
    """A and B, each a name and a picture uint8 (H, W, C), and how they differ."""
    apart = difference(a[1], b[1])
    words = "They differ in size, so there is no difference image."
    if apart is not None:
        words = f"|A − B|: {apart.mean:.2%} of the range from black to white on average, {apart.most:.1%} at most"
        words += ", which is white here." if apart.most else ": the same."
    shown = {side: {"name": name, "source": data_uri(image)} for side, (name, image) in {"a": a, "b": b}.items()}
    source = data_uri(apart.image) if apart is not None else None
    return json.dumps({**shown, "difference": {"words": words, "source": source}})


def corners(
    checkpoint: str, seed: int, images: Sequence[int], told: Sequence[Any], pictures: Sequence[np.ndarray]
) -> str:
    """Samples to drag between: a seed's images by their numbers in the sheet, and what each looks like.

    told: the class (None: none) and the guidance that they were drawn with.
    """
    drawn = {"checkpoint": checkpoint, "seed": seed, "corners": list(images), "told": list(told)}
    return json.dumps({**drawn, "pictures": [*map(data_uri, pictures)]})
