"""Prepared zips, kept until they are taken."""

from __future__ import annotations

import re
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from pixelviz.view import View

MOST_DOWNLOADS = 16  # prepared zips that are kept, one a visitor


class Downloads:
    """Prepared zips, one a visitor; the oldest gives way. They are gone with this object, or at exit."""

    def __init__(self, most: int = MOST_DOWNLOADS) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory | None = None
        self._kept: OrderedDict[str, tempfile.TemporaryDirectory] = OrderedDict()

    def place(self, session: str, name: str) -> Path:
        """Where a visitor's next zip goes; the last one is removed."""
        with self._lock:
            self._drop(session)
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="pixelviz-export-")
            self._kept[session] = tempfile.TemporaryDirectory(dir=self._folder.name)
            while len(self._kept) > self.most:
                self._drop(next(iter(self._kept)))
            return Path(self._kept[session].name) / name

    def _drop(self, session: str) -> None:
        if folder := self._kept.pop(session, None):
            folder.cleanup()


def file_name(view: View) -> str:
    """A name for the zip that says what is in it."""
    slug = re.sub(r"[^a-z0-9]+", "-", view.name.lower()).strip("-") or "picture"
    return f"pixelviz-{slug}-gamma{view.gamma:g}-T{view.T}.zip"
