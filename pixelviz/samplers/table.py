"""The table of samplers. A new method is a file with one function, and a row here (CONTRIBUTING.md shows one)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from pixelviz.config import ModelConfig
from pixelviz.samplers import baselines
from pixelviz.samplers.common import PeerStart, SamplerError, SampleStep
from pixelviz.samplers.decoded import decoded
from pixelviz.samplers.multistep import multistep
from pixelviz.samplers.parallel import boundaries, parallel, passed_through, thinned
from pixelviz.samplers.printed import WHY_IT_DIVERGES, printed
from pixelviz.samplers.rotation import rotation
from pixelviz.tables import Table

FEW = 24  # heads of a pass, of 200 in the bundled checkpoints: their image is that of all to a grey level or two;
# a multiple of 8, of which `heads.block_size` makes the fastest blocks


def at_boundaries(config: ModelConfig, passes: int) -> list[float]:
    """The boundaries of the passes, from T to 0."""
    return boundaries(config.T, passes, config.i_min)


def every_step(config: ModelConfig, passes: int) -> list[float]:
    """The boundaries and every whole step between them, from T to 0."""
    return passed_through(at_boundaries(config, passes))


def few_steps(config: ModelConfig, passes: int) -> list[float]:
    """As `every_step`, where each pass reads `FEW` heads at most."""
    blocks = [thinned(passed_through([*ends]), FEW) for ends in pairwise(at_boundaries(config, passes))]
    return [*(i for block in blocks for i in block[:-1]), 0]


def once(passes: int) -> int:
    """As many runs of the network as passes."""
    return passes


@dataclass(frozen=True)
class Aim:
    """What is aimed for against a peer: with `passes` no worse, in at most `time_share` of its time (None: any).

    The peer has the first number of passes of its row's `compared` (longest: the most that were measured, for a peer
    that is seldom waited for); of its variants the best that was measured counts.
    """

    passes: int
    time_share: float | None = None
    longest: bool = False


@dataclass(frozen=True)
class Sampler:
    """A row: all that anything asks of a sampler.

    run: see `pixelviz.samplers`. short: a title for a class (None: the title). about: Markdown that the Generate tab
    shows beside it. needs: parts of the checkpoint; the last is the network whose runs are counted. head_target: what
    R_phi's heads must be (None: either). start: its own start (None: one of STARTS, the caller's choice). passes:
    whether their number is the caller's to choose; nice: those that a list offers; compared, raced, quick: those that a
    benchmark, a first race and a quick benchmark run. states: of a configuration and passes the steps it yields, from T
    to 0 (None: one a pass, at times of its own). runs: of a number of passes those of the network. stable: whether its
    images are any good. variant_of: the peer that this is another form of. aim: see `Aim`.
    """

    name: str
    run: Callable[..., Iterator[SampleStep]]
    title: str
    citation: str
    short: str | None = None
    about: str = ""
    needs: tuple[str, ...] = ("scale_vae", "parallel_unet")
    head_target: str | None = None
    start: Callable[..., PeerStart] | None = None
    passes: bool = True
    nice: tuple[int, ...] = (1, 2, 5, 10, 50, 200)
    compared: tuple[int, ...] = ()
    raced: tuple[int, ...] = ()
    quick: tuple[int, ...] = ()
    states: Callable[[ModelConfig, int], list[float]] | None = at_boundaries
    runs: Callable[[int], int] = once
    stable: bool = True
    variant_of: str | None = None
    aim: Aim | None = None

    @property
    def ours(self) -> bool:
        """Whether it runs the paper's model, from a start of STARTS; a peer has a start of its own."""
        return self.start is None

    @property
    def network(self) -> str:
        """The part whose runs are counted."""
        return self.needs[-1]

    def most(self, config: ModelConfig) -> int:
        """The most passes that a model of this configuration allows."""
        if not self.passes:
            return 1
        return config.T if self.ours else baselines.MOST_PASSES

    def offered(self, config: ModelConfig) -> list[int]:
        """The numbers of passes that a list offers, the most among them."""
        most = self.most(config)
        return [*(k for k in self.nice if k < most), most]

    def fits(self, config: Any, parts: Collection[str]) -> bool:
        """Whether a model of this configuration with these parts has what it needs."""
        return set(self.needs) <= set(parts) and self.reads(config)

    def reads(self, config: Any) -> bool:
        """Whether the heads of this configuration are what it needs."""
        return self.head_target is None or self.head_target == config.head_target

    def yields(self, config: ModelConfig, passes: int) -> int:
        """How many states it yields, the start among them."""
        return passes + 1 if self.states is None else len(self.states(config, passes))

    def check(self, config: Any, passes: int) -> None:
        """Raise SamplerError for heads or a number of passes that it cannot run with; the message says what would."""
        if not self.reads(config):
            others = [name for name in ours() if SAMPLERS[name].reads(config)]
            raise SamplerError(
                f"the sampler {self.name} needs {self.head_target} heads, and this checkpoint has {config.head_target} "
                f"heads; choose {' or '.join(others)}."
            )
        if not self.passes and passes != 1:
            others = [name for name in ours() if SAMPLERS[name].passes]
            raise SamplerError(
                f"the sampler {self.name} makes one pass; set passes to 1 (it is {passes}), or choose "
                f"{' or '.join(others)}."
            )


