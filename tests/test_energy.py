"""The energy that gamma is chosen by, against closed forms, and what was measured for it."""

import math

import numpy as np
import pytest
import torch

from pixelviz.data.assets import CHECKPOINTS
from pixelviz.data.images import EXAMPLES, fit_square, read_image
from pixelviz.data.sets import to_unit
from pixelviz.devices import choose
from pixelviz.measure import residuals
from pixelviz.process.energy import Residuals, energy_over
from pixelviz.process.reverse import x0_from_v
from pixelviz.samplers import ImageNoise, SamplerError
from pixelviz.service.toy import gamma_energy
from pixelviz.store.checkpoints import digest
from tests.tiny import tiny_images, tiny_model


def gaussian(variance):
    """The best error for x0 ~ N(., variance): 1/(1/variance + SNR)."""
    return lambda x0, u: 1 / (1 / variance + 1 / torch.expm1(u * x0))


@pytest.mark.parametrize(("gamma", "x0"), [(5.0, 0.3), (20.0, 1.0), (2.0, 0.6)])
def test_a_gaussian_s_bound_is_its_entropy_the_gap_and_euler_s_half(gamma, x0):
    """As T grows the sum is the integral of dSNR/(1/v + SNR)/2 and half of Euler's constant: SNR_1 = 2 SNR_2 always.

    E = KL_T + log(2 pi e)/2 - log(1/v + SNR_T)/2 + 0.2886, here with v = 1.
    """
    found = energy_over(gaussian(1.0), [gamma], 5000, [x0])
    bar = math.exp(-gamma * x0)
    gap = (bar * (x0**2 - 1) - math.log1p(-bar)) / 2
    wanted = gap + (math.log(2 * math.pi * math.e) - math.log(1 + bar / (1 - bar)) + np.euler_gamma) / 2
    assert found.gap.item() == pytest.approx(gap)
    assert found.total.item() == pytest.approx(wanted, abs=0.01)


def test_a_few_steps_by_hand():
    snr = 1 / np.expm1(3.0 * 0.5 * np.arange(1, 5) / 4)
    left = 1 / (1 / 0.1 + snr)
    found = energy_over(gaussian(0.1), [3.0], 4, [0.5])
    assert found.steps.item() == pytest.approx(((snr[:-1] - snr[1:]) * left[1:]).sum() / 2)
    assert found.first.item() == pytest.approx(np.log(2 * np.pi * np.e * left[0]) / 2)


def test_shares_weigh_pixels():
    both = energy_over(gaussian(0.1), [3.0, 8.0], 50, [0.2, 0.9], torch.tensor([0.75, 0.25]).double())
    dark, bright = (energy_over(gaussian(0.1), [3.0, 8.0], 50, [x]).total for x in (0.2, 0.9))
    torch.testing.assert_close(both.total, 0.75 * dark + 0.25 * bright)
    assert both.best == (both.gammas[both.total.argmin()].item(), both.total.min().item())


def test_a_table_is_read_at_the_same_snr():
    levels, u = torch.tensor([0.2, 0.8]).double(), torch.tensor([0.1, 1.0, 10.0]).double()
    table = Residuals(levels, u, torch.tensor([[1e-3, 1e-2, 4e-2], [2e-3, 1e-2, 2e-2]]).double())

    def read(x0, u):
        return table(torch.tensor([x0]).double(), torch.tensor([u]).double()).item()

    assert [read(0.2, v) for v in (0.1, 1, 10)] == pytest.approx([1e-3, 1e-2, 4e-2])
    assert read(0.2, math.sqrt(0.1)) == pytest.approx(math.sqrt(1e-5))  # linear in logarithms
    rest = 1 / 2e-3 - 1 / math.expm1(0.08)
    assert read(0.8, 0.01) == pytest.approx(1 / (rest + 1 / math.expm1(0.008)))  # below what was measured
    assert read(0.8, 0.0999) == pytest.approx(2e-3, rel=1e-3)
    assert read(0.8, 1e-6) == pytest.approx(0.8e-6, rel=1e-3)  # x_u itself
    assert read(0.8, 60) == pytest.approx(2e-2)
    assert read(0.1, 2.0) == pytest.approx(1e-2)  # nearest level 0.2; u x0 = 0.2 as there at u = 1
    assert table.gaussian(levels[:1], torch.tensor([1.0]).double()).item() == pytest.approx(
        1 / (25 + 1 / math.expm1(0.2))
    )


def test_the_error_is_that_of_the_networks_own_estimate():
    """By the other road: V^i in place of D^j; and the table's mean is the images' mean."""
    model, compute, images = tiny_model(), choose("cpu", "float32"), tiny_images(6).images
    *_, last = residuals.residual_errors(model, compute, images, seed=3)
    figures = last.figures
    x0 = to_unit(images, model.config.floor)
    noise = ImageNoise(3, 6).normal(*model.config.shape)
    for column, i in list(enumerate(figures["i"]))[::3]:
        with torch.inference_mode():
            x_delta = model.scale_vae(x0, model.step_tensor(0, 6))
            rate = -torch.log(x_delta) / model.config.gamma
            bar = torch.exp(-model.config.gamma * rate * i / model.config.T)
            x_i = bar.sqrt() * x0 + (1 - bar).sqrt() * noise
            v = model.parallel_unet(x_i, x_delta, model.step_tensor(i, 6))[:, i - 1]
        wanted = (x0_from_v(model.schedule, rate, i, x_i, v).clamp(model.config.floor, 1) - x0).square().mean().item()
        found = sum(s * row[column] for s, row in zip(figures["shares"], figures["error"], strict=True))
        assert found == pytest.approx(wanted, rel=1e-3)
    with pytest.raises(SamplerError, match="v heads"):
        next(residuals.residual_errors(tiny_model(head_target="eps"), compute, images))


def test_what_is_bundled_is_of_the_bundled_weights_and_quoted():
    error, figures = residuals.bundled()
    assert figures["weights"] == digest(CHECKPOINTS / figures["checkpoint"])
    least = figures["least"]
    found = energy_over(error, residuals.GAMMAS, least["T"], error.levels, torch.tensor(figures["shares"]).double())
    assert found.best == pytest.approx((least["gamma"], least["nats_per_value"]))
    words = f"least at gamma {least['gamma']:.3g} for T = {least['T']} ({least['nats_per_value']:.3f} nats per value)"
    assert words in " ".join((CHECKPOINTS.parent / "RESULTS.md").read_text().split())
    assert (error.error[:, 1:] >= 0.8 * error.error[:, :-1]).all(), "noisier states tell less"


def test_the_plot_has_its_minimum_and_says_it():
    _, figures = residuals.bundled()
    plot, gamma, words = gamma_energy(None, 0.2)
    curve = plot.curves[0]
    assert curve.y[curve.x.index(gamma)] == min(curve.y)
    assert gamma == figures["least"]["gamma"]
    assert f"for their pixels: least at γ = {gamma:.3g}, " in words
    dark = fit_square(read_image(EXAMPLES[0][1]), 32, 1)
    other, _, words = gamma_energy(dark, 0.004)
    assert "for these pixels" in words
    assert other.curves[0].y != curve.y
