"""What every loader of images takes and gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pixelviz.data.images import LUMA, MNIST_PAD, MNIST_SIDE
from pixelviz.declare import declared

Split = Literal["train", "test"]
SPLIT_WORDS = {"train": "training", "test": "test"}


class DataError(ValueError):
    """A data set that cannot be read; the message says which file and what would help."""


class Wanted(NamedTuple):
    """What a loader is asked for: uint8 (N, channels, size, size) of a split, at most `limit` images, evenly spaced.

    tell: is told how many of how many files are decoded; guarded: whether a folder's files are a stranger's, which may
    be made to take for ever, and are decoded in processes apart.
    """

    split: Split
    size: int
    channels: int
    limit: int | None = None
    allow_download: bool = True
    tell: Callable[[int, int], None] | None = None
    guarded: bool = False


@declared(DataError)
class Origin:
    """Which images they are: `number` of the `total` in a split of the data set `id` (None: no row of DATASETS).

    title: what a card calls the set; number 0: unknown. Raises DataError.
    """

    id: str | None = None
    title: str = "unknown"
    number: int = Field(0, ge=0, le=2**53)
    total: int = Field(0, ge=0, le=2**53)
    split: Split = "train"

    def __str__(self) -> str:
        if not self.number:
            return self.title
        of = f" of the {self.total:,}" if self.number < self.total else ""
        return f"{self.title} ({self.number:,}{of} {SPLIT_WORDS[self.split]} images)"

    @classmethod
    def of_sentence(cls, text: str) -> Origin:
        """What `str` made of one, as checkpoints had it before they had an id; the id stays None."""
        found = re.fullmatch(r"(.+) \(([\d,]+)(?: of the ([\d,]+))? (training|test) images\)", text)
        if found is None:
            return cls(title=text)
        number, total = (int(n.replace(",", "")) for n in (found[2], found[3] or found[2]))
        return cls(None, found[1], number, total, "test" if found[4] == SPLIT_WORDS["test"] else "train")


@dataclass(frozen=True)
class ImageSet:
    """A data set in memory.

    images: uint8, (N, C, size, size). origin: which they are. note: what the user should know about how it was found or
    read, or None. labels: int64, (N,), or None where there are none; classes: what they mean.
    """

    images: Tensor
    origin: Origin
    note: str | None = None
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()

    def labels_among(self, names: Sequence[str]) -> Tensor:
        """Each image's class by its number in `names`, whatever it is here: int64 (N,), -1 for none of them."""
        if self.labels is None or not self.classes:
            return torch.full((len(self),), -1)
        return torch.tensor([names.index(name) if name in names else -1 for name in self.classes])[self.labels]

    def first(self, number: int) -> ImageSet:
        """The first images alone."""
        return replace(self, images=self.images[:number], labels=None if self.labels is None else self.labels[:number])

    @property
    def name(self) -> str:
        """What a model card should say."""
        return str(self.origin)

    def __len__(self) -> int:
        return len(self.images)


def fit_batch(images: Tensor, size: int, channels: int) -> Tensor:
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


def spread(count: int, limit: int | None) -> np.ndarray:
    """Indices of at most `limit` of `count` items, evenly spaced: a folder sorted by class gives every class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit
