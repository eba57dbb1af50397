"""Decoded pictures, each once, under keys that say their content: what a view holds in place of a file."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from pixelviz.data.apart import decode_apart
from pixelviz.data.assets import EXAMPLES_DIR
from pixelviz.data.images import ImageError, Picture, read_image

MOST_BYTES = 2**29  # of pixels: twenty pictures of the largest size
MOST_FILES = 4096  # places to decode a picture again from that gave way


class PictureStore:
    """Pictures by key; beyond `most` bytes those give way that nobody asked for longest.

    A key is a digest of the content, so a file that thirty people send is decoded once. What gave way is decoded
    again where its file is still there, unchanged. Thread-safe.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self._lock = threading.Lock()  # guards the dictionaries
        # By key: of two who send the same the second finds it here.
        self._decoding = [threading.Lock() for _ in range(16)]
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._files: OrderedDict[str, Path] = OrderedDict()

    def keep(self, source: Any) -> str:
        """The key of a picture, decoded where it is not here: a Picture, or what `read_image` takes.

        Raises ImageError.
        """
        path = Path(source) if isinstance(source, str | os.PathLike) else None
        try:
            content = path.read_bytes() if path else source
        except (OSError, ValueError):
            content = source  # whatever is wrong with it, `read_image` has words for it
        if not isinstance(content, bytes):
            picture = content if isinstance(content, Picture) else read_image(content)
            key = _digest(picture.pixels.tobytes(), repr((picture.pixels.shape, picture.notes)).encode())
            self._put(key, picture)
            return key
        key = _digest(content)
        with self._decoding[int(key[0], 16)]:
            if self._find(key) is None:
                ours = path is not None and path.is_relative_to(EXAMPLES_DIR)
                self._put(key, read_image(content) if ours else Picture(*decode_apart(content)))
        if path:
            with self._lock:
                self._files[key] = path
                while len(self._files) > MOST_FILES:
                    self._files.popitem(last=False)
        return key

    def __getitem__(self, key: str) -> Picture:
        """The picture of that key; raises ImageError where it is gone."""
        if found := self._find(key):
            return found
        with self._lock:
            path = self._files.get(key)
        if path and path.is_file() and self.keep(path) == key and (found := self._find(key)):
            return found
        raise ImageError("this picture is not kept here any more; choose it again, or upload it again.")

    def _find(self, key: str) -> Picture | None:
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
            return self._pictures.get(key)

    def _put(self, key: str, picture: Picture) -> None:
        with self._lock:
            self._pictures[key] = picture
            self._pictures.move_to_end(key)
            size = sum(kept.pixels.nbytes for kept in self._pictures.values())
            while size > self.most and len(self._pictures) > 1:
                size -= self._pictures.popitem(last=False)[1].pixels.nbytes


def _digest(*parts: bytes) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.hexdigest()


PICTURES = PictureStore()  # of this process: content, and nobody's in particular
