"""What z is drawn from, fitted to the codes of images (Ghosh et al. 2020, ex-post density estimation): a mixture of
Gaussians, by expectation maximisation; and a flow, which can take the place of the normal numbers it starts from.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixelviz.models.blocks import time_code

NEVER = -1e4  # a log weight whose exp is 0, and which, unlike -inf, is a finite number to save
CODES_PER_DIMENSION = 4  # fewer than this per component and its covariance means nothing
FLOW_BLOCKS, FLOW_TIME = 3, 64  # residual blocks of the flow; size of its time code
FLOW_STEPS = 8  # of Heun's method, two runs each but the last; 16 give the same FID
FLOW_BATCH, FLOW_RATE = 512, 2e-3


class Mixture(NamedTuple):
    """log_weight (M,), mean (M, d), factor (M, d, d) lower triangular with covariance factor @ factor.T."""

    log_weight: Tensor
    mean: Tensor
    factor: Tensor


def log_density(mixture: Mixture, z: Tensor) -> Tensor:
    """log of weight times density of each component at each z (n, d): (n, M), in nats."""
    centred = (z[None] - mixture.mean[:, None]).mT  # (M, d, n)
    whitened = torch.linalg.solve_triangular(mixture.factor, centred, upper=False)
    log_det = mixture.factor.diagonal(dim1=1, dim2=2).log().sum(1)
    square = whitened.square().sum(1)
    return (mixture.log_weight - log_det - z.shape[1] / 2 * math.log(2 * math.pi))[None] - square.T / 2


def fit_mixture(
    codes: Tensor, components: int, generator: torch.Generator, *, iterations: int = 20, ridge: float = 1e-3
) -> Mixture:
    """Fit `components` full-covariance Gaussians to codes (n, d); returns float32 tensors.

    Starts from codes drawn at random. `ridge` is added to each variance. Where n is too small, the
    spare components get weight 0, and with fewer than 2 codes the result is N(0, I).
    """
    z = codes.float()
    n, d = z.shape
    eye = torch.eye(d, dtype=z.dtype)
    used = max(1, min(components, n // (CODES_PER_DIMENSION * d)))
    mean = torch.zeros(components, d, dtype=z.dtype)
    factor = eye.repeat(components, 1, 1)
    log_weight = torch.full((components,), NEVER, dtype=z.dtype)
    log_weight[:used] = -math.log(used)
    if n >= 2:
        spread = torch.cov(z.T) + ridge * eye
        mean[:used] = z[torch.randperm(n, generator=generator)[:used]] if used > 1 else z.mean(0)
        factor[:used] = torch.linalg.cholesky(spread)
        for _ in range(iterations if used > 1 else 0):
            share = log_density(Mixture(log_weight[:used], mean[:used], factor[:used]), z).softmax(1)
            mass = share.sum(0) + 1e-9
            centre = share.T @ z / mass[:, None]
            scatter = torch.stack([(share[:, m : m + 1] * z).T @ z for m in range(used)])
            scatter = scatter - mass[:, None, None] * centre[:, :, None] * centre[:, None]
            # A component keeps a little of the whole cloud's shape, as though it held d more codes of it.
            covariance = (scatter + d * spread[None] * 0.1) / (mass + 0.1 * d)[:, None, None]
            mean[:used], factor[:used] = centre, torch.linalg.cholesky(covariance + ridge * eye)
            log_weight[:used] = (mass / mass.sum()).log()
    return Mixture(log_weight, mean, factor)


class Flow(nn.Module):
    """Takes N(0, I) to the distribution of codes, without randomness: a rectified flow (Liu et al. 2023), whose
    velocity at time t in [0, 1] is a residual network of that width. Until it is fitted it changes nothing.
    """

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.inlet = nn.Linear(latent, width)
        self.time = nn.Sequential(nn.Linear(FLOW_TIME, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(FLOW_BLOCKS)
        )
        self.outlet = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent))
        for layer in (*(block[-1] for block in self.blocks), self.outlet[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def velocity(self, z: Tensor, t: Tensor) -> Tensor:
        """dz/dt at z (n, latent) and t (n,)."""
        h = self.inlet(z) + self.time(time_code(1000 * t, FLOW_TIME))
        for block in self.blocks:
            h = h + block(h)
        return self.outlet(h)

    def forward(self, normal: Tensor) -> Tensor:
        """normal (n, latent) from N(0, I), at t = 0 -> a code each, at t = 1, by Heun's method."""
        z, step = normal.float(), 1 / FLOW_STEPS
        with torch.autocast(z.device.type, enabled=False):
            for k in range(FLOW_STEPS):
                now = z.new_full((len(z),), k * step)
                first = self.velocity(z, now)
                ahead = z + step * first
                last = k == FLOW_STEPS - 1  # Euler's step: at t = 1 itself the velocity is hardly known
                z = ahead if last else z + step * (first + self.velocity(ahead, now + step)) / 2
        return z


@torch.enable_grad()
def fit_flow(flow: Flow, codes: Tensor, generator: torch.Generator, *, steps: int = 3000) -> None:
    """Fit a flow in place to codes (n, latent), about standardised, by `steps` steps of 512, with averaged weights."""
    copy = Flow(codes.shape[1], flow.inlet.out_features).to(codes.device)
    copy.load_state_dict(flow.state_dict())
    optimiser = torch.optim.AdamW(copy.parameters(), lr=FLOW_RATE)
    average = torch.optim.swa_utils.AveragedModel(
        copy, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(min(0.998, 1 - 5 / max(steps, 10)))
    )
    for k in range(steps):
        warm = min(1.0, 10 * (k + 1) / steps)
        optimiser.param_groups[0]["lr"] = FLOW_RATE * warm * (1 + math.cos(math.pi * k / steps)) / 2
        z = codes[torch.randint(len(codes), (FLOW_BATCH,), generator=generator).to(codes.device)]
        normal = torch.randn(z.shape, generator=generator).to(z)
        # Times near the middle more often (Esser et al. 2024): at the ends the velocity is easy.
        t = torch.randn(len(z), generator=generator).to(z).sigmoid()
        error = copy.velocity(torch.lerp(normal, z, t[:, None]), t) - (z - normal)
        optimiser.zero_grad()
        error.square().mean().backward()
        nn.utils.clip_grad_norm_(copy.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(copy)
    flow.load_state_dict(average.module.state_dict())
