"""Data sets as uint8 tensors, and the range [floor, 1] that the process needs: its only conversions are here."""

from __future__ import annotations

import gzip
import math
import os
import re
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelviz.assets import FASHION_10K
from pixelviz.images import IMAGE_SUFFIXES, MNIST_PAD, MNIST_SIDE, ImageError, fit_square, read_image
from pixelviz.process.forward import raise_to_floor

Split = Literal["train", "test"]

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SPLIT_FILES = {"train": "train", "test": "t10k"}  # the prefixes of the MNIST family
SPLIT_WORDS = {"train": "training", "test": "test"}
FASHION_TOTALS = {"train": 60_000, "test": 10_000}
SYSTEM_FOLDERS = (Path("/usr/share/datasets/fashion-mnist"),)  # Debian's package dataset-fashion-mnist
MAX_IDX_BYTES = 4 * 2**30
HELD_OUT = 10  # one file in ten is the test split of a folder without train/ and test/


class DataError(ValueError):
    """A data set that cannot be read; the message says which file and what would help."""


@dataclass(frozen=True)
class ImageSet:
    """A data set in memory.

    images: uint8, (N, C, size, size). name: what a model card should say. note: what the user should
    know about how it was found or read, or None. labels: int64, (N,), or None where there are none.
    """

    images: Tensor
    name: str
    note: str | None = None
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)


def to_unit(images, floor: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """x0 = floor + (1 - floor) p, in [floor, 1] (Section 4's epsilon), the shape kept.

    `images`: integers 0..255, where p = value/255, or floats p in [0, 1]; arrays or tensors.
    """
    images = torch.as_tensor(images)
    p = images.to(dtype) if images.is_floating_point() else images.to(dtype) / 255
    return raise_to_floor(p, floor)


def to_image(x0: Tensor, floor: float) -> Tensor:
    """p = (x0 - floor) / (1 - floor), clipped to [0, 1]; dtype and shape kept. Not-a-number becomes 0."""
    return ((x0 - floor) / (1 - floor)).nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)


def from_unit(x0: Tensor, floor: float) -> Tensor:
    """uint8 0..255 of x0 in [floor, 1], rounded; values outside are clipped."""
    return (to_image(x0, floor) * 255).round().to(torch.uint8)


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an IDX file (LeCun's format), gzipped or not; raises DataError on any flaw."""
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
                raise DataError(f"{path} is not an IDX file of bytes: it starts with {head.hex() or 'nothing'}.")
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise DataError(f"{path} ends inside its header; copy or download it again.")
            shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
            if math.prod(shape) > MAX_IDX_BYTES:
                raise DataError(f"{path} declares {shape}, more than {MAX_IDX_BYTES / 2**30:.0f} GiB.")
            values = file.read(math.prod(shape) + 1)  # one more, to notice a file that is too long
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"{path} cannot be read ({error}); delete it and copy or download it again.") from None
    if len(values) != math.prod(shape):
        how = "more" if len(values) > math.prod(shape) else f"only {len(values):,}"
        raise DataError(f"{path} declares {shape}, {math.prod(shape):,} bytes, and holds {how}; download it again.")
    return np.frombuffer(values, np.uint8).reshape(shape)


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write a uint8 array as gzipped IDX; the same array always gives the same bytes (no time stamp)."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    Path(path).write_bytes(gzip.compress(head + np.ascontiguousarray(values).tobytes(), 9, mtime=0))


def _idx_file(folder: Path, split: Split, kind: str) -> Path | None:
    """The images (idx3) or labels (idx1) file of a split in `folder`, or None."""
    stem = folder / f"{SPLIT_FILES[split]}-{kind}-ubyte"
    return next((p for p in (stem.with_name(stem.name + ".gz"), stem) if p.is_file()), None)


