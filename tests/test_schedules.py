"""The schedules against mpmath, diffusers, quadrature and products of their own single steps."""

import math

import mpmath
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy.integrate import quad

from pixelviz.config import ConfigError, check_process
from pixelviz.process.schedules import (
    SCHEDULES,
    GeneralisedRate,
    LinearBeta,
    PixelAware,
    Uniform,
    as_float,
    image_from_scale,
    image_scale,
)

X0 = torch.tensor([0.004, 0.05, 0.2, 0.7, 1.0], dtype=torch.float64)
ALL = [
    PixelAware(200, 20.0),
    LinearBeta(200),
    LinearBeta(200, range="rescaled"),
    GeneralisedRate(200, 20.0),
    Uniform(200, 20.0),
]
each = pytest.mark.parametrize("schedule", ALL, ids=repr)


def diffusers_twin(T, factor=1.0):
    return DDPMScheduler(num_train_timesteps=T, beta_start=1e-4 * factor, beta_end=0.02 * factor)


def test_the_table_names_every_schedule():
    names = ("pixel-aware", "ddpm", "ddpm-rescaled", "generalised", "uniform")
    assert [SCHEDULES[name].build(200, 20.0) for name in names] == ALL


@each
def test_alpha_bar_is_the_product_of_the_steps(schedule):
    steps = torch.arange(1, schedule.T + 1)
    product = np.cumprod(schedule.alpha(X0[:, None], steps).numpy(), axis=1)
    np.testing.assert_allclose(schedule.alpha_bar(X0[:, None], steps), product, rtol=1e-11)
    np.testing.assert_allclose(schedule.beta(X0[:, None], steps), 1 - schedule.alpha(X0[:, None], steps), atol=1e-15)


@each
def test_nothing_has_happened_at_step_zero(schedule):
    assert torch.equal(schedule.alpha_bar(X0, 0), torch.ones_like(X0))
    assert (schedule.noise_variance(X0, 0) == 0).all()
    assert (schedule.snr(X0, 0) == math.inf).all()
    assert (schedule.snr_derivative(X0, 0) == -math.inf).all()
    assert (schedule.posterior_variance(X0, 1) == 0).all()


@each
def test_shapes_broadcast_and_dtype_is_kept(schedule):
    i = torch.arange(1, 4)[:, None, None]
    for f in ("log_alpha_bar", "rate", "alpha_bar", "noise_variance", "alpha", "beta", "snr", "posterior_variance"):
        value = getattr(schedule, f)(torch.full((2, 5), 0.3), i)
        assert value.shape == (3, 2, 5)
        assert value.dtype == torch.float32
        assert getattr(schedule, f)(0.3, 2).dtype == torch.float64


@each
def test_rate_is_the_slope_of_log_alpha_bar(schedule):
    # Inside a step (at i = k + 1/2) log alpha_bar is linear, so a central difference is exact.
    i = torch.tensor([0.5, 57.5, 199.5])
    h = 0.25
    slope = (schedule.log_alpha_bar(X0[:, None], i + h) - schedule.log_alpha_bar(X0[:, None], i - h)) / (2 * h)
    np.testing.assert_allclose(schedule.rate(X0[:, None], i), -slope * schedule.T, rtol=1e-9)


@each
def test_alpha_bar_integrates_the_rate(schedule):
    # abar = exp(-integral of Gamma(x0, t) dt) (Eq. 20-26), step by step, as the rate jumps between steps.
    T = schedule.T
    for x0 in (0.05, 0.9):
        integral = sum(quad(lambda t, x0=x0: schedule.rate(x0, t * T).item(), k / T, (k + 1) / T)[0] for k in range(40))
        assert schedule.alpha_bar(x0, 40).item() == pytest.approx(math.exp(-integral), rel=1e-10)


@each
def test_snr_derivative_against_a_finite_difference(schedule):
    i, h = 120.5, 1e-3
    slope = (schedule.snr(X0, i + h) - schedule.snr(X0, i - h)) / (2 * h) * schedule.T
    np.testing.assert_allclose(schedule.snr_derivative(X0, i), slope, rtol=1e-6)


