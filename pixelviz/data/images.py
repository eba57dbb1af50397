"""The one door for pictures from users: any upload becomes pixels in [0, 1], with notes of what was done to it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelviz.data.assets import EXAMPLES_DIR, HOME
from pixelviz.data.decode import ImageError, check_size, decode_array, decode_image, decode_stream, resize

MIDDLE = 0.5
SCREEN_SIDE = 256  # rows and columns at most on the screen, and in all that is computed for it
LEVEL_STEPS = 16 * 255  # of brightness from 0 to 1 where a picture has more levels than this: eight bits fall on them
MNIST_SIDE, MNIST_PAD = 28, 2  # MNIST-sized pictures get a black border of 2, not a resize: 28 to 32
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2"}
IMAGE_SUFFIXES |= {".heic", ".heif", ".jxl"}  # read where their packages are installed, otherwise named as left out

EXAMPLES: tuple[tuple[str, Path], ...] = tuple(
    (label, EXAMPLES_DIR / name)
    for label, name in (
        ("Astronaut", "astronaut.jpg"),
        ("Cat", "chelsea.jpg"),
        ("Coffee", "coffee.jpg"),
        ("Rocket", "rocket.jpg"),
        ("Camera", "camera.jpg"),
        ("Hubble deep field", "hubble_deep_field.jpg"),
        ("T-shirt", "t-shirt.png"),
        ("Trouser", "trouser.png"),
        ("Dress", "dress.png"),
        ("Sandal", "sandal.png"),
        ("Bag", "bag.png"),
        ("Ankle boot", "ankle-boot.png"),
        ("Face, Micah", "face-micah.png"),
        ("Face, Personas", "face-personas.png"),
        ("Face, Pixel Art", "face-pixel-art.png"),
        ("Face, ToonHead", "face-toon-head.png"),
    )
)


def example_file(name: str) -> str:
    """The file of a bundled example by its id, the file's stem, from the top of a checkout; raises KeyError."""
    return {path.stem: path.relative_to(HOME).as_posix() for _, path in EXAMPLES}[name]


@dataclass(frozen=True)
class Picture:
    """pixels: float64 (H, W, C) in [0, 1], C 1 (gray) or 3 (RGB). notes: what was done, for the user.

    crop: where along the longer side a square is cut out, from 0 to 1; 0.5 is the middle.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    crop: float = MIDDLE

    def tensor(self) -> Tensor:
        """(C, H, W), float64 in [0, 1]; `data.to_unit` takes it to [floor, 1]."""
        return torch.from_numpy(np.ascontiguousarray(self.pixels.transpose(2, 0, 1)))

    @cached_property
    def screen(self) -> Picture:
        """The picture at most SCREEN_SIDE a side."""
        return fit(self, SCREEN_SIDE)

    @cached_property
    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Its distinct values (L,), ascending, and each value's place among them, (C, H, W).

        More than LEVEL_STEPS of them are rounded to whole steps of 1/LEVEL_STEPS: half a step at most, 1.2e-4.
        """
        pixels = self.pixels.transpose(2, 0, 1)
        index = np.rint(pixels * LEVEL_STEPS).astype(np.int64)
        if (index / LEVEL_STEPS != pixels).any() and len(levels := np.unique(pixels)) <= LEVEL_STEPS:
            return levels, np.searchsorted(levels, pixels)
        there = np.bincount(index.ravel(), minlength=LEVEL_STEPS + 1) > 0
        return np.flatnonzero(there) / LEVEL_STEPS, (np.cumsum(there) - 1)[index]

    def _with(self, pixels: np.ndarray, *notes: str) -> Picture:
        return replace(self, pixels=pixels, notes=self.notes + notes)


def read_image(source: str | os.PathLike | bytes | Image.Image | np.ndarray) -> Picture:
    """The picture in a file (path or bytes), a PIL image, or an array.

    Arrays are (H, W) or (H, W, C) with C 1 to 4: bool, uint8, uint16, other integers 0..255, or floats
    in [0, 1]. Raises ImageError: not an image, damaged, over 40 megapixels, or values out of range.
    """
    if source is None:
        raise ImageError("There is no image yet; upload one or choose an example.")
    if isinstance(source, np.ndarray):
        return Picture(*decode_array(source))
    if isinstance(source, Image.Image):
        check_size(*source.size)
        return Picture(*decode_image(source))
    if isinstance(source, bytes | bytearray):
        return Picture(*decode_stream(BytesIO(source)))
    if not isinstance(source, str | os.PathLike):
        raise ImageError(f"An image is a file, bytes, a PIL image or an array; this is {type(source).__name__}.")
    try:
        with open(source, "rb") as stream:
            return Picture(*decode_stream(stream))
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{_named(source)} cannot be opened ({reason}); choose it again, or another one.") from None


