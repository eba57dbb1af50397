"""Claims and remedies against SciPy's roots, integrals and optimisers, and against torch.distributions."""

import decimal
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from pixelviz.config import PAPER_FLOOR, ConfigError
from pixelviz.process.schedules import GeneralisedRate, LinearBeta, PixelAware
from pixelviz.process.theory import (
    U_STAR,
    LinearRate,
    advise_floor,
    advise_gamma,
    ahead_until,
    all_pairs_until,
    amplification,
    kl_to_noise,
    printed_snr_derivative,
    snr_bounds,
    snr_derivative_bounds,
    snr_peak,
    t_delta,
    terminal_gap,
    who_is_ahead,
)
from pixelviz.process.water import reverse_water_filling, water_filling

GRID = torch.linspace(0.004, 1, 250, dtype=torch.float64)


def snr_rate(x0, gamma, t):
    """d/dt of Eq. 11, by the quotient rule."""
    e = math.exp(gamma * t * x0)
    return -(x0**2) * gamma * x0 * e / (e - 1) ** 2


# --- Proposition 1


@pytest.mark.parametrize(
    ("pair", "gamma", "audited"),
    [((0.1, 0.2), 20, 0.8814), ((0.5, 1.0), 20, 0.1763), ((0.2, 0.8), 20, 0.2837), ((0.2, 0.8), 50, 0.2837 * 0.4)],
)
def test_t_delta_is_where_the_derivatives_cross(pair, gamma, audited):
    crossing = brentq(lambda t: snr_rate(pair[0], gamma, t) - snr_rate(pair[1], gamma, t), 0.01, 1, xtol=1e-15)
    assert t_delta(*pair, gamma).item() == pytest.approx(crossing, rel=1e-12)
    assert t_delta(*reversed(pair), gamma).item() == pytest.approx(crossing, rel=1e-12)
    assert crossing == pytest.approx(audited, abs=1e-4)


def test_t_delta_over_a_grid_of_pairs():
    values = GRID[::4]
    n = len(values)
    t = t_delta(values[:, None], values, 20.0)
    assert t.shape == (n, n)
    assert torch.equal(t, t.T)
    # The order of the derivatives turns round exactly there, and for no pair before U_STAR / gamma.
    j, k = torch.triu_indices(n, n, 1)
    dark, bright, at = values[j], values[k], t[j, k]
    schedule = PixelAware(200, 20.0)
    for factor, sign in ((0.999, 1), (1.001, -1)):
        i = at * factor * 200
        difference = schedule.snr_derivative(dark, i) - schedule.snr_derivative(bright, i)
        assert (sign * difference > 0).all()
    assert at.min() > all_pairs_until(20.0)
    np.testing.assert_allclose(t.diagonal(), U_STAR / (20 * values), rtol=1e-12)


def test_all_pairs_until_is_the_peak_over_brightness():
    # At t the derivative's size peaks over x0 at U_STAR / (gamma t): at all_pairs_until that is the brightest pixel.
    for gamma, share in ((20.0, 0.129), (50.0, 0.052)):
        t = all_pairs_until(gamma)
        assert t == pytest.approx(share, abs=5e-4)
        peak = minimize_scalar(lambda x, t=t, g=gamma: snr_rate(x, g, t), bounds=(0.3, 2), options={"xatol": 1e-10})
        assert peak.x == pytest.approx(1, abs=1e-6)
    assert all_pairs_until(20.0, brightest=0.5) == pytest.approx(2 * all_pairs_until(20.0))
    assert math.tanh(U_STAR / 2) * 3 == pytest.approx(U_STAR, rel=1e-14)


def test_snr_peaks_inside_the_range_of_brightness():
    gamma, t = 20.0, 0.25
    best = minimize_scalar(lambda x: -(x**2) / math.expm1(gamma * t * x), bounds=(0.01, 1), options={"xatol": 1e-10})
    assert snr_peak(gamma, t) == pytest.approx(best.x, abs=1e-6)
    assert snr_peak(gamma, t) == pytest.approx(1.5936 / (gamma * t), rel=1e-4)


