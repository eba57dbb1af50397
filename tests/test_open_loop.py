"""Errors of one run's heads, against linear propagation worked out by hand."""

import numpy as np
import pytest

from pixelviz.config import ConfigError
from pixelviz.process.open_loop import FORMS, open_loop_errors
from pixelviz.process.schedules import PixelAware

X0 = np.array([0.1, 0.5, 1.0])
GAMMA, T, SIZE, COPIES = 20.0, 50, 0.01, 400


@pytest.mark.parametrize(("form", "sign"), [("printed", -1), ("letter", -1), ("v", 1)])
def test_head_errors_add_up_as_linear_propagation_says(form, sign):
    # The error made at step j enters x_{j-1} with the step's gain, and meets k further factors sqrt(alpha)^(+-1).
    j = np.arange(1, T + 1)[:, None]
    bar, before, alpha = (np.exp(-GAMMA * X0 * i / T) for i in (j, j - 1, 1))
    divided = np.sqrt(1 - alpha if form == "letter" else 1 - bar)
    gain = (1 - alpha) / divided * (np.sqrt(before) if form == "v" else 1 / np.sqrt(alpha))
    wanted = np.zeros((T + 1, 3))
    for i in range(T):
        after = (j - 1 - i).clip(0) * sign / 2
        wanted[i] = SIZE * np.sqrt(((gain * alpha**after) ** 2 * (j > i)).sum(0))
    found = open_loop_errors(PixelAware(T, GAMMA), X0, SIZE, form, copies=COPIES).numpy()
    np.testing.assert_allclose(found, wanted, rtol=5 / np.sqrt(2 * COPIES))
    assert (found[-1] == 0).all()


def test_the_printed_form_grows_where_the_v_form_does_not():
    printed, stable = (
        open_loop_errors(PixelAware(200, 20.0), [1.0], SIZE, form)[0].item() for form in ("printed", "v")
    )
    assert printed > 50
    assert stable < 0.005


def test_without_errors_nothing_goes_wrong():
    """Neither reading, nor the v-form, leaves E[x_i | x_T, x0] or misses x0, where its heads are the best there are."""
    for form in FORMS:
        assert open_loop_errors(PixelAware(T, GAMMA), X0, 0.0, form).max() < 1e-10, form


def test_line_8_s_noise_comes_on_top():
    """It enters x_{j-1} with sqrt(beta-tilde_j); the v-form shrinks it by sqrt(abar_{j-1}), line 9 divides by it."""
    j = np.arange(1, T + 1)[:, None]
    bar, before, beta = np.exp(-GAMMA * X0 * j / T), np.exp(-GAMMA * X0 * (j - 1) / T), 1 - np.exp(-GAMMA * X0 / T)
    fresh = (1 - before) / (1 - bar) * beta
    for form in FORMS:
        gain = before if form == "v" else 1 / before
        found = open_loop_errors(PixelAware(T, GAMMA), X0, 0.0, form, copies=COPIES, fresh_noise=True)[0]
        np.testing.assert_allclose(found, np.sqrt((fresh * gain).sum(0)), rtol=5 / np.sqrt(2 * COPIES))


def test_settings_that_cannot_work_say_so():
    with pytest.raises(ConfigError, match="at least one copy"):
        open_loop_errors(PixelAware(T, GAMMA), X0, SIZE, "v", copies=0)
    with pytest.raises(ConfigError, match="pixel values"):
        open_loop_errors(PixelAware(T, GAMMA), [0.0], SIZE, "v")
