"""Arrays in, numbers out: structural similarity and the Frechet distance of features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from pixelviz.assets import FID_REFERENCE

SSIM_WINDOW = 11  # pixels; Gaussian of deviation 1.5, cut at 3.5 deviations


class MetricError(ValueError):
    """Arrays that cannot be compared; the message says why."""


class Ssim(NamedTuple):
    """Mean over the batch, and one value an image, shape (N,)."""

    mean: float
    per_image: np.ndarray


def scale_range(gamma: float, floor: float, i: float | None = None, T: int | None = None) -> float:
    """Width of the interval that x_delta = exp(-gamma x0) (Eq. 7) covers for x0 in [floor, 1].

    With i and T: of alpha_bar_i = exp(-gamma i x0/T) (Eq. 9). This is SSIM's data range: on a range of 1
    its constants would drown the differences of a scale that only covers e^(-gamma floor).
    """
    if (i is None) != (T is None):
        raise MetricError("give both i and T for alpha_bar_i, or neither for x_delta.")
    rate = gamma if i is None else gamma * i / T
    # e^-rf - e^-r = -e^-rf expm1(-r(1-f)): keeps its digits at small rates.
    return -math.exp(-rate * floor) * math.expm1(-rate * (1 - floor))


def ssim(a, b, data_range: float) -> Ssim:
    """Structural similarity of two batches (N, C, H, W), or two images (C, H, W), as Wang et al. 2004 weigh it.

    Gaussian window of 11x11 pixels with deviation 1.5 and population covariances, averaged over the
    channels and the pixels whose window lies inside the image. Arrays or tensors; data_range > 0 is the
    width of the values' range (1 for images, `scale_range` for scales). Raises MetricError.
    """
    a, b = (np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, np.float64) for x in (a, b))
    if a.shape != b.shape:
        raise MetricError(f"the shapes differ: {a.shape} and {b.shape}.")
    if a.ndim == 3:
        a, b = a[None], b[None]
    if a.ndim != 4 or not a.size:
        raise MetricError(f"SSIM needs (N, C, H, W) or (C, H, W); the shape is {a.shape}.")
    if min(a.shape[2:]) < SSIM_WINDOW:
        raise MetricError(f"SSIM's window is {SSIM_WINDOW} pixels wide; these images are {a.shape[3]}x{a.shape[2]}.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise MetricError("SSIM needs finite values; these hold NaN or infinity.")
    if not 0 < data_range < math.inf:
        raise MetricError(f"the data range must be above 0; it is {data_range}.")
    values = [
        structural_similarity(
            x, y, channel_axis=0, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for x, y in zip(a, b, strict=True)
    ]
    return Ssim(float(np.mean(values)), np.array(values))


@dataclass(frozen=True)
class FeatureStatistics:
    """Of N feature vectors f: sum of f (D,), sum of f f^T (D, D), float64; N. As torchmetrics keeps them."""

    sum: Tensor
    cov_sum: Tensor
    number: int


@torch.no_grad()
def feature_statistics(images: Tensor, extractor: nn.Module, batch: int = 250) -> FeatureStatistics:
    """Statistics of `extractor`'s features (N, D) of uint8 images (N, C, H, W)."""
    metric = _frechet(extractor)
    for part in images.split(batch):
        metric.update(part, real=True)
    return FeatureStatistics(
        metric.real_features_sum, metric.real_features_cov_sum, int(metric.real_features_num_samples)
    )


@torch.no_grad()
def fid(reference: FeatureStatistics, images: Tensor, extractor: nn.Module, batch: int = 250) -> float:
    """Frechet distance between the features of `images` (uint8, (N, C, H, W)) and the reference's.

    Biased upwards for few images: below about 1,000 compare only runs of the same number. N >= 2 and
    `extractor.num_features` must equal the reference's D; raises MetricError otherwise.
    """
    if len(images) < 2:
        raise MetricError(f"the Frechet distance needs at least 2 images; there are {len(images)}.")
    if reference.sum.numel() != extractor.num_features:
        raise MetricError(f"the reference has {reference.sum.numel()} features, the network {extractor.num_features}.")
    metric = _frechet(extractor)
    for part in images.split(batch):
        metric.update(part, real=False)
    metric.real_features_sum = reference.sum
    metric.real_features_cov_sum = reference.cov_sum
    metric.real_features_num_samples = torch.tensor(reference.number)
    return max(0.0, metric.compute().item())  # rounding can leave equal sets a hair below 0


class _Double(nn.Module):
    """torchmetrics rounds its result to the features' dtype: float32 would cost digits at small distances."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor
        self.num_features = extractor.num_features

    def forward(self, images: Tensor) -> Tensor:
        return self.extractor(images).double()


def _frechet(extractor: nn.Module) -> FrechetInceptionDistance:
    # normalize only concerns the built-in Inception network; ours takes uint8 as it is.
    return FrechetInceptionDistance(feature=_Double(extractor), normalize=False)


def save_statistics(statistics: FeatureStatistics, path: Path = FID_REFERENCE) -> None:
    """Write statistics as safetensors."""
    number = torch.tensor(statistics.number)
    save_file({"sum": statistics.sum, "cov_sum": statistics.cov_sum, "number": number}, path)


def load_statistics(path: Path = FID_REFERENCE) -> FeatureStatistics:
    """Read statistics; by default those of the 10,000 Fashion-MNIST test images. Raises MetricError."""
    try:
        found = load_file(path)
        total, cov_sum, number = found["sum"], found["cov_sum"], int(found["number"])
    except (OSError, SafetensorError, KeyError) as error:
        raise MetricError(f"{path} cannot be read ({error}); restore the file from the repository.") from None
    if cov_sum.shape != (total.numel(), total.numel()) or number < 2:
        raise MetricError(f"{path} holds no feature statistics: shapes {tuple(total.shape)}, {tuple(cov_sum.shape)}.")
    return FeatureStatistics(total, cov_sum, number)
