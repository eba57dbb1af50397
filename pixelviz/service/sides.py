"""Two pictures of the same, and how far they are from each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Difference(NamedTuple):
    """Of two pictures, over the range from black to white.

    image: |a - b|, the largest over the channels, uint8 (H, W, 1), white where it is `most`; mean and most: shares of
    the range, from 0 to 1.
    """

    image: np.ndarray
    mean: float
    most: float


def difference(a: np.ndarray, b: np.ndarray) -> Difference | None:
    """Of uint8 pictures (H, W, C); None where they differ in size."""
    if a.shape[:2] != b.shape[:2]:
        return None
    apart = np.abs(a.astype(np.int16) - b)  # a gray one beside a colored one is gray in all channels
    most = int(apart.max())
    image = np.rint(apart.max(2, keepdims=True) * (255 / max(1, most))).astype(np.uint8)
    return Difference(image, float(apart.mean()) / 255, most / 255)