def test_bounds_hold_and_the_printed_ones_bound_the_printed_derivative():
    gamma = 20.0
    t = torch.linspace(0.001, 1, 200, dtype=torch.float64)[:, None]
    u = (gamma * t * GRID).numpy()
    scale = (GRID / (gamma * t**2)).numpy()
    true = np.array([[-snr_rate(x, gamma, s) for x in GRID.tolist()] for s in t[:, 0].tolist()])
    bounds = snr_derivative_bounds(gamma, GRID, t)
    assert (bounds.lower.numpy() < true).all()
    assert (true < bounds.upper.numpy()).all()
    # They are tight at u -> 0, where both tend to x0 / (gamma t^2).
    assert np.abs((bounds.upper / bounds.lower).numpy() - 1)[u < 0.01].max() < 0.0101
    snr = (GRID**2 / torch.expm1(gamma * t * GRID)).numpy()
    levels = snr_bounds(gamma, GRID, t)
    assert (levels.lower.numpy() < snr).all()
    assert (snr < levels.upper.numpy()).all()
    assert np.abs((levels.upper.numpy() / snr - 1)[u < 0.01]).max() < 1e-4  # second order in u: the sharper side
    # Eq. 19 as printed holds for Eq. 17 as printed, and its upper bound fails for the true derivative everywhere.
    printed = -printed_snr_derivative(gamma, GRID, t).numpy()
    assert (scale * np.exp(-2 * u) < printed).all()
    assert (printed < scale * np.exp(-u)).all()
    assert (true > scale * np.exp(-u)).all()


def test_the_printed_derivative_is_not_the_derivative():
    schedule, t, h = PixelAware(200, 20.0), 0.3, 1e-6
    slope = (schedule.snr(GRID, (t + h) * 200) - schedule.snr(GRID, (t - h) * 200)) / (2 * h)
    np.testing.assert_allclose(slope / printed_snr_derivative(20.0, GRID, t), torch.exp(20.0 * t * GRID), rtol=1e-5)


# --- Proposition 2


def test_linear_rate_solves_its_moment_equation():
    # Eq. 21, d/dt E[x] = -(a t/2) E[x], by quadrature: exp(-a t^2/4), not Eq. 22's exp(-a t^2/2).
    schedule = LinearRate(100, 20.0)
    for t in (0.1, 0.7, 1.0):
        mean = math.exp(-quad(lambda s: 20.0 * s / 2, 0, t)[0])
        assert schedule.alpha_bar(0.4, t * 100).sqrt().item() == pytest.approx(mean, rel=1e-12)
        assert schedule.rate(0.4, t * 100).item() == pytest.approx(20.0 * t)
    product = schedule.alpha(0.4, torch.arange(1, 101)).prod()
    assert product.item() == pytest.approx(schedule.alpha_bar(0.4, 100).item(), rel=1e-12)


def test_linear_rate_idealises_ddpm():
    i = torch.arange(100, 1001, 100)
    ratio = LinearRate(1000).log_alpha_bar(0.4, i) / LinearBeta(1000).log_alpha_bar(0.4, i)
    assert (ratio - 1).abs().max() < 0.1
    assert abs(ratio[-1] - 1) < 0.02


@pytest.mark.parametrize("theirs", [LinearBeta(1000), LinearBeta(500), LinearRate(300)], ids=repr)
def test_who_is_ahead_from_the_means_themselves(theirs):
    ours, h = PixelAware(200, 20.0), 1e-5

    def mean(schedule, t):
        return schedule.alpha_bar(GRID, t * schedule.T).sqrt() * GRID

    for t in (0.0503, 0.2503, 0.7503, 0.9995):
        ahead = who_is_ahead(ours, theirs, GRID, t)
        slopes = [((mean(s, t - h) - mean(s, t + h)) / (2 * h)) for s in (ours, theirs)]
        assert torch.equal(ahead.mean, mean(ours, t) < mean(theirs, t))
        assert torch.equal(ahead.rate, slopes[0] > slopes[1])
        assert torch.equal(ahead.mean, ours.snr(GRID, t * ours.T) < theirs.snr(GRID, t * theirs.T))
        assert ahead.mean_share == pytest.approx(ahead.mean.sum().item() / 250)
        assert ahead.rate_share == pytest.approx(ahead.rate.sum().item() / 250)


@pytest.mark.parametrize("gamma", [20.0, 50.0])
def test_ahead_until_for_a_linear_rate(gamma):
    a = 20.0
    until = ahead_until(PixelAware(200, gamma), LinearRate(700, a), GRID)
    # Means meet where gamma x0 t/2 = a t^2/4.
    np.testing.assert_allclose(until.mean, np.minimum(1, 2 * gamma * GRID.numpy() / a), rtol=1e-12)

    def lead(t, c):
        """|d/dt e^(-c t/2)| - |d/dt e^(-a t^2/4)|"""
        return c / 2 * math.exp(-c * t / 2) - a * t / 2 * math.exp(-a * t**2 / 4)

    for x0, t in zip(GRID.tolist()[::20], until.rate.tolist()[::20], strict=True):
        meet = 2 * gamma * x0 / a
        assert lead(meet, gamma * x0) < 0
        assert t == pytest.approx(brentq(lead, 1e-9, meet, args=(gamma * x0,), xtol=1e-15), rel=1e-9)
    assert (until.rate < until.mean).all()