def test_pixel_aware_against_mpmath():
    mpmath.mp.dps = 40
    gamma, T = 20, 200
    for x0 in (0.004, 0.3, 1.0):
        for i in (1, 77, 200):
            schedule, x = PixelAware(T, gamma), mpmath.mpf(x0)

            def snr(t, x=x):  # Eq. 11 from its definition: squared mean over variance
                bar = mpmath.exp(-gamma * t * x)
                return x**2 * bar / (1 - bar)

            t = mpmath.mpf(i) / T
            bar = mpmath.exp(-gamma * t * x)
            step = mpmath.exp(-gamma * x / T)
            assert schedule.alpha_bar(x0, i).item() == pytest.approx(float(bar), rel=1e-14)
            assert schedule.noise_variance(x0, i).item() == pytest.approx(float(1 - bar), rel=1e-14)
            assert schedule.snr(x0, i).item() == pytest.approx(float(snr(t)), rel=1e-13)
            assert schedule.snr_derivative(x0, i).item() == pytest.approx(float(mpmath.diff(snr, t)), rel=1e-12)
            tilde = (1 - bar / step) / (1 - bar) * (1 - step)
            assert schedule.posterior_variance(x0, i).item() == pytest.approx(float(tilde), rel=1e-12)


@pytest.mark.parametrize("i", [1, 2, 500, 1000])
def test_float32_keeps_its_digits_where_little_noise_is_added(i):
    # gamma x0 / T = 1e-6: 1 - exp(...) in float32 has a digit or two left, and so has a difference of logs.
    schedule, x0 = PixelAware(1000, 0.25), torch.tensor([0.004])
    u = mpmath.mpf(x0.item()) * mpmath.mpf("0.25") / 1000
    assert schedule.noise_variance(x0, i).item() == pytest.approx(float(-mpmath.expm1(-u * i)), rel=1e-6)
    assert schedule.beta(x0, i).item() == pytest.approx(float(-mpmath.expm1(-u)), rel=1e-6)
    snr = mpmath.mpf(x0.item()) ** 2 / mpmath.expm1(u * i)
    assert schedule.snr(x0, i).item() == pytest.approx(float(snr), rel=1e-6)


@pytest.mark.parametrize("schedule", [LinearBeta(500, "rescaled"), GeneralisedRate(500, 50.0)], ids=repr)
def test_float32_keeps_its_digits_in_late_steps(schedule):
    x0 = torch.tensor([0.004, 0.3])
    np.testing.assert_allclose(schedule.beta(x0, 499), schedule.beta(x0.double(), 499), rtol=1e-6)


def test_image_scale_is_terminal_alpha_bar_and_inverts():
    scale = image_scale(X0, 20.0)
    np.testing.assert_allclose(scale, PixelAware(137, 20.0).alpha_bar(X0, 137), rtol=1e-13)
    np.testing.assert_allclose(image_from_scale(scale, 20.0), X0, rtol=1e-12)


@pytest.mark.parametrize(("T", "beta_range"), [(1000, "printed"), (500, "printed"), (200, "rescaled")])
def test_linear_beta_against_diffusers(T, beta_range):
    twin = diffusers_twin(T, {"printed": 1.0, "rescaled": 1000 / T}[beta_range])
    schedule = LinearBeta(T, beta_range)
    steps = torch.arange(1, T + 1)
    np.testing.assert_allclose(schedule.betas, twin.betas, rtol=1e-5)
    np.testing.assert_allclose(schedule.alpha_bar(0.3, steps), twin.alphas_cumprod, rtol=2e-5)
    # diffusers counts steps from 0: its t is our i - 1.
    theirs = torch.stack([twin._get_variance(t) for t in range(1, T)])
    np.testing.assert_allclose(schedule.posterior_variance(0.3, steps[1:]), theirs, rtol=3e-3, atol=1e-9)


@pytest.mark.parametrize(("T", "printed"), [(500, "0.0064"), (200, "0.13"), (1000, "0.00004")])
def test_where_ddpm_ends(T, printed):
    ends = np.prod(1 - np.linspace(1e-4, 0.02, T))
    assert LinearBeta(T).alpha_bar(0.5, T).item() == pytest.approx(ends, rel=1e-10)
    assert ends == pytest.approx(float(printed), rel=0.05)
    # With the range rescaled, DDPM reaches noise in fewer steps too.
    assert LinearBeta(T, range="rescaled").alpha_bar(0.5, T).item() < 5e-5