def _named(source: str | os.PathLike | bytes) -> str:
    """A file by its own name, without the folder that an upload lies in."""
    return "The file" if isinstance(source, bytes) else f"The file {Path(source).name}"


def fit(picture: Picture, max_side: int) -> Picture:
    """Shrink, antialiased, until neither side is longer than `max_side`; the aspect ratio is kept."""
    rows, columns = picture.pixels.shape[:2]
    scale = max_side / max(rows, columns)
    if scale >= 1:
        return picture
    shape = max(1, round(rows * scale)), max(1, round(columns * scale))
    note = f"Shrunk from {columns}x{rows} to {shape[1]}x{shape[0]} pixels."
    return picture._with(resize(picture.pixels, shape), note)


def fit_square(picture: Picture, size: int, channels: int) -> Picture:
    """(size, size, channels) for a model: a square cut out at `crop`, antialiased resize, gray or RGB (Rec. 601 luma).

    A gray picture of 28x28 gets a black border of 2, as the data sets of that size do.
    """
    picture = _in_channels(picture, channels)
    pixels, notes = picture.pixels, []
    rows, columns = pixels.shape[:2]
    if rows != columns:
        side = min(rows, columns)
        pixels = _cut(pixels, side, side, picture.crop)
        which = "middle" if picture.crop == MIDDLE else f"square at {100 * picture.crop:.0f} % of the longer side,"
        notes.append(f"The {which} {side}x{side} of {columns}x{rows} pixels was cut out.")
    if len(pixels) != size:
        notes.append(f"{'Shrunk' if len(pixels) > size else 'Enlarged'} from {len(pixels)} to {size} pixels a side.")
        pixels = resize(pixels, (size, size))
    return picture._with(np.clip(pixels, 0, 1), *notes)


def middle_square(picture: Picture, side: int) -> Picture:
    """The middle of a picture, (side, side, C); a shorter picture keeps what it has."""
    return replace(picture, pixels=_cut(picture.pixels, *(min(side, n) for n in picture.pixels.shape[:2])))


def fit_between(picture: Picture, least: int, most: int, channels: int) -> Picture:
    """(H, W, channels) with both sides from `least` to `most`: shrunk as `fit` does, gray or RGB as `fit_square` does.

    A picture whose shorter side would be below `least` is enlarged to that, and the middle of its longer side kept.
    """
    picture = fit(_in_channels(picture, channels), most)
    rows, columns = picture.pixels.shape[:2]
    if min(rows, columns) >= least:
        return picture
    scale = least / min(rows, columns)
    shape = round(rows * scale), round(columns * scale)
    # Cut before it is resized: a line of one pixel by a thousand would otherwise become huge.
    keep = min(rows, round(most / scale)), min(columns, round(most / scale))
    pixels = _cut(picture.pixels, *keep, picture.crop)
    pixels = resize(pixels, (min(shape[0], most), min(shape[1], most)))
    cut = " of its middle" if keep != (rows, columns) else ""
    return picture._with(pixels, f"Enlarged from {columns}x{rows} to {pixels.shape[1]}x{pixels.shape[0]} pixels{cut}.")


def _in_channels(picture: Picture, channels: int) -> Picture:
    """Gray or RGB (Rec. 601 luma); a gray picture of 28x28 gets its black border."""
    pixels, notes = picture.pixels, []
    small = pixels.shape[0] == pixels.shape[1] == MNIST_SIDE
    # Whether it is gray matters, and is looked for, only where it would change something.
    gray = pixels.shape[2] == 1 or ((channels == 1 or small) and bool((pixels == pixels[..., :1]).all()))
    if channels == 1 and pixels.shape[2] == 3:
        if not gray:
            notes.append("Color was turned into gray (Rec. 601 luma).")
        pixels = pixels[..., :1] if gray else (pixels @ LUMA)[..., None]
    elif channels == 3 and pixels.shape[2] == 1:
        notes.append("Gray was repeated in three color channels.")
        pixels = np.repeat(pixels, 3, axis=2)
    if gray and small:
        pixels = np.pad(pixels, ((MNIST_PAD, MNIST_PAD), (MNIST_PAD, MNIST_PAD), (0, 0)))
        notes.append(f"A black border took it from {MNIST_SIDE}x{MNIST_SIDE} to {len(pixels)}x{len(pixels)} pixels.")
    return picture._with(pixels, *notes)


def _cut(pixels: np.ndarray, rows: int, columns: int, place: float = MIDDLE) -> np.ndarray:
    """`rows` by `columns` of (H, W, C), from its beginning (place 0) to its end (1)."""
    top, left = int(place * (pixels.shape[0] - rows)), int(place * (pixels.shape[1] - columns))
    return pixels[top : top + rows, left : left + columns]
