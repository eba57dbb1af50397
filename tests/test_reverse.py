"""Steps back against diffusers, Gaussian conditioning from a covariance matrix, and the errors they should leave."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from pixelviz.process.forward import closed_form, noise, trajectory
from pixelviz.process.reverse import (
    drift_coefficients,
    drift_preconditioning,
    drift_step,
    head_coefficients,
    printed_step,
    rotation_step,
    shrinking,
    skip_posterior,
    v_from_eps,
    v_step,
    x0_from_drift,
    x0_from_v,
)
from pixelviz.process.schedules import GeneralisedRate, LinearBeta, PixelAware

X0 = torch.tensor([0.004, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0], dtype=torch.float64)
COARSE = [PixelAware(12, 8.0), LinearBeta(12, range="rescaled"), GeneralisedRate(12, 3.0)]
each = pytest.mark.parametrize("schedule", COARSE, ids=repr)


def states(schedule, x0, i, seed=0):
    eps = next(noise(seed, x0.shape, 1))
    return closed_form(schedule, x0, i, eps), eps


def covariance_given_x0(bar):
    """Covariance of x_1..x_T given x0, from alpha_bar_1..T: sqrt(abar_b / abar_a) (1 - abar_a) for a <= b."""
    a, b = np.minimum.outer(range(len(bar)), range(len(bar))), np.maximum.outer(range(len(bar)), range(len(bar)))
    return np.sqrt(bar[b] / bar[a]) * (1 - bar[a])


# --- One step


@each
def test_v_holds_x0_and_eps(schedule):
    for i in (1, 5, 12):
        x, eps = states(schedule, X0, i)
        v = v_from_eps(schedule, X0, i, X0, eps)
        np.testing.assert_allclose(x0_from_v(schedule, X0, i, x, v), X0, rtol=1e-11)
        # (x0, eps) -> (x, v) is a rotation, so lengths are kept.
        np.testing.assert_allclose(x**2 + v**2, X0**2 + eps**2, rtol=1e-12)


@pytest.mark.parametrize("t", [0, 1, 40, 99])  # diffusers counts from 0: its t is our j - 1
def test_steps_against_diffusers(t):
    T, shape = 100, (2, 3, 4, 4)
    schedule, j = LinearBeta(T), t + 1
    generator = torch.Generator().manual_seed(0)
    x, v, x0 = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    bar = torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 0.02, T)))

    def theirs(kind, prediction):
        twin = kind(num_train_timesteps=T, prediction_type=prediction, clip_sample=False)
        twin.set_timesteps(T)
        twin.alphas_cumprod = bar  # in float64: diffusers' own float32 leaves four digits of beta
        return twin.step(v, t, x, generator=torch.Generator().manual_seed(5)).prev_sample

    added = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype) if t else torch.zeros_like(x)
    # assert_close's defaults for float64: 1e-7
    torch.testing.assert_close(rotation_step(schedule, x0, j, x, v), theirs(DDIMScheduler, "v_prediction"))
    noisy = v_step(schedule, x0, j, x, v) + schedule.posterior_variance(x0, j).sqrt() * added
    torch.testing.assert_close(noisy, theirs(DDPMScheduler, "v_prediction"))
    torch.testing.assert_close(printed_step(schedule, x0, j, x, v, noise=added), theirs(DDPMScheduler, "epsilon"))


@each
@pytest.mark.parametrize("j", [1, 2, 7, 12])
def test_v_and_printed_steps_are_the_posterior_mean(schedule, j):
    x, eps = states(schedule, X0, j)
    bar = schedule.alpha_bar(X0, torch.arange(13)[:, None]).numpy()
    alpha = bar[j] / bar[j - 1]
    # Ho et al. 2020, Eq. 7.
    mean = np.sqrt(bar[j - 1]) * (1 - alpha) / (1 - bar[j]) * X0.numpy()
    mean = mean + np.sqrt(alpha) * (1 - bar[j - 1]) / (1 - bar[j]) * x.numpy()
    v = v_from_eps(schedule, X0, j, X0, eps)
    np.testing.assert_allclose(v_step(schedule, X0, j, x, v), mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(printed_step(schedule, X0, j, x, eps), mean, rtol=1e-9, atol=1e-12)
    # The one-step posterior's variance (Eq. 4) is what printed_step adds.
    added = printed_step(schedule, X0, j, x, eps, noise=torch.ones_like(x)) - printed_step(schedule, X0, j, x, eps)
    tilde = (1 - bar[j - 1]) / (1 - bar[j]) * (1 - alpha)
    np.testing.assert_allclose(added, np.sqrt(tilde), rtol=1e-9, atol=1e-9)


@each
@pytest.mark.parametrize("below", [0, 4, 10])
def test_a_drift_step_is_as_many_v_steps_with_one_drift(schedule, below):
    x, _ = states(schedule, X0, 12)
    drift = next(noise(1, X0.shape, 1))
    found = drift_step(schedule, X0, below, x, drift, shrinking(schedule, X0, 12, below))
    for j in range(12, below, -1):
        x = v_step(schedule, X0, j, x, schedule.noise_variance(X0, j).sqrt() * drift)
    np.testing.assert_allclose(found, x, rtol=1e-9, atol=1e-12)


@each
def test_drift_is_v_without_its_root(schedule):
    for j in (1, 2, 12):
        x, eps = states(schedule, X0, j)
        v = v_from_eps(schedule, X0, j, X0, eps)
        drift = v / schedule.noise_variance(X0, j).sqrt()
        expected = v_step(schedule, X0, j, x, v)
        stepped = drift_step(schedule, X0, j - 1, x, drift, shrinking(schedule, X0, j, j - 1))
        np.testing.assert_allclose(stepped, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(x0_from_drift(schedule, X0, j, x, drift), X0, rtol=1e-9)
        # What the best heads of a run from x_12 give for every j: the drift of x_12 itself.
        x, eps = states(schedule, X0, 12)
        skip, out = drift_coefficients(schedule, X0, 12)
        np.testing.assert_allclose(
            skip * x + out * X0, v_from_eps(schedule, X0, 12, X0, eps) / schedule.noise_variance(X0, 12).sqrt()
        )


@each
def test_rotation_keeps_x0_and_eps(schedule):
    # DDIM moves x_j to the same x0 and eps at j - 1, which is the closed form there.
    for j in (1, 2, 12):
        x, eps = states(schedule, X0, j)
        v = v_from_eps(schedule, X0, j, X0, eps)
        expected = closed_form(schedule, X0, j - 1, eps)
        np.testing.assert_allclose(rotation_step(schedule, X0, j, x, v), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("step", [v_step, rotation_step])
def test_one_step_schedule_returns_x0(step):
    schedule = PixelAware(1, 20.0)
    x, eps = states(schedule, X0, 1)
    back = step(schedule, X0, 1, x, v_from_eps(schedule, X0, 1, X0, eps))
    np.testing.assert_allclose(back, X0, rtol=1e-9)


def test_steps_may_differ_per_image():
    schedule = COARSE[0]
    x0 = X0.expand(3, 8)
    j = torch.tensor([1, 4, 12])[:, None]
    x, eps = states(schedule, x0, j)
    for step in (v_step, rotation_step, printed_step):
        together = step(schedule, x0, j, x, eps)
        for k in range(3):
            torch.testing.assert_close(together[k], step(schedule, x0[k], int(j[k]), x[k], eps[k]))


# --- Several steps at once


@each
def test_skip_posterior_by_gaussian_conditioning(schedule):
    for x0 in (0.05, 0.6):
        bar = schedule.alpha_bar(x0, torch.arange(1, 13)).numpy()
        covariance = covariance_given_x0(bar)
        mean = np.sqrt(bar) * x0
        for i, j in ((12, 11), (12, 3), (7, 1), (2, 1)):
            x_i = 0.37
            gain = covariance[j - 1, i - 1] / covariance[i - 1, i - 1]
            pixel, state = torch.tensor([x0, x_i], dtype=torch.float64)
            got = skip_posterior(schedule, pixel, i, j, state, pixel)
            assert got.mean.item() == pytest.approx(mean[j - 1] + gain * (x_i - mean[i - 1]), rel=1e-9)
            variance = covariance[j - 1, j - 1] - gain * covariance[j - 1, i - 1]
            assert got.variance.item() == pytest.approx(variance, rel=1e-8)


@each
def test_skip_posterior_is_a_composition_of_single_steps(schedule):
    x = torch.full_like(X0, -0.8)
    mean, variance = x.numpy(), np.zeros(8)
    bar = schedule.alpha_bar(X0, torch.arange(13)[:, None]).numpy()
    for j in range(12, 0, -1):  # Eq. 4 in x0's form, x_j = mean + N(0, variance)
        alpha = bar[j] / bar[j - 1]
        skip = np.sqrt(alpha) * (1 - bar[j - 1]) / (1 - bar[j])
        mean = skip * mean + np.sqrt(bar[j - 1]) * (1 - alpha) / (1 - bar[j]) * X0.numpy()
        variance = skip**2 * variance + (1 - bar[j - 1]) / (1 - bar[j]) * (1 - alpha)
        got = skip_posterior(schedule, X0, 12, j - 1, x, X0)
        np.testing.assert_allclose(got.mean, mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got.variance, variance, rtol=1e-8, atol=1e-14)
        if j > 1:
            np.testing.assert_allclose(
                skip_posterior(schedule, X0, j, j - 1, x, X0).variance, schedule.posterior_variance(X0, j), rtol=1e-9
            )
    np.testing.assert_allclose(mean, X0, rtol=1e-9)  # the last step lands on x0, for certain
    assert (got.variance == 0).all()


@each
@pytest.mark.parametrize(("i", "j"), [(12, 12), (12, 11), (12, 4), (9, 1), (1, 1)])
def test_head_coefficients_by_gaussian_conditioning(schedule, i, j):
    for x0 in (0.004, 0.6):
        bar = schedule.alpha_bar(x0, torch.arange(1, 13)).numpy()
        bar_i, bar_j = bar[i - 1], bar[j - 1]
        covariance = covariance_given_x0(bar)
        eps_gain = covariance[j - 1, i - 1] / math.sqrt(1 - bar_j) / covariance[i - 1, i - 1]
        # E[eps_j | x_i] = eps_gain (x_i - sqrt(abar_i) x0); V^j is sqrt(abar_j) eps_j - sqrt(1 - abar_j) x0.
        rate_x0 = torch.tensor(x0, dtype=torch.float64)
        skip, out = head_coefficients(schedule, rate_x0, i, j, target="eps")
        assert skip.item() == pytest.approx(eps_gain, rel=1e-9)
        assert out.item() == pytest.approx(-eps_gain * math.sqrt(bar_i), rel=1e-9)
        skip, out = head_coefficients(schedule, rate_x0, i, j)
        assert skip.item() == pytest.approx(math.sqrt(bar_j) * eps_gain, rel=1e-9)
        expected = -math.sqrt(bar_j) * eps_gain * math.sqrt(bar_i) - math.sqrt(1 - bar_j)
        assert out.item() == pytest.approx(expected, rel=1e-9)


def test_head_coefficients_by_regression_on_trajectories():
    # The mean-square best head (Eq. 15) over simulated forward paths: a straight line in x_i.
    schedule, n, i, j = COARSE[0], 40000, 10, 4
    x0 = torch.tensor([0.1, 0.8], dtype=torch.float64)[:, None].expand(2, n)
    x_j, x_i = trajectory(schedule, x0, noise(3, x0.shape, 12), steps=[j, i])
    bar = torch.exp(-8.0 * x0 * j / 12)
    v = bar.sqrt() * (x_j - bar.sqrt() * x0) / (1 - bar).sqrt() - (1 - bar).sqrt() * x0
    skip, out = head_coefficients(schedule, x0[:, 0], i, j)
    for k in range(2):
        slope, intercept = np.polyfit(x_i[k], v[k], 1)
        assert slope == pytest.approx(skip[k].item(), abs=5 / math.sqrt(n))
        assert intercept == pytest.approx((out[k] * x0[k, 0]).item(), abs=5 / math.sqrt(n))


# --- The whole way back, open loop: the T heads of one run, none of which sees what the steps do


def run_back(step, schedule, x0, x, head):
    """x_0 from x_T by `step`, with heads head(j)."""
    for j in range(schedule.T, 0, -1):
        x = step(schedule, x0, j, x, head(j))
    return x


def rmse(x, x0):
    return ((x - x0) ** 2).mean(-1).sqrt().double().numpy()


def perfect_head(schedule, x0, x_T, target):
    def head(j):
        skip, out = head_coefficients(schedule, x0, schedule.T, j, target)
        return skip * x_T + out * x0

    return head


def copies(n, dtype=torch.float64):
    return X0.to(dtype)[:, None].expand(8, n)


@pytest.mark.parametrize(("gamma", "T"), [(20.0, 200), (50.0, 500)])
@pytest.mark.parametrize(("step", "worst"), [(v_step, 1e-5), (rotation_step, 3e-5)])
def test_perfect_v_heads_return_x0_in_float32(step, worst, gamma, T):
    schedule, x0 = PixelAware(T, gamma), copies(20, torch.float32)
    x_T, _ = states(schedule, x0, T)
    if step is v_step:
        back = run_back(step, schedule, x0, x_T, perfect_head(schedule, x0, x_T, "v"))
    else:  # DDIM keeps one eps all the way, so its perfect heads are those of that eps
        eps = states(schedule, x0, T)[1].float()
        back = run_back(step, schedule, x0, x_T, lambda j: v_from_eps(schedule, x0, j, x0, eps))
    assert back.dtype == torch.float32
    assert (back - x0).abs().max() < worst


def test_perfect_eps_heads_return_x0_as_printed_in_float64_only():
    schedule = PixelAware(500, 50.0)
    worst = {}
    for dtype in (torch.float64, torch.float32):
        x0 = copies(20, dtype)
        x_T, _ = states(schedule, x0, 500)
        x_T = x_T.to(dtype)
        worst[dtype] = rmse(run_back(printed_step, schedule, x0, x_T, perfect_head(schedule, x0, x_T, "eps")), x0).max()
    assert worst[torch.float64] < 1e-3  # e^25 times float64's rounding
    assert worst[torch.float32] > 10


@pytest.mark.parametrize(("step", "sign"), [(printed_step, 1), (v_step, -1)])
def test_an_error_injected_at_step_i_grows_or_shrinks_by_abar(step, sign):
    # Linear propagation with the heads held: e^(gamma x0 i/(2T)) as printed, its inverse in v-form.
    schedule, i = PixelAware(60, 20.0), 45
    short = PixelAware(i, 20.0 * i / 60)  # the same alpha, i steps of it
    x = torch.zeros_like(X0)
    heads = list(noise(3, X0.shape, i + 1))
    clean = run_back(step, short, X0, x, lambda j: heads[j])
    pushed = run_back(step, short, X0, x + 1e-3, lambda j: heads[j])
    np.testing.assert_allclose((pushed - clean) / 1e-3, np.exp(sign * 20 * X0.numpy() * i / 120), rtol=1e-6)
    np.testing.assert_allclose(schedule.alpha(X0, 1), short.alpha(X0, 1), rtol=1e-12)


def test_head_errors_add_up_as_linear_propagation_says():
    # Head j's error enters x_{j-1} with the step's gain, then meets j - 1 further steps.
    gamma, T, n, size = 20.0, 200, 250, 0.01
    schedule, x0 = PixelAware(T, gamma), copies(n)
    x_T, _ = states(schedule, x0, T)
    j = np.arange(1, T + 1)[:, None]
    bar, before = np.exp(-gamma * X0.numpy() * j / T), np.exp(-gamma * X0.numpy() * (j - 1) / T)
    gain = (1 - bar / before) / np.sqrt(1 - bar)
    growing = size * np.sqrt(((gain / np.sqrt(bar)) ** 2).sum(0))
    shrinking = size * np.sqrt(((gain * before) ** 2).sum(0))

    for step, target, expected in ((printed_step, "eps", growing), (v_step, "v", shrinking)):
        errors = list(noise(8, x0.shape, T + 1))
        perfect = perfect_head(schedule, x0, x_T, target)
        back = run_back(step, schedule, x0, x_T, lambda k, p=perfect, e=errors: p(k) + size * e[k])
        np.testing.assert_allclose(rmse(back, x0), expected, rtol=5 / math.sqrt(2 * n))
    # As audited: an error of 0.01 ends as one of about 67 in the brightest pixel, against at most 0.0047 in v-form.
    assert growing[-1] == pytest.approx(67, rel=0.05)
    assert growing[0] == pytest.approx(0.0005, rel=0.1)
    assert shrinking.max() < 0.0047


def test_the_true_forward_noise_does_not_invert_as_printed():
    # Z^j trained to the forward noise itself (Eq. 15), fed exactly: x_0 is lost, all the more where x0 is bright.
    schedule, x0 = PixelAware(200, 20.0), copies(100)
    path = trajectory(schedule, x0, noise(4, x0.shape, 200))
    bar = torch.exp(-20.0 * x0 * torch.arange(201)[:, None, None] / 200)
    eps = (path - bar.sqrt() * x0) / (1 - bar).sqrt()
    error = rmse(run_back(printed_step, schedule, x0, path[-1], lambda j: eps[j]), x0)
    assert error[0] > 0.1
    assert (np.diff(error) > 0).all()
    assert error[-1] > 1e4


def test_noise_injected_in_one_pass_stays():
    # Perfect v-heads of one run cannot see the noise added after it: its variance, shrunk by the steps left, remains.
    gamma, T, n = 20.0, 200, 250
    schedule, x0 = PixelAware(T, gamma), copies(n)
    x = x_T = states(schedule, x0, T)[0]
    head = perfect_head(schedule, x0, x_T, "v")
    xi = list(noise(9, x0.shape, T + 1))
    for j in range(T, 0, -1):
        x = v_step(schedule, x0, j, x, head(j)) + schedule.posterior_variance(x0, j).sqrt() * xi[j]
    j = np.arange(1, T + 1)[:, None]
    bar, before = np.exp(-gamma * X0.numpy() * j / T), np.exp(-gamma * X0.numpy() * (j - 1) / T)
    left = np.sqrt(((1 - before) / (1 - bar) * (1 - bar / before) * before).sum(0))
    np.testing.assert_allclose(rmse(x, x0), left, rtol=5 / math.sqrt(2 * n))
    assert left.min() > 0.1


@pytest.mark.parametrize("deviation", [0.0, 0.1, 1.0])
def test_preconditioning_is_gaussian_conditioning(deviation):
    """x0 ~ N(m, s^2) and x_i given it are jointly normal: the mean and deviation of D^j given x_i by regression."""
    schedule, m = PixelAware(200, 20.0), torch.tensor([0.2, 0.5, 1.0]).double()
    for i in (0.02, 1, 30, 200):
        abar, x = torch.exp(-20 * m * i / 200), torch.tensor([0.3, -1.0, 2.0]).double()
        pull = abar.sqrt() * deviation**2 / (abar * deviation**2 + 1 - abar)  # cov(x0, x_i) / var(x_i)
        mean_x0 = m + pull * (x - abar.sqrt() * m)
        left = (deviation**2 * (1 - pull * abar.sqrt())).sqrt()  # of x0, given x_i
        skip, guess, out = drift_preconditioning(schedule, m, i, deviation)
        torch.testing.assert_close(skip * x + guess * m, (abar.sqrt() * x - mean_x0) / (1 - abar), rtol=1e-8, atol=0)
        torch.testing.assert_close(-out * deviation, left / (1 - abar), rtol=1e-8, atol=0)
        assert (out < 0).all()
