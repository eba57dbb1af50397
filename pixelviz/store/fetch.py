"""What may lie on the Hugging Face Hub: a folder here, or a copy of a repository there; one line where neither is."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from pixelviz.store.checkpoints import CARD, CONFIG, WEIGHTS, CheckpointError

FILES = (WEIGHTS, CONFIG, CARD)  # of a checkpoint
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turns all that the Hub, or the way there, has against the block into a CheckpointError: `what`, and why."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The class above the Hub's own is the HTTP library's, of which there have been three.
    above = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    try:
        yield
    except (above, HFValidationError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CheckpointError(f"{what} ({reason}).") from None


def _nearly(folder: Path) -> str:
    """The name beside a folder that is not there which it may have been meant to be, in words, or nothing."""
    found: list[str] = []
    with suppress(OSError):
        found = difflib.get_close_matches(folder.name, [one.name for one in folder.parent.iterdir()], 1, 0.75)
    return f" (there is {folder.with_name(found[0])})" if found else ""


def folder_of(name: str | Path, files: Sequence[str] = FILES, *, subfolder: str | None = None, **options: Any) -> Path:
    """A folder of this computer, without any network, or else a copy of these files of a repository of the Hub.

    subfolder: of either; options: of `huggingface_hub.snapshot_download`. Raises CheckpointError.
    """
    here = Path(name).expanduser()
    if not here.exists():
        from huggingface_hub import snapshot_download

        wanted = [f"{subfolder}/{file}" if subfolder else file for file in files]
        with reaching(f"{name} is neither a folder here{_nearly(here)} nor a repository of the Hub that can be had"):
            here = Path(snapshot_download(str(name), allow_patterns=wanted, **options))
    return here / subfolder if subfolder else here


def _copies() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelviz" / "hub"


def located(name: Path, files: Sequence[str] = FILES) -> Path:
    """For a command line: a path as it is, unless nothing is there and it reads USER/NAME: then a copy from the Hub.

    The copy lies in the user's cache under that name, is renewed where the Hub can be reached, and serves as it is
    where not. Raises CheckpointError.
    """
    if name.exists() or name.parent.is_dir() or not REPOSITORY.fullmatch(name.as_posix()):
        return name
    copy = _copies() / name
    try:
        return folder_of(name, files, local_dir=copy)
    except CheckpointError:
        if copy.is_dir():
            return copy
        raise


def name_of(folder: Path) -> str:
    """What a folder is called: its own name, or USER/NAME for a copy of a repository of the Hub."""
    folder = folder.resolve()
    copies = _copies().resolve()
    return folder.relative_to(copies).as_posix() if copies in folder.parents else folder.name
