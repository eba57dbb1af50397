"""The generalised rate of Eq. 26 as a model's schedule: its marginals by simulation, training, and every sampler."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from pixelviz.config import ConfigError, TrainConfig
from pixelviz.data.images import Picture
from pixelviz.devices import Compute
from pixelviz.learning.losses import forward_noise
from pixelviz.learning.training import train
from pixelviz.measure import check as checks
from pixelviz.measure.estimate import estimate_scale
from pixelviz.measure.evaluation import scale_ssim
from pixelviz.measure.metrics import ssim
from pixelviz.process.schedules import GeneralisedRate, PixelAware, by_pixel, schedule_of
from pixelviz.samplers import SAMPLERS, ImageNoise, Start, draw, ours
from pixelviz.store import checkpoints
from tests.served import photo
from tests.test_samplers import Oracle
from tests.tiny import tiny_config, tiny_images, tiny_model

CPU = Compute(torch.device("cpu"), None)


def betas_of(T):
    """DDPM's betas, rescaled to T steps, from their definition."""
    return np.clip(np.linspace(1e-4, 0.02, T) * 1000 / T, None, 0.999)


def test_a_model_s_forward_process_has_the_marginals_of_the_simulated_chain():
    """x_i = sqrt(1 - b_i) x_{i-1} + sqrt(b_i) xi with b_i = 1 - exp(-gamma beta_i x0), run 40,000 times in NumPy."""
    model, x0, n = tiny_model(schedule="generalised", T=40, gamma=1.5), 0.6, 40_000
    rng, x = np.random.default_rng(0), np.full(40_000, 0.6)
    for i, beta in enumerate(betas_of(40), start=1):
        b = 1 - math.exp(-1.5 * beta * x0)
        x = math.sqrt(1 - b) * x + math.sqrt(b) * rng.standard_normal(n)
        if i in (1, 10, 40):
            image = torch.full((1, 1, 200, 200), x0)
            noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(i))
            here = forward_noise(model, image, image, torch.tensor([i]), noise)
            assert here.mean().item() == pytest.approx(x.mean(), abs=0.02)
            assert here.var().item() == pytest.approx(x.var(), rel=0.04)


@pytest.mark.parametrize("schedule", [PixelAware(40, 3.0), GeneralisedRate(40, 3.0)], ids=repr)
def test_the_clock_is_undone_by_step_at(schedule):
    i = torch.tensor([0.0, 0.3, 1.0, 7.5, 39.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(schedule.step_at(schedule.clock(i)), i)
    x0 = torch.tensor([0.2, 1.0], dtype=torch.float64)[:, None]
    between = schedule.log_between(x0, i[1:], i[:-1])
    torch.testing.assert_close(between.sum(1), schedule.log_alpha_bar(x0, 40)[:, 0])
    assert (between < 0).all()


@pytest.mark.parametrize(("T", "gamma"), [(12, 1.0), (200, 20.0)])
@pytest.mark.parametrize("passes", [1, 3, 12])
@pytest.mark.parametrize("sampler", ["parallel", "few-heads", "rotation", "multistep"])
def test_perfect_heads_bring_the_image_back(sampler, passes, T, gamma):
    """The best heads of Eq. 15 leave no error, however the steps differ: a share taken of another step would.

    At gamma 20 nothing is left of a bright pixel at T: abar = 5e-88, whose inverse root float32 has no number for.
    """
    model = tiny_model(schedule="generalised", T=T, gamma=gamma, floor=0.1)
    x0 = torch.tensor([0.1, 0.3, 0.6, 1.0]).repeat(64).reshape(1, 1, 16, 16)
    model.parallel_unet = Oracle(model.schedule, x0)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    x_T = forward_noise(model, x0, x0, torch.tensor([T]), noise)
    start = Start(x_T, torch.exp(-gamma * x0))
    *_, last = SAMPLERS[sampler].run(model, start, ImageNoise(0, 1), passes=passes)
    torch.testing.assert_close(last.x, x0, atol=2e-5, rtol=0)


def test_states_within_a_pass_have_the_posterior_mean():
    """Between its ends one pass gives E[x_j | x_T, x0], which DDPM's posterior knows without any recursion."""
    model = tiny_model(schedule="generalised", T=12, gamma=1.0, floor=0.1)
    x0 = torch.full((1, 1, 16, 16), 0.5)
    model.parallel_unet = Oracle(model.schedule, x0)
    x_T = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    bar = np.exp(-0.5 * np.concatenate([[0], betas_of(12).cumsum()]))
    for step in SAMPLERS["parallel"].run(model, Start(x_T, torch.exp(-x0)), ImageNoise(0, 1), passes=1):
        j = int(step.i)
        skip = math.sqrt(bar[12] / bar[j]) * (1 - bar[j]) / (1 - bar[12])
        out = math.sqrt(bar[j]) * (1 - bar[12] / bar[j]) / (1 - bar[12])
        torch.testing.assert_close(step.x, skip * x_T + out * x0, atol=1e-5, rtol=0)


def bar_of(schedule, x0, i, T=12, gamma=1.0):
    """abar_i of a model's schedule, from its definition."""
    clock = betas_of(T)[:i].sum() if schedule == "generalised" else i / T
    return torch.exp(-gamma * clock * (torch.full_like(x0, 0.5) if schedule == "uniform" else x0))


@pytest.mark.parametrize("schedule", ["pixel-aware", "generalised", "uniform"])
def test_a_picture_s_estimate_is_by_the_model_s_own_schedule(schedule):
    """x_i, alpha_bar_i and its estimate; SSIM of alpha_bar_i where it depends on the picture, a note elsewhere."""
    model = tiny_model(schedule=schedule, T=12, gamma=1.0)
    *_, found = estimate_scale(model, CPU, Picture(photo(16, 16, 1)[..., None] / 255), 5, seed=3)
    bar = bar_of(schedule, found.x0, 5)
    torch.testing.assert_close(found.alpha_bar, bar)
    torch.testing.assert_close(found.alpha_bar_hat, bar_of(schedule, found.x0_hat, 5))
    noise = ImageNoise(3, 1).normal(1, 16, 16)[0].double()
    torch.testing.assert_close(found.x_i, bar.sqrt() * found.x0 + (1 - bar).sqrt() * noise)
    measured = set(scale_ssim(model, CPU, tiny_images(4).images, 5))
    if schedule == "uniform":
        assert found.ssim_alpha_bar is None
        assert "one for all pixels" in " ".join(found.notes)
        assert measured == {"x_delta", "x0"}
    else:
        width = (bar_of(schedule, torch.tensor(0.1), 5) - bar_of(schedule, torch.tensor(1.0), 5)).item()
        wanted = ssim(bar, bar_of(schedule, found.x0_hat, 5), width).mean
        assert found.ssim_alpha_bar == pytest.approx(wanted, abs=1e-6)
        assert measured == {"x_delta", "alpha_bar", "x0"}


@pytest.mark.parametrize("schedule", ["pixel-aware", "generalised", "uniform"])
def test_a_check_s_run_starts_where_the_model_s_forward_process_ends(schedule, monkeypatch):
    model, images, starts = tiny_model(schedule=schedule, T=12, gamma=1.0), tiny_images(8).images, []
    monkeypatch.setattr(checks, "_one_pass", lambda model, compute, start, seed: starts.append(start))
    checks.reconstructions(model, CPU, images, [1], True, 0)
    x0 = 0.1 + 0.9 * images / 255
    bar = bar_of(schedule, -torch.log(starts[0].x_delta), 12)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(starts[0].x_T, bar.sqrt() * x0 + (1 - bar).sqrt() * noise)


def test_it_is_trained_saved_and_drawn_from(tmp_path):
    config = tiny_config(schedule="generalised", gamma=1.0)
    settings = TrainConfig(steps=3, batch=4, parts=("scale_vae", "parallel_unet"))
    *_, last = train(tiny_images(), config, settings, tmp_path / "run", device="cpu")
    assert all(math.isfinite(loss) for loss in last.losses.values())
    model = checkpoints.load(tmp_path / "run").model
    assert model.schedule == model.parallel_unet.schedule == GeneralisedRate(8, 1.0)
    for sampler in ours():
        *_, step = draw(model, CPU, n=2, sampler=sampler)
        assert step.x.isfinite().all()


def test_an_old_configuration_has_the_paper_s_schedule():
    values = tiny_config().to_dict()
    del values["schedule"]
    assert schedule_of(type(tiny_config()).from_dict(values)) == PixelAware(8, 4.0)
    assert by_pixel() == ["pixel-aware", "generalised"]
    for name, message in (("ddpm", "does not come from gamma"), ("cosine", "no schedule 'cosine'")):
        with pytest.raises(ConfigError, match=message):
            tiny_model(schedule=name)


def test_a_checkpoint_with_an_unknown_schedule_is_refused(tmp_path):
    model = tiny_model()
    model.config = dataclasses.replace(model.config, schedule="cosine")
    checkpoints.save(tmp_path / "odd", model, checkpoints.Record())
    with pytest.raises(checkpoints.CheckpointError, match="no schedule 'cosine'"):
        checkpoints.load(tmp_path / "odd")
