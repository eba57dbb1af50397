"""Where the reverse process starts (audit, sections 2 and 4)."""

from __future__ import annotations

from collections.abc import Callable

from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers.common import ImageNoise, Start


def consistent(model: PixelAwareModel, noise: ImageNoise) -> Start:
    """z from the prior -> x_delta_hat -> x_T = sqrt(x_delta_hat) x0_hat + sqrt(1 - x_delta_hat) eps.

    x_T then has the distribution that the forward process gives it, also where gamma x0 is small.
    """
    model.need("scale_vae")
    vae, config = model.scale_vae, model.config
    z = vae.sample_prior(noise.uniform(), noise.normal(config.latent))
    x_delta = vae.decode(z, model.step_tensor(0, len(noise)))
    x0_hat = model.rate_x0(x_delta)
    x_T = x_delta.sqrt() * x0_hat + (1 - x_delta).sqrt() * noise.normal(*config.shape)
    return Start(x_T, x_delta)


def printed(model: PixelAwareModel, noise: ImageNoise) -> Start:
    """x_T ~ N(0, I) and x_delta_hat = G_theta(x_T, T), as Algorithm 1 starts."""
    model.need("scale_vae")
    x_T = noise.normal(*model.config.shape)
    return Start(x_T, model.scale_vae(x_T, model.step_tensor(model.config.T, len(noise))))


STARTS: dict[str, Callable[[PixelAwareModel, ImageNoise], Start]] = {"consistent": consistent, "printed": printed}
