"""The toy experiment's closed form against the recursion itself, run many times."""

import math
import time

import pytest
import torch

from pixelviz.config import ConfigError
from pixelviz.process.forward import noise, walk
from pixelviz.process.open_loop import FORMS, known_noise_errors, open_loop_errors
from pixelviz.process.reverse import known_share, letter_step, printed_step, v_from_eps, v_step
from pixelviz.process.schedules import PixelAware
from pixelviz.process.toy import error_map, square_error

COPIES = 20_000


def simulated(gamma, T, x0, form, fresh_noise, seed=0):
    """RMS of x_0 - x0 when the recursion gets the noise of the very trajectory that it runs back."""
    schedule, value = PixelAware(T, gamma), torch.full((COPIES,), x0, dtype=torch.float64)
    states = list(walk(schedule, value, noise(seed, value.shape, T)))
    x, fresh = states[-1], noise(seed + 1, value.shape, T)
    for j, drawn in zip(range(T, 0, -1), fresh, strict=True):
        abar, alpha = math.exp(-gamma * x0 * j / T), math.exp(-gamma * x0 / T)
        eps = (states[j] - math.sqrt(abar) * value) / math.sqrt(1 - abar)
        if form == "printed":
            x = printed_step(schedule, value, j, x, eps)
        elif form == "letter":  # line 9 by hand, with the noise of Eq. 2
            xi = (states[j] - math.sqrt(alpha) * states[j - 1]) / math.sqrt(1 - alpha)
            x = (x - (1 - alpha) / math.sqrt(1 - alpha) * xi) / math.sqrt(alpha)
        else:
            x = v_step(schedule, value, j, x, v_from_eps(schedule, value, j, value, eps))
        if fresh_noise:
            x = x + schedule.posterior_variance(value, j).sqrt() * drawn
    return (x - value).square().mean().sqrt().item()


@pytest.mark.parametrize("fresh_noise", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("gamma", "T", "x0"), [(6.0, 20, 0.8), (20.0, 60, 0.1), (3.0, 1, 0.5), (4.0, 5, 0.004)])
def test_forward_noise_known(gamma, T, x0, form, fresh_noise):
    found = square_error(gamma, T, x0, form, fresh_noise=fresh_noise).sqrt().item()
    # Sampling error of a standard deviation from 20,000 Gaussian draws is 0.5 %.
    assert simulated(gamma, T, x0, form, fresh_noise) == pytest.approx(found, rel=0.03, abs=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_heads_that_are_a_little_wrong(form):
    """Against the claims' simulation of the best heads with independent errors."""
    schedule, x0 = PixelAware(50, 8.0), [0.1, 0.5, 1.0]
    measured = open_loop_errors(schedule, x0, 0.05, form, copies=20_000)[0]
    found = square_error(
        8.0, 50, torch.tensor(x0), form, forward_noise=False, fresh_noise=False, head_error=0.05
    ).sqrt()
    torch.testing.assert_close(measured, found, rtol=0.03, atol=0)


def test_the_audit_s_table():
    """gamma 20, T 200: RMSE of the printed form at x0 = 0.004 ... 1 with noise, without, and of heads wrong by 0.01."""
    x0 = torch.tensor([0.004, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0], dtype=torch.float64)
    rows = [
        ({"fresh_noise": True}, [0.4, 1.8, 3.6, 10, 28, 209, 4e3, 3e4]),
        ({"fresh_noise": False}, [0.3, 1.3, 2.5, 7.3, 19, 143, 3e3, 2e4]),
        (
            {"fresh_noise": False, "forward_noise": False, "head_error": 0.01},
            [0.0005, 0.002, 0.004, 0.011, 0.035, 0.32, 8.3, 67],
        ),
    ]
    for settings, expected in rows:
        found = square_error(20.0, 200, x0, "printed", **settings).sqrt()
        # The audit rounds to one or two digits.
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0.16, atol=0)
    v = square_error(20.0, 200, x0, "v", forward_noise=False, fresh_noise=False, head_error=0.01).sqrt()
    assert 0.0004 < v.min() < v.max() < 0.0048


