"""Pictures over the limit of uploads, shrunk as they are read: for training, where the files are one's own."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from pixelviz.data.decode import MAX_PIXELS, READ_SIDE, ImageError, decode_image, formats
from pixelviz.data.images import Picture

MOST_PIXELS = 400_000_000  # 1.2 GB of bytes, for a moment


def _opened(path: Path) -> Image.Image | None:
    """The image with nothing decoded, past Pillow's own limit; None where it is of no kind that is read."""
    data = io.BytesIO(path.read_bytes())
    head = data.getvalue()[:16]
    for name in formats():
        factory, accepts = Image.OPEN[name]
        if accepts is not None and accepts(head) is True:
            return factory(data, "")
    return None


def read_large(path: Path) -> Picture | None:
    """The picture, shrunk to at most READ_SIDE a side; None unless it has over MAX_PIXELS and can be read.

    Raises ImageError for a damaged one.
    """
    try:
        image = _opened(path)
    except Exception:  # whatever it is, the ordinary way has said what is wrong with it
        return None
    try:
        if image is None or not MAX_PIXELS < image.width * image.height <= MOST_PIXELS:
            return None
        before = image.size
        image.draft("RGB" if image.mode == "YCbCr" else image.mode, (READ_SIDE, READ_SIDE))  # of JPEG: decodes less
        image.thumbnail((READ_SIDE, READ_SIDE), reducing_gap=2.0)
    except Exception as error:  # decoders of damaged files raise nearly every kind of error
        raise ImageError(f"The image file is damaged or incomplete ({error}); save or download it again.") from None
    pixels, notes = decode_image(image)
    return Picture(pixels, (*notes, f"Shrunk from {before[0]}x{before[1]} as it was read."))
