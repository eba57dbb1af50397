"""What training minimises: the scale VAE's loss, R_phi's loss over its heads, and a differentiable SSIM."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelviz.config import TrainConfig
from pixelviz.metrics import SSIM_WINDOW
from pixelviz.models.parallel_unet import LinearTwin
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.models.scale_vae import ScaleVAE
from pixelviz.process.reverse import head_coefficients, skip_posterior
from pixelviz.process.schedules import LinearBeta, image_scale


def _window_matrix(n: int) -> Tensor:
    """(n - 10, n): takes a line of n pixels to the Gaussian means of the 11-pixel windows inside it."""
    offsets = torch.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = torch.exp(-offsets.float().square() / (2 * 1.5**2))
    inside = n - SSIM_WINDOW + 1
    matrix = torch.zeros(inside, n)
    for k in range(inside):
        matrix[k, k : k + SSIM_WINDOW] = weights / weights.sum()
    return matrix


def structural_similarity(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """Mean SSIM of a and b (B, C, H, W), differentiable, and the same number as `metrics.ssim`.

    torchmetrics' keeps the windows that overhang the border, which flatters (0.88 for 0.83 on x_delta_hat), and
    takes half of a training step on a CPU; means over windows inside the image are two matrix products.
    """
    # In float32: SSIM's variances are differences of squares, which bfloat16 would wipe out.
    with torch.autocast(a.device.type, enabled=False):
        rows, columns = (_window_matrix(n).to(a.device) for n in a.shape[-2:])
        stack = torch.stack([a, b, a * a, b * b, a * b]).float()
        mean_a, mean_b, aa, bb, ab = rows @ stack @ columns.T
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        contrast = (2 * (ab - mean_a * mean_b) + c2) / (aa - mean_a**2 + bb - mean_b**2 + c2)
        return (luminance * contrast).mean()


def forward_noise(model: PixelAwareModel, rate_x0: Tensor, x0: Tensor, i: Tensor, noise: Tensor) -> Tensor:
    """x_i of Eq. 9 for a batch: i (B,), the schedule built from rate_x0."""
    i = i[:, None, None, None].to(x0.dtype)
    schedule = model.schedule
    return schedule.alpha_bar(rate_x0, i).sqrt() * x0 + schedule.noise_variance(rate_x0, i).sqrt() * noise


def vae_loss(vae: ScaleVAE, x0: Tensor, x_i: Tensor, i: Tensor, config: TrainConfig) -> tuple[Tensor, dict]:
    """Reconstruction of x_delta (of x0 for the twin) from x_i, plus the KL term.

    x_delta is compared both relative to its range and by its logarithm: the first alone says nothing of
    bright pixels, where exp(-gamma x0) is flat, and the schedule needs exactly log x_delta_hat.
    """
    code = vae.encode(x_i, i)
    estimate = vae.decode(code.sample(), i).float()
    gamma, floor = vae.config.gamma, vae.config.floor
    if vae.output == "x0":
        wanted, span = x0, 1 - floor
        loss = (estimate - x0).square().mean()
        losses = {"x0": loss.detach()}
    else:
        wanted, span = image_scale(x0, gamma), float(image_scale(floor, gamma) - image_scale(1.0, gamma))
        scale_error = ((estimate - wanted) / span).square().mean()
        log_error = (-torch.log(estimate) / gamma - x0).square().mean()
        loss = config.scale_weight * scale_error + config.log_weight * log_error
        losses = {"x_delta": scale_error.detach(), "log_x_delta": log_error.detach()}
    if config.ssim_weight:
        ssim = structural_similarity(estimate, wanted, span)
        loss = loss + config.ssim_weight * (1 - ssim)
        losses["ssim"] = ssim.detach()
    kl = code.kl().mean() / x0[0].numel()
    losses["kl"] = kl.detach()
    return loss + config.kl_weight * kl, losses


def choose_heads(i: Tensor, per_image: int, generator: torch.Generator) -> Tensor:
    """Which heads to train, (B, J) steps in 1..i: head i, and others uniformly below it."""
    others = torch.rand(len(i), per_image - 1, generator=generator).to(i.device)
    return torch.cat([i[:, None], 1 + (others * i[:, None]).long()], dim=1)


def unet_loss(model: PixelAwareModel, x0: Tensor, i: Tensor, config: TrainConfig, generator: torch.Generator):
    """Eq. 15 over the chosen heads.

    "v" heads: the target is E[V^j | x_i, x0], which has the same minimiser as V^j itself and less
    variance; each head's square error is multiplied by (1-abar_i)/(1-abar_j), the factor by which head
    j's target is smaller than head i's, so that all heads count alike. "eps" heads: eps_j of a simulated
    trajectory, unweighted, as printed.
    """
    vae, target = model.scale_vae, model.config.head_target
    with torch.no_grad():
        if model.config.true_scale:
            x_delta = image_scale(x0, model.config.gamma)
        else:
            clean = torch.zeros_like(i)
            x_delta = vae.decode(vae.encode(x0, clean).sample(), clean).float()
        rate_x0 = model.rate_x0(x_delta)
        x_i = forward_noise(model, rate_x0, x0, i, torch.randn(x0.shape, generator=generator).to(x0))
    heads = choose_heads(i, config.heads_per_step, generator)
    z = model.parallel_unet(x_i, x_delta, i, heads)
    with torch.no_grad():
        rate, first, wide = rate_x0[:, None], i[:, None, None, None, None].float(), x_i[:, None]
        j = heads[:, :, None, None, None].float()
        if target == "v":
            skip, out = head_coefficients(model.schedule, rate, first, j)
            wanted = skip * wide + out * x0[:, None]
            weight = model.schedule.noise_variance(rate, first) / model.schedule.noise_variance(rate, j)
        else:
            mean, variance = skip_posterior(model.schedule, rate, first, j, wide, x0[:, None])
            x_j = mean + variance.clamp(min=0).sqrt() * torch.randn(mean.shape, generator=generator).to(mean)
            wanted = (x_j - model.schedule.alpha_bar(rate, j).sqrt() * x0[:, None]) / model.schedule.noise_variance(
                rate, j
            ).sqrt()
            weight = torch.ones(())
    error = (weight * (z - wanted).square()).mean(dim=(2, 3, 4))
    at_end = i == model.config.T
    losses = {"head_i": error[:, 0].mean().detach(), "all_heads": error.mean().detach()}
    if at_end.any():
        losses["head_T"] = error[at_end, 0].mean().detach()
    return error.mean(), losses


def linear_twin_loss(twin: LinearTwin, x0: Tensor, floor: float, generator: torch.Generator) -> Tensor:
    """Mean square error of the noise at uniform t (Ho et al. 2020, Eq. 14); x0 in [floor, 1] is put in [-1, 1]."""
    schedule = LinearBeta(twin.STEPS)
    t = torch.randint(0, twin.STEPS, (len(x0),), generator=generator).to(x0.device)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    # diffusers counts steps from 0: its t is the paper's i - 1.
    alpha_bar = schedule.alpha_bar(torch.ones((), dtype=torch.float64), t.double() + 1)[:, None, None, None].to(x0)
    x_t = alpha_bar.sqrt() * (2 * (x0 - floor) / (1 - floor) - 1) + (1 - alpha_bar).sqrt() * noise
    return (twin(x_t, t) - noise).square().mean()
