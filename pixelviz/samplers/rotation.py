"""The closed loop without noise: one head a run, and the rotation (DDIM in v-form) from one boundary to the next."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.reverse import rotation_step
from pixelviz.samplers.common import ImageNoise, SamplerError, SampleStep, Start
from pixelviz.samplers.parallel import boundaries


def rotation(model: PixelAwareModel, start: Start, noise: ImageNoise, *, passes: int = 10) -> Iterator[SampleStep]:
    """K runs of R_phi, each of which gives head i alone; the image is a function of x_T and x_delta_hat.

    Yields: SampleStep at the boundaries, from i = T to 0. Raises SamplerError for eps heads.
    """
    model.need("parallel_unet")
    if model.config.head_target != "v":
        raise SamplerError("this checkpoint has eps heads (Eq. 15 as printed); use the sampler 'printed'.")
    rate_x0, x = model.rate_x0(start.x_delta), start.x_T
    yield SampleStep(model.config.T, x, 0)
    for evaluations, (i, below) in enumerate(itertools.pairwise(boundaries(model.config.T, passes)), start=1):
        steps = model.step_tensor(i, len(x))
        v = model.parallel_unet(x, start.x_delta, steps, steps[:1])[:, 0]
        x = rotation_step(model.schedule, rate_x0, i, x, v, below)
        yield SampleStep(below, x, evaluations)
