"""A service over temporary folders, with one tiny checkpoint that was really trained."""

import io

import numpy as np
from PIL import Image

from pixelviz.config import TrainConfig
from pixelviz.learning.training import train
from pixelviz.service.service import Service
from tests.tiny import tiny_config, tiny_images


def train_tiny(folder, steps=2, parts=("scale_vae", "twin", "parallel_unet"), **changes):
    """Train a tiny model for a few steps and save it in `folder`."""
    settings = TrainConfig(steps=steps, batch=4, parts=parts)
    for _ in train(tiny_images(), tiny_config(**changes), settings, folder, device="cpu"):
        pass
    return folder


def empty_service(root):
    """A service with no checkpoint, over root/checkpoints and root/runs."""
    return Service([root / "checkpoints", root / "runs"], device="cpu")


def tiny_service(root):
    """A service with one bundled checkpoint, `tiny`."""
    train_tiny(root / "checkpoints" / "tiny")
    return empty_service(root)


def photo(rows=20, columns=24, channels=3, seed=0):
    """A random picture as a uint8 array."""
    shape = (rows, columns, channels) if channels > 1 else (rows, columns)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(array):
    """The array as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "png")
    return stream.getvalue()


def folder_of_images(folder, images):
    """A folder with these images, uint8 (N, C, H, W), as PNG files."""
    folder.mkdir(parents=True)
    for k, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).save(folder / f"{k:03}.png")
    return folder