def _peer(name: str, run: Callable[..., Iterator[SampleStep]], title: str, citation: str, **more: Any) -> Sampler:
    row = {"needs": ("linear_twin",), "start": baselines.gaussian_start, "states": None, "nice": (10, 20, 50, 100)}
    return Sampler(name, run, title, citation, **row | more)


SAMPLERS: Table[Sampler] = Table(
    "sampler",
    (
        Sampler(
            "parallel", parallel, "Pixel-aware", "paper Section 3.3; Salimans & Ho 2022 for v", "Pixel-aware",
            head_target="v", compared=(1, 2, 5, 10, 50), raced=(1, 10), quick=(1, 5, 10), states=every_step,
        ),
        Sampler(
            "few-heads", partial(parallel, heads=FEW), f"Pixel-aware ({FEW} of the heads)", "audit Section 3",
            "Few heads", head_target="v", compared=(1,), states=few_steps,
        ),
        Sampler(
            "rotation", rotation, "Rotation (no noise, one head a run)", "audit Section 3; Song et al. 2021a",
            "Rotation", head_target="v", compared=(1, 2, 5, 10),
        ),
        Sampler(
            "multistep", multistep, "Multistep (second order, each pixel's own clock)", "Lu et al. 2022",
            "Multistep", head_target="v", compared=(5, 10, 20),
        ),
        Sampler(
            "prior", decoded, "Prior alone (no diffusion)", "paper Section 3.2; Ghosh et al. 2020 for the prior",
            "Prior alone", passes=False, compared=(1,), runs=lambda passes: 0,
        ),
        Sampler(
            "printed", printed, "Algorithm 1 as printed (diverges)", "paper Appendix D, Algorithm 1", "As printed",
            about=WHY_IT_DIVERGES, passes=False, states=every_step, stable=False,
        ),
        _peer("ddpm", baselines.ddpm, "DDPM", "Ho et al. 2020", compared=(1000,), aim=Aim(50)),
        _peer(
            "ddim", baselines.ddim, "DDIM", "Song et al. 2021a",
            compared=(10, 50, 100, 1000), raced=(50,), quick=(10,), aim=Aim(1, 0.25),
        ),
        _peer(
            "ddim-quad", baselines.ddim_quadratic, "DDIM (quadratic)", "Song et al. 2021a, D.2",
            compared=(10, 50), variant_of="ddim",
        ),
        _peer(
            "dpm++", baselines.dpm_solver, "DPM-Solver++(2M)", "Lu et al. 2022",
            compared=(10, 20, 34, 100, 200, 500), raced=(10,), quick=(10,), aim=Aim(10),
        ),
        _peer(
            "dpm++-clip", baselines.dpm_solver_clipped, "DPM-Solver++(2M, clipped)", "Lu et al. 2022",
            compared=(10, 20), variant_of="dpm++",
        ),
        _peer(
            "unipc", baselines.unipc, "UniPC", "Zhao et al. 2023", compared=(10,), quick=(10,),
            aim=Aim(10),
        ),
        _peer(
            "unipc-clip", baselines.unipc_clipped, "UniPC (clipped)", "Zhao et al. 2023",
            compared=(10,), variant_of="unipc",
        ),
        _peer(
            "sde-pc", baselines.sde_pc, "SDE, predictor-corrector", "Song et al. 2021b",
            compared=(1000,), runs=lambda passes: 2 * passes, aim=Aim(50, longest=True),
        ),
    ),
    SamplerError,
)  # fmt: skip


def ours() -> list[str]:
    """The samplers that run the paper's model, from a start of STARTS."""
    return [name for name, row in SAMPLERS.items() if row.ours]


def compared() -> list[str]:
    """The samplers that a benchmark compares."""
    return [name for name, row in SAMPLERS.items() if row.compared]


def first_fitting(config: ModelConfig) -> str:
    """The first sampler of ours that this configuration's heads allow."""
    return next(name for name in ours() if SAMPLERS[name].reads(config))
