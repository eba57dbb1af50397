"""The table of samplers. A new method is a file with one function, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pixelviz.samplers import baselines
from pixelviz.samplers.common import SampleStep, Start
from pixelviz.samplers.parallel import parallel
from pixelviz.samplers.printed import printed
from pixelviz.samplers.rotation import rotation


@dataclass(frozen=True)
class Sampler:
    """A row: how to call it, where it is from, and what it needs.

    passes: whether their number is the caller's to choose; needs: parts of the checkpoint; start: its own start
    (None: one of STARTS, the caller's choice); compared: the numbers of passes that comparisons show.
    """

    run: Callable[..., Iterator[SampleStep]]
    title: str
    citation: str
    passes: bool
    needs: tuple[str, ...] = ("scale_vae", "parallel_unet")
    start: Callable[..., Start] | None = None
    compared: tuple[int, ...] = ()


def _peer(run: Callable[..., Iterator[SampleStep]], title: str, citation: str, *compared: int) -> Sampler:
    return Sampler(run, title, citation, True, ("linear_twin",), baselines.gaussian_start, compared)


SAMPLERS: dict[str, Sampler] = {
    "parallel": Sampler(
        parallel,
        "Parallel, stable v-form",
        "paper Section 3.3; Salimans & Ho 2022 for v",
        True,
        compared=(1, 2, 5, 10, 50),
    ),
    "rotation": Sampler(
        rotation,
        "Rotation (no noise, one head a run)",
        "audit Section 3; Song et al. 2021a",
        True,
        compared=(1, 2, 5, 10),
    ),
    "printed": Sampler(printed, "Algorithm 1 as printed (diverges)", "paper Appendix D, Algorithm 1", False),
    "ddpm": _peer(baselines.ddpm, "DDPM", "Ho et al. 2020", 1000),
    "ddim": _peer(baselines.ddim, "DDIM", "Song et al. 2021a", 10, 50, 100),
    "ddim-quad": _peer(baselines.ddim_quadratic, "DDIM (quadratic)", "Song et al. 2021a, D.2", 10, 50),
    "dpm++": _peer(baselines.dpm_solver, "DPM-Solver++(2M)", "Lu et al. 2022", 10, 20, 34),
    "dpm++-clip": _peer(baselines.dpm_solver_clipped, "DPM-Solver++(2M, clipped)", "Lu et al. 2022", 10, 20),
    "unipc": _peer(baselines.unipc, "UniPC", "Zhao et al. 2023", 10),
    "unipc-clip": _peer(baselines.unipc_clipped, "UniPC (clipped)", "Zhao et al. 2023", 10),
    "sde-pc": _peer(baselines.sde_pc, "SDE, predictor-corrector", "Song et al. 2021b", 1000),
}
OURS = tuple(name for name, row in SAMPLERS.items() if row.start is None)  # run on R_phi, from a start of STARTS
PEERS = tuple(name for name, row in SAMPLERS.items() if row.start is not None)