def test_ahead_until_against_ddpm_itself():
    # The share of pixels ahead to the end: x0 > -log(abar_T) / gamma, about 0.5 at gamma 20 and 0.2 at 50.
    theirs = LinearBeta(1000)
    end = -np.log(1 - np.linspace(1e-4, 0.02, 1000)).sum()
    for gamma, threshold in ((20.0, 0.5), (50.0, 0.2)):
        until = ahead_until(PixelAware(200, gamma), theirs, GRID)
        assert torch.equal(until.mean == 1, end / gamma < GRID)
        assert end / gamma == pytest.approx(threshold, rel=0.02)
    # Until then ahead, afterwards behind; the rate's lead ends within a step of where it is lost.
    lost = until.mean < 1
    x0, t = GRID[lost], until.mean[lost]
    for x, s in zip(x0.tolist(), t.tolist(), strict=True):
        for factor in (0.3, 0.999):
            assert who_is_ahead(PixelAware(200, 50.0), theirs, x, s * factor).mean.item()
        assert not who_is_ahead(PixelAware(200, 50.0), theirs, x, s * 1.001).mean.item()
    for x, s in zip(GRID.tolist()[5::30], until.rate.tolist()[5::30], strict=True):
        assert who_is_ahead(PixelAware(200, 50.0), theirs, x, s - 0.0011).rate.item()
        assert not who_is_ahead(PixelAware(200, 50.0), theirs, x, s + 0.0011).rate.item()


def test_a_dark_pixel_is_never_ahead_of_ddpm():
    until = ahead_until(PixelAware(200, 20.0), LinearBeta(1000), PAPER_FLOOR)  # rates 0.08 against 0.1 from the start
    assert until.mean == 0
    assert until.rate == 0


# --- The terminal gap


def kl_by_quadrature(mean, variance):
    sd = math.sqrt(variance)

    def integrand(x):
        return norm.pdf(x, mean, sd) * (norm.logpdf(x, mean, sd) - norm.logpdf(x))

    return quad(integrand, mean - 12 * sd, mean + 12 * sd, epsabs=1e-13)[0]


@pytest.mark.parametrize("schedule", [PixelAware(200, 20.0), LinearBeta(200), GeneralisedRate(50, 0.5)], ids=repr)
def test_terminal_gap_against_quadrature(schedule):
    x0 = torch.tensor([[0.004, 0.1], [0.3, 1.0]], dtype=torch.float64)
    gap = terminal_gap(schedule, x0)
    bar = schedule.alpha_bar(x0, schedule.T)
    expected = [
        kl_by_quadrature((b.sqrt() * x).item(), (1 - b).item()) for x, b in zip(x0.ravel(), bar.ravel(), strict=True)
    ]
    np.testing.assert_allclose(gap.kl.ravel(), expected, rtol=1e-7, atol=1e-11)
    assert gap.kl.shape == x0.shape
    assert gap.mean == pytest.approx(np.mean(expected), rel=1e-7)
    assert gap.least_variance == pytest.approx((1 - bar).min().item())
    assert gap.share_barely_noisy == ((1 - bar) < 0.9).double().mean().item()


@pytest.mark.parametrize(
    ("floor", "gamma", "variance"),
    [(0.004, 20, 0.077), (0.004, 50, 0.181), (0.1, 20, 0.865), (0.1, 50, 0.993), (0.2, 20, 0.982), (0.2, 50, 1.0)],
)
def test_variances_the_floor_leaves(floor, gamma, variance):
    pixels = torch.linspace(floor, 1, 101)
    assert terminal_gap(PixelAware(200, gamma), pixels).least_variance == pytest.approx(variance, abs=5e-4)


def test_amplification():
    np.testing.assert_allclose(amplification(PixelAware(200, 20.0), GRID, 150), np.exp(20 * GRID.numpy() * 150 / 400))
    product = np.prod(1 / np.sqrt(1 - LinearBeta(200).betas[:120].numpy()))
    assert amplification(LinearBeta(200), 0.3, 120).item() == pytest.approx(product, rel=1e-11)


