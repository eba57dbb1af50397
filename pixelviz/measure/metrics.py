"""Arrays in, numbers out: structural similarity, and how far two sets of images are apart in a network's features.

scikit-image and torchmetrics take seconds to import, so each is imported where it is called.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pixelviz.data.assets import FID_REFERENCE

SSIM_WINDOW = 11  # pixels; Gaussian of deviation 1.5, cut at 3.5 deviations


class MetricError(ValueError):
    """Arrays that cannot be compared; the message says why."""


class Ssim(NamedTuple):
    """Mean over the batch, and one value an image, shape (N,)."""

    mean: float
    per_image: np.ndarray


def scale_range(rate: float, floor: float) -> float:
    """Width of the interval that exp(-rate x0) covers for x0 in [floor, 1].

    rate: gamma for x_delta (Eq. 7), gamma i/T for alpha_bar_i (Eq. 9). This is SSIM's data range: on a range of 1
    its constants would drown the differences of a scale that only covers e^(-gamma floor).
    """
    # e^-rf - e^-r = -e^-rf expm1(-r(1-f)): keeps its digits at small rates.
    return -math.exp(-rate * floor) * math.expm1(-rate * (1 - floor))


def ssim(a, b, data_range: float) -> Ssim:
    """Structural similarity of two batches (N, C, H, W), or two images (C, H, W), as Wang et al. 2004 weigh it.

    Gaussian window of 11x11 pixels with deviation 1.5 and population covariances, averaged over the
    channels and the pixels whose window lies inside the image. Arrays or tensors; data_range > 0 is the
    width of the values' range (1 for images, `scale_range` for scales). Raises MetricError.
    """
    from skimage.metrics import structural_similarity

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
def features_of(images: Tensor, extractor: nn.Module, batch: int = 250) -> Tensor:
    """`extractor`'s features (N, D), float32 on the CPU, of uint8 images (N, C, H, W), N >= 1."""
    return torch.cat([extractor(part).float().cpu() for part in images.split(batch)])


def statistics_of(features: Tensor) -> FeatureStatistics:
    """Statistics of features (N, D)."""
    features = features.double()
    return FeatureStatistics(features.sum(0), features.T @ features, len(features))


def fid(reference: FeatureStatistics, images: Tensor, extractor: nn.Module, batch: int = 250) -> float:
    """Frechet distance between the features of `images` (uint8, (N, C, H, W)) and the reference's.

    Biased upwards for few images: below about 1,000 compare only runs of the same number. N >= 2 and
    `extractor.num_features` must equal the reference's D; raises MetricError otherwise.
    """
    if len(images) < 2:
        raise MetricError(f"the Frechet distance needs at least 2 images; there are {len(images)}.")
    if reference.sum.numel() != extractor.num_features:
        raise MetricError(f"the reference has {reference.sum.numel()} features, the network {extractor.num_features}.")
    return frechet_distance(reference, features_of(images, extractor, batch))


class _AsTheyAre(nn.Module):
    """Stands where torchmetrics expects a network: the features are there already.

    In float64, because torchmetrics rounds its result to the features' dtype.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features.double()


def frechet_distance(reference: FeatureStatistics, features: Tensor) -> float:
    """Frechet distance (Heusel et al. 2017) between the reference and features (N, D), N >= 2; >= 0."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_AsTheyAre(features.shape[1]), normalize=False)
    metric.update(features, real=False)
    metric.real_features_sum = reference.sum
    metric.real_features_cov_sum = reference.cov_sum
    metric.real_features_num_samples = torch.tensor(reference.number)
    return max(0.0, metric.compute().item())  # rounding can leave equal sets a hair below 0


def kid(real: Tensor, fake: Tensor, *, subsets: int = 50, size: int = 1000, seed: int = 0) -> float:
    """Kernel distance (Binkowski et al. 2018) of features (N, D) and (M, D): mean over random subsets.

    Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased, so it can fall below 0. Subsets of
    at most `size` features; raises MetricError for fewer than 2.
    """
    from torchmetrics.image.kid import poly_mmd

    _check_features(real, fake, least=2)
    size = min(size, len(real), len(fake))
    generator = torch.Generator().manual_seed(seed)

    def draw(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]].double()

    return float(np.mean([poly_mmd(draw(real), draw(fake)).item() for _ in range(subsets)]))


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of generated images that look real, and of real images that could be generated."""

    precision: float
    recall: float


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019) of features (N, D) and (M, D).

    A point counts as covered by a set where it is no farther from some member than that member's k-th nearest
    neighbour in the set. Raises MetricError unless both sets have more than k points.
    """
    _check_features(real, fake, least=k + 1)
    return PrecisionRecall(_covered(fake, real, k), _covered(real, fake, k))


def _covered(points: Tensor, members: Tensor, k: int, chunk: int = 1000) -> float:
    """Share of points inside the ball of any member."""
    # The nearest of a member's neighbours is the member itself.
    radii = torch.cat([torch.cdist(part, members).kthvalue(k + 1, dim=1).values for part in members.split(chunk)])
    inside = [(torch.cdist(part, members) <= radii).any(1) for part in points.split(chunk)]
    return torch.cat(inside).double().mean().item()


def _check_features(real: Tensor, fake: Tensor, least: int) -> None:
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise MetricError(f"features must be (N, D) of equal D; they are {tuple(real.shape)} and {tuple(fake.shape)}.")
    if min(len(real), len(fake)) < least:
        raise MetricError(f"at least {least} images are needed on both sides; there are {len(real)} and {len(fake)}.")


def save_statistics(features: Tensor, path: Path = FID_REFERENCE) -> None:
    """Write the statistics of features (N, D), and the features themselves in half precision, as safetensors."""
    found = statistics_of(features)
    tensors = {"sum": found.sum, "cov_sum": found.cov_sum, "number": torch.tensor(found.number)}
    save_file({**tensors, "features": features.half()}, path)


def load_features(path: Path = FID_REFERENCE) -> Tensor:
    """The real images' features (N, D), float32, that KID, precision and recall compare with. Raises MetricError."""
    try:
        return load_file(path)["features"].float()
    except (OSError, SafetensorError, KeyError) as error:
        raise MetricError(f"{path} holds no features ({error}); restore the file from the repository.") from None


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
