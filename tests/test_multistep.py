"""The multistep solver on correlated Gaussians, whose flow is a linear equation that SciPy solves."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

from pixelviz.process.schedules import SCHEDULES, PixelAware, image_scale
from pixelviz.samplers import SAMPLERS, ImageNoise, Start
from tests.tiny import tiny_model

T, GAMMA = 1000, 20.0
SIDE = 4


class Gaussian(nn.Module):
    """R_phi's best head for x0 ~ N(mean, covariance) over all pixels of an image, given the pixels' rates."""

    def __init__(self, rate_x0, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        n = SIDE**2
        mixed = rng.normal(size=(n, n)) * 0.3
        self.covariance, self.mean = mixed @ mixed.T / n + 0.01 * np.eye(n), rng.uniform(0.3, 0.8, n)
        self.rate = rate_x0

    def parts(self, i):
        bar = np.exp(-GAMMA * self.rate * i / T)
        return np.sqrt(bar), 1 - bar

    def x0_hat(self, x, i):
        """E[x0 | x_i], x (n,)."""
        root, noise = self.parts(i)
        total = root[:, None] * self.covariance * root + np.diag(noise)
        return self.mean + self.covariance * root @ np.linalg.solve(total, x - root * self.mean)

    def forward(self, x_i, x_delta, i, heads=None, *, drift=False):
        step, x = i[0].item(), x_i.double().flatten().numpy()
        root, noise = self.parts(step)
        out = (root * x - self.x0_hat(x, step)) / noise  # D = V / sqrt(1 - abar)
        return torch.from_numpy(out).reshape(1, 1, 1, SIDE, SIDE)

    def flow(self, x_T):
        """Where the probability flow takes x_T: dx/di = -r/2 (x + score), with the score of N(m, C) noised."""

        def slope(i, x):
            root, noise = self.parts(i)
            score = (root * self.x0_hat(x, i) - x) / noise
            return -GAMMA * self.rate / (2 * T) * (x + score)

        solved = solve_ivp(slope, (T, 1e-7), x_T, method="LSODA", rtol=1e-10, atol=1e-12)
        return solved.y[:, -1]


@pytest.fixture(scope="module")
def case():
    rate_x0 = np.linspace(0.2, 1, SIDE**2)
    model = tiny_model(T=T, gamma=GAMMA, floor=0.2, i_min=1e-4)
    model.double()
    model.parallel_unet = Gaussian(rate_x0)
    x_T = np.random.default_rng(1).normal(size=SIDE**2)
    shape = (1, 1, SIDE, SIDE)
    x_delta = image_scale(torch.from_numpy(rate_x0), GAMMA).reshape(shape)
    return model, Start(torch.from_numpy(x_T).reshape(shape), x_delta), model.parallel_unet.flow(x_T)


@pytest.mark.parametrize(("name", "order"), [("rotation", 1), ("multistep", 2)])
def test_order_of_convergence(case, name, order):
    """Twice the runs, 2^order times less error."""
    model, start, wanted = case
    errors = []
    for passes in (80, 160, 320):
        *_, last = SAMPLERS[name].run(model, start, ImageNoise(0, 1), passes=passes)
        errors.append(np.sqrt(np.mean((last.x.double().flatten().numpy() - wanted) ** 2)))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert abs(np.mean(slopes) - order) < 0.3, (errors, slopes)


def test_one_run_is_the_rotation_s(case):
    model, start, _ = case
    ends = [
        list(SAMPLERS[name].run(model, start, ImageNoise(0, 1), passes=1))[-1].x for name in ("rotation", "multistep")
    ]
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)


def test_the_clock():
    """lambda of an oracle's own definition, and one noise level for all pixels of one lambda."""
    schedule, x0 = PixelAware(T, GAMMA), torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)
    i = torch.tensor([200.0, 100.0, 50.0], dtype=torch.float64)  # gamma x0 i / T is 1 for each
    found = schedule.half_log_odds(x0, i)
    abar = math.exp(-1)
    torch.testing.assert_close(found, torch.full_like(found, math.log(math.sqrt(abar) / math.sqrt(1 - abar))))
    assert schedule.half_log_odds(x0, 0).isposinf().all()


@pytest.mark.parametrize("name", ["pixel-aware", "generalised", "uniform"])
def test_pixels_of_one_lambda_have_one_noise_at_different_steps(name):
    """1 / (1 + e^(2 lambda)) is the variance at one lambda, whatever the pixel; a dark one comes there later."""
    schedule = SCHEDULES[name].build(T, GAMMA)
    x0 = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)
    for level in (1.0, 0.0, -0.4):
        i = schedule.step_of(x0, level)
        assert (i < T).all()
        found = schedule.noise_variance(x0, i)
        torch.testing.assert_close(found, torch.full_like(found, 1 / (1 + math.exp(2 * level))), rtol=1e-9, atol=0)
        assert bool((i.diff() < 0).all()) == (SCHEDULES[name].side == "ours")
