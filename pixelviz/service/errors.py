"""What people are told when something is wrong."""

from __future__ import annotations

import errno
import logging
import re
import traceback

from pixelviz.checks import ServiceError
from pixelviz.config import ConfigError
from pixelviz.data.images import ImageError
from pixelviz.data.sets import DataError
from pixelviz.devices import out_of_memory
from pixelviz.learning.training import TrainingError
from pixelviz.measure.benchmark import BenchmarkError
from pixelviz.measure.metrics import MetricError
from pixelviz.models.pixel_aware import MissingPart
from pixelviz.samplers import SamplerError
from pixelviz.store.checkpoints import CheckpointError
from pixelviz.view import ExportError

log = logging.getLogger(__name__)
_SEEN: set[tuple[str, str]] = set()  # what was logged with its traceback, and where it came up

SPEAKING = (
    ServiceError,
    CheckpointError,
    BenchmarkError,
    ConfigError,
    DataError,
    ExportError,
    ImageError,
    MetricError,
    MissingPart,
    SamplerError,
    TrainingError,
)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
SYMBOLS = ("t", "i", "n")  # in capitals they would be others
# Where a server keeps its files is nobody's business: of a path its last name stays. Not the slashes of an address.
PATH = re.compile(r"(?<![\w:/.])(?:[A-Za-z]:)?(?:[/\\](?:[^/\\\s'\"`:;,()<>]+(?=[/\\])))+[/\\]")


def without_paths(message: str) -> str:
    """A message as strangers may see it."""
    return PATH.sub("", message)


def no_room(error: BaseException) -> bool:
    """Whether an error means that a disk, or somebody's share of it, is full."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def friendly(error: BaseException) -> str:
    """What to show for an error. Anything unforeseen is named by its kind; its traceback is logged, the first time."""
    if isinstance(error, SPEAKING):
        message = without_paths(str(error))
        if "_" in (first := message.split(" ", 1)[0]) or first in SYMBOLS:  # a setting's name
            return f"The setting {message}"
        return message[:1].upper() + message[1:]
    if out_of_memory(error):
        return "There was not enough memory for this; ask for fewer or smaller images, or a smaller batch."
    if no_room(error):
        return "There is no room left on the server for this; send less, or ask whoever runs the app to make room."
    where = str(traceback.extract_tb(error.__traceback__)[-1:])
    first = (type(error).__name__, where) not in _SEEN
    _SEEN.add((type(error).__name__, where))
    log.error("unforeseen error: %s", type(error).__name__, exc_info=error if first else None)
    return f"Something went wrong on the server ({type(error).__name__}); its log says what. Please try again."
