"""Finished images in batches that fit in memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from pixelviz.config import ModelConfig
from pixelviz.data.sets import from_unit
from pixelviz.devices import Compute, in_batches
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers.draw import draw
from pixelviz.samplers.starts import STARTS
from pixelviz.samplers.table import SAMPLERS

BATCH = 100
HEAD_VALUES = 2**26  # of all heads' output at once: 256 MB of float32


def heads_batch(config: ModelConfig, most: int) -> int:
    """How many images to draw at once, at most `most`: their heads are (B, T, C, H, W) together."""
    return max(1, min(most, HEAD_VALUES // (config.T * math.prod(config.shape))))


class Batch(NamedTuple):
    """Finished images, uint8 (b, C, H, W); runs of R_phi per image; seconds for the batch, by `Compute.clock`."""

    images: UInt8[Tensor, "b C H W"]
    network_evaluations: int
    seconds: float


def sample_images(
    model: PixelAwareModel,
    compute: Compute,
    n: int,
    *,
    passes: int = 1,
    start: str = STARTS.first,
    sampler: str = SAMPLERS.first,
    seed: int = 0,
    done: int = 0,
    batch: int | None = None,
    classes: str | Sequence[str] | None = None,
    guidance: float = 1.0,
) -> Iterator[Batch]:
    """Draw images done..n-1, `batch` at once (None: as many as the heads allow), fewer where memory does not suffice.

    Otherwise as `samplers.draw`.
    """
    settings = {"passes": passes, "start": start, "sampler": sampler, "seed": seed}
    settings |= {"classes": classes, "guidance": guidance}

    def run(first: int, size: int) -> tuple[Tensor, int]:
        # A state at a time: T of them would be the most that a batch keeps in memory.
        last = deque(draw(model, compute, n=size, first=first, **settings), maxlen=1).pop()
        return from_unit(last.x.float().cpu(), model.config.floor), last.network_evaluations

    most = batch or heads_batch(model.config, BATCH)
    for _, (images, runs), seconds in in_batches(run, n, most, first=done, clock=compute.clock):
        yield Batch(images, runs, seconds)