# --- The adviser

PIXELS = torch.cat([torch.zeros(40), torch.linspace(0, 1, 60)])  # a dark data set


def mean_gap(gamma, floor):
    x0 = floor + (1 - floor) * PIXELS.double()
    bar = torch.exp(-gamma * x0)
    return kl_divergence(Normal(bar.sqrt() * x0, (1 - bar).sqrt()), Normal(0.0, 1.0)).mean().item()


@pytest.mark.parametrize(("floor", "tolerance"), [(PAPER_FLOOR, 0.1), (0.1, 1e-3), (0.3, 1e-5)])
def test_advised_gamma_is_the_root(floor, tolerance):
    advice = advise_gamma(PIXELS, tolerance, T=500, floor=floor)
    assert advice.gamma == pytest.approx(brentq(lambda g: mean_gap(g, floor) - tolerance, 0.01, 499), rel=1e-7)
    assert mean_gap(advice.gamma * 0.999, floor) > tolerance >= advice.gap
    assert advice.gap == pytest.approx(tolerance, rel=1e-6)
    assert advice.floor == floor


@pytest.mark.parametrize(("gamma", "tolerance"), [(20.0, 1e-3), (50.0, 1e-5), (2.0, 0.3)])
def test_advised_floor_is_the_root(gamma, tolerance):
    advice = advise_floor(PIXELS.reshape(10, 10), tolerance, gamma)
    assert advice.floor == pytest.approx(brentq(lambda f: mean_gap(gamma, f) - tolerance, 0.004, 0.9), rel=1e-7)
    assert mean_gap(gamma, advice.floor * 0.999) > tolerance >= advice.gap
    assert advice.gamma == gamma


def test_advisers_agree():
    floor = advise_floor(PIXELS, 1e-3, 20.0).floor
    assert advise_gamma(PIXELS, 1e-3, 200, floor).gamma == pytest.approx(20, rel=1e-6)


def test_a_bright_image_needs_no_higher_floor():
    assert advise_floor(torch.ones(5), 0.01, 20.0).floor == PAPER_FLOOR


def test_one_step_has_room_for_any_gamma():
    gammas = [advise_gamma(PIXELS, 1e-3, T, floor=0.1).gamma for T in (1, 400)]
    assert gammas[0] == pytest.approx(gammas[1], rel=1e-9)
    assert gammas[0] > 1


def test_the_gap_falls_with_brightness_only_from_some_gamma_on():
    # Why advise_floor refuses smaller gammas: there a higher floor can widen the gap.
    def gaps(gamma):
        bar = torch.exp(-gamma * GRID)
        return kl_divergence(Normal(bar.sqrt() * GRID, (1 - bar).sqrt()), Normal(0.0, 1.0)).diff()

    assert (gaps(1.7) < 0).all()
    assert (gaps(1.5) > 0).any()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: advise_gamma(PIXELS, 1e-6, 20), r"no gamma below 20 .* Raise the floor, the tolerance or T"),
        (lambda: advise_gamma(PIXELS, 1e-9, 1000), r"no gamma below 500 .* Raise the floor or the tolerance\."),
        (lambda: advise_gamma(PIXELS, 0, 200), "tolerance must be greater than 0"),
        (lambda: advise_gamma(PIXELS, math.nan, 200), "tolerance must be greater than 0"),
        (lambda: advise_gamma(PIXELS, 0.1, 0), "T must be a whole number"),
        (lambda: advise_gamma(PIXELS, 0.1, 200, floor=1.0), "floor must lie strictly between"),
        (lambda: advise_gamma(PIXELS * 255, 0.1, 200), r"pixels in \[0, 1\]"),
        (lambda: advise_gamma([], 0.1, 200), r"pixels in \[0, 1\]"),
        (lambda: advise_floor(PIXELS, 1e-9, 5.0), r"no floor up to 0.9 .* Raise gamma or the tolerance"),
        (lambda: advise_floor(PIXELS, -1, 5.0), "tolerance must be greater than 0"),
        (lambda: advise_floor(PIXELS, 0.1, 1.0), "a floor helps from gamma 1.7"),
        (lambda: advise_floor(PIXELS, 0.1, math.nan), "a floor helps from gamma 1.7"),
        (lambda: t_delta(0.0, 0.5, 20.0), r"must lie in \(0, 1\]"),
        (lambda: t_delta(0.2, 0.5, 0.0), "gamma must be greater than 0"),
        (lambda: all_pairs_until(20.0, math.inf), "brightest must be greater than 0"),
        (lambda: snr_peak(20.0, 0.0), "t must be greater than 0"),
        (lambda: who_is_ahead(PixelAware(9, 2.0), LinearBeta(9), 0.5, 0.0), "At 0 no one is ahead"),
        (lambda: who_is_ahead(PixelAware(9, 2.0), LinearBeta(9), 0.5, 1.1), "at most 1"),
        (lambda: terminal_gap(PixelAware(9, 2.0), [0.1, 1.2]), r"must lie in \(0, 1\]"),
        (lambda: LinearRate(10, -1.0), "a must be greater than 0"),
        (lambda: water_filling([1.0, 0.0], 1.0), "noise variances must be"),
        (lambda: water_filling([], 1.0), "noise variances must be"),
        (lambda: water_filling([1.0], 0.0), "power must be greater than 0"),
        (lambda: reverse_water_filling([1.0, math.inf], 1.0), "variances must be"),
        (lambda: reverse_water_filling([1.0, 2.0], 3.5), "at most the variances' sum, 3"),
        (lambda: reverse_water_filling([1.0, 2.0], 0.0), "distortion must be above 0"),
    ],
)
def test_errors_say_what_to_do(call, says):
    with pytest.raises(ConfigError, match=says):
        call()


