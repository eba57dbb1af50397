"""What training minimises, against independent references."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import distributions

from pixelviz.config import ConfigError, TrainConfig
from pixelviz.devices import choose
from pixelviz.learning import losses
from pixelviz.learning.losses import VAEDraws, draw_step, linear_twin_loss, structural_similarity, unet_loss, vae_loss
from pixelviz.measure.metrics import ssim
from pixelviz.models.parallel_unet import LinearTwin
from pixelviz.models.scale_vae import Code
from pixelviz.process.schedules import PixelAware
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

    def forward(self, x_t, t, classes=None):
        self.asked = (x_t, t)
        return super().forward(x_t, t, classes)


def test_twin_is_noised_as_diffusers_noises():
    config = tiny_config()
    twin = randomised(_Recorder(config))
    x0 = config.floor + (1 - config.floor) * torch.rand(64, *config.shape)
    settings = TrainConfig(parts=("linear_twin",))
    t, noise, _ = draws = draw_step(config, settings, 64, torch.Generator().manual_seed(3))["linear_twin"]
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

    def heads(x_i, x_delta, i, chosen, *, drift, classes=None):
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


def test_heads_are_within_the_mask_and_include_head_i():
    i = torch.tensor([1, 5, 8])
    heads = losses.choose_heads(i, 6, torch.Generator().manual_seed(0))
    assert torch.equal(heads[:, 0], i)
    assert (heads >= 1).all()
    assert (heads <= i[:, None]).all()
    between = losses.choose_heads(torch.tensor([0.3, 4.2]), 3, torch.Generator().manual_seed(0))
    assert between[:, 0].tolist() == [1, 5]
    assert between[0].tolist() == [1, 1, 1]


def test_weighted_errors_are_alike_at_all_steps():
    """x0 ~ N(m, s^2) drawn: the best linear guess of D from x_i has a weighted error of 1, at any noise."""
    generator, m, s = torch.Generator().manual_seed(0), 0.6, 0.08
    schedule = PixelAware(200, 20.0)
    x0 = m + s * torch.randn(200_000, generator=generator, dtype=torch.float64)
    for i in (0.05, 1, 10, 200):
        abar = math.exp(-20 * m * i / 200)
        x = math.sqrt(abar) * x0 + math.sqrt(1 - abar) * torch.randn(len(x0), generator=generator, dtype=torch.float64)
        drift = (math.sqrt(abar) * x - x0) / (1 - abar)
        slope = torch.cov(torch.stack([x, drift]))
        left = slope[1, 1] - slope[0, 1] ** 2 / slope[0, 0]
        rate = torch.tensor(m, dtype=torch.float64)
        assert (losses.head_weight(schedule, rate, i, s) * left).item() == pytest.approx(1, abs=0.02)
        v_error = losses.head_weight(schedule, rate, i, 0.0) * left
        assert v_error.item() == pytest.approx(s**2 / (abar * s**2 + 1 - abar), rel=0.03)
    for wrong in ({"deviation": -1}, {"unet_step_power": 0}, {"step_power": 0}, {"step_power": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            TrainConfig(**wrong)


def test_a_model_between_steps_is_trained_there_unless_told_otherwise(monkeypatch):
    """By default a quarter of R_phi's steps lies below i = T/256, and its errors are weighed by its scale_error."""
    config, settings = tiny_config(T=50, i_min=0.02), TrainConfig(parts=("parallel_unet",), terminal_share=0.0)
    draws = losses.draw_step(config, settings, 20_000, torch.Generator().manual_seed(4))["parallel_unet"]
    assert (draws.i <= 50 / 256).float().mean() == pytest.approx(0.25, abs=0.015)
    seen = []
    monkeypatch.setattr(losses, "unet_loss", lambda *args: seen.append(args[3]) or (torch.zeros(()), {}))
    for deviation, expected in ((None, 0.3), (0.0, 0.0), (0.1, 0.1)):
        train = TrainConfig(parts=("parallel_unet",), deviation=deviation)
        objective = losses.TrainingObjective(tiny_model(scale_error=0.3), train, choose("cpu", "float32"))
        objective(torch.zeros(2, 1, 16, 16), {"parallel_unet": losses.UNetDraws(*[None] * 5)})
        assert seen.pop() == expected


