"""The networks against what the equations say of their outputs."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm

from pixelviz.config import (
    PRESETS,
    HeadAttention,
    ModelConfig,
    preset,
)
from pixelviz.devices import choose
from pixelviz.measure import environment
from pixelviz.models import parallel_unet
from pixelviz.models.blocks import SelfAttention, attend, time_code
from pixelviz.models.heads import ParallelHeads, block_size, in_blocks
from pixelviz.models.parallel_unet import ParallelUNet
from pixelviz.models.pixel_aware import MissingPart, PixelAwareModel
from pixelviz.models.prior import Mixture, fit_mixture, log_density
from pixelviz.models.scale_vae import Code, ScaleVAE
from pixelviz.paper import PARAMETERS
from pixelviz.process.reverse import head_coefficients, v_from_eps
from pixelviz.process.schedules import image_from_scale, image_scale
from tests.tiny import randomised, tiny_config, tiny_model

FORMS = get_args(HeadAttention)


def _inputs(config: ModelConfig, n: int = 3):
    torch.manual_seed(1)
    x0 = config.floor + (1 - config.floor) * torch.rand(n, *config.shape)
    return torch.randn(n, *config.shape), image_scale(x0, config.gamma)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_runs_forward_backward_and_one_pass(name):
    """As training does it: in the processor's best precision, with a few heads; then a pass with all T.

    Without the twin, which is G_theta's network once more; at 128x128 with one image: all within 24 GB.
    """
    config, compute = PRESETS[name].config, choose("cpu")
    x, x_delta = map(compute.images, _inputs(config, 1 if config.image_size > 32 else 2))
    i = torch.full((len(x),), config.T)
    few = torch.tensor([config.T, 1])
    with environment.peak_memory(compute.device) as peak:
        model = compute.place(PixelAwareModel(config, ("scale_vae", "parallel_unet")))
        with compute.autocast():
            estimate, z = model.scale_vae(x, i), model.parallel_unet(x, x_delta, i, few)
        (z.square().mean() + estimate.mean()).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        with torch.inference_mode(), compute.autocast():
            everything = model.parallel_unet(x, x_delta, i)
    assert estimate.shape == x.shape
    assert everything.shape == (len(x), config.T, *config.shape)
    assert torch.isfinite(everything).all()
    torch.testing.assert_close(everything[:, few - 1], z.detach(), rtol=0.02, atol=0.02)
    assert peak.mebibytes is None or peak.mebibytes < 24 * 1024


@pytest.mark.parametrize("name", [name for name, row in PRESETS.items() if row.paper])
def test_the_paper_s_presets_have_its_sizes_and_structure(name):
    config = PRESETS[name].config
    assert (config.image_size, config.T, config.gamma) == {"cifar10": (32, 200, 20), "celeba": (128, 500, 50)}[name]
    with torch.device("meta"):
        model = PixelAwareModel(config)
    for part, number in PARAMETERS[PRESETS[name].paper].items():
        assert model.parameter_counts()[part] == pytest.approx(number, rel=0.02), part
    for level in (*model.parallel_unet.encoder, *model.parallel_unet.decoder):
        assert {"time", "scale", "blocks"} <= dict(level.named_children()).keys()
        assert len(level.blocks) == 2
        assert all(isinstance(block.attention, SelfAttention) for block in level.blocks)
    assert model.parallel_unet.decoder[-1].blocks[-1].conv2.out_channels == config.last_width == 512
    heads = model.parallel_unet.heads
    assert len(heads.local) == len(heads.attention) == 2
    assert heads.project.shape == (config.T, 3, 512)
    flattened = model.scale_vae.to_code.in_features
    assert flattened == config.vae_widths[-1] * 4 * 4
    assert config.latent > flattened  # "flattened and projected to a larger size latent"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_s_parameters_are_as_written_down(name):
    with torch.device("meta"):
        assert PixelAwareModel(preset(name)).parameter_counts() == PRESETS[name].parameters


def test_compact_is_compact():
    assert 2e6 < sum(PRESETS["compact"].counts) < 4e6


def test_estimates_lie_in_the_range_of_the_scale():
    model = tiny_model()
    x, _ = _inputs(model.config)
    config = model.config
    i = torch.tensor([0, 4, 8])
    x_delta, x0 = model.scale_vae(50 * x, i), model.twin(50 * x, i)
    low, high = image_scale(1.0, config.gamma), image_scale(config.floor, config.gamma)
    assert x_delta.min() >= low * (1 - 1e-5)
    assert x_delta.max() <= high * (1 + 1e-5)
    assert x0.min() >= config.floor - 1e-6
    assert x0.max() <= 1 + 1e-6


def test_mask_and_subset_of_heads():
    """M_j: head j is 0 exactly where j > i; a subset of heads equals the same heads of the full run."""
    unet = tiny_model().parallel_unet
    x, x_delta = _inputs(unet.config)
    i = torch.tensor([8, 3, 1])
    full = unet(x, x_delta, i)
    for image, last in enumerate(i.tolist()):
        alive = full[image].abs().amax(dim=(1, 2, 3)) > 0
        assert alive.tolist() == [j <= last for j in range(1, 9)]
    shared = torch.tensor([5, 1, 8])
    torch.testing.assert_close(unet(x, x_delta, i, shared), full[:, shared - 1], rtol=1e-4, atol=1e-5)
    own = torch.tensor([[8, 2], [3, 1], [1, 4]])
    picked = torch.stack([full[k, own[k] - 1] for k in range(3)])
    torch.testing.assert_close(unet(x, x_delta, i, own), picked, rtol=1e-4, atol=1e-5)


def test_between_whole_steps_the_mask_keeps_the_head_of_the_step():
    """At i = 2.5 the trajectory is in its third step, whose head is the one that samplers read there."""
    unet = tiny_model(i_min=0.02).parallel_unet
    x, x_delta = _inputs(unet.config)
    full = unet(x, x_delta, torch.tensor([8.0, 2.5, 0.5]))
    alive = full.abs().amax(dim=(2, 3, 4)) > 0
    assert alive.sum(1).tolist() == [8, 3, 1]


def _attend_by_hand(heads: ParallelHeads, features: torch.Tensor, h: torch.Tensor, k: int, j: int) -> torch.Tensor:
    """What block k's attention of head j adds to h (B, C, H, W), with every weight of the N x P map written out."""
    flat, tokens = h.flatten(2), F.avg_pool2d(h, h.shape[-1] // 8).flatten(2)
    weight = heads.attention[k][j]
    if heads.form == "shared":
        narrow = F.avg_pool2d(features, features.shape[-1] // 8)
        query, key = (
            torch.einsum("dc,bcn->bdn", layer.weight[:, :, 0, 0], part.flatten(2)) + layer.bias[:, None]
            for layer, part in ((heads.query[k], features), (heads.key[k], narrow))
        )
        scores = (query.mT @ key / 8).softmax(-1)  # 64 channels
        return (weight @ tokens @ scores.mT).view_as(h)
    q, key, v, out = weight
    seen = tokens if heads.form == "pooled" else flat
    if heads.form == "linear":
        scores = (F.elu(q @ flat) + 1).mT @ (F.elu(key @ seen) + 1)
        scores = scores / scores.sum(-1, keepdim=True)
    else:
        scores = ((q @ flat).mT @ (key @ seen) / h.shape[1] ** 0.5).softmax(-1)
    return (out @ (v @ seen) @ scores.mT).view_as(h)


@pytest.mark.parametrize("attention", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_batched_heads_equal_a_loop_over_single_heads(attention, channels):
    """G_j written out for one head: 1x1, then two residual 3x3 blocks (and attention), with head j's weights."""
    heads = randomised(ParallelHeads(5, 6, channels, attention), scale=0.5)
    features = torch.randn(2, 6, 16, 16)
    together = heads(features)
    for j in range(5):
        h = F.conv2d(features, heads.project[j][:, :, None, None], heads.bias[j])
        for k in range(2):
            h = h + F.conv2d(F.silu(h), heads.local[k][j].view(channels, channels, 3, 3), padding=1)
            if attention != "off":
                h = h + _attend_by_hand(heads, features, h, k, j)
        torch.testing.assert_close(together[:, j], h, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention", FORMS)
def test_every_attention_starts_as_the_identity_and_then_learns(attention):
    torch.manual_seed(0)
    without, heads = ParallelHeads(3, 6, 1), ParallelHeads(3, 6, 1, attention)
    heads.load_state_dict(without.state_dict(), strict=False)
    features = torch.randn(2, 6, 16, 16)
    torch.testing.assert_close(heads(features), without(features))
    heads(features).square().sum().backward()
    for weight in heads.attention or ():
        gradient = weight.grad if attention == "shared" else weight.grad[:, 3]
        assert (gradient.abs().flatten(1).amax(1) > 0).all()


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_blocks_of_groups_convolve_as_the_groups_do(size):
    weight, x = torch.randn(8 * 3, 3, 3, 3), torch.randn(2, 8 * 3, 6, 6)
    wanted = F.conv2d(x, weight, padding=1, groups=8)
    torch.testing.assert_close(F.conv2d(x, in_blocks(weight, size), padding=1, groups=8 // size), wanted)


def test_blocks_divide_the_groups():
    for groups in range(1, 30):
        for dtype in (torch.float32, torch.bfloat16):
            assert groups % block_size(groups, dtype) == 0


@pytest.mark.parametrize("attention", FORMS)
def test_subsets_and_chunks_of_heads_agree_with_all(attention, monkeypatch):
    unet = tiny_model(head_attention=attention).parallel_unet
    x, x_delta = _inputs(unet.config)
    i = torch.tensor([8, 3, 1])
    full = unet(x, x_delta, i)
    own = torch.tensor([[8, 2, 1], [3, 1, 2], [1, 4, 8]])
    picked = torch.stack([full[k, own[k] - 1] for k in range(3)])
    torch.testing.assert_close(unet(x, x_delta, i, own), picked, rtol=1e-4, atol=1e-5)
    assert (full[1, 3:] == 0).all()
    assert (full[1, :3].abs().amax(dim=(1, 2, 3)) > 0).all()
    for images, heads in ((3, 3), (2, 3), (1, 8)):
        monkeypatch.setitem(parallel_unet.CHUNK, "cpu", images * heads * x[0].numel())
        monkeypatch.setattr(parallel_unet, "LEAST_HEADS", heads)
        with torch.no_grad():
            torch.testing.assert_close(unet(x, x_delta, i), full, rtol=1e-4, atol=1e-5)
            chunked = unet(x, x_delta, i, own[:, [0, 1, 2, 0]])
            torch.testing.assert_close(chunked[:, :3], picked, rtol=1e-4, atol=1e-5)


def test_heads_become_v_by_the_conditional_mean_s_coefficients():
    """V^j = E[V^j | x_i, x0] with head j's x0_hat = rate_x0 + F_j put for x0, head by head."""
    unet = tiny_model().parallel_unet
    config = unet.config
    x, x_delta = _inputs(config)
    i = torch.tensor([8, 6, 2])
    raw = unet.heads(unet.backbone(x, x_delta, i))
    rate = image_from_scale(x_delta, config.gamma)
    v = unet(x, x_delta, i)
    for image in range(3):
        for j in range(1, int(i[image]) + 1):
            skip, out = head_coefficients(unet.schedule, rate[image], i[image].float(), torch.tensor(float(j)))
            expected = skip * x[image] + out * (rate[image] + raw[image, j - 1])
            torch.testing.assert_close(v[image, j - 1], expected, rtol=1e-4, atol=1e-5)


def test_drift_is_v_over_the_root_of_the_noise():
    unet = tiny_model().parallel_unet
    x, x_delta = _inputs(unet.config)
    i, heads = torch.tensor([8, 6, 4]), torch.tensor([4, 1, 3])
    v, drift = unet(x, x_delta, i, heads), unet(x, x_delta, i, heads, drift=True)
    rate = image_from_scale(x_delta, unet.config.gamma)[:, None]
    root = unet.schedule.noise_variance(rate, heads[:, None, None, None].float()).sqrt()
    torch.testing.assert_close(drift * root, v, rtol=1e-4, atol=1e-5)


def test_one_head_model_is_an_ordinary_v_prediction():
    """T = 1: one head, i = j = 1; V = sqrt(abar) eps - sqrt(1-abar) x0_hat for the x0_hat that it names."""
    model = tiny_model(T=1, gamma=3.0)
    config = model.config
    x, x_delta = _inputs(config)
    i = torch.ones(3, dtype=torch.int64)
    v = model.parallel_unet(x, x_delta, i)
    assert v.shape == (3, 1, *config.shape)
    rate = model.rate_x0(x_delta)
    x0_hat = rate + model.parallel_unet.heads(model.parallel_unet.backbone(x, x_delta, i))[:, 0]
    abar = torch.exp(-config.gamma * rate)
    eps = (x - abar.sqrt() * x0_hat) / (1 - abar).sqrt()
    torch.testing.assert_close(v[:, 0], v_from_eps(model.schedule, rate, 1, x0_hat, eps), rtol=1e-4, atol=1e-4)


def test_untrained_heads_return_the_vae_s_image():
    """With its last layer at zero, R_phi's x0_hat is -log(x_delta_hat)/gamma: it learns what is left."""
    torch.manual_seed(0)
    unet = ParallelUNet(tiny_config())
    torch.nn.init.zeros_(unet.heads.project)
    x, x_delta = _inputs(unet.config)
    i = torch.full((3,), 8)
    v = unet(x, x_delta, i)[:, 7]
    abar = x_delta  # abar_T = x_delta
    x0_hat = abar.sqrt() * x - (1 - abar).sqrt() * v
    torch.testing.assert_close(x0_hat, image_from_scale(x_delta, unet.config.gamma), rtol=1e-4, atol=1e-4)


def test_every_input_reaches_the_heads():
    unet = tiny_model().parallel_unet
    x, x_delta = _inputs(unet.config)
    i = torch.full((3,), 5)
    base = unet(x, x_delta, i, torch.tensor([4]))
    assert not torch.allclose(base, unet(x + 0.1, x_delta, i, torch.tensor([4])))
    assert not torch.allclose(unet.backbone(x, x_delta, i), unet.backbone(x, x_delta**1.5, i))
    assert not torch.allclose(unet.backbone(x, x_delta, i), unet.backbone(x, x_delta, i + 1))


def test_pooled_attention_is_full_attention_where_tokens_suffice():
    torch.manual_seed(0)
    full, pooled = SelfAttention(8), SelfAttention(8, tokens=16)
    randomised(full)
    pooled.load_state_dict(full.state_dict())
    small, large = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 8, 8)
    torch.testing.assert_close(full(small), pooled(small))
    assert not torch.allclose(full(large), pooled(large))


@pytest.mark.parametrize("keys", [16, 64, 100])
def test_attention_in_bfloat16_is_the_softmax_of_its_products(keys):
    """And so are its gradients, by either way, against float64."""
    torch.manual_seed(0)
    exact = [torch.randn(3, 1, n, 24, dtype=torch.float64, requires_grad=True) for n in (30, keys, keys)]
    q, k, v = exact
    weights = torch.exp(q @ k.mT / 24**0.5)
    wanted = (weights / weights.sum(-1, keepdim=True)) @ v
    wanted.square().sum().backward()
    rough = [one.detach().bfloat16().requires_grad_() for one in exact]
    found = attend(*rough)
    found.square().sum().backward()
    assert _relative_error(found, wanted) < 0.02
    for one, other in zip(rough, exact, strict=True):
        assert _relative_error(one.grad, other.grad) < 0.03


def _relative_error(rough: torch.Tensor, exact: torch.Tensor) -> float:
    return ((rough - exact).square().mean() / exact.square().mean()).sqrt().item()


@pytest.mark.parametrize("attention", FORMS)
@torch.no_grad()
def test_bfloat16_stays_close_to_float32(attention):
    model = tiny_model(head_attention=attention)
    x, x_delta = _inputs(model.config)
    i = torch.full((3,), 8)
    exact = model.parallel_unet(x, x_delta, i)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.parallel_unet(x, x_delta, i)
    assert rough.dtype == torch.float32
    assert _relative_error(rough, exact) < 0.05


@torch.no_grad()
def test_bfloat16_stays_close_to_float32_at_the_paper_s_size():
    """Of the two networks of "cifar10", every zero weight made random, so that each block counts."""
    torch.manual_seed(0)
    model = PixelAwareModel(PRESETS["cifar10"].config, ("scale_vae", "parallel_unet"))
    for parameter in model.parameters():
        if not parameter.any():
            parameter.normal_(std=0.02)
    x, x_delta = _inputs(model.config, 1)
    i = torch.tensor([model.config.T])
    few = torch.tensor([model.config.T, 100, 1])
    exact = model.scale_vae(x, i), model.parallel_unet(x, x_delta, i, few)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.scale_vae(x, i), model.parallel_unet(x, x_delta, i, few)
    assert _relative_error(rough[0].log(), exact[0].log()) < 0.03
    assert _relative_error(rough[1], exact[1]) < 0.03


def test_kl_is_that_of_a_gaussian():
    mean, log_variance = torch.tensor([[0.7, -1.2]]), torch.tensor([[0.3, -0.9]])
    q = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(Code(mean, log_variance).kl(), expected)


def test_unfitted_prior_is_standard_normal():
    vae = ScaleVAE(tiny_config())
    normal = torch.randn(50, 4)
    torch.testing.assert_close(vae.sample_prior(torch.rand(50), normal), normal)


def test_prior_codes_are_those_of_the_component_that_is_drawn():
    """uniform picks the component by its cumulated weight; z = mean + factor normal, of that component."""
    generator = torch.Generator().manual_seed(0)
    vae = ScaleVAE(tiny_config())
    vae.prior_log_weight = torch.tensor([0.3, 0.7]).log()
    vae.prior_mean = torch.randn(2, 4, generator=generator)
    vae.prior_factor = torch.randn(2, 4, 4, generator=generator).tril()
    normal = torch.randn(3, 4, generator=generator)
    for z, at, which in zip(vae.sample_prior(torch.tensor([0.1, 0.31, 0.9]), normal), normal, (0, 1, 1), strict=True):
        torch.testing.assert_close(z, vae.prior_mean[which] + vae.prior_factor[which] @ at)


def test_prior_recovers_a_known_mixture():
    generator = torch.Generator().manual_seed(0)
    truth = Mixture(
        torch.tensor([0.3, 0.7]).log(),
        torch.tensor([[4.0, 0.0], [-3.0, 1.0]]),
        torch.tensor([[[0.5, 0.0], [0.4, 0.3]], [[1.0, 0.0], [-0.5, 0.8]]]),
    )
    vae = ScaleVAE(tiny_config(latent=2))
    vae.prior_log_weight, vae.prior_mean, vae.prior_factor = truth
    codes = vae.sample_prior(torch.rand(6000, generator=generator), torch.randn(6000, 2, generator=generator))
    fitted = fit_mixture(codes, 2, generator)
    order = fitted.mean[:, 0].argsort(descending=True)
    torch.testing.assert_close(fitted.mean[order], truth.mean, atol=0.1, rtol=0)
    torch.testing.assert_close(fitted.log_weight[order].exp(), truth.log_weight.exp(), atol=0.03, rtol=0)
    for m, k in enumerate(order):
        covariance = fitted.factor[k] @ fitted.factor[k].T
        torch.testing.assert_close(covariance, truth.factor[m] @ truth.factor[m].T, atol=0.1, rtol=0.1)


def test_log_density_against_scipy():
    mixture = Mixture(torch.tensor([0.25]).log(), torch.tensor([[1.0]]), torch.tensor([[[2.0]]]))
    z = torch.tensor([[0.3], [5.0]])
    expected = torch.tensor(norm.logpdf(z[:, 0].numpy(), 1.0, 2.0), dtype=torch.float32) + torch.log(torch.tensor(0.25))
    torch.testing.assert_close(log_density(mixture, z)[:, 0], expected)


@pytest.mark.parametrize("n", [1, 3, 20])
def test_prior_of_few_codes_is_finite(n):
    fitted = fit_mixture(torch.randn(n, 4), 8, torch.Generator().manual_seed(0))
    assert torch.isfinite(fitted.mean).all()
    assert torch.isfinite(fitted.factor).all()
    assert fitted.log_weight.exp().sum() == pytest.approx(1, abs=1e-5)


def test_time_code_tells_steps_apart():
    codes = time_code(torch.arange(0, 501))
    assert codes.shape == (501, 128)
    distance = torch.cdist(codes, codes) + 10 * torch.eye(501)
    assert distance.min() > 0.1


def test_missing_part_says_which():
    model = PixelAwareModel(tiny_config(), ("twin",))
    with pytest.raises(MissingPart, match="scale_vae"):
        model.need("scale_vae")
