"""Tensors of the process as pictures for a screen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pixelviz.data import to_image

PIECE = 2**15 - 1  # values; torch spreads more over threads, which here costs more than it saves


def to_bytes(x: Tensor | np.ndarray, floor: float) -> np.ndarray:
    """x in [floor, 1], shown as 0 to 255, rounded and clipped: uint8 of the same shape. Not-a-number becomes 0."""
    x = torch.as_tensor(x)
    pieces = [to_image(piece, floor).cpu().numpy() for piece in x.reshape(-1).split(PIECE)]
    # np.rint, and not torch.round, which can take a hundred times as long on a CPU.
    return np.concatenate([np.rint(piece * 255).astype(np.uint8) for piece in pieces]).reshape(x.shape)


def stretched(x: Tensor) -> np.ndarray:
    """x_i of images (n, C, H, W) with each image's own range shown as 0 to 255 (its 1st to 99th percentile).

    Inside a pass x_i is a conditional mean near 0, mostly below the floor: shown as an image it would be black.
    """
    values = x.cpu().double().flatten(1)
    finite = torch.where(values.isfinite(), values, torch.nan)
    low, high = (finite.nanquantile(q, dim=1, keepdim=True).nan_to_num(0.0) for q in (0.01, 0.99))
    # Infinities land on black and white; what is not a number is black.
    shown = ((values - low) / (high - low).clamp(min=1e-6)).nan_to_num(0.0).clamp(0, 1)
    return np.rint(shown.numpy() * 255).astype(np.uint8).reshape(x.shape)


def last_channel(frames: np.ndarray) -> np.ndarray:
    """(..., C, H, W) to (..., H, W, C)."""
    return np.ascontiguousarray(np.moveaxis(frames, -3, -1))


def to_rgb(frames: np.ndarray) -> np.ndarray:
    """(..., H, W, 1 or 3) to (..., H, W, 3)."""
    return np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames
