"""What training minimises, against independent references."""

import pytest
import torch
from diffusers import DDPMScheduler

from pixelviz.config import TrainConfig
from pixelviz.losses import draw_step, linear_twin_loss, structural_similarity
from pixelviz.metrics import ssim
from pixelviz.models.parallel_unet import LinearTwin
from tests.tiny import randomised, tiny_config


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
