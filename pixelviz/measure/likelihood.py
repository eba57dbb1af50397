"""Bits per dimension: a judge that needs no classifier. Of the paper's model, and of its linear-beta twin.

-log2 p(x0) of an image of 8 bits is at most KL(q(z | x0) || p(z)) for its code, p(z) the fitted mixture (by one draw of
z: a Monte-Carlo bound), and the variational bound of x0 given x_delta_hat of z; the twin has the second alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pixelviz.data.sets import to_unit
from pixelviz.devices import Compute
from pixelviz.models.parallel_unet import LinearTwin
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.models.prior import Mixture, log_density
from pixelviz.models.scale_vae import ScaleVAE
from pixelviz.process.likelihood import Bound, level_nats, variational_bound
from pixelviz.process.reverse import Gaussian, x0_from_drift
from pixelviz.process.schedules import LinearBeta
from pixelviz.samplers import ImageNoise
from pixelviz.samplers.parallel import boundaries

PASSES = 50  # steps of the bound: with more it is tighter, and each is a run of the network
BATCH = 32
LEVELS = 255  # of 8 bits, between black and white


def code_nats(vae: ScaleVAE, x0: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """z ~ q(z | x0) by normal (B, latent), and log q(z | x0) - log p(z), p the fitted prior: (B, latent) and (B,)."""
    code = vae.encode(x0, torch.zeros(len(x0), dtype=torch.int64, device=x0.device))
    z = code.mean + torch.exp(code.log_variance / 2) * normal
    log_q = -(normal.square() + code.log_variance + math.log(2 * math.pi)).sum(1) / 2
    prior = Mixture(vae.prior_log_weight, vae.prior_mean, vae.prior_factor)
    return z, log_q - log_density(prior, z).logsumexp(1)


def _bound(x0: Tensor, ends: tuple[float, float], deviation: float | None, run: Callable[..., Bound]) -> Bound:
    """The bound with levels by a Gaussian of this deviation; without one, `levels` are square errors instead.

    Both are relative to the way from black to white, whatever the ends of it are.
    """
    span = ends[1] - ends[0]
    if deviation is None:
        return run(levels=lambda x0, mean: ((x0 - mean) / span).square())
    return run(levels=partial(level_nats, deviation=deviation * span, width=span / LEVELS, ends=ends))


def own_nats(
    model: PixelAwareModel, passes: int, x0: Tensor, noise: ImageNoise, deviation: float | None
) -> dict[str, Tensor]:
    """Nats of x0 (B, C, H, W), in [floor, 1], by part, each (B,); see `_bound` for deviation."""
    config, schedule = model.config, model.schedule
    z, code = code_nats(model.scale_vae, x0, noise.normal(config.latent))
    x_delta = model.scale_vae.decode(z, model.step_tensor(0, len(x0))).float()
    rate_x0 = model.rate_x0(x_delta)

    def estimate(x_i: Tensor, i: float) -> Tensor:
        at, head = model.step_tensor(i, len(x0)), model.step_tensor(math.ceil(i), 1)
        drift = model.parallel_unet(x_i, model.scale_read(x_i, at, x_delta), at, head, drift=True)[:, 0].float()
        return x0_from_drift(schedule, rate_x0, i, x_i, drift).clamp(config.floor, 1)

    steps = [*boundaries(config.T, min(passes, config.T), config.i_min)[:-1]]
    steps = steps if steps[-1] == config.i_min else [*steps, config.i_min]
    T = config.T
    start = Gaussian(schedule.alpha_bar(rate_x0, T).sqrt() * rate_x0, schedule.noise_variance(rate_x0, T))
    run = partial(
        variational_bound, schedule, rate_x0, x0, estimate, steps, start, partial(noise.normal, *config.shape)
    )
    return {"code": code, **_bound(x0, (config.floor, 1.0), deviation, run)._asdict()}


def twin_nats(
    model: PixelAwareModel, passes: int, x0: Tensor, noise: ImageNoise, deviation: float | None
) -> dict[str, Tensor]:
    """The same of the linear-beta twin, by steps as near to each other at little noise; x_T ~ N(0, I)."""
    floor, schedule = model.config.floor, LinearBeta(LinearTwin.STEPS)
    signed, one = 2 * (x0 - floor) / (1 - floor) - 1, torch.ones_like(x0)

    def estimate(x_i: Tensor, i: float) -> Tensor:
        eps = model.linear_twin(x_i, torch.full((len(x_i),), int(i) - 1, device=x_i.device))
        signal, spread = schedule.alpha_bar(one, i).sqrt(), schedule.noise_variance(one, i).sqrt()
        return ((x_i - spread * eps) / signal).clamp(-1, 1)

    steps = boundaries(LinearTwin.STEPS, passes)[:-1]
    steps = steps if steps[-1] == 1 else [*steps, 1]
    start = Gaussian(torch.zeros_like(x0), one)
    run = partial(
        variational_bound, schedule, one, signed, estimate, steps, start, partial(noise.normal, *x0.shape[1:])
    )
    return _bound(signed, (-1.0, 1.0), deviation, run)._asdict()


JUDGED = {"ours": (own_nats, ("scale_vae", "parallel_unet")), "twin": (twin_nats, ("linear_twin",))}


@torch.inference_mode()
def bits_per_dimension(
    model: PixelAwareModel, compute: Compute, images: Tensor, *, passes: int = PASSES, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Of the paper's model and of the twin, as far as they are there: bits per dimension by part, and `all`.

    images: uint8 (N, C, H, W), N >= 2, not learnt. By every fourth the `deviation` of the last estimate is found, black
    to white being 1 for both models; it is the others' bits that are given.
    """
    fourth = torch.arange(len(images)) % 4 == 0  # of every class, where they are sorted
    x0 = to_unit(torch.cat([images[fourth], images[~fourth]]), model.config.floor)
    known = int(fourth.sum())
    dimensions = math.prod(x0.shape[1:])
    found: dict[str, dict[str, float]] = {}
    for name, (judge, parts) in JUDGED.items():
        if not set(parts) <= set(model.parts) or ("parallel_unet" in parts and model.config.head_target != "v"):
            continue  # R_phi's eps heads give no x0_hat that is stable; the twin's do not depend on them

        def run(first: int, last: int, deviation: float | None, judge: Any = judge) -> dict[str, float]:
            totals: dict[str, float] = {}
            for begin in range(first, last, BATCH):
                part = x0[begin : min(begin + BATCH, last)]
                noise = ImageNoise(seed, len(part), first=begin, device=model.device)
                with compute.autocast():
                    nats = judge(model, passes, compute.images(part).float(), noise, deviation)
                for key, value in nats.items():
                    totals[key] = totals.get(key, 0.0) + value.double().sum().item()
            return {key: value / (last - first) / dimensions for key, value in totals.items()}

        deviation = math.sqrt(run(0, known, None)["levels"])
        bits = {key: value / math.log(2) for key, value in run(known, len(x0), deviation).items()}
        found[name] = {**bits, "all": sum(bits.values()), "deviation": deviation}
    return found
