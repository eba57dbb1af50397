"""Consistency tuning: on Gaussians the flow is known in closed form, and R_phi comes to it."""

import math
from dataclasses import replace

import pytest
import torch

from pixelviz.config import ConfigError, TrainConfig
from pixelviz.devices import choose
from pixelviz.learning import losses
from pixelviz.learning.training import TrainingError
from pixelviz.learning.tuning import tune
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.reverse import x0_from_drift
from pixelviz.samplers import draw
from pixelviz.store import checkpoints
from tests.tiny import tiny_config, tiny_images, tiny_model

M, S = 0.5, 0.15  # every pixel's x0 is N(M, S^2), and x_delta_hat is exp(-gamma M): no more than that is known
SETTINGS = TrainConfig(40, 8, 1e-3, ("parallel_unet",), warmup=5, ema=0.9, least_gap=1 / 32, heads_per_step=3)


def _abar(config, i):
    return torch.exp(-config.gamma * M * i / config.T)


def flow(config, x_i, i):
    """Where the probability flow of a Gaussian leads: the same number of standard deviations from the mean."""
    abar = _abar(config, i)
    return M + S * (x_i - abar.sqrt() * M) / (abar * S**2 + 1 - abar).sqrt()


def answering(model, image):
    """The model with a network that says `image(x_i, i)`: its drift is solved for (f = cos x_i - sin^2 D)."""

    def forward(x_i, x_delta, i, heads, *, drift, classes=None):
        assert drift
        abar = torch.exp(model.schedule.log_alpha_bar(model.rate_x0(x_delta), i[:, None, None, None]))
        D = (abar.sqrt() * x_i - image(x_i, i[:, None, None, None])) / (1 - abar)
        return D[:, None].expand(-1, heads.shape[1], -1, -1, -1)

    model.parallel_unet.forward = forward
    return model


def drawn(config, settings, n, step=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0 = M + S * torch.randn(n, *config.shape, generator=generator)
    draws = losses.draw_step(config, settings, n, generator)["parallel_unet"]
    return x0, losses.with_ends(config, settings, draws, step)


def test_the_ends_draw_nearer_by_the_same_factor_and_reach_the_image():
    config = tiny_config(i_min=0.02, scale_error=0.1)
    _, first = drawn(config, SETTINGS, 500)
    _, last = drawn(config, SETTINGS, 500, step=40)
    assert torch.equal(first.i, last.i)
    assert ((first.below >= 0) & (first.below < last.below + 1e-6) & (last.below < last.i)).all()

    def angle(i):  # of the darkest pixel, with the deviation in use
        return torch.atan((torch.exp(config.gamma * config.floor * i / config.T) - 1).sqrt() / 0.1)

    kept = first.below > 0
    torch.testing.assert_close(angle(first.below[kept]), angle(first.i[kept]) / 2, rtol=1e-3, atol=0)
    kept = last.below > 0
    torch.testing.assert_close(angle(last.below[kept]), angle(last.i[kept]) * 31 / 32, rtol=1e-3, atol=0)
    assert (first.below[first.i < 0.05] == 0).all()
    assert 0 < (first.below == 0).float().mean() < 0.6


def test_the_boundary_is_exact_whatever_the_network_says():
    """At theta = 0 f is x_i: as i falls, a network of any weights says x_i."""
    model = tiny_model(i_min=0.02, scale_error=0.1)
    x = torch.rand(2, 1, 16, 16)
    x_delta = torch.full_like(x, 0.2)
    for i in (1e-2, 1e-4, 1e-6):
        drift = model.parallel_unet(x, x_delta, torch.full((2,), i), torch.tensor([1]), drift=True)[:, 0]
        f = x0_from_drift(model.schedule, model.rate_x0(x_delta), i, x, drift)
        assert (f - x).abs().max() < 5 * math.sqrt(i)


def test_the_loss_is_zero_for_a_known_image_and_only_then():
    """With s = 0, x0 = M, the flow leads to M from everywhere, and both ends agree with it exactly."""
    model = answering(tiny_model(i_min=0.02, scale_error=0.1), lambda x_i, i: torch.full_like(x_i, M))
    x0, draws = drawn(model.config, SETTINGS, 16)
    x0 = torch.full_like(x0, M)
    x_delta = torch.exp(-model.config.gamma * x0)
    assert losses.consistency_loss(model, x0, x_delta, draws, 0.1)[0] < 1e-4
    answering(model, lambda x_i, i: M + 0.01 * i.sqrt() + 0 * x_i)
    assert losses.consistency_loss(model, x0, x_delta, draws, 0.1)[0] > 0.02


def test_the_exact_flow_is_where_the_loss_tends_to_be_least():
    """Of f = M + c(i) (x_i - mean): a regression of one end on the other, by hand, tends to the flow as ends near.

    c(i) = c(i') Cov(x_i, x_i') / Var(x_i), with Cov = cos cos' S^2 + sin sin' of the shared x0 and noise.
    """
    config = tiny_config(i_min=1e-6, scale_error=0.1)
    errors = []
    for least in (1 / 4, 1 / 16, 1 / 64):
        settings = replace(SETTINGS, least_gap=least)
        i, chain = torch.tensor([float(config.T)], dtype=torch.float64), []
        while i > 0:
            below = losses.with_ends(
                config, settings, losses.UNetDraws(i, None, None, None, None), settings.steps
            ).below
            a, b = _abar(config, i), _abar(config, below)
            chain.append(((a * b).sqrt() * S**2 + ((1 - a) * (1 - b)).sqrt()) / (a * S**2 + 1 - a))
            i = below
        start = torch.tensor(float(config.T))
        exact = flow(config, _abar(config, start).sqrt() * M + 1, start) - M  # c(T)
        errors.append(abs(torch.stack(chain).prod().item() - exact.item()) / exact.item())
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 3
    assert errors[2] < 0.05


def test_a_network_comes_to_the_flow():
    """The real R_phi, on noise-like images: one run from x_T ends where the flow does, not at the mean M."""
    torch.manual_seed(0)
    model = PixelAwareModel(tiny_config(i_min=1e-3, scale_error=S), ("scale_vae", "parallel_unet"))
    net, config, steps = model.parallel_unet.train(), model.config, 250
    settings = replace(SETTINGS, steps=steps, batch=8)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)

    def error():
        generator = torch.Generator().manual_seed(99)
        x0 = M + S * torch.randn(64, *config.shape, generator=generator)
        T = torch.full((64,), float(config.T))
        x_delta = torch.full_like(x0, math.exp(-config.gamma * M))
        x_T = losses.forward_noise(model, torch.full_like(x0, M), x0, T, torch.randn(x0.shape, generator=generator))
        with torch.no_grad():
            D = net(x_T, x_delta, T, torch.tensor([config.T]), drift=True)[:, 0]
        f = x0_from_drift(model.schedule, torch.full_like(x0, M), config.T, x_T, D)
        wanted = flow(config, x_T, torch.tensor(float(config.T)))
        return (f - wanted).square().mean().sqrt().item() / S

    assert error() > 0.9  # it begins at the mean, the best f of Eq. 15 at T
    for step in range(steps):
        x0, draws = drawn(config, settings, 8, step, seed=step)
        loss, _ = losses.consistency_loss(model, x0, torch.full_like(x0, math.exp(-config.gamma * M)), draws, S)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (1 - step / steps)
        optimiser.step()
    assert error() < 0.62


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "source"
    record = checkpoints.Record(images_seen={"parallel_unet": 5}, training={"deviation": 0.2, "learning_rate": 1.0})
    checkpoints.save(folder, tiny_model(), record)
    return folder


