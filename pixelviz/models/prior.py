"""A mixture of Gaussians over z, by expectation maximisation (Ghosh et al. 2020, ex-post density estimation)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEVER = -1e4  # a log weight whose exp is 0, and which, unlike -inf, is a finite number to save
CODES_PER_DIMENSION = 4  # fewer than this per component and its covariance means nothing


class Mixture(NamedTuple):
    """log_weight (M,), mean (M, d), factor (M, d, d) lower triangular with covariance factor @ factor.T."""

    log_weight: Float[Tensor, " M"]
    mean: Float[Tensor, "M d"]
    factor: Float[Tensor, "M d d"]


def log_density(mixture: Mixture, z: Float[Tensor, "n d"]) -> Float[Tensor, "n M"]:
    """log of weight times density of each component at each z (n, d): (n, M), in nats."""
    centred = (z[None] - mixture.mean[:, None]).mT  # (M, d, n)
    whitened = torch.linalg.solve_triangular(mixture.factor, centred, upper=False)
    log_det = mixture.factor.diagonal(dim1=1, dim2=2).log().sum(1)
    square = whitened.square().sum(1)
    return (mixture.log_weight - log_det - z.shape[1] / 2 * math.log(2 * math.pi))[None] - square.T / 2


def fit_mixture(
    codes: Float[Tensor, "n d"],
    components: int,
    generator: torch.Generator,
    *,
    iterations: int = 20,
    ridge: float = 1e-3,
) -> Mixture:
    """Fit `components` full-covariance Gaussians to codes (n, d); returns float32 tensors.

    Starts from codes drawn at random. `ridge` is added to each variance. Where n is too small, the
    spare components get weight 0, and with fewer than 2 codes the result is N(0, I).
    """
    z = codes.float()
    n, d = z.shape
    eye = torch.eye(d, dtype=z.dtype)
    used = max(1, min(components, n // (CODES_PER_DIMENSION * d)))
    mean = torch.zeros(components, d, dtype=z.dtype)
    factor = eye.repeat(components, 1, 1)
    log_weight = torch.full((components,), NEVER, dtype=z.dtype)
    log_weight[:used] = -math.log(used)
    if n >= 2:
        spread = torch.cov(z.T) + ridge * eye
        mean[:used] = z[torch.randperm(n, generator=generator)[:used]] if used > 1 else z.mean(0)
        factor[:used] = torch.linalg.cholesky(spread)
        for _ in range(iterations if used > 1 else 0):
            share = log_density(Mixture(log_weight[:used], mean[:used], factor[:used]), z).softmax(1)
            mass = share.sum(0) + 1e-9
            centre = share.T @ z / mass[:, None]
            scatter = torch.stack([(share[:, m : m + 1] * z).T @ z for m in range(used)])
            scatter = scatter - mass[:, None, None] * centre[:, :, None] * centre[:, None]
            # A component keeps a little of the whole cloud's shape, as though it held d/10 more codes of it.
            covariance = (scatter + d * spread[None] * 0.1) / (mass + 0.1 * d)[:, None, None]
            mean[:used], factor[:used] = centre, torch.linalg.cholesky(covariance + ridge * eye)
            log_weight[:used] = (mass / mass.sum()).log()
    return Mixture(log_weight, mean, factor)


def fit_classes(
    codes: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int, components: int, generator: torch.Generator
) -> Mixture:
    """A mixture for each class's codes, labels (n,) in 0..classes-1, one after another, weighed by the class's share.

    components: of all of them together, a multiple of `classes`.
    """
    parts = [fit_mixture(codes[labels == k], components // classes, generator) for k in range(classes)]
    shares = (torch.bincount(labels, minlength=classes) / len(labels)).log().clamp(min=NEVER)
    log_weight = [part.log_weight + share for part, share in zip(parts, shares, strict=True)]
    mean, factor = (torch.cat(found) for found in zip(*(part[1:] for part in parts), strict=True))
    return Mixture(torch.cat(log_weight), mean, factor)
