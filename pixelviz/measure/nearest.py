"""The nearest training images of any image, by pixels and by features: what is memorised shows here."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SHOWN = 16  # samples of a sheet
CHUNK = 2000  # training images at a time
MARGIN = 0.5  # of the distance that real images keep: what comes nearer than this is no coincidence
QUANTILE = 0.05  # the real images that keep least are taken as their measure
UNJUDGED = "cannot be judged: one in twenty or more of the images to compare with are training images themselves"


class Nearest(NamedTuple):
    """Of each image: the index of its nearest training image, int64 (N,), and how far that is, (N,)."""

    index: Tensor
    distance: Tensor


def _nearest(a: Tensor, b: Tensor) -> Nearest:
    """Nearest row of b (M, D) for each of a (N, D), Euclidean, `CHUNK` rows at a time, uint8 or floats."""
    best = Nearest(torch.zeros(len(a), dtype=torch.int64), torch.full((len(a),), torch.inf))
    a = a.float()
    for first in range(0, len(b), CHUNK):
        part = torch.cdist(a, b[first : first + CHUNK].float()).min(1)
        nearer = part.values < best.distance
        best.index[nearer] = first + part.indices[nearer]
        best.distance[nearer] = part.values[nearer]
    # cdist's matrix product leaves a rest where two are the same; what is kept for the nearest has none.
    return best._replace(distance=(a - b[best.index].float()).norm(dim=1))


def nearest_by_pixels(images: Tensor, training: Tensor) -> Nearest:
    """Of uint8 images (N, C, H, W) among (M, C, H, W); the distance is the root mean square, black to white being 1."""
    found = _nearest(images.flatten(1), training.flatten(1))
    return Nearest(found.index, found.distance / (255 * images[0].numel() ** 0.5))


def nearest_by_features(features: Tensor, training: Tensor) -> Nearest:
    """Of features (N, D) among (M, D); the distance is Euclidean."""
    return _nearest(features, training)


def memorised(samples: Tensor, training: Tensor, test: Tensor) -> tuple[Tensor, dict[str, float | None]]:
    """Whether uint8 samples (N, C, H, W) are training images: pictures of both, and figures.

    Returns (2, n, C, H, W), the n <= `SHOWN` samples that come nearest and below them what they come nearest to; and
    the share of samples that are too near (None where `too_near` cannot tell), and their median distance, by pixels.
    test: images that were not learnt.
    """
    found = nearest_by_pixels(samples, training)
    closest = found.distance.argsort()[:SHOWN]
    near = too_near(found, nearest_by_pixels(test, training))
    share = None if near is None else near.float().mean().item()
    figures = {"memorised": share, "distance": found.distance.median().item()}
    return torch.stack([samples[closest], training[found.index[closest]]]), figures


def too_near(found: Nearest, real: Nearest) -> Tensor | None:
    """Which images are nearer to a training image than `MARGIN` times what the nearest `QUANTILE` of real ones keep.

    bool (N,); None where these keep no distance: the real ones are training images themselves, and nothing is below 0.
    """
    kept = torch.quantile(real.distance.double(), QUANTILE)  # float32 would round its rank off a 0
    return found.distance < MARGIN * kept if kept > 0 else None
