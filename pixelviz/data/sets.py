"""Data sets as uint8 tensors, and the range [floor, 1] that the process needs: its only conversions are here."""

from __future__ import annotations

import gzip
import math
import os
import re
import socket
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelviz.data import faces
from pixelviz.data.assets import FACES_10K, FASHION_10K
from pixelviz.data.images import (
    IMAGE_SUFFIXES,
    LUMA,
    MNIST_PAD,
    MNIST_SIDE,
    ImageError,
    fit_square,
    middle_square,
    read_image,
)
from pixelviz.process.forward import raise_to_floor

Split = Literal["train", "test"]

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SPLIT_FILES = {"train": "train", "test": "t10k"}  # the prefixes of the MNIST family
SPLIT_WORDS = {"train": "training", "test": "test"}
FACES_TOTALS = {"train": 50_000, "test": 10_000}
FASHION_TOTALS = {"train": 60_000, "test": 10_000}
SYSTEM_FOLDERS = (Path("/usr/share/datasets/fashion-mnist"),)  # Debian's package dataset-fashion-mnist
MAX_IDX_BYTES = 4 * 2**30
HELD_OUT = 10  # one file in ten is the test split of a folder without train/ and test/
CELEBA_CROP = 140  # the middle of its 178x218 pixels, as in Song et al. 2021 (score_sde, datasets.py)
# What `load_images` knows besides folders.
NAMED = ("fashion-mnist-10k", "fashion-mnist", "faces-10k", "faces", "cifar10", "celeba")


def name_of(title: str) -> str | None:
    """The data set of NAMED that an `ImageSet.name` (so a checkpoint's record) speaks of, or None."""
    if title.startswith("Fashion-MNIST (10,000 of"):
        return "fashion-mnist-10k"
    if title.startswith("Drawn faces (10,000 of"):
        return "faces-10k"
    titles = {"Drawn faces (": "faces"}
    titles |= {"Fashion-MNIST (": "fashion-mnist", "CIFAR-10 (": "cifar10", "CelebA (": "celeba"}
    return next((name for start, name in titles.items() if title.startswith(start)), None)


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
    """(N, 1 or 3, H, W) uint8 to (N, channels, size, size): gray 28x28 is zero-padded to 32x32, others are cropped."""
    gray, (rows, columns) = images.shape[1] == 1, images.shape[2:]
    if gray and rows == columns == MNIST_SIDE:
        images = F.pad(images, (MNIST_PAD,) * 4)
    elif rows != columns:
        side = min(rows, columns)
        top, left = (rows - side) // 2, (columns - side) // 2
        images = images[:, :, top : top + side, left : left + side]
    if images.shape[-1] != size or (channels == 1 and not gray):
        images = torch.cat([_resample(part.float(), size, channels) for part in images.split(4096)])
    return images.expand(-1, channels, -1, -1).contiguous()


def _resample(images: Tensor, size: int, channels: int) -> Tensor:
    """Floats 0..255 (N, C, H, H), in gray where one channel is asked for, resized: uint8 (N, C or 1, size, size)."""
    if channels == 1 and images.shape[1] == 3:
        images = (images * torch.tensor(LUMA, dtype=images.dtype)[:, None, None]).sum(1, keepdim=True)
    if images.shape[-1] != size:
        images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return images.round().clamp(0, 255).to(torch.uint8)


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
    tensor = _fit_batch(torch.from_numpy(images[keep])[:, None], size, channels)
    name = f"{title} ({_count(len(keep), total or len(images), split)})"
    return ImageSet(tensor, name, None, None if labels is None else torch.from_numpy(labels[keep].astype(np.int64)))


