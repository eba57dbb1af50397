"""The smallest real model: every part, in milliseconds."""

import torch

from pixelviz.config import ModelConfig, Preset
from pixelviz.data.sets import ImageSet, Origin
from pixelviz.models.pixel_aware import PixelAwareModel


def tiny_config(**changes) -> ModelConfig:
    """16x16 gray, T = 8."""
    values = {
        "image_size": 16, "channels": 1, "T": 8, "gamma": 4.0, "floor": 0.1, "vae_widths": (8, 8), "latent": 4,
        "prior_components": 2, "unet_widths": (8, 8), "patch": 2, "last_width": 4, "attention_tokens": 4,
    }  # fmt: skip
    return ModelConfig(**{**values, **changes})


TINY = Preset("tiny", "Tiny", tiny_config())


def tiny_images(n: int = 24, size: int = 16, channels: int = 1) -> ImageSet:
    """Bright squares on black, at random places."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(n, channels, size, size, dtype=torch.uint8)
    for k in range(n):
        top, left = torch.randint(0, size // 2, (2,), generator=generator).tolist()
        images[k, :, top : top + size // 2, left : left + size // 2] = 220
    return ImageSet(images, Origin(title="squares"))


def randomised(model: torch.nn.Module, seed: int = 0, scale: float = 0.2) -> torch.nn.Module:
    """The model with every weight random: zero-initialised outputs would hide what is wired wrongly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


def tiny_model(seed: int = 0, **changes) -> PixelAwareModel:
    """A tiny model with random weights."""
    return randomised(PixelAwareModel(tiny_config(**changes)), seed)
