"""The bound on bits per dimension, beside what is known exactly: Gaussian data and codes, levels that sum to 1."""

import dataclasses
import itertools
import math
from functools import partial

import pytest
import torch
from torch import distributions

from pixelviz.config import PARTS
from pixelviz.devices import choose
from pixelviz.measure import likelihood
from pixelviz.measure.evaluation import evaluate
from pixelviz.measure.likelihood import bits_per_dimension, code_nats
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.models.scale_vae import Code
from pixelviz.process.likelihood import gaussian_kl, level_nats, variational_bound
from pixelviz.process.reverse import Gaussian
from pixelviz.process.schedules import LinearBeta, PixelAware
from pixelviz.samplers.parallel import boundaries
from pixelviz.store.checkpoints import Checkpoint, Record
from tests.tiny import randomised, tiny_config, tiny_images


@pytest.mark.parametrize("mean", [0.1, 0.45, 0.998])
def test_the_levels_share_one_between_them(mean):
    x0 = torch.linspace(0.2, 1, 256, dtype=torch.float64)
    nats = level_nats(x0, torch.full_like(x0, mean), 0.05, 0.8 / 255, (0.2, 1.0))
    assert torch.exp(-nats).sum().item() == pytest.approx(1, abs=1e-9)
    normal = distributions.Normal(torch.tensor(mean, dtype=torch.float64), 0.05)
    inside = normal.cdf(x0[60] + 0.4 / 255) - normal.cdf(x0[60] - 0.4 / 255)
    assert torch.exp(-nats[60]).item() == pytest.approx(inside.item(), rel=1e-6, abs=1e-15)


def test_kl_between_gaussians():
    of, to = Gaussian(torch.tensor(0.3), torch.tensor(0.2)), Gaussian(torch.tensor(-0.1), torch.tensor(0.5))
    known = distributions.kl_divergence(*(distributions.Normal(g.mean, g.variance.sqrt()) for g in (of, to)))
    torch.testing.assert_close(gaussian_kl(of, to), known)


@pytest.mark.parametrize("schedule", [PixelAware(1000, 20.0), LinearBeta(1000)], ids=["pixel-aware", "linear"])
def test_the_bound_of_gaussian_data_tends_to_their_entropy(schedule):
    """x0 ~ N(m, s^2) and its exact posterior mean: the more steps, the nearer to log(s sqrt(2 pi e) / width), above."""
    m, s, width = 0.6, 0.1, 1e-3
    generator = torch.Generator().manual_seed(0)
    x0 = m + s * torch.randn(4000, 1, 1, 1, generator=generator, dtype=torch.float64)
    rate = torch.full_like(x0, m)
    noise = partial(torch.randn, x0.shape, generator=generator, dtype=torch.float64)

    def estimate(x_i, i):
        odds = torch.exp(2 * schedule.half_log_odds(rate, i))
        seen = x_i / schedule.alpha_bar(rate, i).sqrt()
        return (seen * odds + m / s**2) / (odds + 1 / s**2)

    T = schedule.T
    bar = schedule.alpha_bar(rate, T)
    start = Gaussian(bar.sqrt() * m, bar * s**2 + 1 - bar)
    entropy = math.log(s * math.sqrt(2 * math.pi * math.e) / width)
    least, found = 1.0, []
    deviation = 1 / math.sqrt(1 / s**2 + math.exp(2 * schedule.half_log_odds(rate[:1], least).item()))
    levels = partial(level_nats, deviation=deviation, width=width, ends=(-math.inf, math.inf))
    for passes in (5, 30, 1000):
        steps = [*boundaries(T, passes)[:-1]]
        steps = steps if steps[-1] == least else [*steps, least]
        found.append(variational_bound(schedule, rate, x0, estimate, steps, start, noise, levels).nats.mean().item())
        # What every step is expected to cost: half the odds it brings, over the precision of x0 before it.
        odds = [math.exp(2 * schedule.half_log_odds(rate[:1], i).item()) for i in steps]
        gained = sum((b - a) / (a + 1 / s**2) for a, b in itertools.pairwise(odds)) / 2
        known = gained + math.log(deviation * math.sqrt(2 * math.pi * math.e) / width)
        assert found[-1] == pytest.approx(known, rel=0.02)
    assert min(found) > entropy - 0.03
    assert found[0] > found[1] + 0.02
    if schedule.stationary:  # DDPM's 1000 steps are far apart where there is little noise
        assert found[2] == pytest.approx(entropy, abs=0.03)


def test_the_code_costs_its_kl_to_the_prior():
    """For a prior of one Gaussian torch knows the KL; over draws of z the estimate's mean is that."""
    model = PixelAwareModel(tiny_config(prior_components=1), ("scale_vae",))
    vae, n = model.scale_vae, 40_000
    factor = torch.tensor([[0.9, 0, 0, 0], [0.3, 1.2, 0, 0], [0, 0.1, 0.8, 0], [0.2, 0, 0, 1.0]])
    vae.prior_mean.copy_(torch.tensor([[0.1, -0.2, 0.3, 0.0]]))
    vae.prior_factor.copy_(factor[None])
    mean, log_variance = torch.tensor([0.4, 0.1, -0.3, 0.2]), torch.tensor([-1.0, -0.5, 0.2, -2.0])
    vae.encode = lambda x0, i: Code(mean.expand(n, 4), log_variance.expand(n, 4))
    z, nats = code_nats(vae, torch.zeros(n, 1, 16, 16), torch.randn(n, 4, generator=torch.Generator().manual_seed(1)))
    q = distributions.MultivariateNormal(mean, torch.diag(log_variance.exp()))
    p = distributions.MultivariateNormal(vae.prior_mean[0], scale_tril=factor)
    assert nats.mean().item() == pytest.approx(distributions.kl_divergence(q, p).item(), abs=0.03)
    torch.testing.assert_close(nats[:5], (q.log_prob(z) - p.log_prob(z))[:5], rtol=1e-4, atol=1e-4)


def test_both_sides_are_given_as_far_as_their_parts_are_there():
    compute, images = choose("cpu", "float32"), tiny_images(8).images
    model = randomised(PixelAwareModel(tiny_config(), PARTS), scale=0.05)
    found = bits_per_dimension(model, compute, images, passes=4)
    assert set(found) == {"ours", "twin"}
    for one in found.values():
        parts = [value for key, value in one.items() if key not in ("all", "deviation")]
        assert one["all"] == pytest.approx(sum(parts))
        assert 0 < one["all"] < 1000
    assert found == bits_per_dimension(model, compute, images, passes=4)
    alone = randomised(PixelAwareModel(tiny_config(), ("linear_twin",)))
    assert set(bits_per_dimension(alone, compute, images, passes=4)) == {"twin"}
    model.config = dataclasses.replace(model.config, head_target="eps")  # of R_phi's heads, not of the twin
    assert bits_per_dimension(model, compute, images, passes=4) == {"twin": found["twin"]}


def test_both_deviations_are_of_the_way_from_black_to_white(monkeypatch):
    """Two networks whose estimates are all a twentieth of it too bright: ours in [floor, 1], the twin's in [-1, 1]."""
    model, images = PixelAwareModel(tiny_config(), PARTS), torch.full((8, 1, 16, 16), 128, dtype=torch.uint8)
    estimate, linear = 128 / 255 + 0.05, LinearBeta(1000)

    def drift(x_i, x_delta, i, heads, *, drift):
        bar = x_delta ** (i[0] / model.config.T)
        return ((bar.sqrt() * x_i - (0.1 + 0.9 * estimate)) / (1 - bar))[:, None]

    def eps(x_i, t):
        bar = linear.alpha_bar(torch.ones(()), t[0].item() + 1)
        return (x_i - bar.sqrt() * (2 * estimate - 1)) / (1 - bar).sqrt()

    monkeypatch.setattr(model.parallel_unet, "forward", drift)
    monkeypatch.setattr(model.linear_twin, "forward", eps)
    found = bits_per_dimension(model, choose("cpu", "float32"), images, passes=4)
    normal, half = distributions.Normal(0.0, 0.05), 0.5 / 255
    bits = -torch.log2(normal.cdf(torch.tensor(0.05 + half)) - normal.cdf(torch.tensor(0.05 - half))).item()
    for one in found.values():
        assert one["deviation"] == pytest.approx(0.05, rel=1e-3)
        assert one["levels"] == pytest.approx(bits, rel=1e-2)


def test_images_sorted_by_class_calibrate_with_every_class(monkeypatch):
    """The deviation is found by every fourth image, of which `evaluate` takes some of every class."""
    compute, classes = choose("cpu", "float32"), (30, 90, 150, 210)
    images = torch.cat([torch.full((8, 1, 16, 16), value, dtype=torch.uint8) for value in classes])
    model = randomised(PixelAwareModel(tiny_config(), PARTS), scale=0.05)
    seen = []

    def judge(model, passes, x0, noise, deviation):
        seen.append((deviation, x0[:, 0, 0, 0]))
        return {"levels": torch.ones(len(x0))}

    monkeypatch.setattr(likelihood, "JUDGED", {"ours": (judge, ("scale_vae",))})
    *_, last = evaluate(Checkpoint(model, Record()), compute, images, samples=0, bits=16)
    assert last.figures["bits_per_dimension"]["ours"]["levels"] > 0
    calibrating, judged = (torch.cat([x0 for d, x0 in seen if (d is None) == one]) for one in (True, False))
    assert (len(calibrating), len(judged)) == (4, 12)
    assert len(calibrating.unique()) == len(judged.unique()) == 4