@pytest.mark.parametrize(("i_min", "power"), [(1.0, None), (1.0, 3.0), (0.02, 4.0)])
def test_r_phi_s_steps_are_spread_as_its_power_says(i_min, power):
    """i = T u^power: a share (q/T)^(1/power) lies below q."""
    config = tiny_config(T=50, i_min=i_min)
    settings = TrainConfig(parts=("parallel_unet",), unet_step_power=power, terminal_share=0.0)
    draws = losses.draw_step(config, settings, 20_000, torch.Generator().manual_seed(4))["parallel_unet"]
    assert draws.i.min() >= i_min
    assert draws.i.max() <= 50
    assert draws.i.is_floating_point() == (i_min < 1)
    for q in (1, 5, 25):
        assert (draws.i <= q).float().mean() == pytest.approx((q / 50) ** (1 / (power or 1)), abs=0.015)
    assert torch.equal(draws.heads[:, 0], draws.i.ceil().long())


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_the_vae_s_steps_are_spread_as_its_power_says(power):
    """Besides a share at i = 0, whole i from 1 to T, of which a share (q/T)^(1/power) is at most q."""
    settings = TrainConfig(parts=("scale_vae",), step_power=power, clean_share=0.2)
    i = losses.draw_step(tiny_config(T=50), settings, 20_000, torch.Generator().manual_seed(4))["scale_vae"].i
    assert (i == 0).float().mean() == pytest.approx(0.2, abs=0.01)
    late = i[i > 0].float()
    assert late.max() == 50
    for q in (1, 5, 25):
        assert (late <= q).float().mean() == pytest.approx((q / 50) ** (1 / power), abs=0.015)


@pytest.mark.parametrize("T", [8, 200])
def test_no_step_lies_beyond_the_last(T, monkeypatch):
    """The root of the largest float32 that torch.rand gives is 1: T u^power is T then, and i is no step more."""
    largest = 1 - 2**-24
    assert torch.tensor(largest) ** 0.5 == 1
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.full(shape, largest))
    parts = ("scale_vae", "parallel_unet")
    settings = TrainConfig(parts=parts, step_power=0.5, unet_step_power=0.5, heads_per_step=2)
    draws = losses.draw_step(tiny_config(T=T), settings, 4, torch.Generator())
    assert draws["scale_vae"].i.tolist() == draws["parallel_unet"].i.tolist() == [T] * 4
    assert draws["parallel_unet"].heads.max() == T


@pytest.mark.parametrize(("target", "last"), [("v", 8), ("eps", 8), ("v", 2.5)])
def test_the_loss_s_minimiser_is_the_conditional_mean(target, last):
    """R_phi replaced by the known E[. | x_i, x0], on the true scale: v's loss is 0, eps's the posterior variance."""
    model = tiny_model(head_target=target, true_scale=True, T=8)
    x0 = 0.1 + 0.9 * torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    i = torch.full((64,), last)
    schedule = model.schedule

    def perfect(x_i, x_delta, i, heads, *, drift, classes=None):
        assert drift == (target == "v")
        j = heads[:, :, None, None, None].double()
        rate, x = x0[:, None].double(), x_i[:, None].double()
        abar_i, abar_j = torch.exp(-4 * rate * last / 8), torch.exp(-4 * rate * j / 8)
        ratio = abar_i / abar_j
        mean = (ratio.sqrt() * (1 - abar_j) * x + abar_j.sqrt() * (1 - ratio) * rate) / (1 - abar_i)
        if target == "eps":
            return ((mean - abar_j.sqrt() * rate) / (1 - abar_j).sqrt()).float()
        return ((abar_j.sqrt() * mean - rate) / (1 - abar_j)).float()

    model.parallel_unet.forward = perfect
    settings = TrainConfig(heads_per_step=4, parts=("parallel_unet",))
    draws = losses.draw_step(model.config, settings, 64, torch.Generator().manual_seed(1))["parallel_unet"]
    heads = losses.choose_heads(i, 4, torch.Generator().manual_seed(2))
    loss, parts = losses.unet_loss(model, x0, draws._replace(i=i, heads=heads))
    assert parts["head_i"][0] < 64 * 1e-8
    assert target == "eps" or losses.unet_loss(model, x0, draws._replace(i=i, heads=heads), 0.1)[0] < 1e-6
    if last == 8:
        torch.testing.assert_close(parts["head_T"], parts["head_i"])
    if target == "v":
        assert loss < 1e-8
        return
    j = heads[:, :, None, None, None].double()
    rate = x0[:, None].double()
    variance = schedule.noise_variance(rate, j) * (1 - schedule.alpha_bar(rate, 8) / schedule.alpha_bar(rate, j))
    variance = variance / schedule.noise_variance(rate, 8)
    times = torch.where(heads == 8, 3 / 8 + 1, 3 / 8)  # that a head is drawn, of four of which one is head 8
    expected = ((variance / schedule.noise_variance(rate, j)).mean((2, 3, 4)) / times).sum(1).mean() / 8
    assert loss.item() == pytest.approx(expected.item(), rel=0.03)