def read_idx_pair(folder: Path, split: Split) -> tuple[np.ndarray, np.ndarray | None]:
    """Images uint8 (N, H, W) and labels uint8 (N,), or None without a labels file; raises DataError."""
    source = _idx_file(folder, split, "images-idx3")
    if source is None:
        raise DataError(f"{folder} holds no {SPLIT_FILES[split]}-images-idx3-ubyte.gz.")
    images = read_idx(source)
    if images.ndim != 3 or not images.size:
        raise DataError(f"{source} holds an array of shape {images.shape}; images need (number, rows, columns).")
    labels_file = _idx_file(folder, split, "labels-idx1")
    if labels_file is None:
        return images, None
    labels = read_idx(labels_file)
    if labels.shape != images.shape[:1]:
        raise DataError(f"{labels_file} has shape {labels.shape}, but there are {len(images):,} images.")
    return images, labels


def _fit_batch(images: Tensor, size: int, channels: int) -> Tensor:
    """(N, H, W) uint8 to (N, channels, size, size): 28x28 is zero-padded to 32x32, others are center-cropped."""
    rows, columns = images.shape[1:]
    if rows == columns == MNIST_SIDE:
        images = F.pad(images, (MNIST_PAD,) * 4)
    elif rows != columns:
        side = min(rows, columns)
        top, left = (rows - side) // 2, (columns - side) // 2
        images = images[:, top : top + side, left : left + side]
    images = images[:, None]
    if images.shape[-1] != size:
        resized = [
            F.interpolate(part.float(), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
            for part in images.split(4096)
        ]
        images = torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in resized])
    return images.expand(-1, channels, -1, -1).contiguous()


def _spread(count: int, limit: int | None) -> np.ndarray:
    """Indices of at most `limit` of `count` items, evenly spaced: a folder sorted by class gives every class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def _count(number: int, total: int, split: Split) -> str:
    of = f" of the {total:,}" if number < total else ""
    return f"{number:,}{of} {SPLIT_WORDS[split]} images"


def _from_idx(
    folder: Path, title: str, split: Split, size: int, channels: int, limit: int | None, total: int | None = None
) -> ImageSet:
    """ImageSet of a folder of IDX files; `total`: the size of the whole set, where the folder holds a part."""
    images, labels = read_idx_pair(folder, split)
    keep = _spread(len(images), limit)
    tensor = _fit_batch(torch.from_numpy(images[keep]), size, channels)
    name = f"{title} ({_count(len(keep), total or len(images), split)})"
    return ImageSet(tensor, name, None, None if labels is None else torch.from_numpy(labels[keep].astype(np.int64)))


def _download_folder() -> Path:
    """Where torchvision downloads to: PIXELVIZ_DATA, or the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelviz"
    return Path(os.environ.get("PIXELVIZ_DATA") or cache)


def _fashion_folders() -> Iterator[Path]:
    """The folders where the full Fashion-MNIST may lie, PIXELVIZ_DATA first."""
    for root in (_download_folder(), Path("data"), Path(torch.hub.get_dir()).parent):
        yield from (root, root / "fashion-mnist", root / "FashionMNIST" / "raw")
    yield from SYSTEM_FOLDERS


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision opens its URLs without a timeout; without this a silent network would hang the caller."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _download_fashion() -> None:
    """Let torchvision fetch the four files, checksums included; raises RuntimeError or OSError."""
    from torchvision.datasets import FashionMNIST

    with _socket_timeout(30):
        FashionMNIST(str(_download_folder()), download=True)


def _fashion(split: Split, size: int, channels: int, limit: int | None, allow_download: bool) -> ImageSet:
    """The full set where it can be had, otherwise the bundled part with a note that says so."""

    def found() -> Path | None:
        return next((f for f in _fashion_folders() if _idx_file(f, split, "images-idx3")), None)

    folder, why = found(), "downloading was not allowed"
    if folder is None and allow_download:
        try:
            _download_fashion()
            folder = found()
        except (RuntimeError, OSError, ImportError, HTTPException) as error:
            why = "the download failed: " + (str(error).strip().splitlines() or [type(error).__name__])[0]
    if folder is not None:
        return _from_idx(folder, "Fashion-MNIST", split, size, channels, limit)
    bundled = _from_idx(FASHION_10K, "Fashion-MNIST", split, size, channels, limit, FASHION_TOTALS[split])
    note = (
        f"The full Fashion-MNIST is not on this computer ({why}), so {len(bundled):,} bundled images are used. "
        "Put its four .gz files in a folder and name that folder in the environment variable PIXELVIZ_DATA."
    )
    return ImageSet(bundled.images, bundled.name, note, bundled.labels)


