"""Images between samples, one run each, as fast as a hand drags."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from pixelviz.checks import ServiceError, number, whole
from pixelviz.config import MAX_SEED
from pixelviz.data.pictures import last_channel, to_bytes
from pixelviz.devices import Compute
from pixelviz.models.pixel_aware import PixelAwareModel, Told
from pixelviz.samplers import SAMPLERS, ImageNoise, told
from pixelviz.samplers.rotation import rotation
from pixelviz.samplers.starts import Beginning, beginning, start_from
from pixelviz.service.generation import MOST_IMAGES
from pixelviz.service.turns import ModelTurn

MOST_CORNERS = 3


class Between(NamedTuple):
    """image: uint8 (H, W, C); milliseconds: of the network and its start."""

    image: np.ndarray
    milliseconds: float


def check_corners(seed: Any, corners: Any, weights: Any) -> tuple[int, list[int], list[float]]:
    """The seed, two or three of its images, and as many weights from 0 that sum to 1; raises ServiceError."""
    seed = whole("seed", seed, 0, MAX_SEED)
    if not isinstance(corners, list | tuple) or not 2 <= len(corners) <= MOST_CORNERS:
        raise ServiceError("corners must be two or three images, by their numbers in the sheet from 0.")
    corners = [whole("a corner", corner, 0, MOST_IMAGES - 1) for corner in corners]
    if not isinstance(weights, list | tuple) or len(weights) != len(corners):
        raise ServiceError("weights must be as many as there are corners.")
    weights = [number("a weight", weight) for weight in weights]
    if min(weights) < 0 or not 0 < sum(weights) < 1e6:
        raise ServiceError("weights must be 0 or more, and not all 0.")
    return seed, corners, [weight / sum(weights) for weight in weights]


@torch.inference_mode()
def between_samples(
    model: PixelAwareModel,
    compute: Compute,
    turn: ModelTurn,
    seed: int,
    corners: Sequence[int],
    weights: list[float],
    classes: str | None = None,
    guidance: float = 1.0,
) -> Between:
    """One run, with one head, from a mixture of the codes and noises of images `corners` of a seed.

    With all weight on a corner it is that image, as the start "consistent" and the sampler "rotation" draw it, of a
    model of classes with `classes` and guidance. Between two classes R_phi is told a mixture of their codes.
    Raises MissingPart or SamplerError.
    """
    SAMPLERS["rotation"].check(model.config, 1)
    noises = [ImageNoise(seed, 1, first=corner, device=model.device) for corner in corners]
    with turn.short():
        began = time.perf_counter()
        with compute.autocast():
            tellers, share = [told(model, noise, classes, guidance) for noise in noises], torch.tensor([weights])
            begun = (beginning(*pair) for pair in zip(tellers, noises, strict=True))
            ends = Beginning(*map(torch.cat, zip(*begun, strict=True)))
            mixed = ends.mixed(share := share.to(model.device))
            heard: Any = model
            if isinstance(first := tellers[0], Told):
                heard = Told(model, first.labels, guidance, share @ torch.cat([one.classes for one in tellers]))
            x = deque(rotation(heard, start_from(heard, mixed), noises[0], passes=1), maxlen=1).pop().x.float().cpu()
        took = time.perf_counter() - began
    return Between(last_channel(to_bytes(x[0], model.config.floor)), 1000 * took)
