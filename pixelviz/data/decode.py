"""From a file or an array to pixels in [0, 1], whatever its mode, profile or depth, and within a bound of work."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pixelviz.data.jxl import BARE, BOXED, declared_size

MAX_PIXELS = 40_000_000
READ_SIDE = 1024  # larger pictures shrink while they are bytes: 40 megapixels of float64 would take a gigabyte
# A progressive JPEG is decoded once more for each of its scans; cameras write about ten.
MOST_SCANS, MOST_SCANNED = 500, 1_000_000_000  # scans, and scans times pixels: a few seconds
EXIF_ORIENTATION = 0x0112
COMPRESSION, PHOTOMETRIC, SUBSAMPLING, YCBCR = 259, 262, 530, 6  # tags of TIFF, and a value of the second
DEPTHS = (8, 10, 12, 14)  # bits that cameras and scanners put into 16
GAIN_MAP = (b"hdrgm:Version", b"urn:iso:std:iso:ts:21496:-1")  # of Ultra HDR, and of ISO 21496-1
NEUTRAL = 2  # of 255: profiles that move no colour further are sRGB, whatever their name is
PROBE = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128], [230, 90, 20]])

# For whatever else in the process opens images; here `check_size` follows, whatever the filters are.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)


class ImageError(ValueError):
    """A picture that cannot be used; the message says why and what to do."""


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are opened, HEIF and JPEG XL where their packages are installed.

    Pillow hands EPS and WMF to outside programs, so only formats that are pixels are among them.
    """
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
    with suppress(ImportError):
        import pillow_jxl  # noqa: F401  registers itself
    known = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "HEIF", "JXL")
    return tuple(name for name in known if name in Image.OPEN)


def resize(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W, C) to (*shape, C) with Pillow's Lanczos filter, which widens as it shrinks; clipped to [0, 1]."""
    size, lanczos = (shape[1], shape[0]), Image.Resampling.LANCZOS
    planes = (Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in pixels.transpose(2, 0, 1))
    resized = np.stack([np.asarray(plane.resize(size, lanczos)) for plane in planes], axis=-1)
    return np.clip(resized.astype(np.float64), 0, 1)


def check_size(columns: int, rows: int) -> None:
    """Raise ImageError for more than MAX_PIXELS."""
    if columns * rows > MAX_PIXELS:
        raise ImageError(
            f"The image has {columns:,} x {rows:,} pixels ({columns * rows / 1e6:,.0f} megapixels); the limit is "
            f"{MAX_PIXELS / 1e6:.0f} megapixels. Make it smaller and try again."
        )


