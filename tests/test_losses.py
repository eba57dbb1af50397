"""What training minimises, against independent references."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import distributions

from pixelviz.config import TrainConfig
from pixelviz.learning.losses import VAEDraws, draw_step, linear_twin_loss, structural_similarity, unet_loss, vae_loss
from pixelviz.measure.metrics import ssim
from pixelviz.models.parallel_unet import LinearTwin
from pixelviz.models.scale_vae import Code
from tests.tiny import randomised, tiny_config, tiny_model


@pytest.mark.parametrize(("channels", "height", "width", "data_range"), [(1, 32, 32, 1.0), (3, 20, 28, 0.3)])
def test_differentiable_ssim_is_scikit_image_s(channels, height, width, data_range):
    a = torch.rand(3, channels, height, width) * data_range
    b = (a + 0.1 * data_range * torch.randn_like(a)).requires_grad_()
    ours = structural_similarity(a, b, data_range)
    assert ours.item() == pytest.approx(ssim(a, b, data_range).mean, abs=1e-6)
    ours.backward()
    assert b.grad.abs().sum() > 0


def test_differentiable_ssim_ignores_autocast():
    a = torch.rand(2, 1, 16, 16)
    b = a + 0.05 * torch.randn_like(a)
    with torch.autocast("cpu", torch.bfloat16):
        inside = structural_similarity(a, b, 1.0)
    assert float(inside) == float(structural_similarity(a, b, 1.0))


class _Recorder(LinearTwin):
    """Keeps what it was asked, and answers as the network would."""

    def forward(self, x_t, t):
        self.asked = (x_t, t)
        return super().forward(x_t, t)


def test_twin_is_noised_as_diffusers_noises():
    config = tiny_config()
    twin = randomised(_Recorder(config))
    x0 = config.floor + (1 - config.floor) * torch.rand(64, *config.shape)
    settings = TrainConfig(parts=("linear_twin",))
    t, noise = draws = draw_step(config, settings, 64, torch.Generator().manual_seed(3))["linear_twin"]
    assert 0 <= t.min() < 200 < 800 < t.max() < 1000
    loss = linear_twin_loss(twin, x0, config.floor, draws)
    pixels = (x0 - config.floor) / (1 - config.floor)
    wanted = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02).add_noise(2 * pixels - 1, noise, t)
    torch.testing.assert_close(twin.asked[0], wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(twin.asked[1], t)
    assert loss.item() == pytest.approx((twin(wanted, t) - noise).square().mean().item(), rel=1e-3)


def test_twin_knows_the_time_and_shares_the_backbone():
    config = tiny_config()
    twin = randomised(LinearTwin(config))
    x = torch.randn(2, *config.shape)
    one, two = (twin(x, torch.full((2,), t)) for t in (3, 900))
    assert one.shape == x.shape
    assert (one - two).abs().max() > 1e-3
    assert not any("scale" in name for name, _ in twin.named_parameters())


class _Known:
    """A scale VAE whose code and estimate are given; it keeps the codes that it was asked to decode."""

    def __init__(self, config, output, code, estimate):
        self.config, self.output, self.code, self.estimate = config, output, code, estimate

    def encode(self, x_i, i):
        return self.code

    def decode(self, z, i):
        self.z = z
        return self.estimate


@pytest.mark.parametrize("output", ["x_delta", "x0"])
def test_the_vae_s_loss_is_its_printed_sum(output):
    """Every term by hand: NumPy's mean squares, scikit-image's SSIM, torch's KL between Gaussians."""
    config = tiny_config(gamma=4.0, floor=0.1)
    train = TrainConfig(scale_weight=2.0, log_weight=3.0, kl_weight=0.5, ssim_weight=0.7)
    generator = torch.Generator().manual_seed(0)
    x0, guess = (0.1 + 0.9 * torch.rand(3, 1, 16, 16, generator=generator) for _ in range(2))
    mean, log_variance, noise = (torch.randn(3, 4, generator=generator) for _ in range(3))
    vae = _Known(config, output, Code(mean, log_variance), guess if output == "x0" else torch.exp(-4 * guess))
    found, tallies = vae_loss(vae, x0, x0, VAEDraws(torch.ones(3), x0, noise), train)
    torch.testing.assert_close(vae.z, mean + log_variance.exp().sqrt() * noise)

    a, b = x0.double().numpy(), guess.double().numpy()
    prior = distributions.Normal(torch.zeros(3, 4), 1.0)
    kl = distributions.kl_divergence(distributions.Normal(mean, (log_variance / 2).exp()), prior).sum(1).mean() / 256
    if output == "x0":
        wanted = np.mean((a - b) ** 2) + 0.7 * (1 - ssim(a, b, 0.9).mean)
    else:
        span = np.exp(-0.4) - np.exp(-4)
        wanted = 2 * np.mean((np.exp(-4 * a) - np.exp(-4 * b)) ** 2) / span**2 + 3 * np.mean((a - b) ** 2)
        wanted += 0.7 * (1 - ssim(np.exp(-4 * a), np.exp(-4 * b), span).mean)
    assert found.item() == pytest.approx(wanted + 0.5 * kl.item(), rel=1e-4)
    assert (tallies["kl"][0] / tallies["kl"][1]).item() == pytest.approx(kl.item(), rel=1e-5)


def test_r_phi_learns_from_the_estimate_of_the_same_image(monkeypatch):
    """x_delta_hat and the schedule of x_i are those of each image, at i = 0; G_theta here writes the image's mean."""
    model = tiny_model(T=8)
    x0 = torch.linspace(0.2, 0.9, 6)[:, None, None, None].expand(6, 1, 16, 16).clone()
    asked = []

    def encode(x, i):
        asked.append(i)
        return Code(x.mean((1, 2, 3))[:, None].expand(6, 4), torch.full((6, 4), -40.0))

    monkeypatch.setattr(model.scale_vae, "encode", encode)
    monkeypatch.setattr(
        model.scale_vae, "decode", lambda z, i: torch.exp(-4 * z.mean(1))[:, None, None, None].expand_as(x0)
    )
    seen = {}

    def heads(x_i, x_delta, i, chosen, *, drift):
        seen.update(x_i=x_i, x_delta=x_delta)
        return torch.zeros(6, chosen.shape[1], *x0.shape[1:])

    monkeypatch.setattr(model.parallel_unet, "forward", heads)
    train = TrainConfig(parts=("parallel_unet",))
    draws = draw_step(model.config, train, 6, torch.Generator().manual_seed(1))["parallel_unet"]
    unet_loss(model, x0, draws)
    assert not torch.cat(asked).any()
    torch.testing.assert_close(seen["x_delta"], torch.exp(-4 * x0))
    bar = torch.exp(-4 * x0 * draws.i[:, None, None, None] / 8)
    torch.testing.assert_close(seen["x_i"], bar.sqrt() * x0 + (1 - bar).sqrt() * draws.noise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_share_of_r_phi_s_batch_is_at_T(share):
    train = TrainConfig(parts=("parallel_unet",), terminal_share=share)
    i = draw_step(tiny_config(T=50), train, 20_000, torch.Generator().manual_seed(2))["parallel_unet"].i
    assert (i == 50).float().mean() == pytest.approx(share + (1 - share) / 50, abs=0.012)
