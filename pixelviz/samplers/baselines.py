"""The peers: what people use instead, through diffusers' schedulers, on a network that predicts the noise.

The network is `model.linear_twin`: R_phi's backbone with one head, or another (see `peers`). It is trained on
images in [-1, 1] with noise added by a schedule that is the same for all pixels; x is yielded in the project's
range, floor for -1 and 1 for 1.

| method     | solver                                             | timesteps         | x0_hat clipped | runs a step |
|------------|----------------------------------------------------|-------------------|----------------|-------------|
| ddpm       | ancestral, variance beta-tilde (Ho et al. 2020)    | even in t         | yes            | 1           |
| ddim       | deterministic, eta = 0 (Song et al. 2021a)         | even in t         | no             | 1           |
| ddim-quad  | the same                                           | quadratic, to 0.8 | no             | 1           |
| dpm++      | DPM-Solver++(2M) (Lu et al. 2022)                  | even in log SNR   | no             | 1           |
| dpm++-clip | the same                                           | even in log SNR   | yes            | 1           |
| unipc      | UniPC-2, B2 (Zhao et al. 2023)                     | even in log SNR   | no             | 1           |
| unipc-clip | the same                                           | even in log SNR   | yes            | 1           |
| sde-pc     | Langevin corrector, then ancestral predictor       | even in t         | yes            | 2           |
|            | (Song et al. 2021b, Algorithms 3 and 5, VP form)   |                   |                |             |

A diffusers folder (`store.peers`) is sampled as its own scheduler is configured (prediction type, variance, clipping,
thresholds, spacing, zero terminal SNR): the table's other columns are for networks that come without one.

A peer must be met at its best, and what that is depends on the network. Timesteps even in log SNR are what the
authors of the two fast solvers recommend for small images: diffusers' own default, even in t, makes their error ten
times as large at 10 steps. Clipping x0_hat to [-1, 1] and, for DDIM, its authors' steps for CIFAR-10 help a twin that
knows little of x0 at much noise (colour: FID at 10 steps from 29 to 21, from 39 to 24) and hurt one that knows more
(Fashion-MNIST); so both are there, and aims are judged against the better.

diffusers counts steps from 0: its t is the paper's i - 1, and SampleStep's i is t + 1, from 1000 to 0.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pixelviz.models.parallel_unet import LinearTwin
from pixelviz.process.schedules import DDPM_BETAS
from pixelviz.samplers.common import ImageNoise, PeerStart, SamplerError, SampleStep

LINEAR = {
    "num_train_timesteps": LinearTwin.STEPS,
    "beta_start": DDPM_BETAS[0],
    "beta_end": DDPM_BETAS[1],
    "beta_schedule": "linear",
}
MOST_PASSES = LinearTwin.STEPS
# diffusers' name for it: a threshold on the greatest of all values, which itself may be at most 1.
CLIPPED = {"thresholding": True, "dynamic_thresholding_ratio": 1.0, "sample_max_value": 1.0}
ANCESTRAL = {"even": True, "timestep_spacing": "trailing"}
ONE_FAMILY = {"DDPMScheduler", "DDIMScheduler"}  # of which the one's configuration says all of the other's
CORRECTOR_SNR = 0.01  # r of the Langevin step, which leaves a deviation 1/sqrt(1 - r^2) times as wide


class Counted:
    """A network that counts its runs: the number that every comparison rests on is not a matter of belief.

    labels: int64 (B,) of the images' classes, for a network that must be told them.
    """

    def __init__(self, network: nn.Module, labels: Tensor | None = None) -> None:
        self.network, self.runs = network, 0
        self.labels = () if labels is None else (labels,)

    def __call__(self, x: Float[Tensor, "*shape"], t: int) -> Float[Tensor, "*shape"]:
        """The estimate at step t of diffusers' count, float32, shape of x."""
        self.runs += 1
        return self.network(x, torch.full((len(x),), t, dtype=torch.int64, device=x.device), *self.labels).float()


def gaussian_start(model: Any, noise: ImageNoise) -> PeerStart:
    """x_T ~ N(0, I); a schedule that is the same for all pixels needs no scale."""
    return PeerStart(noise.normal(*model.config.shape))


def _solver(name: str, network: nn.Module, always: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Any, bool]:
    """diffusers' scheduler of that name, and whether it is configured as the network's own.

    always: what makes the method; settings: what is best where the network comes without a configuration for it.
    """
    from diffusers import schedulers  # takes seconds to import, which only these methods need

    kind, own = getattr(schedulers, name), getattr(network, "scheduler", None)
    if own is None:
        return kind(**LINEAR, **settings, **always), False
    its = (its_kind := own.get("_class_name")) == name or {its_kind, name} <= ONE_FAMILY
    return kind.from_config(own, **({} if its else settings), **always), its


