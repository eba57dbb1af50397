"""Ways to draw an image: one method a file, one signature, one table.

A sampler is `sampler(model, start, noise, *, passes) -> Iterator[SampleStep]`: it yields x_i from i = T
down to i = 0, so that a progress bar, a film strip and a test can all watch the same loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pixelviz.samplers.common import ImageNoise, SamplerError, SampleStep, Start
from pixelviz.samplers.parallel import parallel
from pixelviz.samplers.printed import printed
from pixelviz.samplers.starts import STARTS


@dataclass(frozen=True)
class Sampler:
    """A row of the table: how to call it, and where it is from."""

    run: Callable[..., Iterator[SampleStep]]
    title: str
    citation: str
    passes: bool  # whether the number of passes is the caller's to choose


SAMPLERS: dict[str, Sampler] = {
    "parallel": Sampler(parallel, "Parallel, stable v-form", "paper Section 3.3; Salimans & Ho 2022 for v", True),
    "printed": Sampler(printed, "Algorithm 1 as printed (diverges)", "paper Appendix D, Algorithm 1", False),
}

__all__ = ["SAMPLERS", "STARTS", "ImageNoise", "SampleStep", "Sampler", "SamplerError", "Start"]
