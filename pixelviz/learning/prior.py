"""The prior over the codes, fitted once the scale VAE is trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixelviz.data.sets import to_unit
from pixelviz.devices import Compute, halving
from pixelviz.models.prior import fit_classes, fit_mixture
from pixelviz.models.scale_vae import ScaleVAE

PRIOR_IMAGES = 20_000  # codes that the prior is fitted to, at most
ENCODED_VALUES = 2**20  # of the images that are encoded at once for it


@torch.no_grad()
def fit_prior(
    vae: ScaleVAE,
    images: Tensor,
    compute: Compute,
    *,
    labels: Tensor | None = None,
    limit: int = PRIOR_IMAGES,
    seed: int = 0,
) -> None:
    """Fit the mixture over z to codes drawn from q(z | x0, i = 0) of at most `limit` uint8 training images.

    Fewer components are used where there are fewer than 4 codes per latent dimension for each. Of a model of classes,
    labels (N,), each class has a mixture of its own, weighed by its share of the images.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)[:limit]
    chosen = images[order]

    def encode(n: int) -> list[Tensor]:
        codes = []
        for part in chosen.split(n):
            x0 = to_unit(part, vae.config.floor).to(compute.device)
            with compute.autocast():
                code = vae.encode(x0, torch.zeros(len(x0), dtype=torch.int64, device=x0.device))
            codes.append(code.sample(generator).float())
        return codes

    # Training that fitted in memory must not be lost because its last step, this one, does not.
    codes, _ = halving(encode, max(1, min(256, ENCODED_VALUES // math.prod(vae.config.shape))))
    found, number = torch.cat(codes).cpu(), vae.config.gaussians
    if labels is None:
        fitted = fit_mixture(found, number, generator)
    else:
        fitted = fit_classes(found, labels[order], len(vae.config.classes), number, generator)
    for name, value in zip(("prior_log_weight", "prior_mean", "prior_factor"), fitted, strict=True):
        getattr(vae, name).copy_(value)
