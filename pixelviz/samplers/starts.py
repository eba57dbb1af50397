"""Where the reverse process starts (audit, sections 2 and 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pixelviz.models.pixel_aware import PixelAwareModel, Told
from pixelviz.process.forward import marginal
from pixelviz.samplers.common import ImageNoise, SamplerError, Start
from pixelviz.tables import Table


class Beginning(NamedTuple):
    """All that a consistent start is made of: a code z (B, latent) and the noise eps (B, C, H, W) of x_T."""

    z: Tensor
    eps: Tensor

    def mixed(self, weights: Tensor) -> Beginning:
        """Others on the plane through these: weights (N, B), each row of which sums to 1.

        eps is scaled to unit variance again, so that each is as likely a noise as those it is mixed of.
        """
        scaled = weights / weights.norm(dim=1, keepdim=True)
        return Beginning(weights @ self.z, torch.tensordot(scaled, self.eps, dims=1))


def beginning(model: PixelAwareModel, noise: ImageNoise) -> Beginning:
    """A code from the prior and noise for each image; raises MissingPart."""
    labels = model.labels if isinstance(model, Told) else None
    z = model.scale_vae.sample_prior(noise.uniform(), noise.normal(model.config.latent), labels)
    return Beginning(z, noise.normal(*model.config.shape))


def start_from(model: PixelAwareModel, beginning: Beginning) -> Start:
    """z -> x_delta_hat -> x_T = sqrt(abar_T) x0_hat + sqrt(1 - abar_T) eps, abar_T by x_delta_hat.

    x_T then has the distribution that the forward process gives it, also where gamma x0 is small.
    """
    x_delta = model.scale_vae.decode(beginning.z, model.step_tensor(0, len(beginning.z)))
    mean, variance = marginal(model.schedule, model.rate_x0(x_delta), model.config.T)
    return Start(mean + variance.sqrt() * beginning.eps, x_delta)


def consistent(model: PixelAwareModel, noise: ImageNoise) -> Start:
    """A scale from the prior, then its x_T (`start_from`); raises MissingPart."""
    return start_from(model, beginning(model, noise))


def printed(model: PixelAwareModel, noise: ImageNoise) -> Start:
    """x_T ~ N(0, I) and x_delta_hat = G_theta(x_T, T), as Algorithm 1 starts."""
    x_T = noise.normal(*model.config.shape)
    return Start(x_T, model.scale_vae(x_T, model.step_tensor(model.config.T, len(noise))))


@dataclass(frozen=True)
class StartRow:
    """A row: a start that the samplers of the paper's model can be given. about: what it does, in a few words."""

    name: str
    run: Callable[[PixelAwareModel, ImageNoise], Start]
    title: str
    about: str

    def __call__(self, model: PixelAwareModel, noise: ImageNoise) -> Start:
        """The start for as many images as there are streams of noise; raises MissingPart."""
        return self.run(model, noise)


STARTS: Table[StartRow] = Table(
    "start",
    (
        StartRow("consistent", consistent, "consistent", "a scale from the prior, then its x_T"),
        StartRow("printed", printed, "as printed", "x_T from N(0, I)"),
    ),
    SamplerError,
)
