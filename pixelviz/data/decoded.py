"""What decoding a folder gave, kept in the user's cache: read again as memory-mapped pages, shared by all processes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

VERSION = 1  # of what decoding gives; another makes all that is kept be decoded anew
LEAST = 256  # files below which keeping is not worth it
MOST_BYTES = 20 * 2**30  # of all that is kept; the oldest go first


class Decoded(NamedTuple):
    """uint8 images (N, C, size, size), one a file, and what was wrong with a file, or None."""

    images: np.ndarray
    problems: list[str | None]


def place(files: Sequence[Path], size: int, channels: int, crop: int | None) -> Path | None:
    """Where these files' images are kept: by names, lengths and times of the files, and what is made of them.

    None for few files, or where a file cannot be asked.
    """
    if len(files) < LEAST:
        return None
    found = hashlib.sha256(repr((VERSION, size, channels, crop)).encode())
    try:
        for file in files:
            state = file.stat()
            found.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0".encode(errors="surrogateescape"))
    except OSError:
        return None
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "pixelviz" / "decoded" / f"{found.hexdigest()[:24]}.npy"


def read_back(path: Path | None) -> Decoded | None:
    """What is kept there; its pages are read from the file as they are used, and changed in this process alone."""
    if path is None:
        return None
    try:
        problems = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        found = Decoded(np.load(path, mmap_mode="c"), problems)
        os.utime(path)  # among the last used
        return found if len(found.images) == len(problems) else None
    except (OSError, ValueError):
        return None


def keep(path: Path | None, decoded: Decoded) -> None:
    """Keep it, where that can be; other processes see all of it or nothing."""
    if path is None:
        return
    with suppress(OSError):  # only time is lost
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, write in (
            (path.with_suffix(".json"), lambda part: part.write_text(json.dumps(decoded.problems), encoding="utf-8")),
            (path, lambda part: np.save(part, decoded.images)),
        ):
            partial = file.with_name(f"{file.stem}.{os.getpid()}{file.suffix}")
            try:
                write(partial)
                os.replace(partial, file)
            finally:
                partial.unlink(missing_ok=True)
        _tidy(path)


def _tidy(newest: Path) -> None:
    """Remove what was used longest ago, until the rest is within `MOST_BYTES`."""
    total = 0
    for file in sorted(newest.parent.glob("*.npy"), key=lambda one: one.stat().st_mtime, reverse=True):
        total += file.stat().st_size
        if total > MOST_BYTES and file != newest:
            file.unlink(missing_ok=True)
            file.with_suffix(".json").unlink(missing_ok=True)