def _download_folder() -> Path:
    """Where torchvision downloads to: PIXELVIZ_DATA, or the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelviz"
    return Path(os.environ.get("PIXELVIZ_DATA") or cache)


def _roots() -> tuple[Path, ...]:
    """The folders that may hold data sets, PIXELVIZ_DATA first."""
    return _download_folder(), Path("data"), Path(torch.hub.get_dir()).parent


def _fashion_folders() -> Iterator[Path]:
    """The folders where the full Fashion-MNIST may lie."""
    for root in _roots():
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


DOWNLOAD_ERRORS = (RuntimeError, OSError, ImportError, HTTPException)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
        except DOWNLOAD_ERRORS as error:
            why = f"the download failed: {_first_line(error)}"
    if folder is not None:
        return _from_idx(folder, "Fashion-MNIST", split, size, channels, limit)
    bundled = _from_idx(FASHION_10K, "Fashion-MNIST", split, size, channels, limit, FASHION_TOTALS[split])
    note = (
        f"The full Fashion-MNIST is not on this computer ({why}), so {len(bundled):,} bundled images are used. "
        "Put its four .gz files in a folder and name that folder in the environment variable PIXELVIZ_DATA."
    )
    return ImageSet(bundled.images, bundled.name, note, bundled.labels)


def _from_sheets(
    folder: Path, split: Split, size: int, channels: int, limit: int | None, total: int | None = None
) -> ImageSet:
    """Drawn faces from a folder of sheets, labelled by style; `total`: of the whole set, where the folder holds a part.

    Raises DataError.
    """
    try:
        count = sum(sheet.count for sheet in faces.sheets(folder, split))
        keep = _spread(count, limit)
        parts = [
            (_fit_batch(torch.from_numpy(part), size, channels), torch.from_numpy(labels))
            for part, labels in faces.read(folder, split, keep)
        ]
    except ImageError as error:
        raise DataError(f"{folder}: {error}") from None
    images, labels = map(torch.cat, zip(*parts, strict=True))
    return ImageSet(images, f"Drawn faces ({_count(len(keep), total or count, split)})", None, labels)


def _faces(split: Split, size: int, channels: int, limit: int | None, allow_download: bool) -> ImageSet:
    """All faces where they lie, otherwise the bundled part with a note that says so; there is nothing to download."""
    for root in _roots():
        for folder in (root / "faces", root):
            if faces.holds_sheets(folder, split):
                return _from_sheets(folder, split, size, channels, limit)
    bundled = _from_sheets(FACES_10K, split, size, channels, limit, FACES_TOTALS[split])
    note = (
        f"The {sum(FACES_TOTALS.values()):,} faces are not on this computer, so {len(bundled):,} bundled ones are "
        "used. "
        "Draw them with `python -m pixelviz faces --out data/faces --number 60000`."
    )
    return replace(bundled, note=note)


def _of_torchvision(title: str, inside: str, open_set: Callable[[Path, bool], object], allow_download: bool):
    """A torchvision data set from where it lies (its folder `inside` one of `_roots`), or downloaded.

    `open_set(root, download)` checks the files' sums before it reads them. Raises DataError.
    """
    found = next((root for root in _roots() if (root / inside).is_dir()), None)
    why = "downloading was not allowed"
    if found is not None or allow_download:
        root = found or _download_folder()
        try:
            with _socket_timeout(30):
                return open_set(root, allow_download)
        except DOWNLOAD_ERRORS as error:
            what = f"{root / inside} is incomplete" if found else "the download failed"
            why = f"{what}: {_first_line(error)}"
    raise DataError(
        f"{title} is not on this computer ({why}). Put its folder {inside} into a folder that the environment variable "
        "PIXELVIZ_DATA names, or give a folder of images instead."
    )


def _cifar(split: Split, size: int, channels: int, limit: int | None, allow_download: bool) -> ImageSet:
    from torchvision.datasets import CIFAR10

    found = _of_torchvision(
        "CIFAR-10",
        CIFAR10.base_folder,
        lambda root, download: CIFAR10(str(root), train=split == "train", download=download),
        allow_download,
    )
    keep = _spread(len(found), limit)
    images = torch.from_numpy(found.data[keep]).permute(0, 3, 1, 2)
    labels = torch.tensor(found.targets)[torch.from_numpy(keep)]
    return ImageSet(
        _fit_batch(images, size, channels), f"CIFAR-10 ({_count(len(keep), len(found), split)})", None, labels
    )


def _celeba(split: Split, size: int, channels: int, limit: int | None, allow_download: bool) -> ImageSet:
    from torchvision.datasets import CelebA

    found = _of_torchvision(
        "CelebA",
        CelebA.base_folder,
        lambda root, download: CelebA(str(root), split=split, target_type=[], download=download),
        allow_download,
    )
    folder = Path(found.root) / found.base_folder / "img_align_celeba"
    files = [folder / name for name in found.filename]
    return _from_files(folder, "CelebA", files, split, size, channels, limit, crop=CELEBA_CROP)


def _walk(folder: Path) -> Iterator[Path]:
    """Image files in a folder and below it, in order; what is hidden is left out. Raises DataError."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); allow it, or name another folder.") from None
    for entry in seen:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name)
        elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():
            yield folder / entry.name


def _class_labels(root: Path, files: Sequence[Path]) -> np.ndarray | None:
    """int64 class numbers where all files lie in two or more folders in `root`, numbered by name; otherwise None."""
    classes = [path.relative_to(root).parts[:-1] for path in files]
    if not all(classes):
        return None
    names = {name: k for k, name in enumerate(sorted({parts[0] for parts in classes}))}
    return np.array([names[parts[0]] for parts in classes]) if len(names) > 1 else None


def _from_folder(folder: Path, split: Split, size: int, channels: int, limit: int | None) -> ImageSet:
    """ImageSet of a folder of image files, flat or nested; the folders below it or its split are classes."""
    has_splits = any((folder / name).is_dir() for name in SPLIT_FILES)
    root = folder / split if has_splits else folder
    files = list(_walk(root)) if root.is_dir() else []
    if not files:
        raise DataError(f"{root} holds no images; put PNG, JPEG or WebP files in it, or IDX files of the MNIST family.")
    labels, note = _class_labels(root, files), None
    if not has_splits and len(files) < HELD_OUT:
        note = f"With {len(files)} images, none are held out for testing."
    elif not has_splits:
        mine = [k for k in range(len(files)) if (k % HELD_OUT == HELD_OUT - 1) == (split == "test")]
        files, labels = [files[k] for k in mine], None if labels is None else labels[mine]
    return _from_files(folder, folder.name, files, split, size, channels, limit, labels=labels, note=note)


