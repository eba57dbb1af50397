"""Folders of image files, flat or nested."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pixelviz.data import decoded
from pixelviz.data.apart import SlowImageError, decode_apart
from pixelviz.data.image_set import DataError, ImageSet, Origin, Wanted, spread
from pixelviz.data.images import IMAGE_SUFFIXES, ImageError, Picture, fit_square, middle_square, read_image
from pixelviz.data.large import read_large

MOST_SLOW = 5  # pictures that were stopped, each after seconds, before the others are not even tried
HELD_OUT = 10  # one file in ten is the test split of a folder without train/ and test/
SPLITS = ("train", "test")


def _walk(folder: Path) -> Iterator[Path]:
    """Files in a folder and below it, in order; what is hidden is left out. Raises DataError."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); allow it, or name another folder.") from None
    for entry in seen:
        try:
            inner, file = entry.is_dir(follow_symlinks=False), entry.is_file()
        except OSError:  # a link to itself, or to what is closed
            continue
        if inner:
            yield from _walk(folder / entry.name)
        elif file:
            yield folder / entry.name


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _left_out(paths: Sequence[Path]) -> str | None:
    """Files that are no images of a kind that is read, by kind and number; None for none."""
    if not paths:
        return None
    kinds = Counter(_suffix(path)[:12] or "without an ending" for path in paths).most_common()
    several = ", ".join(f"{number:,} {kind}" for kind, number in kinds[:5])
    more = f" and {len(kinds) - 5} other kinds" if len(kinds) > 5 else ""
    return f"Left out, because they are no images that can be read here: {several}{more}."


def _class_labels(root: Path, files: Sequence[Path]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """int64 class numbers, and names, where all files lie in two or more folders in `root`; otherwise None and none."""
    classes = [path.relative_to(root).parts[:-1] for path in files]
    names = sorted({parts[0] for parts in classes if parts})
    if not all(classes) or len(names) < 2:
        return None, ()
    numbers = {name: k for k, name in enumerate(names)}
    return np.array([numbers[parts[0]] for parts in classes]), tuple(names)


def from_folder(folder: Path, origin: Origin, wanted: Wanted) -> ImageSet:
    """The images of a folder, flat or nested; the folders below it or its split are classes. Raises DataError."""
    split = wanted.split
    has_splits = any((folder / name).is_dir() for name in SPLITS)
    root = folder / split if has_splits else folder
    there = list(_walk(root)) if root.is_dir() else []
    files = [path for path in there if _suffix(path) in IMAGE_SUFFIXES]
    left_out = _left_out([path for path in there if _suffix(path) not in IMAGE_SUFFIXES])
    if not files:
        raise DataError(
            f"{root} holds no images; put PNG, JPEG or WebP files in it, or IDX files of the MNIST family."
            + (f" {left_out}" if left_out else "")
        )
    (labels, classes), notes = _class_labels(root, files), [left_out] if left_out else []
    if not has_splits and len(files) < HELD_OUT:
        number = "1 image" if len(files) == 1 else f"{len(files)} images"
        notes.append(f"With {number}, none are held out for testing.")
    elif not has_splits:
        mine = [k for k in range(len(files)) if (k % HELD_OUT == HELD_OUT - 1) == (split == "test")]
        files, labels = [files[k] for k in mine], None if labels is None else labels[mine]
    return replace(from_files(folder, origin, files, wanted, labels=labels, notes=notes), classes=classes)


def _read(path: Path, guarded: bool) -> Picture:
    """The picture; raises ImageError. One's own is shrunk where it is over the limit of uploads."""
    if guarded:
        try:
            data = path.read_bytes()
        except OSError as error:  # gone, since the folder was read
            raise ImageError(f"The file cannot be read ({error.strerror or error}).") from None
        return Picture(*decode_apart(data))
    try:
        return read_image(path)
    except ImageError:
        if (large := read_large(path)) is None:
            raise
        return large


def from_files(
    folder: Path,
    origin: Origin,
    files: Sequence[Path],
    wanted: Wanted,
    *,
    labels: np.ndarray | None = None,
    notes: Sequence[str] = (),
    crop: int | None = None,
) -> ImageSet:
    """The images in files, read by several threads or from what an earlier reading kept (`decoded`).

    Unreadable ones are skipped and named in the note, those over 40 megapixels shrunk. origin: their id and title;
    crop: only the middle of so many pixels a side is used.
    """
    size, channels = wanted.size, wanted.channels
    keep = spread(len(files), wanted.limit)
    # What is sent is unpacked in another place each time, so it would not be found again.
    place = None if wanted.guarded else decoded.place([files[k] for k in keep], size, channels, crop)
    before = decoded.read_back(place)
    images = np.empty((len(keep), channels, size, size), np.uint8) if before is None else before.images
    slow: list[Path] = []

    def read(k: int) -> str | None:
        """Put file k of `keep` in its place; returns what is wrong with it."""
        path = files[keep[k]]
        try:
            picture = _read(path, wanted.guarded)
            pixels = fit_square(middle_square(picture, crop) if crop else picture, size, channels).pixels
        except ImageError as error:
            slow.extend([path] * isinstance(error, SlowImageError))
            return f"{path.relative_to(folder)}: {error}"
        images[k] = np.rint(pixels * 255).transpose(2, 0, 1)
        return None

    # Threads: decoding and waiting for the disk leave Python's lock to the others.
    if before is None:
        problems = []
        with ThreadPoolExecutor() as pool:
            for problem in pool.map(read, range(len(keep))):
                problems.append(problem)
                if len(slow) > MOST_SLOW:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise DataError(
                        f"More than {MOST_SLOW} of the pictures take too long to decode, {slow[0].name} for one: "
                        "they are damaged, or made to. Save them again, as ordinary JPEG or PNG, or make them smaller."
                    )
                if wanted.tell is not None:
                    wanted.tell(len(problems), len(keep))
        decoded.keep(place, decoded.Decoded(images, problems))
    else:
        problems = before.problems
    failures = [problem for problem in problems if problem]
    notes = list(notes)
    if failures:
        more = f" And {len(failures) - 5} more." if len(failures) > 5 else ""
        notes.append(f"{len(failures)} of {len(keep)} files were skipped. " + " ".join(failures[:5]) + more)
        good = np.array([problem is None for problem in problems])
        images, keep = images[good], keep[good]
    if not len(images):
        raise DataError(f"None of the {len(failures)} image files in {folder} can be read. " + " ".join(failures[:3]))
    return ImageSet(
        torch.from_numpy(images),
        replace(origin, number=len(images), total=len(files), split=wanted.split),
        " ".join(notes) or None,
        None if labels is None else torch.from_numpy(labels[keep]),
    )