def _weights(folder):
    return checkpoints.load(folder).model.state_dict()


def test_only_R_phi_is_tuned_and_learns_the_steps_below_the_first(source, tmp_path):
    states = list(tune(source, tmp_path / "out", tiny_images(), SETTINGS, device="cpu", precision="float32"))
    assert states[-1].step == 40
    assert all(math.isfinite(value) for value in states[-1].losses.values())
    old, new = _weights(source), _weights(tmp_path / "out")
    assert {key.split(".")[0] for key in old if not torch.equal(old[key], new[key])} == {"parallel_unet"}
    loaded = checkpoints.load(tmp_path / "out")
    assert loaded.model.config == replace(checkpoints.load(source).model.config, i_min=0.002, scale_error=0.08)
    assert loaded.record.training["deviation"] == 0.2
    assert loaded.record.training["learning_rate"] == SETTINGS.learning_rate
    assert loaded.record.images_seen["parallel_unet"] == 5 + 40 * 8
    assert "made consistent, starting from source" in loaded.record.notes[-1]
    *_, last = draw(loaded.model, choose("cpu", "float32"), n=2, passes=3)
    assert last.x.isfinite().all()


def test_a_resumed_tuning_equals_an_uninterrupted_one(source, tmp_path):
    options = {"device": "cpu", "precision": "float32"}
    run = tune(source, tmp_path / "halves", tiny_images(), SETTINGS, **options)
    for state in run:
        if state.step == 17:
            break
    run.close()
    rest = list(tune(source, tmp_path / "halves", tiny_images(), SETTINGS, **options))
    assert rest[0].step == 18
    list(tune(source, tmp_path / "whole", tiny_images(), SETTINGS, **options))
    halves, whole = _weights(tmp_path / "halves"), _weights(tmp_path / "whole")
    assert all(torch.equal(halves[key], whole[key]) for key in whole)


def test_what_cannot_be_tuned_is_refused(source, tmp_path):
    with pytest.raises(TrainingError, match="another folder"):
        next(tune(source, source, tiny_images(), SETTINGS))
    with pytest.raises(TrainingError, match="above 0"):
        next(tune(source, tmp_path / "a", tiny_images(), replace(SETTINGS, least_gap=0.0)))
    checkpoints.save(tmp_path / "eps", tiny_model(head_target="eps"), checkpoints.Record())
    with pytest.raises(TrainingError, match="needs v heads"):
        next(tune(tmp_path / "eps", tmp_path / "b", tiny_images(), SETTINGS))
    checkpoints.save(tmp_path / "other", tiny_model(1), checkpoints.Record())
    with pytest.raises(checkpoints.CheckpointError, match="already holds a checkpoint"):
        next(tune(source, tmp_path / "other", tiny_images(), SETTINGS))
    with pytest.raises(ConfigError, match="least_gap"):
        TrainConfig(least_gap=0.7)