def _from_files(
    folder: Path,
    title: str,
    files: Sequence[Path],
    split: Split,
    size: int,
    channels: int,
    limit: int | None,
    *,
    labels: np.ndarray | None = None,
    note: str | None = None,
    crop: int | None = None,
) -> ImageSet:
    """ImageSet of image files, read by several threads; unreadable ones are skipped and named in the note.

    crop: only the middle of so many pixels a side is used.
    """
    keep = _spread(len(files), limit)
    images = np.empty((len(keep), channels, size, size), np.uint8)

    def read(k: int) -> str | None:
        """Put file k of `keep` in its place; returns what is wrong with it."""
        path = files[keep[k]]
        try:
            picture = read_image(path)
            pixels = fit_square(middle_square(picture, crop) if crop else picture, size, channels).pixels
        except ImageError as error:
            return f"{path.relative_to(folder)}: {error}"
        images[k] = np.rint(pixels * 255).transpose(2, 0, 1)
        return None

    # Threads: decoding and waiting for the disk leave Python's lock to the others.
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(read, range(len(keep))))
    failures = [problem for problem in problems if problem]
    notes = [note] if note else []
    if failures:
        more = f" And {len(failures) - 5} more." if len(failures) > 5 else ""
        notes.append(f"{len(failures)} of {len(keep)} files were skipped. " + " ".join(failures[:5]) + more)
        good = np.array([problem is None for problem in problems])
        images, keep = images[good], keep[good]
    if not len(images):
        raise DataError(f"None of the {len(failures)} image files in {folder} can be read. " + " ".join(failures[:3]))
    return ImageSet(
        torch.from_numpy(images),
        f"{title} ({_count(len(images), len(files), split)})",
        " ".join(notes) or None,
        None if labels is None else torch.from_numpy(labels[keep]),
    )


def load_images(
    data: str,
    *,
    split: Split = "train",
    size: int,
    channels: int,
    limit: int | None = None,
    allow_download: bool = True,
    title: str | None = None,
) -> ImageSet:
    """Load a data set as uint8 images (N, channels, size, size).

    Args: data, "fashion-mnist-10k" (bundled: 10,000 training and 1,000 test images), "fashion-mnist"
    (60,000 and 10,000: from PIXELVIZ_DATA, ./data, the cache or the system's data sets, else downloaded
    by torchvision, else the bundled part with a note), "faces-10k" (drawn faces, bundled: 10,000 and 2,000), "faces"
    (50,000 and 10,000 in the same places, else the bundled ones with a note), "cifar10" or "celeba" (found or
    downloaded, without a substitute), or a folder of IDX files, of sheets of faces, or of images. The last is read
    below train/ or test/ where it has these, otherwise one file in ten is the test split; folders in it are
    classes. limit, at most so many, evenly spaced. title, what to call the set. Raises DataError.
    """
    if split not in SPLIT_FILES:
        raise DataError(f"split must be train or test; it is {split!r}.")
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1; it is {limit}.")
    if size < 4 or channels not in (1, 3):
        raise DataError(f"size must be at least 4 and channels 1 or 3; they are {size} and {channels}.")
    found = _load(data, split, size, channels, limit, allow_download)
    if title is None:
        return found
    return replace(found, name=f"{title} ({found.name.rpartition(' (')[2]}")


def _load(data: str, split: Split, size: int, channels: int, limit: int | None, allow_download: bool) -> ImageSet:
    if data == "fashion-mnist-10k":
        return _from_idx(FASHION_10K, "Fashion-MNIST", split, size, channels, limit, FASHION_TOTALS[split])
    if data == "faces-10k":
        return _from_sheets(FACES_10K, split, size, channels, limit, FACES_TOTALS[split])
    if data in NAMED:
        load = {"fashion-mnist": _fashion, "faces": _faces, "cifar10": _cifar, "celeba": _celeba}[data]
        return load(split, size, channels, limit, allow_download)
    try:
        folder = Path(data).expanduser()
        found = bool(data.strip()) and folder.is_dir()
    except (OSError, RuntimeError, ValueError):  # an unknown ~user, a name too long, a NUL inside
        found = False
    if not found:
        raise DataError(f"{data!r} is neither {', '.join(NAMED)} nor a folder; check the path.")
    folder = folder.resolve()
    if any(_idx_file(folder, s, "images-idx3") for s in SPLIT_FILES):
        title = "Fashion-MNIST" if re.fullmatch(r"fashion[-_ ]?mnist", folder.name, re.I) else folder.name
        return _from_idx(folder, title, split, size, channels, limit)
    if faces.holds_sheets(folder, split):
        return _from_sheets(folder, split, size, channels, limit)
    return _from_folder(folder, split, size, channels, limit)