# --- Water-filling

CHANNELS = [0.9, 0.15, 2.5, 0.4, 0.4]


@pytest.mark.parametrize("power", [0.05, 0.25, 1.0, 20.0])
def test_water_filling_maximises_capacity(power):
    filled = water_filling(CHANNELS, power)
    noise = np.array(CHANNELS)
    assert filled.amounts.sum().item() == pytest.approx(power, rel=1e-12)
    best = minimize(
        lambda p: -np.log1p(p / noise).sum(),
        np.full(5, power / 5),
        bounds=[(0, None)] * 5,
        constraints={"type": "eq", "fun": lambda p: p.sum() - power},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(filled.amounts, best.x, atol=2e-5 * max(power, 1))
    # Gallager's direction: the cleaner the channel, the more power; the paper's text says the opposite.
    assert filled.amounts[np.argsort(noise)].diff().max() <= 0
    wet = filled.amounts > 0
    np.testing.assert_allclose((filled.amounts + torch.tensor(noise))[wet], filled.level, rtol=1e-12)
    assert (torch.tensor(noise)[~wet] >= filled.level).all()


@pytest.mark.parametrize("distortion", [0.1, 0.75, 1.5, 3.0, sum(CHANNELS)])
def test_reverse_water_filling_minimises_the_rate(distortion):
    drowned = reverse_water_filling(CHANNELS, distortion)
    variances = np.array(CHANNELS)
    assert drowned.amounts.sum().item() == pytest.approx(distortion, rel=1e-12)
    assert (drowned.amounts.numpy() <= variances).all()
    best = minimize(
        lambda d: np.log(variances / d).sum() / 2,
        variances * distortion / variances.sum(),
        bounds=[(1e-6, v) for v in variances],
        constraints={"type": "eq", "fun": lambda d: d.sum() - distortion},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(drowned.amounts, best.x, atol=2e-5)
    np.testing.assert_allclose(drowned.amounts, np.minimum(drowned.level, variances))


def test_water_levels_at_the_edges():
    assert water_filling([1.0], 2.0).level == 3.0
    assert water_filling([1.0, 2.0], 1e-30).amounts.tolist() == [0.0, 0.0]  # too little to lift the level in float64
    assert water_filling([1.0, 2.0], 1.0).amounts.tolist() == [1.0, 0.0]
    assert reverse_water_filling([2.0, 2.0], 4.0).level == 2.0
    assert reverse_water_filling([3.0], 1.0).amounts.tolist() == [1.0]


@pytest.mark.parametrize("gamma", [50.0, 100.0, 300.0])
def test_the_gap_of_a_pixel_that_is_nearly_noise_keeps_its_digits(gamma):
    """White, x0 = 1: KL = -log(1 - abar)/2, here with 200 decimals of Python's own arithmetic."""
    with decimal.localcontext(decimal.Context(prec=200)):
        wanted = -(1 - decimal.Decimal(-gamma).exp()).ln() / 2
    one = torch.ones((), dtype=torch.float64)
    assert kl_to_noise(one, -gamma * one).item() == pytest.approx(float(wanted), rel=1e-12)
