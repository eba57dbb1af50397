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


def last_channel(frames: np.ndarray) -> np.ndarray:
    """(..., C, H, W) to (..., H, W, C)."""
    return np.ascontiguousarray(np.moveaxis(frames, -3, -1))


def to_rgb(frames: np.ndarray) -> np.ndarray:
    """(..., H, W, 1 or 3) to (..., H, W, 3)."""
    return np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames
