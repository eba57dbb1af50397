"""Guidance is the formula of two runs, and what learns from a class learns without one as well."""

import math
from dataclasses import replace

import pytest
import torch

from pixelviz.config import TrainConfig
from pixelviz.devices import choose
from pixelviz.learning import losses
from pixelviz.models.pixel_aware import PixelAwareModel, Told
from pixelviz.models.prior import fit_classes
from pixelviz.models.scale_vae import ScaleVAE
from pixelviz.samplers import SamplerError, draw
from tests.tiny import randomised, tiny_config, tiny_model

CPU = choose("cpu", "float32")
NAMES = ("bright", "dark")


def with_twin(**changes):
    """A model of the classes with random weights, its linear-beta twin among them."""
    return randomised(
        PixelAwareModel(tiny_config(classes=NAMES, **changes), ("scale_vae", "parallel_unet", "linear_twin"))
    )


@pytest.mark.parametrize("changes", [{}, {"head_target": "eps"}, {"i_min": 0.02, "scale_error": 0.08}])
@pytest.mark.parametrize("w", [0.0, 1.0, 2.5])
def test_guidance_is_the_formula_of_two_runs(changes, w):
    model = with_twin(**changes)
    x, x_delta = torch.randn(3, 1, 16, 16), torch.rand(3, 1, 16, 16) * 0.3 + 0.1
    i, labels = torch.tensor([8, 3, 1]), torch.tensor([1, 0, 1])
    one_hot = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    heads = torch.tensor([1, 3])
    for inputs in ((x, x_delta, i, heads), (x, x_delta, i)):
        found = Told(model, labels, w).parallel_unet(*inputs)
        without, given = model.parallel_unet(*inputs), model.parallel_unet(*inputs, classes=one_hot)
        assert (without - given).abs().max() > 1e-2
        torch.testing.assert_close(found, without + w * (given - without), rtol=1e-4, atol=1e-5)
        if w in (0, 1):
            assert torch.equal(found, given if w else without)
    t = torch.tensor([5, 500, 999])
    without, given = model.linear_twin(x, t), model.linear_twin(x, t, one_hot)
    found = Told(model, labels, w).linear_twin(x, t)
    torch.testing.assert_close(found, without + w * (given - without), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sampler", "passes"), [("parallel", 3), ("rotation", 3), ("multistep", 3), ("ddim", 10)])
def test_two_runs_are_counted_as_two(sampler, passes):
    model = with_twin()
    for guidance, runs in ((0, 1), (1, 1), (1.5, 2)):
        *_, last = draw(model, CPU, n=2, sampler=sampler, passes=passes, guidance=guidance)
        assert last.network_evaluations == runs * passes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": "grey"}, "there is no class 'grey'; this model has: bright, dark"),
        ({"classes": ["dark", "<b>"]}, "there is no class 'b'; this model has"),
        ({"guidance": -1}, "guidance must be a number from 0 to 20"),
        ({"guidance": math.nan}, "guidance must be a number from 0 to 20"),
        ({"guidance": "2"}, "guidance must be a number from 0 to 20"),
    ],
)
def test_what_cannot_be_followed_is_said(settings, message):
    with pytest.raises(SamplerError, match=message):
        next(draw(tiny_model(classes=NAMES), CPU, n=2, **settings))


@pytest.mark.parametrize("settings", [{"classes": "dark"}, {"guidance": 2.0}])
def test_a_model_without_classes_is_told_none(settings):
    with pytest.raises(SamplerError, match="trained without classes"):
        next(draw(tiny_model(), CPU, n=2, **settings))


# --- Learning


def test_a_share_of_the_batch_is_not_told_its_class():
    config, labels = tiny_config(classes=NAMES), torch.arange(20_000) % 2
    for part in ("parallel_unet", "linear_twin"):
        train = TrainConfig(parts=(part,), class_drop=0.2, heads_per_step=1)
        small = replace(config, image_size=16)
        plain = losses.draw_step(small, train, 64, torch.Generator().manual_seed(1))[part]
        same = losses.draw_step(small, train, 64, torch.Generator().manual_seed(1), labels[:64])[part]
        for name in plain._fields:
            if name != "labels" and getattr(plain, name) is not None:
                assert torch.equal(getattr(plain, name), getattr(same, name))
        found = torch.cat(
            [
                losses.draw_step(small, train, 1000, torch.Generator().manual_seed(k), labels[:1000])[part].labels
                for k in range(20)
            ]
        )
        share = (found < 0).float().mean().item()
        assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.2 * 0.8 / len(found)))
        assert torch.equal(found[found >= 0], labels[found >= 0])
        all_told = replace(train, class_drop=0.0)
        assert (losses.draw_step(small, all_told, 64, torch.Generator(), labels[:64])[part].labels >= 0).all()


def test_who_is_not_told_is_the_model_of_all():
    """The loss with label -1 is that of the network without a class; with a label it is another."""
    model = tiny_model(classes=NAMES)
    with torch.no_grad():
        model.parallel_unet.class_code.weight.mul_(5)  # a class that is heard
    x0 = 0.1 + 0.9 * torch.rand(4, 1, 16, 16)
    train = TrainConfig(parts=("parallel_unet",), heads_per_step=2)
    draws = losses.draw_step(model.config, train, 4, torch.Generator().manual_seed(0))["parallel_unet"]
    plain, untold, told_one = (
        losses.unet_loss(model, x0, draws._replace(labels=labels))[0].item()
        for labels in (None, torch.full((4,), -1), torch.ones(4, dtype=torch.int64))
    )
    assert untold == pytest.approx(plain, rel=1e-6)
    assert abs(told_one - plain) > 1e-3


def test_each_class_has_its_own_part_of_the_prior():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(600, 2, generator=generator) + torch.tensor([10.0, 0.0]) * (torch.arange(600) % 3 == 0)[:, None]
    labels = (torch.arange(600) % 3 == 0).long()
    vae = ScaleVAE(tiny_config(latent=2, prior_components=5, classes=NAMES))  # two for each
    fitted = fit_classes(codes, labels, 2, 4, generator)
    for name, value in zip(("prior_log_weight", "prior_mean", "prior_factor"), fitted, strict=True):
        getattr(vae, name).copy_(value)
    assert vae.class_shares().tolist() == pytest.approx([2 / 3, 1 / 3])
    assert vae.prior_log_weight.exp().sum().item() == pytest.approx(1)
    uniform = torch.cat([torch.tensor([0.0, 1 - 2**-24]), torch.rand(4000, generator=generator)])
    for k in (0, 1):
        normal = torch.randn(4002, 2, generator=generator)
        z = vae.sample_prior(uniform, normal, torch.full((4002,), k))
        mine = codes[labels == k]
        assert (z[:, 0] > 5).all() if k else (z[:, 0] < 6).all()
        torch.testing.assert_close(z.mean(0), mine.mean(0), rtol=0, atol=0.1)
        torch.testing.assert_close(z.std(0), mine.std(0), rtol=0.1, atol=0)


def test_a_class_without_pictures_does_no_harm():
    fitted = fit_classes(torch.randn(50, 2), torch.zeros(50, dtype=torch.int64), 2, 4, torch.Generator())
    vae = ScaleVAE(tiny_config(latent=2, prior_components=4, classes=NAMES))
    vae.prior_log_weight.copy_(fitted.log_weight)
    assert vae.class_shares().tolist() == [1, 0]
    assert vae.sample_prior(torch.rand(9), torch.randn(9, 2), torch.ones(9, dtype=torch.int64)).isfinite().all()