def _image_files(folder: Path, split: Split) -> tuple[list[Path], str | None]:
    """The split's image files, sorted, and a note where too few are there to hold any out."""
    has_splits = any((folder / name).is_dir() for name in SPLIT_FILES)
    root = folder / split if has_splits else folder
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    files = [p for p in files if p.is_file()]
    if not files:
        raise DataError(f"{root} holds no images; put PNG, JPEG or WebP files in it, or IDX files of the MNIST family.")
    if has_splits:
        return files, None
    if len(files) < HELD_OUT:
        return files, f"With {len(files)} images, none are held out for testing."
    held = set(files[HELD_OUT - 1 :: HELD_OUT])
    return [p for p in files if (p in held) == (split == "test")], None


def _from_images(folder: Path, split: Split, size: int, channels: int, limit: int | None) -> ImageSet:
    """ImageSet of a folder of image files, flat or nested; unreadable files are skipped and named in the note."""
    files, note = _image_files(folder, split)
    chosen = [files[k] for k in _spread(len(files), limit)]
    images, failures = [], []
    for path in chosen:
        try:
            pixels = fit_square(read_image(path), size, channels).pixels
        except ImageError as error:
            failures.append(f"{path.relative_to(folder)}: {error}")
            continue
        images.append(np.round(pixels * 255).astype(np.uint8).transpose(2, 0, 1))
    notes = [note] if note else []
    if failures:
        more = f" And {len(failures) - 5} more." if len(failures) > 5 else ""
        notes.append(f"{len(failures)} of {len(chosen)} files were skipped. " + " ".join(failures[:5]) + more)
    if not images:
        raise DataError(f"None of the {len(chosen)} image files in {folder} can be read. " + " ".join(failures[:3]))
    tensor = torch.from_numpy(np.stack(images))
    return ImageSet(tensor, f"{folder.name} ({_count(len(images), len(files), split)})", " ".join(notes) or None)


def load_images(
    data: str,
    *,
    split: Split = "train",
    size: int,
    channels: int,
    limit: int | None = None,
    allow_download: bool = True,
) -> ImageSet:
    """Load a data set as uint8 images (N, channels, size, size).

    Args: data, "fashion-mnist-10k" (bundled: 10,000 training and 1,000 test images), "fashion-mnist"
    (60,000 and 10,000: from PIXELVIZ_DATA, ./data, the cache or the system's data sets, else downloaded
    by torchvision, else the bundled part with a note), or a folder of IDX files or of images. A folder
    of images is read below train/ or test/ where it has these, otherwise one file in ten is the test
    split. limit, at most so many, evenly spaced. Raises DataError.
    """
    if split not in SPLIT_FILES:
        raise DataError(f"split must be train or test; it is {split!r}.")
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1; it is {limit}.")
    if size < 4 or channels not in (1, 3):
        raise DataError(f"size must be at least 4 and channels 1 or 3; they are {size} and {channels}.")
    if data == "fashion-mnist-10k":
        return _from_idx(FASHION_10K, "Fashion-MNIST", split, size, channels, limit, FASHION_TOTALS[split])
    if data == "fashion-mnist":
        return _fashion(split, size, channels, limit, allow_download)
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise DataError(f"{data!r} is neither fashion-mnist, fashion-mnist-10k nor a folder; check the path.")
    folder = folder.resolve()
    if any(_idx_file(folder, s, "images-idx3") for s in SPLIT_FILES):
        title = "Fashion-MNIST" if re.fullmatch(r"fashion[-_ ]?mnist", folder.name, re.I) else folder.name
        return _from_idx(folder, title, split, size, channels, limit)
    return _from_images(folder, split, size, channels, limit)
