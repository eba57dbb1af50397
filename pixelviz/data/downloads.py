"""Where data sets may lie on this computer, and torchvision's downloads of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from pixelviz.data.image_set import DataError

DOWNLOAD_ERRORS = (RuntimeError, OSError, ImportError, HTTPException)
TIMEOUT = 30.0  # seconds


def download_folder() -> Path:
    """Where torchvision downloads to: PIXELVIZ_DATA, or the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelviz"
    return Path(os.environ.get("PIXELVIZ_DATA") or cache)


def roots() -> tuple[Path, ...]:
    """The folders that may hold data sets, PIXELVIZ_DATA first."""
    return download_folder(), Path("data"), Path(torch.hub.get_dir()).parent


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision opens its URLs without a timeout; without this a silent network would hang the caller."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def first_line(error: BaseException) -> str:
    """What an error says, shortened to its first line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def of_torchvision(title: str, inside: str, open_set: Callable[[Path, bool], Any], allow_download: bool) -> Any:
    """A torchvision data set from where it lies (its folder `inside` one of `roots`), or downloaded.

    `open_set(root, download)` checks the files' sums before it reads them. Raises DataError.
    """
    found = next((root for root in roots() if (root / inside).is_dir()), None)
    why = "downloading was not allowed"
    if found is not None or allow_download:
        root = found or download_folder()
        try:
            with socket_timeout(TIMEOUT):
                return open_set(root, allow_download)
        except DOWNLOAD_ERRORS as error:
            what = f"{root / inside} is incomplete" if found else "the download failed"
            why = f"{what}: {first_line(error)}"
    raise DataError(
        f"{title} is not on this computer ({why}). Put its folder {inside} into a folder that the environment variable "
        "PIXELVIZ_DATA names, or give a folder of images instead."
    )