def decode_stream(stream) -> tuple[np.ndarray, tuple[str, ...]]:
    """Identify, check the declared size, and only then decode: pixels (H, W, 1 or 3) in [0, 1], and notes.

    Raises ImageError: not an image, damaged, over MAX_PIXELS, or made to take for ever.
    """
    data = stream.read()
    if size := declared_size(data):
        check_size(*size)
    try:
        image = Image.open(BytesIO(data), formats=formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow refuses before it returns an image with a size, so the number is in its message only.
        number = re.search(r"\((\d+) pixels\)", str(error))
        found = f"has {int(number[1]) / 1e6:,.0f} megapixels" if number else "is too large"
        raise ImageError(
            f"The image {found}; the limit is {MAX_PIXELS / 1e6:.0f} megapixels. Make it smaller and try again."
        ) from None
    except Exception:  # a plugin may fail on a damaged header in any way at all
        raise ImageError(_why_no_image(data[:1024])) from None
    with image:
        check_size(*image.size)
        if image.format in ("JPEG", "MPO"):
            _check_scans(data, image.width * image.height)
        return decode_image(image, data)


def _check_scans(data: bytes, pixels: int) -> None:
    scans = data.count(b"\xff\xda")  # inside of a scan 0xff is followed by 0
    if scans > MOST_SCANS or scans * pixels > MOST_SCANNED:
        raise ImageError(
            f"This JPEG is cut into {scans:,} scans, which would take minutes to decode; save it again, as an ordinary "
            "JPEG or as PNG."
        )


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
    if head[4:8] == b"ftyp" and head[8:10] in (b"he", b"mi", b"ms"):  # heic, heix, heim, heis, hevc, hevx, mif1, msf1
        return "This HEIC photo cannot be read here, or is damaged; export it as JPEG."
    if head.startswith((BARE, BOXED[:8])):
        return "This JPEG XL picture cannot be read here, or is damaged; export it as PNG or JPEG."
    if head.startswith((b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")):
        return f"The image file is damaged; save or download it again. {advice}"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return f"This is a text file, whatever its name says. {advice}"
    return f"This is not an image that can be read. {advice}"


def decode_image(image: Image.Image, data: bytes = b"") -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode the first frame upright, its mode turned into gray or sRGB: as `decode_stream`.

    data: the file, from which colours of 16 bits are read: Pillow keeps 8 of them.
    """
    notes: list[str] = []
    try:
        notes += _besides(image, data)
        image.seek(0)
        deep = _deep_colour(image, data, notes)
        if deep is None:
            image = _ycbcr(image, data)
            image.load()
            image = _upright(image, notes)
            pixels = _wide(image, notes) if image.mode[0] in "IF" else _eight_bit(image, notes)
        else:
            pixels = deep
    except ImageError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly every kind of error
        reason = str(error) or type(error).__name__
        raise ImageError(f"The image file is damaged or incomplete ({reason}); save or download it again.") from None
    return pixels, tuple(notes)


def _besides(image: Image.Image, data: bytes) -> list[str]:
    """What a file holds besides its first picture, in a note; Pillow tells nothing of gain maps."""
    if image.format in ("JPEG", "MPO") and any(mark in data for mark in GAIN_MAP):
        return ["The file also holds an HDR gain map; its main picture, of standard range, is used."]
    if not getattr(image, "is_animated", False):
        return []
    if image.format == "MPO":
        return ["The file also holds further pictures; its main picture is used."]
    return ["The file holds several frames; the first is used."]


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """Turned as the camera's EXIF tag says; unreadable EXIF data is no reason to refuse the picture."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF parser raises many kinds
        return image
    if orientation not in range(2, 9):
        return image
    notes.append("Turned upright, as its EXIF data says.")
    return ImageOps.exif_transpose(image) or image


# --- More than 8 bits


def _depth(highest: int) -> int:
    """How many of 16 bits the values use; what fills none of DEPTHS uses all."""
    return next((bits for bits in DEPTHS if highest < 2**bits), 16)


def _sixteen_bits(values: np.ndarray, what: str, notes: list[str]) -> np.ndarray:
    """Whole numbers up to 65535, (H, W, C), as [0, 1]: by the bits that they use, shrunk to READ_SIDE."""
    highest = int(values.max())
    bits = _depth(highest)
    full = 2**bits - 1
    used = f", of which {bits} are used" if bits < 16 else ""
    notes.append(f"16-bit {what}{used}: 0 to {full} became 0 to 1 (the brightest value here is {highest}).")
    return _shrunk(values / full, notes)


def _shrunk(pixels: np.ndarray, notes: list[str]) -> np.ndarray:
    rows, columns = pixels.shape[:2]
    scale = READ_SIDE / max(rows, columns)
    if scale >= 1:
        return pixels
    shape = max(1, round(rows * scale)), max(1, round(columns * scale))
    notes.append(f"Shrunk from {columns}x{rows} to {shape[1]}x{shape[0]} pixels.")
    return resize(pixels, shape)


def _wide(image: Image.Image, notes: list[str]) -> np.ndarray:
    """Modes I;16, I and F, gray with more than 8 bits, as (H, W, 1) in [0, 1]."""
    values = np.asarray(image).astype(np.float64)[..., None]
    if not np.isfinite(values).all():
        raise ImageError("The image holds values that are not numbers (NaN or infinity); save it again without them.")
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and high <= 65535):
        return _sixteen_bits(values, "gray", notes)
    if image.mode == "F" and low >= 0 and high <= 1:
        notes.append("Floating-point gray, already between 0 and 1.")
    elif image.mode == "F" and low >= 0 and high <= 255:
        values /= 255
        notes.append("Floating-point gray: 0 to 255 became 0 to 1.")
    else:
        values = (values - low) / ((high - low) or 1.0)
        notes.append(f"Its values run from {low:g} to {high:g}; that range became 0 to 1.")
    return _shrunk(values, notes)


def _deep_colour(image: Image.Image, data: bytes, notes: list[str]) -> np.ndarray | None:
    """A PNG or TIFF with 16 bits per colour as pixels; None for all others, and where 8 bits must do."""
    colour = image.mode in ("RGB", "RGBA", "RGBX", "LA")
    if not (data and colour and image.format in ("PNG", "TIFF") and ";16" in str(getattr(image, "tile", ""))):
        return None
    try:
        if image.info.get("icc_profile") and not _is_srgb(_profile(image.info["icc_profile"])):
            raise ValueError("colour management works on 8 bits")
        values = _read_png(data) if image.format == "PNG" else _read_tiff(data)
        turned = image.getexif().get(EXIF_ORIENTATION, 1) in range(2, 9)
        if turned or values.shape[:2] != (image.height, image.width):
            raise ValueError("turned, or cut into parts")
    except Exception:  # one of two libraries' many errors; Pillow tells what is wrong with a damaged file
        notes.append("Its 16 bits per colour were read as 8.")
        return None
    if values.shape[2] in (2, 4):
        alpha = values[..., -1:] / 65535
        if alpha.min() < 1:
            notes.append("Transparent parts were laid on white.")
        values = np.rint(values[..., :-1] * alpha + 65535 * (1 - alpha))
    return _sixteen_bits(values.astype(np.float64), "color" if values.shape[2] == 3 else "gray", notes)


def _read_png(data: bytes) -> np.ndarray:
    import av

    with av.open(BytesIO(data), format="png_pipe") as container:
        frame = next(container.decode(video=0))
    gray = frame.format.name.startswith(("gray", "ya"))
    values = frame.reformat(format="rgba64le").to_ndarray()
    return values[..., [0, 3]] if gray else values


def _read_tiff(data: bytes) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages[0]
        values = page.asarray()
        return np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values


# --- 8 bits


def _profile(data: bytes) -> Any:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(BytesIO(data))


@cache
def _srgb() -> Any:
    from PIL import ImageCms

    return ImageCms.createProfile("sRGB")


def _convert(image: Image.Image, profile: Any) -> Image.Image:
    """To sRGB, mode RGB, by the relative colorimetric intent: white stays white."""
    from PIL import ImageCms

    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(image, profile, _srgb(), renderingIntent=intent, outputMode="RGB")
    assert converted is not None  # it was not changed in place
    return converted


def _is_srgb(profile: Any) -> bool:
    """Whether a profile leaves the colours, or the grays, as they are."""
    gray = profile.profile.xcolor_space.strip() == "GRAY"
    if not gray and profile.profile.xcolor_space.strip() != "RGB":
        return False
    probe = np.repeat(np.arange(0, 256, 15)[:, None], 3, axis=1) if gray else PROBE
    image = Image.fromarray(probe[None].astype(np.uint8))
    found = np.asarray(_convert(image.convert("L") if gray else image, profile)).astype(int)
    return bool((np.abs(found - probe) <= NEUTRAL).all())


def _managed(image: Image.Image, notes: list[str]) -> Image.Image:
    """A picture of mode L, RGB, CMYK or LAB in sRGB, where it says what its numbers mean."""
    from PIL import ImageCms

    data = image.info.get("icc_profile")
    spaces = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}
    if image.mode == "LAB" and not data:
        notes.append("Converted from Lab to sRGB.")
        return _convert(image, ImageCms.createProfile("LAB"))
    if not data:
        return image
    try:
        profile = _profile(data)
        if profile.profile.xcolor_space.strip() != spaces.get(image.mode) or _is_srgb(profile):
            return image
        converted = _convert(image, profile)
        name = re.sub(r"[^\w .,()+-]", "", ImageCms.getProfileDescription(profile)).strip()[:40]
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append("Its color profile is damaged and was left out.")
        return image
    notes.append(f"Converted from the color profile {name or 'in the file'} to sRGB.")
    return converted.getchannel(0) if image.mode == "L" else converted


def _eight_bit(image: Image.Image, notes: list[str]) -> np.ndarray:
    """All other modes, as (H, W, 1) or (H, W, 3) in [0, 1]: by their profile, alpha on white, else Pillow's way."""
    profile = image.info.get("icc_profile")
    alpha = None
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        gray = image.mode in ("1", "L", "LA")
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB").convert("L") if gray else image.convert("RGB")
        if alpha.getextrema()[0] == 255:
            alpha = None
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        if image.mode not in ("P", "PA", "RGBX"):
            notes.append(f"Converted from {image.mode} to RGB.")
        image = image.convert("RGB")
    if max(image.size) > READ_SIDE:
        before = image.size
        image.thumbnail((READ_SIDE, READ_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
        notes.append("Shrunk from {}x{} to {}x{} pixels.".format(*before, *image.size))
        alpha = alpha and alpha.resize(image.size, Image.Resampling.LANCZOS)
    image.info["icc_profile"] = profile
    image = _managed(image, notes)
    if image.mode in ("CMYK", "LAB"):
        notes.append(f"Converted from {image.mode} to RGB.")
        image = image.convert("RGB")
    if alpha is not None:
        notes.append("Transparent parts were laid on white.")
        image = Image.composite(image, Image.new(image.mode, image.size, "white"), alpha)
    pixels = np.asarray(image).astype(np.float64)
    pixels /= 255
    return pixels[..., None] if image.mode == "L" else pixels


def _ycbcr(image: Image.Image, data: bytes) -> Image.Image:
    """An uncompressed TIFF in YCbCr as such a picture; Pillow takes its three bytes a pixel for four."""
    tags = getattr(image, "tag_v2", {})
    if not (data and tags.get(PHOTOMETRIC) == YCBCR and tags.get(COMPRESSION, 1) == 1):
        return image
    if tuple(tags.get(SUBSAMPLING, (2, 2))) != (1, 1):
        raise ImageError("This TIFF keeps its color at a lower resolution, uncompressed; save it as RGB.")
    return Image.fromarray(_read_tiff(data), "YCbCr")


def decode_array(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """An array as pixels and notes; its dtype says what its range is. Raises ImageError."""
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4) or 0 in values.shape:
        raise ImageError(f"An image array has the shape (height, width, 1 to 4); this one is {values.shape}.")
    check_size(values.shape[1], values.shape[0])
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
        return pixels, ()
    color, alpha = pixels[..., :-1], pixels[..., -1:]
    notes = ("Transparent parts were laid on white.",) if alpha.min() < 1 else ()
    return color * alpha + 1 - alpha, notes
