"""No diffusion at all: the scale that the prior's code decodes to, read as an image. What the other rows add shows."""

from __future__ import annotations

from collections.abc import Iterator

from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers.common import ImageNoise, SampleStep, Start


def decoded(model: PixelAwareModel, start: Start, noise: ImageNoise, *, passes: int = 1) -> Iterator[SampleStep]:
    """x0_hat = -log(x_delta_hat) / gamma, without a run of R_phi. Yields: x_T, then the image."""
    yield SampleStep(model.config.T, start.x_T, 0)
    yield SampleStep(0, model.rate_x0(start.x_delta), 0)
