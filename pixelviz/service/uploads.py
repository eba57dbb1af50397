"""What visitors may name or send: folders of this computer, and zips, unpacked within bounds."""

from __future__ import annotations

import itertools
import re
import shutil
import stat
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pixelviz.checks import ServiceError
from pixelviz.data.folders import SPLITS
from pixelviz.data.images import IMAGE_SUFFIXES
from pixelviz.declare import quoted
from pixelviz.service.errors import no_room
from pixelviz.store.checkpoints import CARD, CONFIG, WEIGHTS

MOST_KEPT = 4  # uploads of a kind; the oldest give way
MOST_FILES = 100_000
MOST_BYTES = 2**30  # unpacked, all files of a zip together
PIECE = 2**20
ENTRY = b"PK\x01\x02"  # what each line of a zip's table of contents starts with
CLOSED = (
    "from here no folder of the server can be named; upload the files, as a zip, or ask whoever runs the app to start "
    "it with --allow-folder."
)


class Folders:
    """Which folders of this computer may be named: any by whoever sits at it, otherwise `roots` and what is in them."""

    def __init__(self, roots: Sequence[Path] = (), proxied: bool = False) -> None:
        self.roots = [Path(root).expanduser().resolve() for root in roots]
        self.proxied = proxied  # then everybody seems to sit at this computer

    def named(self, text: Any, at_home: bool) -> Path:
        """The folder, which need not exist; raises ServiceError in the same words whether a closed one does or not."""
        at_home = at_home and not self.proxied
        if not isinstance(text, str) or not text.strip() or "\0" in text or len(text) > 4096:
            raise ServiceError("name the folder by its path.")
        try:
            folder = Path(text.strip()).expanduser().resolve()
        except (OSError, RuntimeError) as error:
            raise ServiceError(f"the folder cannot be read ({error})." if at_home else CLOSED) from None
        if not at_home and not any(folder.is_relative_to(root) for root in self.roots):
            raise ServiceError(CLOSED)
        return folder


class Uploads:
    """Folders for what is sent, the last MOST_KEPT of each kind; gone with this object, or at exit. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._root: tempfile.TemporaryDirectory | None = None
        self._number = itertools.count(1)
        self._filling: set[Path] = set()

    @contextmanager
    def place(self, kind: str, name: str) -> Iterator[Path]:
        """A new folder of that name, to be filled: it does not give way meanwhile, and is gone where that fails."""
        with self._lock:
            self._root = self._root or tempfile.TemporaryDirectory(prefix="pixelviz-uploads-")
            folder = Path(self._root.name, kind, f"{next(self._number):09}", name)
            folder.mkdir(parents=True)
            self._filling.add(folder.parent)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder.parent, ignore_errors=True)
            raise
        finally:
            with self._lock:
                self._filling.discard(folder.parent)

    def holds(self, data: str) -> bool:
        """Whether this folder is of what was sent."""
        return self._root is not None and Path(data).is_relative_to(self._root.name)

    def drop(self, kind: str) -> list[Path]:
        """Remove all but the last of a kind, and those that are being filled; returns the folders that are gone."""
        with self._lock:  # to the end, for two at once would each look into what the other removes
            old = sorted(Path(self._root.name, kind).iterdir())[:-MOST_KEPT] if self._root else []
            old = [place for place in old if place not in self._filling]
            gone = [folder for place in old for folder in place.iterdir()]
            for place in old:
                shutil.rmtree(place, ignore_errors=True)
        return gone

    def pictures(self, path: Path) -> Path:
        """The folder of the pictures in a zip, below it as they were in the zip; raises ServiceError or OSError."""
        stem = re.sub(r"[^A-Za-z0-9-]+", "-", path.stem).strip("-")[:40]
        with self.place("pictures", stem or "pictures") as folder:
            unpack_pictures(path, folder)
        self.drop("pictures")
        return folder


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[PurePosixPath, zipfile.ZipInfo]]]:
    """A zip and its files by their paths; raises ServiceError for what is no honest zip, OSError for a full disk."""
    try:
        if path.read_bytes().count(ENTRY) > MOST_FILES:  # before a table of millions is read
            raise ServiceError(f"the zip holds more than {MOST_FILES:,} files; send fewer.")
        with zipfile.ZipFile(path) as file:
            entries = {PurePosixPath(one.filename): one for one in file.infolist() if not one.is_dir()}
            for name, one in entries.items():
                if name.is_absolute() or {"..", "~"} & set(name.parts) or re.search(r"[\\:\0]", one.filename):
                    raise ServiceError(
                        f"the zip names a file outside of itself, {quoted(one.filename)}; pack it again."
                    )
                if stat.S_ISLNK(one.external_attr >> 16):
                    raise ServiceError(f"the zip holds a link, {quoted(one.filename)}; pack the files themselves.")
                if one.flag_bits & 1:
                    raise ServiceError("the zip has a password; pack it without one.")
            yield file, entries
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, OSError) as error:
        if isinstance(error, ServiceError) or no_room(error):  # the zip's fault is neither
            raise
        raise ServiceError(
            "this is no zip that can be unpacked here; pack the files again, as an ordinary zip."
        ) from None


def _unpack(file: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path, left: int) -> int:
    """Write an entry; returns how many of `left` bytes are left. What the zip says of its size counts for nothing."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with file.open(entry) as source, to.open("wb") as target:
        while piece := source.read(PIECE):
            left -= len(piece)
            if left < 0:
                raise ServiceError(f"unpacked, the zip is larger than {MOST_BYTES // 2**20:,} MB; send fewer files.")
            target.write(piece)
    return left


def unpack_pictures(path: Path, folder: Path) -> None:
    """Write the pictures in a zip below a folder, without the one folder that all may lie in; raises ServiceError.

    Whatever else it holds is left out.
    """
    left = MOST_BYTES
    with _opened(path) as (file, entries):
        chosen = {name: one for name, one in entries.items() if name.suffix.lower() in IMAGE_SUFFIXES}
        chosen = {name: one for name, one in chosen.items() if not any(part.startswith(".") for part in name.parts)}
        if not chosen:
            raise ServiceError("the zip holds no pictures; put PNG, JPEG or WebP files in it.")
        while len(tops := {str(name.parent).split("/")[0] for name in chosen}) == 1 and not tops & {".", *SPLITS}:
            chosen = {PurePosixPath(*name.parts[1:]): one for name, one in chosen.items()}
        for name, one in chosen.items():
            left = _unpack(file, one, folder / name, left)


def unpack_checkpoint(path: Path, folder: Path) -> None:
    """Write the checkpoint in a zip, at its top or in the one folder of it; raises ServiceError."""
    left = MOST_BYTES
    with _opened(path) as (file, entries):
        homes = {name.parent for name in entries if name.name == CONFIG}
        if len(homes) != 1 or (home := homes.pop()) / WEIGHTS not in entries:
            raise ServiceError(f"the zip must hold one checkpoint: {CONFIG} and {WEIGHTS}.")
        for name in (CONFIG, WEIGHTS, CARD):
            if home / name in entries:
                left = _unpack(file, entries[home / name], folder / name, left)
