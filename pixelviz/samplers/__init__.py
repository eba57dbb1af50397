"""Ways to draw an image: one method a file, one signature, one table.

A sampler is `sampler(model, start, noise, *, passes) -> Iterator[SampleStep]`: it yields x_i from i = T
down to i = 0, so that a progress bar, a film strip and a test can all watch the same loop.
"""

from pixelviz.samplers.common import ImageNoise, SamplerError, SampleStep, Start
from pixelviz.samplers.draw import MOST_GUIDANCE, check_told, draw, draw_noise, told
from pixelviz.samplers.starts import STARTS
from pixelviz.samplers.table import SAMPLERS, Aim, Sampler, compared, first_fitting, ours

__all__ = [
    "MOST_GUIDANCE",
    "SAMPLERS",
    "STARTS",
    "Aim",
    "ImageNoise",
    "SampleStep",
    "Sampler",
    "SamplerError",
    "Start",
    "check_told",
    "compared",
    "draw",
    "draw_noise",
    "first_fitting",
    "ours",
    "told",
]
