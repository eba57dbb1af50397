"""The one door for pictures from users: any upload becomes pixels in [0, 1], with notes of what was done to it."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pixelviz.data.assets import EXAMPLES_DIR

MAX_PIXELS = 40_000_000
READ_SIDE = 1024  # larger pictures shrink while they are 8-bit: 40 megapixels of float64 would take a gigabyte
MNIST_SIDE, MNIST_PAD = 28, 2  # MNIST-sized pictures get a black border of 2, not a resize: 28 to 32
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2"}
EXIF_ORIENTATION = 0x0112

# Pillow hands EPS and WMF to outside programs, so only formats that are pixels are opened.
Image.init()
FORMATS = tuple(
    name
    for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
    if name in Image.OPEN
)
# For whatever else in the process opens images; here `_check_size` follows, whatever the filters are.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)

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
    )
)


class ImageError(ValueError):
    """A picture that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Picture:
    """pixels: float64 (H, W, C) in [0, 1], C 1 (gray) or 3 (RGB). notes: what was done, for the user."""

    pixels: np.ndarray
    notes: tuple[str, ...] = ()

    def tensor(self) -> Tensor:
        """(C, H, W), float64 in [0, 1]; `data.to_unit` takes it to [floor, 1]."""
        return torch.from_numpy(np.ascontiguousarray(self.pixels.transpose(2, 0, 1)))

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
        return _from_array(source)
    if isinstance(source, Image.Image):
        _check_size(*source.size)
        return _decode(source)
    if isinstance(source, bytes | bytearray):
        return _from_stream(BytesIO(source))
    if not isinstance(source, str | os.PathLike):
        raise ImageError(f"An image is a file, bytes, a PIL image or an array; this is {type(source).__name__}.")
    try:
        with open(source, "rb") as stream:
            return _from_stream(stream)
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
    return picture._with(_resize(picture.pixels, shape), note)


def fit_square(picture: Picture, size: int, channels: int) -> Picture:
    """(size, size, channels) for a model: center crop, antialiased resize, gray or RGB (Rec. 601 luma).

    A gray picture of 28x28 gets a black border of 2, as the data sets of that size do.
    """
    picture = _in_channels(picture, channels)
    pixels, notes = picture.pixels, []
    rows, columns = pixels.shape[:2]
    if rows != columns:
        side = min(rows, columns)
        pixels = _middle(pixels, side, side)
        notes.append(f"The middle {side}x{side} of {columns}x{rows} pixels was cut out.")
    if len(pixels) != size:
        notes.append(f"{'Shrunk' if len(pixels) > size else 'Enlarged'} from {len(pixels)} to {size} pixels a side.")
        pixels = _resize(pixels, (size, size))
    return picture._with(np.clip(pixels, 0, 1), *notes)


def middle_square(picture: Picture, side: int) -> Picture:
    """The middle of a picture, (side, side, C); a shorter picture keeps what it has."""
    return replace(picture, pixels=_middle(picture.pixels, *(min(side, n) for n in picture.pixels.shape[:2])))


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
    pixels = _middle(picture.pixels, *keep)
    pixels = _resize(pixels, (min(shape[0], most), min(shape[1], most)))
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


def _middle(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The middle `rows` by `columns` of (H, W, C)."""
    top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
    return pixels[top : top + rows, left : left + columns]


def _resize(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W, C) to (*shape, C) with Pillow's Lanczos filter, which widens as it shrinks; clipped to [0, 1]."""
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(shape[::-1], Image.Resampling.LANCZOS)
        )
        for plane in pixels.transpose(2, 0, 1)
    ]
    return np.clip(np.stack(planes, axis=-1).astype(np.float64), 0, 1)


def _check_size(columns: int, rows: int) -> None:
    if columns * rows > MAX_PIXELS:
        raise ImageError(
            f"The image has {columns:,} x {rows:,} pixels ({columns * rows / 1e6:,.0f} megapixels); the limit is "
            f"{MAX_PIXELS / 1e6:.0f} megapixels. Make it smaller and try again."
        )


