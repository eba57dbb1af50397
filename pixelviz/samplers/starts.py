"""Where the reverse process starts (audit, sections 2 and 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.forward import marginal
from pixelviz.samplers.common import ImageNoise, SamplerError, Start
from pixelviz.tables import Table


def consistent(model: PixelAwareModel, noise: ImageNoise) -> Start:
    """z from the prior -> x_delta_hat -> x_T = sqrt(abar_T) x0_hat + sqrt(1 - abar_T) eps, abar_T by x_delta_hat.

    x_T then has the distribution that the forward process gives it, also where gamma x0 is small.
    """
    vae, config = model.scale_vae, model.config
    z = vae.sample_prior(noise.uniform(), noise.normal(config.latent))
    x_delta = vae.decode(z, model.step_tensor(0, len(noise)))
    x0_hat = model.rate_x0(x_delta)
    mean, variance = marginal(model.schedule, x0_hat, config.T)
    x_T = mean + variance.sqrt() * noise.normal(*config.shape)
    return Start(x_T, x_delta)


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
