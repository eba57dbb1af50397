"""Trajectories against their Brownian-motion form, the joint Gaussian law they must have, and stored statistics."""

import itertools
import math

import numpy as np
import pytest
import torch

from pixelviz.config import ConfigError
from pixelviz.process.forward import (
    check_x0,
    closed_form,
    empirical_moments,
    expected_moments,
    marginal,
    noise,
    raise_to_floor,
    trajectory,
    walk,
    walk_both,
)
from pixelviz.process.schedules import GeneralisedRate, LinearBeta, PixelAware

SCHEDULES = [PixelAware(40, 12.0), LinearBeta(40, range="rescaled"), GeneralisedRate(40, 4.0)]
each = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


def image(shape=(3, 5, 4), low=0.05, seed=3):
    return low + (1 - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alpha_bar_by_hand(schedule, x0):
    """(T+1, *shape): alpha_bar from the paper's definitions alone."""
    T = schedule.T
    i = np.arange(T + 1).reshape(-1, *[1] * x0.ndim)
    if isinstance(schedule, PixelAware):
        return np.exp(-schedule.gamma * x0.numpy() * i / T)
    betas = np.minimum(np.linspace(1e-4, 0.02, T) * 1000 / T, 0.999)
    if isinstance(schedule, LinearBeta):
        bar = np.concatenate([[1], np.cumprod(1 - betas)])
        return bar.reshape(i.shape) * np.ones_like(x0.numpy())
    total = np.concatenate([[0], np.cumsum(betas)]).reshape(i.shape)
    return np.exp(-schedule.gamma * x0.numpy() * total)


@each
def test_walk_is_a_scaled_brownian_motion(schedule):
    # x_j / sqrt(abar_j) - x0 is a Brownian motion at time v_j = (1 - abar_j) / abar_j: one cumulative sum.
    x0 = image()
    xi = list(noise(7, x0.shape, schedule.T))
    bar = alpha_bar_by_hand(schedule, x0)
    increments = np.sqrt(np.diff(1 / bar, axis=0)) * np.stack(xi)
    expected = x0.numpy() + np.concatenate([np.zeros_like(bar[:1]), np.cumsum(increments, axis=0)])
    np.testing.assert_allclose(trajectory(schedule, x0, xi), np.sqrt(bar) * expected, rtol=1e-9, atol=1e-11)


@each
def test_joint_law_of_two_times(schedule):
    # Given x0: Cov(x_i, x_j) = sqrt(abar_j / abar_i) (1 - abar_i) for i <= j.
    n, i, j = 10000, 6, 19
    x0 = torch.tensor([0.1, 0.4, 1.0], dtype=torch.float64)
    path = trajectory(schedule, x0[:, None].expand(3, n), noise(11, (3, n), schedule.T), steps=[i, j]).numpy()
    bar = alpha_bar_by_hand(schedule, x0)
    error = 5 / math.sqrt(n)  # five standard errors, relative to the scales below
    for k in range(3):
        covariance = np.cov(path[:, k])
        sd = np.sqrt(1 - bar[[i, j], k])
        cross = np.sqrt(bar[j, k] / bar[i, k]) * (1 - bar[i, k])
        np.testing.assert_allclose(path[:, k].mean(1), np.sqrt(bar[[i, j], k]) * x0[k].item(), atol=error * sd.max())
        np.testing.assert_allclose(np.diag(covariance) / sd**2, 1, atol=error * math.sqrt(2))
        assert abs(covariance[0, 1] - cross) < error * math.sqrt(2) * sd.prod()


@each
def test_closed_form_has_the_walk_s_marginal(schedule):
    n, i = 10000, 13
    x0 = torch.tensor([0.1, 0.4, 1.0], dtype=torch.float64)[:, None].expand(3, n)
    walked = trajectory(schedule, x0, noise(2, x0.shape, schedule.T), steps=[i])[0]
    jumped = closed_form(schedule, x0, i, next(noise(5, x0.shape, 1)))
    mean, variance = marginal(schedule, x0[:, :1], i)
    for x in (walked, jumped):
        z = (x - mean) / variance.sqrt()
        assert z.mean(1).abs().max() < 5 / math.sqrt(n)
        assert (z.var(1) - 1).abs().max() < 5 * math.sqrt(2 / n)
        assert (z**4).mean(1).sub(3).abs().max() < 5 * math.sqrt(96 / n)  # Gaussian: fourth moment 3


@each
def test_closed_form_by_hand(schedule):
    x0, i = image(), 17
    eps = next(noise(1, x0.shape, 1))
    bar = alpha_bar_by_hand(schedule, x0)[i]
    np.testing.assert_allclose(
        closed_form(schedule, x0, i, eps), np.sqrt(bar) * x0.numpy() + np.sqrt(1 - bar) * eps.numpy(), rtol=1e-9
    )
    assert torch.equal(closed_form(schedule, x0, 0, eps), x0)
    batch = closed_form(schedule, x0, torch.tensor([0, i])[:, None, None, None], eps)
    assert torch.equal(batch, torch.stack([x0, closed_form(schedule, x0, i, eps)]))


def test_two_schedules_share_their_noise():
    x0 = image()
    recovered = []
    for schedule in (PixelAware(9, 4.0), LinearBeta(9)):
        bar = alpha_bar_by_hand(schedule, x0)
        if isinstance(schedule, LinearBeta):
            bar = np.cumprod(np.concatenate([[1], 1 - np.linspace(1e-4, 0.02, 9)]))[:, None, None, None]
        x = trajectory(schedule, x0, noise(21, x0.shape, 9)).numpy()
        alpha = bar[1:] / bar[:-1]
        recovered.append((x[1:] - np.sqrt(alpha) * x[:-1]) / np.sqrt(1 - alpha))
    np.testing.assert_allclose(recovered[0], recovered[1], rtol=1e-6, atol=1e-9)
    assert not np.allclose(recovered[0][0], recovered[0][1])


def test_noise_is_drawn_when_asked_for():
    first = list(noise(4, (2, 3), 5))
    assert len(first) == 5
    assert all(map(torch.equal, first, noise(4, (2, 3), 5)))
    assert torch.equal(first[0], next(noise(4, (2, 3), 10**12)))  # a list of that many could not exist
    assert not torch.equal(first[0], next(noise(5, (2, 3), 5)))
    assert next(noise(4, (2, 3), 1, dtype=torch.float32)).dtype == torch.float32


def test_trajectory_keeps_the_steps_asked_for_and_draws_no_more():
    schedule, x0 = SCHEDULES[0], image()
    full = trajectory(schedule, x0, noise(8, x0.shape, 40))
    assert full.shape == (41, 3, 5, 4)
    assert torch.equal(full[0], x0)
    drawn = []
    source = (drawn.append(1) or xi for xi in noise(8, x0.shape, 40))
    kept = trajectory(schedule, x0, source, steps=[9, 0, 3, 9])
    assert torch.equal(kept, full[[9, 0, 3, 9]])
    assert len(drawn) == 9


def test_walk_is_lazy():
    x0 = image()
    states = list(itertools.islice(walk(PixelAware(5000, 50.0), x0, noise(8, x0.shape, 5000)), 3))
    assert len(states) == 3


def test_no_overflow_at_a_large_gamma():
    # e^gamma is beyond float32 above gamma = 88; the recursion never forms it.
    x0 = torch.full((1, 50, 50), 1.0)
    end = trajectory(PixelAware(1000, 400.0), x0, noise(0, x0.shape, 1000), steps=[1000])
    assert end.dtype == torch.float32
    assert end.isfinite().all()
    assert abs(end.std() - 1) < 5 / math.sqrt(2 * 2500)


def test_one_step():
    x0 = image()
    (xi,) = noise(3, x0.shape, 1)
    bar = np.exp(-5.0 * x0.numpy())
    expected = np.sqrt(bar) * x0.numpy() + np.sqrt(1 - bar) * xi.numpy()
    np.testing.assert_allclose(trajectory(PixelAware(1, 5.0), x0, [xi])[1], expected, rtol=1e-12)


@each
def test_empirical_moments_are_those_of_the_stored_trajectory(schedule):
    x0 = image()
    stored = trajectory(schedule, x0, noise(6, x0.shape, 40)).numpy()
    moments = empirical_moments(schedule, x0, noise(6, x0.shape, 40))
    assert moments.mean.shape == moments.variance.shape == (41, 3)
    np.testing.assert_allclose(moments.mean, stored.mean((2, 3)), rtol=1e-10, atol=1e-14)
    centred = stored - stored.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(moments.variance, (centred**2).sum((2, 3)) / 20, rtol=1e-10)


@each
def test_expected_moments_against_many_trajectories(schedule):
    # Means over runs of a small image: the documented 1/n of the noise term shows at n = 6 pixels.
    n, runs = 6, 5000
    x0 = image((1, n, 1), seed=9)
    paths = trajectory(schedule, x0.expand(runs, n, 1), noise(1, (runs, n, 1), 40), steps=[0, 4, 15, 40])[..., 0]
    expected = expected_moments(schedule, x0, [0, 4, 15, 40])
    bar = alpha_bar_by_hand(schedule, x0)[[0, 4, 15, 40], 0, :, 0]
    lacking = (1 - bar).mean(1) / n
    np.testing.assert_allclose(paths.mean((1, 2)), expected.mean[:, 0], atol=5 / math.sqrt(runs * n))
    biased = paths.var(2, correction=0).mean(1)
    np.testing.assert_allclose(biased, expected.variance[:, 0].numpy() - lacking, atol=5 * math.sqrt(2 / n / runs))


def test_expected_moments_of_a_large_image():
    # Fig. 2: with many pixels one image's statistics are the theoretical ones, and ours reach 0 and 1.
    x0, T = image((3, 64, 64), low=0.3), 60
    schedule = PixelAware(T, 50.0)
    seen, due = empirical_moments(schedule, x0, noise(2, x0.shape, T)), expected_moments(schedule, x0)
    assert due.mean.shape == (T + 1, 3)
    np.testing.assert_allclose(seen.mean, due.mean, atol=5 / 64)
    np.testing.assert_allclose(seen.variance, due.variance, atol=5 * math.sqrt(2) / 64)
    assert due.mean[-1].max() < 1e-3
    assert (due.variance[-1] - 1).abs().max() < 1e-3


def test_raise_to_floor():
    np.testing.assert_allclose(raise_to_floor([0, 0.5, 1], 0.2), [0.2, 0.6, 1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s, x: list(walk(s, x, noise(0, x.shape, 39))), "the noise ends after 39 steps, but T is 40"),
        (lambda s, x: trajectory(s, x * 0, noise(0, x.shape, 40)), r"pixel values must lie in \(0, 1\]"),
        (lambda s, x: trajectory(s, x * 255, noise(0, x.shape, 40)), r"pixel values must lie in \(0, 1\]"),
        (lambda s, x: expected_moments(s, x * math.nan), r"pixel values must lie in \(0, 1\]"),
        (lambda s, x: trajectory(s, x, noise(0, x.shape, 40), steps=[3, 41]), "from 0 to 40; 41 is not"),
        (lambda s, x: trajectory(s, x, noise(0, x.shape, 40), steps=[-1]), "from 0 to 40; -1 is not"),
        (lambda s, x: trajectory(s, x, noise(0, x.shape, 40), steps=[2.5]), "from 0 to 40; 2.5 is not"),
        (lambda s, x: trajectory(s, x, noise(0, x.shape, 40), steps=[]), "at least one step"),
        (lambda s, x: check_x0([]), "no pixels"),
    ],
)
def test_errors_say_what_is_wrong(call, says):
    with pytest.raises(ConfigError, match=says):
        call(SCHEDULES[0], image())


@pytest.mark.parametrize(
    "schedule", [PixelAware(12, 5.0), LinearBeta(12), LinearBeta(12, "rescaled"), GeneralisedRate(12, 2.0)], ids=repr
)
def test_walk_in_place_is_the_same_walk(schedule):
    x0 = np.linspace(0.01, 1.0, 24).reshape(1, 4, 6)
    plain = walk(schedule, x0, noise(3, x0.shape, 12))
    count = 0
    for expected, (fast,) in zip(plain, walk_both([schedule], x0, 3), strict=True):
        np.testing.assert_allclose(fast, expected.numpy(), rtol=1e-12, atol=1e-14)
        count += 1
    assert count == 13