def _from_stream(stream) -> Picture:
    """Identify, check the declared size, and only then decode."""
    head = stream.read(1024)
    stream.seek(0)
    try:
        image = Image.open(stream, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow refuses before it returns an image with a size, so the number is in its message only.
        number = re.search(r"\((\d+) pixels\)", str(error))
        found = f"has {int(number[1]) / 1e6:,.0f} megapixels" if number else "is too large"
        raise ImageError(
            f"The image {found}; the limit is {MAX_PIXELS / 1e6:.0f} megapixels. Make it smaller and try again."
        ) from None
    except Exception:  # a plugin may fail on a damaged header in any way at all
        raise ImageError(_why_no_image(head)) from None
    with image:
        _check_size(*image.size)
        return _decode(image)


def _why_no_image(head: bytes) -> str:
    """What a file that starts like this is, if not an image."""
    advice = "Use PNG, JPEG, WebP, GIF, BMP or TIFF."
    if not head:
        return f"The file is empty. {advice}"
    if head.startswith(b"%PDF"):
        return "This is a PDF, not an image; export the page as PNG or JPEG."
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return "This is PostScript, not an image; export it as PNG or JPEG."
    if b"<svg" in head.lower():
        return "This is an SVG drawing, which has no pixels; export it as PNG."
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "HEIC photos cannot be read; export the photo as JPEG."
    if head.startswith((b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")):
        return f"The image file is damaged; save or download it again. {advice}"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return f"This is a text file, whatever its name says. {advice}"
    return f"This is not an image that can be read. {advice}"


def _decode(image: Image.Image) -> Picture:
    """Decode the first frame upright, and turn its mode into gray or RGB in [0, 1]."""
    notes: list[str] = []
    try:
        if getattr(image, "is_animated", False):
            image.seek(0)
            notes.append("The file holds several frames; the first is used.")
        image.load()
        image = _upright(image, notes)
        pixels = _wide(image, notes) if image.mode[0] in "IF" else _eight_bit(image, notes)
    except ImageError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly every kind of error
        reason = str(error) or type(error).__name__
        raise ImageError(f"The image file is damaged or incomplete ({reason}); save or download it again.") from None
    return Picture(pixels, tuple(notes))


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """Turned as the camera's EXIF tag says; unreadable EXIF data is no reason to refuse the picture."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF parser raises many kinds
        return image
    if orientation not in range(2, 9):
        return image
    notes.append("Turned upright, as its EXIF data says.")
    return ImageOps.exif_transpose(image)


def _wide(image: Image.Image, notes: list[str]) -> np.ndarray:
    """Modes I;16, I and F, gray with more than 8 bits, as (H, W, 1) in [0, 1]."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ImageError("The image holds values that are not numbers (NaN or infinity); save it again without them.")
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and high <= 65535):
        values /= 65535
        notes.append(f"16-bit gray: 0 to 65535 became 0 to 1 (the brightest value here is {high:.0f}).")
    elif image.mode == "F" and low >= 0 and high <= 1:
        notes.append("Floating-point gray, already between 0 and 1.")
    elif image.mode == "F" and low >= 0 and high <= 255:
        values /= 255
        notes.append("Floating-point gray: 0 to 255 became 0 to 1.")
    else:
        values = (values - low) / ((high - low) or 1.0)
        notes.append(f"Its values run from {low:g} to {high:g}; that range became 0 to 1.")
    fitted = fit(Picture(values[..., None]), READ_SIDE)
    notes.extend(fitted.notes)
    return fitted.pixels


def _eight_bit(image: Image.Image, notes: list[str]) -> np.ndarray:
    """All other modes, as (H, W, 1) or (H, W, 3) in [0, 1]: alpha on white, the rest by Pillow's conversions."""
    gray = image.mode in ("1", "L", "LA", "La")
    if image.mode == "LAB":
        raise ImageError("Pictures in Lab color cannot be read; save it as RGB.")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            notes.append("Transparent parts were laid on white.")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode not in ("1", "L", "P", "RGB", "RGBA", "RGBX", "LA", "PA"):
        notes.append(f"Converted from {image.mode} to RGB.")
    image = image.convert("L" if gray else "RGB")
    if max(image.size) > READ_SIDE:
        before = image.size
        image.thumbnail((READ_SIDE, READ_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
        notes.append("Shrunk from {}x{} to {}x{} pixels.".format(*before, *image.size))
    pixels = np.asarray(image).astype(np.float64)
    pixels /= 255
    return pixels[..., None] if gray else pixels


def _from_array(values: np.ndarray) -> Picture:
    """An array as a picture; its dtype says what its range is."""
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4) or 0 in values.shape:
        raise ImageError(f"An image array has the shape (height, width, 1 to 4); this one is {values.shape}.")
    _check_size(values.shape[1], values.shape[0])
    if values.dtype.kind not in "buif":
        raise ImageError(f"An image array holds numbers; this one holds {values.dtype}.")
    full = {"b": 1, "f": 1, "u": 65535 if values.dtype == np.uint16 else 255, "i": 255}[values.dtype.kind]
    pixels = values.astype(np.float64)
    if not np.isfinite(pixels).all():
        raise ImageError("The array holds NaN or infinity; replace these values and try again.")
    slack = 1e-6 if values.dtype.kind == "f" else 0  # resampling and float32 leave values a hair outside
    if pixels.min() < -slack or pixels.max() > full + slack:
        raise ImageError(
            f"Arrays of {values.dtype} must lie between 0 and {full}; this one runs from {pixels.min():g} to "
            f"{pixels.max():g}. Scale it first."
        )
    pixels = np.clip(pixels / full, 0, 1)
    if pixels.shape[2] in (1, 3):
        return Picture(pixels)
    color, alpha = pixels[..., :-1], pixels[..., -1:]
    notes = ("Transparent parts were laid on white.",) if alpha.min() < 1 else ()
    return Picture(color * alpha + 1 - alpha, notes)