def test_generalised_rate_is_gamma_beta_t_x0():
    # beta_t of the rescaled range is 0.1 + 19.9 t, so abar = exp(-gamma x0 (0.1 t + 9.95 t^2)) as T grows (Eq. 26).
    schedule, t = GeneralisedRate(4000, 2.0, range="rescaled"), 0.6
    expected = torch.exp(-2.0 * X0 * (0.1 * t + 9.95 * t**2))
    np.testing.assert_allclose(schedule.alpha_bar(X0, t * 4000), expected, rtol=5e-3)


def test_one_step_schedules():
    assert PixelAware(1, 20.0).alpha_bar(0.1, 1).item() == pytest.approx(math.exp(-2))
    assert LinearBeta(1).alpha_bar(0.1, 1).item() == pytest.approx(1 - 1e-4)
    assert GeneralisedRate(1, 5.0, range="printed").alpha_bar(0.1, 1).item() == pytest.approx(math.exp(-5e-5))


def test_betas_are_capped():
    assert LinearBeta(5, range="rescaled").betas.max() == 0.999
    assert LinearBeta(5, range="rescaled").alpha_bar(0.5, 5) > 0
    met = [T for T in range(1, 40) if LinearBeta(T, range="rescaled").betas.max() == 0.999]
    assert met == list(range(2, 21))
    known = DDPMScheduler(1, beta_start=1e-4 * 1000, beta_end=0.02 * 1000).alphas_cumprod
    assert LinearBeta(1, range="rescaled").alpha_bar(0.5, 1).item() == pytest.approx(known.item()) == pytest.approx(0.9)


def test_numbers_become_float64_and_tensors_stay():
    assert as_float(1).dtype == as_float(np.float32(1)).dtype == as_float(torch.tensor(3)).dtype == torch.float64
    assert as_float(torch.ones(1, dtype=torch.float16)).dtype == torch.float16
    assert as_float(3, like=torch.ones(1)).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"gamma": 0}, "gamma must be greater than 0"),
        ({"gamma": -3}, "gamma must be greater than 0"),
        ({"gamma": math.nan}, "gamma must be greater than 0"),
        ({"gamma": math.inf}, "gamma must be greater than 0"),
        ({"gamma": 200}, "gamma must stay below T"),
        ({"gamma": 501, "T": 1000}, "at most 500"),
        ({"T": 0}, "T must be a whole number"),
        ({"T": -5}, "T must be a whole number"),
        ({"T": 10.5}, "T must be a whole number"),
        ({"T": math.nan}, "T must be a whole number"),
        ({"T": True}, "T must be a whole number"),
        ({"T": 5001}, "T must be a whole number"),
        ({"floor": 0}, "floor must lie strictly between"),
        ({"floor": 1}, "floor must lie strictly between"),
        ({"floor": math.nan}, "floor must lie strictly between"),
    ],
)
def test_settings_that_cannot_work(settings, says):
    with pytest.raises(ConfigError, match=says):
        check_process(**({"gamma": 20.0, "T": 200, "floor": 4e-3} | settings))
    if "floor" not in settings:
        with pytest.raises(ConfigError, match=says):
            PixelAware(**({"T": 200, "gamma": 20.0} | settings))
        with pytest.raises(ConfigError, match=says):
            GeneralisedRate(**({"T": 200, "gamma": 20.0} | settings))


def test_linear_beta_refuses_a_bad_T():
    for T in (0, 2.5, math.nan):
        with pytest.raises(ConfigError, match="T must be a whole number"):
            LinearBeta(T)
    check_process(300.0, 1)  # at T = 1 gamma < T would leave nothing to choose


def test_the_control_noises_every_pixel_as_a_middle_one():
    """It is diffusers' process of one constant beta, whatever x0 is, and the paper's own where x0 = 1/2."""
    control, steps = Uniform(50, 8.0), torch.arange(51)
    beta = -math.expm1(-8 / 100)
    constant = DDPMScheduler(num_train_timesteps=50, beta_start=beta, beta_end=beta).alphas_cumprod
    for x0 in (0.01, 0.5, 1.0):
        np.testing.assert_allclose(control.alpha_bar(x0, steps[1:]), constant, rtol=1e-5)
    paper = PixelAware(50, 8.0).log_alpha_bar(0.5, steps)
    torch.testing.assert_close(control.log_alpha_bar(X0[:, None], steps), paper.expand(5, -1))