def test_every_head_as_printed_weighs_as_in_equation_15():
    """Eq. 15 is a sum over j <= i of what every head errs: taken over all draws, each of these errors counts 1/T."""
    T, i = 6, torch.tensor([1, 2, 4, 6]).repeat(40_000)
    error = torch.linspace(1, 3, T)  # of head j
    heads = losses.choose_heads(i, 3, torch.Generator().manual_seed(0))
    weights = losses.even_weights(i, heads, T)
    for last in (1, 2, 4, 6):
        mine, chosen = weights[i == last], heads[i == last]
        for j in range(1, T + 1):
            share = (mine * (chosen == j)).mean() * 3  # the sum over the three that were drawn, over three
            assert share.item() / 3 == pytest.approx((j <= last) / T, abs=0.005)
    loss, _ = losses._over_heads(error[heads - 1], i == T, weights)
    by_hand = np.mean([sum(error[:last].tolist()) / T for last in (1, 2, 4, 6)])
    assert loss.item() == pytest.approx(by_hand, rel=0.01)


@pytest.mark.parametrize(("true_scale", "scale_from"), [(True, "code"), (True, "x_i"), (False, "x_i")])
def test_r_phi_reads_an_estimate_and_never_the_truth(monkeypatch, true_scale, scale_from):
    """G_theta here says one number for a code and another for x_i, so that what is read tells where it comes from."""
    model = tiny_model(T=8, true_scale=true_scale, scale_from=scale_from)
    x0 = 0.1 + 0.9 * torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    of_code, of_x_i = torch.full_like(x0, 0.3), torch.full_like(x0, 0.2)
    monkeypatch.setattr(model.scale_vae, "decode", lambda z, i: of_code)
    told, seen = [], {}
    monkeypatch.setattr(model.scale_vae, "forward", lambda x, i: told.append((x, i)) or of_x_i)

    def heads(x_i, x_delta, i, chosen, *, drift, classes):
        seen.update(x_i=x_i, x_delta=x_delta, i=i)
        return torch.zeros(5, chosen.shape[1], *x0.shape[1:])

    monkeypatch.setattr(model.parallel_unet, "forward", heads)
    train = TrainConfig(parts=("parallel_unet",))
    draws = draw_step(model.config, train, 5, torch.Generator().manual_seed(1))["parallel_unet"]
    unet_loss(model, x0, draws)
    rate = x0 if true_scale else -of_code.log() / 4
    bar = torch.exp(-4 * rate * draws.i[:, None, None, None] / 8)
    torch.testing.assert_close(seen["x_i"], bar.sqrt() * x0 + (1 - bar).sqrt() * draws.noise, rtol=1e-4, atol=1e-5)
    assert torch.equal(seen["x_delta"], of_x_i if scale_from == "x_i" else of_code)
    if scale_from == "x_i":
        ((x, i),) = told
        assert torch.equal(x, seen["x_i"])
        assert torch.equal(i, seen["i"])


def test_forward_noise_has_the_moments_of_equation_9():
    model = tiny_model()
    x0 = torch.full((4000, 1, 4, 4), 0.7)
    i = torch.full((4000,), 5)
    x_i = losses.forward_noise(model, x0, x0, i, torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)))
    abar = math.exp(-4.0 * 5 / 8 * 0.7)
    assert x_i.mean() == pytest.approx(math.sqrt(abar) * 0.7, abs=0.01)
    assert x_i.var() == pytest.approx(1 - abar, rel=0.02)