def _solve(
    scheduler: str,
    model: Any,
    start: PeerStart,
    noise: ImageNoise,
    passes: int,
    *,
    even: bool = False,
    corrects: bool = False,
    quadratic: bool = False,
    always: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[SampleStep]:
    """Run the diffusers scheduler of that name from x_T to x_0.

    even: it steps by steps // passes, whatever its list of timesteps says; corrects: a Langevin step before each of its
    own; quadratic: on `quadratic_timesteps`; always, settings: see `_solver`. A network that has `classes` is told one
    for each image, at random.
    """
    solver, its = _solver(scheduler, model.linear_twin, always or {}, settings)
    steps = solver.config.num_train_timesteps
    if not 1 <= passes <= steps:
        raise SamplerError(f"passes must be between 1 and {steps}, the linear-beta steps; it is {passes}.")
    if even and steps % passes:
        near = min((k for k in range(1, steps + 1) if steps % k == 0), key=lambda k: abs(k - passes))
        raise SamplerError(f"passes must divide {steps} for this method; it is {passes}. The nearest is {near}.")
    x, floor = start.x_T, model.config.floor
    classes = getattr(model.linear_twin, "classes", None)
    network = Counted(model.linear_twin, (noise.uniform() * classes).long() if classes else None)

    def shown(x: Tensor) -> Tensor:
        return floor + (1 - floor) * (x + 1) / 2

    if quadratic:
        solver.set_timesteps(timesteps=quadratic_timesteps(steps, passes))
    else:
        solver.set_timesteps(passes)
    if scheduler == "UniPCMultistepScheduler" and not its:
        solver.timesteps = nearest_timesteps(solver)
    timesteps = solver.timesteps.tolist()
    # One generator per image, so that the pictures do not depend on the batch.
    takes = inspect.signature(solver.step).parameters
    randomness = {"generator": noise.streams} if "generator" in takes else {}
    yield SampleStep(steps, shown(x), 0)
    for t, after in zip(timesteps, [*(later + 1 for later in timesteps[1:]), 0], strict=True):
        if corrects:
            x = langevin_step(partial(_noise_estimate, solver, network), solver, x, t, noise.normal(*x.shape[1:]))
        x = solver.step(network(x, t), t, x, **randomness).prev_sample
        yield SampleStep(after, shown(x), network.runs)


def nearest_timesteps(solver: Any) -> Int[Tensor, " passes"]:
    """The whole timesteps whose noise is nearest to that of the solver's own points, in log sigma: int64, (passes,).

    diffusers rounds UniPC's down instead, and so tells the network of up to a tenth less noise than x has.
    """
    there = ((1 - solver.alphas_cumprod) / solver.alphas_cumprod).sqrt()
    wanted = solver.sigmas[:-1]  # the last one is 0, where the image is
    return (there.log()[None] - wanted.log()[:, None]).abs().argmin(1)


def quadratic_timesteps(steps: int, passes: int) -> list[int]:
    """`passes` timesteps from 0.8 `steps` down to 0, in proportion to k^2 (Song et al. 2021a, Appendix D.2; the 0.8
    is their code's). Raises SamplerError where there are fewer whole steps than that.
    """
    top = int(0.8 * steps)
    if passes > top:
        raise SamplerError(f"quadratic steps may be at most {top} here; they are {passes}.")
    # At least k, so that no two are the same.
    return [top, *(max(int(top * (k / (passes - 1)) ** 2), k) for k in range(passes - 2, -1, -1))]


def langevin_step(
    network: Callable[[Tensor, int], Tensor],
    scheduler: Any,
    x: Float[Tensor, "*shape"],
    t: int,
    z: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """One step of Langevin dynamics at noise level t (Song et al. 2021b, Algorithm 5); network: the noise's estimate.

    x + h score + sqrt(2h) z with h = 2 alpha_t (r |z| / |score|)^2, score = -eps_hat / sqrt(1 - abar_t). The
    norms are each image's own: with the paper's mean over the batch, a picture would depend on its neighbours.
    """
    score = -network(x, t) / (1 - scheduler.alphas_cumprod[t]).sqrt()
    ratio = z.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1).clamp(min=1e-12)
    h = (2 * scheduler.alphas[t] * (CORRECTOR_SNR * ratio) ** 2).view(-1, *(1,) * (x.ndim - 1))
    return x + h * score + (2 * h).sqrt() * z


def _noise_estimate(scheduler: Any, network: Callable[[Tensor, int], Tensor], x: Tensor, t: int) -> Tensor:
    """eps_hat from what the network predicts: itself, v = sqrt(abar) eps - sqrt(1 - abar) x0, or x0."""
    output = network(x, t)
    signal, spread = scheduler.alphas_cumprod[t].sqrt(), (1 - scheduler.alphas_cumprod[t]).sqrt()
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return signal * output + spread * x
    return output if kind == "epsilon" else (x - signal * output) / spread


# --- The methods: what each takes of diffusers, and what is best for a network without a configuration of its own.
# Each is a sampler (model, start, noise, passes), and raises SamplerError or MissingPart.

ddpm = partial(_solve, "DDPMScheduler", **ANCESTRAL)  # x0_hat clipped to [-1, 1] at every step

# Without diffusers' clipping of x0_hat: it keeps the noise estimate as it was, so that every step, however short, moves
# x by as much as was clipped, and more steps give worse images.
ddim = partial(_solve, "DDIMScheduler", even=True, timestep_spacing="trailing", clip_sample=False)

# On its authors' steps for CIFAR-10, as DPM-Solver++ of order 1, which is DDIM (Lu et al. 2022, Section 4): diffusers'
# own takes even steps alone.
ddim_quadratic = partial(_solve, "DPMSolverMultistepScheduler", quadratic=True, always={"solver_order": 1})

dpm_solver = partial(_solve, "DPMSolverMultistepScheduler", use_lu_lambdas=True)  # second order, data prediction
dpm_solver_clipped = partial(dpm_solver, always=CLIPPED)
unipc = partial(_solve, "UniPCMultistepScheduler", use_exponential_sigmas=True)  # its corrector reuses the next run
unipc_clipped = partial(unipc, always=CLIPPED)

# The variance-preserving SDE: one Langevin step with the twin's score, and as predictor DDPM's ancestral step, which
# Song et al. (2021b, Appendix E) show to be one. diffusers has this sampler for variance-exploding models only.
sde_pc = partial(_solve, "DDPMScheduler", corrects=True, **ANCESTRAL)
