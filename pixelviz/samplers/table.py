"""The table of samplers. A new method is a file with one function, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pixelviz.samplers.common import SampleStep
from pixelviz.samplers.parallel import parallel
from pixelviz.samplers.printed import printed


@dataclass(frozen=True)
class Sampler:
    """A row: how to call it, and where it is from."""

    run: Callable[..., Iterator[SampleStep]]
    title: str
    citation: str
    passes: bool  # whether the number of passes is the caller's to choose


SAMPLERS: dict[str, Sampler] = {
    "parallel": Sampler(parallel, "Parallel, stable v-form", "paper Section 3.3; Salimans & Ho 2022 for v", True),
    "printed": Sampler(printed, "Algorithm 1 as printed (diverges)", "paper Appendix D, Algorithm 1", False),
}
