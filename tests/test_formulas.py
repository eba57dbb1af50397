"""A rate of one's own: read without eval, checked, and the process that it gives."""

import json

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from pixelviz.checks import ServiceError
from pixelviz.config import ConfigError
from pixelviz.process.formulas import LONGEST, FormulaRate, read_formula
from pixelviz.process.schedules import PixelAware
from pixelviz.service.forward import curves_json
from pixelviz.view import View

X0 = torch.tensor([0.01, 0.3, 1.0], dtype=torch.float64)[:, None]
STEPS = torch.tensor([0.0, 0.5, 1.0, 19.3, 40.0], dtype=torch.float64)


def test_the_paper_s_rate_written_out_is_the_paper_s_schedule():
    own, paper = FormulaRate(40, 7.0), PixelAware(40, 7.0)
    for of in ("log_alpha_bar", "rate", "alpha", "beta", "snr", "noise_variance"):
        torch.testing.assert_close(getattr(own, of)(X0, STEPS), getattr(paper, of)(X0, STEPS))
    torch.testing.assert_close(own.posterior_variance(X0, STEPS[2:]), paper.posterior_variance(X0, STEPS[2:]))


@pytest.mark.parametrize(
    ("text", "drift"),
    [
        ("gamma*x0*t", lambda x, t: 7 * x * t),
        ("gamma*x0^2*(1 + cos(pi*t))/2 + x0/10", lambda x, t: 7 * x**2 * (1 + np.cos(np.pi * t)) / 2 + x / 10),
        ("exp(2*x0)*sqrt(t + 1)", lambda x, t: np.exp(2 * x) * np.sqrt(t + 1)),
    ],
)
def test_any_other_is_its_integral(text, drift):
    """E[x_t]/x0 = exp(-integral of Gamma): log abar is twice that, by quadrature; mid-steps err by O(1/T^2)."""
    for x in (0.2, 0.9):
        found = FormulaRate(1000, 7.0, text).log_alpha_bar(torch.tensor(x).double(), torch.tensor([300.0, 1000.0]))
        wanted = [-2 * quad(lambda t, x=x: drift(x, t), 0, end)[0] for end in (0.3, 1.0)]
        assert found.tolist() == pytest.approx(wanted, rel=1e-5)


def test_powers_bind_as_on_paper():
    def value(text):
        return read_formula(text)({"x0": torch.tensor(3.0), "t": torch.tensor(2.0)}).item()

    assert [value(text) for text in ("-x0^2", "2^x0^t", "x0^-1*3", "x0/t/3", "x0 - t - 1")] == [-9, 512, 1, 0.5, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x0 - 0.5", r"must be positive: x0 - 0.5 is -0.499 at x0 = 0.001, t = 0.01"),
        ("log(x0) + 9", "must rise|must be positive"),
        ("9**9**9*x0", "must be positive: .* is inf"),
        ("gamma", "must rise with x0"),
        ("gamma*(2 - x0)", "must rise with x0: at t = 0.01"),
        ("x0*(0.5 - t)", "must be positive"),
        ("", "1 to"),
        ("x0" + " " * LONGEST, "1 to"),
        ("x0 +", "cannot be read"),
        ("(" * 60 + "x0", "cannot be read"),
        ("y*x0", "“y” is none of these"),
        ("x0.real", "none of these"),
        ("__import__(x0)", "none of these"),
        ("exp(x0, t)", "none of these"),
        ("exp(x0)(t)", "none of these"),
        ("[x0][0]", "none of these"),
        ("x0 if t else 1", "none of these"),
        ("(lambda: 1)()", "none of these"),
        ("'x0'", "none of these"),
        ("True*x0", "none of these"),
        ("x0 @ t", "none of these"),
        ("x0 // 2", "none of these"),
    ],
)
def test_what_is_no_rate_is_told_so(text, message):
    if text == "log(x0) + 9":  # positive from 0.001 on, and rising: this one is a rate
        assert FormulaRate(10, 2.0, text).rate(torch.tensor(1.0), 1).item() == pytest.approx(18)
        return
    with pytest.raises(ConfigError, match=message):
        FormulaRate(10, 2.0, text)


def test_a_view_has_it_in_its_curves_and_refuses_what_is_none():
    picture = np.linspace(0.1, 0.9, 16, dtype=np.float32).reshape(4, 4, 1)
    text = "gamma*x0*(1 + t)/3"
    view = View.of(picture, schedule="formula", formula=text, gamma=5, T=30, pixels=[[1, 1, 0]])
    found = curves_json(view)
    json.dumps(found, allow_nan=False)
    x, t = found["x0"][0], np.array(found["t"])
    t = t[1:]
    bar = np.exp(-2 * 5 * x * (t + t**2 / 2) / 3)  # mid-steps are exact for a rate linear in t
    assert found["formula"]["snr"][0][1:] == pytest.approx((x**2 * bar / (1 - bar)).tolist(), rel=1e-6)
    assert found["settings"]["schedule"] == "formula"
    with pytest.raises(ServiceError, match="must rise with x0"):
        view.but(formula="gamma")
    assert View.of(picture, formula="gamma").schedule == "pixel-aware"  # not asked for, not looked at