@pytest.mark.parametrize(("gamma", "T", "left", "noisy"), [(20.0, 200, 3e-11, 2.1e4), (50.0, 500, 1e-4, 6.8e10)])
def test_line_9_to_the_letter_undoes_the_chain(gamma, T, left, noisy):
    """With the step noises of Eq. 2 a white pixel comes back to rounding, at gamma 50 too; line 8's noise ruins it."""
    quiet, fresh = (
        known_noise_errors(PixelAware(T, gamma), [1.0], "letter", fresh_noise=on, copies=4000).item()
        for on in (False, True)
    )
    assert quiet < left
    assert fresh == pytest.approx(noisy, rel=0.05)
    (of_x_j,) = known_noise_errors(PixelAware(T, gamma), [1.0], "printed", fresh_noise=False)
    assert of_x_j > 1e4  # the same denominator would be wrong for the noise of x_j, and Eq. 4's does not save it


def test_a_network_knows_one_number_of_t_step_noises():
    """Shares of variance by simulation of Eq. 2, and their sum, which is 1 whatever T is."""
    schedule, white = PixelAware(12, 3.0), torch.ones(COPIES, dtype=torch.float64)
    draws = list(noise(0, white.shape, 12))
    *_, x_T = walk(schedule, white, draws)
    j = torch.arange(1, 13).double()
    shares = known_share(schedule, white[0], 12, j, "xi")
    for k in (1, 7, 12):
        r = torch.corrcoef(torch.stack([draws[k - 1], x_T]))[0, 1].item()
        assert shares[k - 1].item() == pytest.approx(r**2, abs=0.02)
    assert shares.sum().item() == pytest.approx(1)
    assert known_share(schedule, white[0], 12, j, "eps")[-1].item() == pytest.approx(1)  # x_T's own noise is all known
    x = torch.tensor([0.3]).double()  # and one step: line 9 inverts Eq. 2
    x_j = schedule.alpha(x, 1).sqrt() * 0.7 + schedule.beta(x, 1).sqrt() * 1.1
    torch.testing.assert_close(letter_step(schedule, x, 5, x_j, torch.tensor(1.1)), torch.tensor([0.7]).double())


def test_limits():
    """Many steps: the printed form tends to e^(u/2), the v-form stays below 1; perfect heads leave nothing."""
    u = 8.0
    fine = square_error(u, 5000, 1.0, "printed", fresh_noise=False).sqrt().item()
    assert fine == pytest.approx(math.sqrt(math.exp(u) - 1), rel=0.01)
    every = square_error(torch.logspace(0, 2, 9, dtype=torch.float64), 200, 1.0, "v", fresh_noise=False)
    assert every.max() < 1
    for form in ("printed", "v"):
        assert square_error(20.0, 100, 0.7, form, forward_noise=False, fresh_noise=False).item() == 0
        assert square_error(0.9, 1, 0.7, form).item() == 0  # beta-tilde_1 = 0


def test_error_map_averages_pixels_and_leaves_out_what_the_paper_forbids():
    values, shares = torch.tensor([0.2, 0.9], dtype=torch.float64), torch.tensor([0.75, 0.25], dtype=torch.float64)
    found = error_map([2.0, 20.0], [10, 100], values, "v", shares)
    assert found.shape == (2, 2)
    assert torch.isnan(found[0, 1])  # gamma = 20 at T = 10
    by_hand = sum(w * square_error(20.0, 100, x, "v") for x, w in zip(values, shares, strict=True)) ** 0.5
    torch.testing.assert_close(found[1, 1], by_hand)
    torch.testing.assert_close(
        error_map([2.0], [10], values, "v")[0, 0], square_error(2.0, 10, values, "v").mean().sqrt()
    )


def test_a_map_is_quick_enough_to_follow_a_slider():
    gammas = torch.logspace(0, 2, 40, dtype=torch.float64)
    began = time.process_time()
    for form in ("printed", "v"):
        error_map(gammas.tolist(), [10, 20, 50, 100, 200, 500, 1000], [0.5], form)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 10, 0.5, "v"), "gamma must"),
        ((501.0, 600, 0.5, "v"), "gamma must"),
        ((1.0, 0, 0.5, "v"), "T must"),
        ((1.0, 10, 0.0, "v"), "pixel values"),
        ((1.0, 10, 0.5, "x"), "form is one of"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        square_error(*arguments)
    with pytest.raises(ConfigError, match="heads' error"):
        square_error(1.0, 10, 0.5, "v", head_error=-1)
