"""The closed loop without noise: one head a run, and the rotation (DDIM in v-form) from one boundary to the next."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.reverse import rotation_step
from pixelviz.samplers.common import ImageNoise, SampleStep, Start
from pixelviz.samplers.parallel import boundaries


def rotation(model: PixelAwareModel, start: Start, noise: ImageNoise, *, passes: int = 10) -> Iterator[SampleStep]:
    """K runs of R_phi, each of which gives head i alone; the image is a function of x_T and x_delta_hat.

    Yields: SampleStep at the boundaries, from i = T to 0. For v heads.
    """
    unet = model.parallel_unet
    rate_x0, x = model.rate_x0(start.x_delta), start.x_T
    yield SampleStep(model.config.T, x, 0)
    steps = boundaries(model.config.T, passes, model.config.i_min)
    for evaluations, (i, below) in enumerate(itertools.pairwise(steps), start=1):
        head = model.step_tensor(math.ceil(i), 1)
        at = model.step_tensor(i, len(x))
        drift = unet(x, model.scale_read(x, at, start.x_delta), at, head, drift=True)[:, 0]
        v = model.schedule.noise_variance(rate_x0, i).sqrt() * drift
        x = rotation_step(model.schedule, rate_x0, i, x, v, below)
        yield SampleStep(below, x, evaluations)
