"""IDX files (LeCun's format), in which the MNIST family comes."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pixelviz.data.image_set import DataError, ImageSet, Origin, Split, Wanted, fit_batch, spread

SPLIT_FILES = {"train": "train", "test": "t10k"}  # the prefixes of the MNIST family
MAX_IDX_BYTES = 4 * 2**30


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


def idx_file(folder: Path, split: Split, kind: str) -> Path | None:
    """The images (idx3) or labels (idx1) file of a split in `folder`, or None."""
    stem = folder / f"{SPLIT_FILES[split]}-{kind}-ubyte"
    return next((p for p in (stem.with_name(stem.name + ".gz"), stem) if p.is_file()), None)


def read_idx_pair(folder: Path, split: Split) -> tuple[np.ndarray, np.ndarray | None]:
    """Images uint8 (N, H, W) and labels uint8 (N,), or None without a labels file; raises DataError."""
    source = idx_file(folder, split, "images-idx3")
    if source is None:
        raise DataError(f"{folder} holds no {SPLIT_FILES[split]}-images-idx3-ubyte.gz.")
    images = read_idx(source)
    if images.ndim != 3 or not images.size:
        raise DataError(f"{source} holds an array of shape {images.shape}; images need (number, rows, columns).")
    labels_file = idx_file(folder, split, "labels-idx1")
    if labels_file is None:
        return images, None
    labels = read_idx(labels_file)
    if labels.shape != images.shape[:1]:
        raise DataError(f"{labels_file} has shape {labels.shape}, but there are {len(images):,} images.")
    return images, labels


def from_idx(folder: Path, origin: Origin, wanted: Wanted, total: int | None = None) -> ImageSet:
    """The images of a folder of IDX files, of which `origin` has id and title; raises DataError.

    total: the size of the whole set, where the folder holds a part.
    """
    images, labels = read_idx_pair(folder, wanted.split)
    keep = spread(len(images), wanted.limit)
    tensor = fit_batch(torch.from_numpy(images[keep])[:, None], wanted.size, wanted.channels)
    origin = replace(origin, number=len(keep), total=total or len(images), split=wanted.split)
    return ImageSet(tensor, origin, None, None if labels is None else torch.from_numpy(labels[keep].astype(np.int64)))
