"""The instrument's mathematics: its JavaScript beside the Python functions, in a real browser; and its answers."""

import base64
import json
import math

import numpy as np
import pytest
import torch

from pixelviz.config import ConfigError
from pixelviz.data.images import SCREEN_SIDE, fit, read_image
from pixelviz.data.sets import to_unit
from pixelviz.process import theory, water
from pixelviz.process.forward import closed_form, noise
from pixelviz.process.schedules import LinearBeta, PixelAware
from pixelviz.service import forward
from pixelviz.ui import instrument
from pixelviz.ui.widgets import EXAMPLE_IDS
from pixelviz.view import View
from tests.browser import INSTRUMENT, PATIENCE, module, watched
from tests.served import png

CLOSE = 1e-5
DEEP = png(np.linspace(0, 65535, 1600).reshape(40, 40).astype(np.uint16))  # more levels than a byte counts
# Five pictures, and settings that differ in everything.
CASES = {
    "astronaut": (EXAMPLE_IDS["astronaut"], 20.0, 200, 0.004, "printed", 32),
    "rocket": (EXAMPLE_IDS["rocket"], 50.0, 500, 0.1, "rescaled", 499),
    "camera": (EXAMPLE_IDS["camera"], 7.5, 40, 0.001, "rescaled", 1),
    "t-shirt": (EXAMPLE_IDS["t-shirt"], 99.5, 1000, 0.2, "printed", 1000),
    "16 bits": (DEEP, 1.0, 3, 0.5, "printed", 2),
}


def floats(text, dtype="<f4"):
    """Numbers from base64."""
    return np.frombuffer(base64.b64decode(text), dtype)


@pytest.fixture(scope="module")
def lab(browser, url):
    """A page with the app's own scripts, for evaluating them."""
    page = browser.new_page(reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    complaints = watched(page, url)
    page.goto(url)
    page.wait_for_function(f"{INSTRUMENT}?.pvInstrument?.ready")
    page.evaluate(
        f"""async () => {{
          window.P = await {module("instrument/process.js")};
          window.theory = (await {module("instrument/water.js")}).theory;
        }}"""
    )
    page.evaluate(
        """() => {
          window.pack = (values, type) => {
            let text = "";
            for (const b of new Uint8Array(new type(values).buffer)) text += String.fromCharCode(b);
            return btoa(text);
          };
        }"""
    )
    yield page
    page.close()
    assert not complaints


# --- The mathematics, beside Python

RUN = """([value, gamma, T, floor, range, i, steps]) => {
  const picture = P.decode(JSON.parse(value));
  const x0 = P.raised(picture.levels, floor), ddpm = P.ddpmTable(T, range);
  const logs = { ours: (x) => P.logBar(x, gamma, i / T), ddpm: () => ddpm[i] };
  const atStep = { ours: (x, s) => P.logBar(x, gamma, s / T), ddpm: (x, s) => ddpm[s] };
  const spread = (table) => pack(Array.from(picture.index, (k) => table[k]), Float64Array);
  const found = { x0: spread(x0), kl: spread(x0.map((x) => P.kl(x, P.logBar(x, gamma, 1)))),
    ahead: spread(x0.map((x) => P.logBar(x, gamma, i / T) < ddpm[i] ? 1 : 0)),
    aheadSaidTwice: spread(x0.map((x) => P.snr(x, logs.ours(x)) < P.snr(x, ddpm[i]) ? 1 : 0)) };
  for (const method of ["ours", "ddpm"]) {
    const table = P.marginal(x0, logs[method], P.table(x0.length));
    const x = P.noised(picture, table, new Float32Array(picture.index.length));
    found[method] = {
      x: pack(x, Float32Array),
      moments: picture.tallies.map((channel) => P.moments(channel, table)),
      curves: P.momentCurves(picture.tallies, x0, steps, atStep[method]).map((c) => [...c.mean, ...c.variance]),
      gap: P.terminalGap(x0, picture.counts, method === "ours" ? (v) => P.logBar(v, gamma, 1) : () => ddpm[T]),
      histogram: [...P.histogram(x, -4, 4, new Float64Array(56))],
    };
  }
  return found;
}"""


@pytest.mark.parametrize("name", CASES)
def test_the_page_noises_a_picture_as_python_does(lab, name):
    source, gamma, T, floor, beta_range, i = CASES[name]
    steps = sorted({0, 1, i, T})
    found = lab.evaluate(
        RUN, [forward.instrument_value(View.of(source, seed=5)), gamma, T, floor, beta_range, i, steps]
    )

    x0 = to_unit(fit(read_image(source), SCREEN_SIDE).tensor(), floor, torch.float64)
    eps = next(noise(5, x0.shape, 1))
    ours, ddpm = PixelAware(T, gamma), LinearBeta(T, beta_range)
    np.testing.assert_allclose(floats(found["x0"], "<f8"), x0.ravel(), atol=1e-12)
    kl = theory.terminal_gap(ours, x0).kl.ravel()
    np.testing.assert_allclose(floats(found["kl"], "<f8"), kl, atol=CLOSE)
    ahead = theory.who_is_ahead(ours, ddpm, x0, i / T).mean.ravel().numpy()
    assert (floats(found["ahead"], "<f8").astype(bool) == ahead).all()
    assert (floats(found["aheadSaidTwice"], "<f8").astype(bool) == ahead).all(), "ahead is: less SNR left"
    for method, schedule in (("ours", ours), ("ddpm", ddpm)):
        here, x = found[method], closed_form(schedule, x0, i, eps)
        drawn = floats(here["x"]).reshape(x.shape)
        np.testing.assert_allclose(drawn, x, atol=CLOSE)
        flat = x.flatten(1)
        np.testing.assert_allclose([m["mean"] for m in here["moments"]], flat.mean(1), atol=CLOSE)
        np.testing.assert_allclose([m["variance"] for m in here["moments"]], flat.var(1, correction=0), atol=CLOSE)
        way = torch.stack([closed_form(schedule, x0, step, eps).flatten(1) for step in steps])
        curves = np.array(here["curves"]).reshape(len(x0), 2, len(steps))
        np.testing.assert_allclose(curves[:, 0].T, way.mean(2), atol=CLOSE)
        np.testing.assert_allclose(curves[:, 1].T, way.var(2, correction=0), atol=CLOSE)
        gap = theory.terminal_gap(schedule, x0)
        assert here["gap"]["mean"] == pytest.approx(gap.mean, abs=CLOSE)
        assert here["gap"]["least"] == pytest.approx(gap.least_variance, abs=CLOSE)
        assert here["gap"]["barely"] == pytest.approx(gap.share_barely_noisy, abs=1e-12)
        counts, _ = np.histogram(drawn, bins=56, range=(-4, np.nextafter(4, 5)))
        # A value on the edge of two bins may fall on either side.
        assert np.abs(np.array(here["histogram"]) - counts).sum() <= 4


@pytest.mark.parametrize(
    ("T", "beta_range"), [(1, "printed"), (2, "rescaled"), (200, "printed"), (200, "rescaled"), (1000, "printed")]
)
def test_snr_its_rate_and_alpha_bar_follow_both_schedules(lab, T, beta_range):
    gamma = 0.5 if T == 1 else min(20.0, T / 2)
    levels, steps = [0.001, 0.004, 0.05, 0.418, 0.8555, 1.0], sorted({0, 1, T // 2, T})
    found = lab.evaluate(
        """([levels, steps, gamma, T, range]) => {
          const table = P.ddpmTable(T, range);
          return levels.map((x) => steps.map((i) => [
            [P.logBar(x, gamma, i / T), gamma * x], [table[i], P.ddpmRate(table, i)],
          ].map(([log, rate]) => [Math.exp(log), P.snr(x, log), P.snrRate(x, rate, log)])));
        }""",
        [levels, steps, gamma, T, beta_range],
    )
    x0, i = torch.tensor(levels, dtype=torch.float64)[:, None], torch.tensor(steps, dtype=torch.float64)
    for m, schedule in enumerate((PixelAware(T, gamma), LinearBeta(T, beta_range))):
        wanted = (schedule.alpha_bar(x0, i), schedule.snr(x0, i), schedule.snr_derivative(x0, i).abs())
        for k, values in enumerate(wanted):
            here = np.array([[cell[m][k] for cell in row] for row in found], float)
            np.testing.assert_allclose(here, values, rtol=1e-9)
    assert np.isinf([row[0][m][1] for row in found for m in (0, 1)]).all(), "no noise at all at i = 0"


def test_crossings_and_peaks(lab):
    pairs = [(0.1, 0.2), (0.5, 1.0), (0.8, 0.2), (0.004, 1.0), (0.4, 0.4001)]
    found = lab.evaluate("(pairs) => pairs.map(([a, b]) => P.tDelta(a, b, 20))", pairs)
    assert found == pytest.approx([theory.t_delta(a, b, 20.0).item() for a, b in pairs], rel=1e-9)
    assert found[:3] == pytest.approx([0.8814, 0.1763, 0.2837], abs=1e-4)  # the audit's
    assert lab.evaluate("P.tDelta(0.5, 0.5, 20)") is None
    assert lab.evaluate("P.snrPeak(50, 0.3)") == pytest.approx(theory.snr_peak(50.0, 0.3), rel=1e-12)
    assert lab.evaluate("P.U_STAR") == pytest.approx(theory.U_STAR, rel=1e-12)


def test_the_product_of_the_alphas_is_x_delta(lab):
    found = lab.evaluate("[[0.62, 20, 200], [0.004, 50, 500], [1, 99, 1000]].map((a) => P.productOfAlphas(...a))")
    assert found == pytest.approx([math.exp(-20 * 0.62), math.exp(-50 * 0.004), math.exp(-99)], rel=1e-12)


def test_water_levels(lab, rng):
    for n in (1, 2, 6):
        noise_, variances = rng.uniform(0.01, 1, n), rng.uniform(0.01, 1, n)
        for share in (0.01, 0.3, 1.0):
            power, distortion = 3 * share, share * variances.sum() * (1 - 1e-12)
            found = lab.evaluate(
                "([a, p, b, d]) => [P.waterFilling(a, p), P.reverseWaterFilling(b, d)]",
                [noise_.tolist(), power, variances.tolist(), distortion],
            )
            wanted = water.water_filling(noise_, power), water.reverse_water_filling(variances, distortion)
            for here, there in zip(found, wanted, strict=True):
                assert here["level"] == pytest.approx(there.level, rel=1e-9)
                np.testing.assert_allclose(here["amounts"], there.amounts, atol=1e-9)


def test_the_three_ways_share_the_process_own_budgets(lab):
    found = lab.evaluate(
        """() => theory([0.1, 0.5, 0.9].map((x0) => {
          const log = P.logBar(x0, 20, 0.16);
          return { x0, ours: { log, snr: P.snr(x0, log) } };
        }))"""
    )
    x0 = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    schedule = PixelAware(200, 20.0)
    power = schedule.alpha_bar(x0, 32) * x0**2
    np.testing.assert_allclose(found["noise"], schedule.noise_variance(x0, 32), rtol=1e-9)
    assert sum(found["filling"]["amounts"]) == pytest.approx(power.sum().item())
    # The least error with which a Gaussian of power x0^2 can be told from x_t at this SNR.
    assert sum(found["reverse"]["amounts"]) == pytest.approx((x0**2 / (1 + schedule.snr(x0, 32))).sum().item())


ADVISE = """([value, tolerance, T, floor, gamma, limits]) => {
  const { levels, counts } = P.decode(JSON.parse(value));
  const gammas = P.adviseGamma(levels, counts, tolerance, T, floor, 500);
  return [gammas, P.adviseFloor(levels, counts, tolerance, gamma, limits)];
}"""


@pytest.mark.parametrize(
    ("name", "tolerance", "T", "floor", "gamma"),
    [("astronaut", 0.01, 200, 0.004, 20.0), ("t-shirt", 0.01, 500, 0.1, 50.0), ("camera", 1e-9, 30, 0.004, 1.0)],
)
def test_the_advice_is_that_of_python(lab, name, tolerance, T, floor, gamma):
    limits = {"least": 0.004, "most": 0.9, "leastGamma": 1.7}
    value = forward.instrument_value(View.of(EXAMPLE_IDS[name]))
    found = lab.evaluate(ADVISE, [value, tolerance, T, floor, gamma, limits])
    pixels = read_image(EXAMPLE_IDS[name]).tensor()
    for here, ask in zip(
        found,
        (
            lambda: theory.advise_gamma(pixels, tolerance, T, floor).gamma,
            lambda: theory.advise_floor(pixels, tolerance, gamma).floor,
        ),
        strict=True,
    ):
        try:
            assert here["value"] == pytest.approx(ask(), rel=1e-6)
        except ConfigError:
            assert here["value"] is None


# --- What the server answers


def test_an_example_comes_whole_and_a_new_seed_sends_noise_alone():
    whole = json.loads(instrument.asked("coffee", None, 4, 9))
    assert (whole["request"], whole["example"], whole["seed"]) == (9, "coffee", 4)
    text = instrument.asked(None, whole["picture"], 5, 10)
    noise_only = json.loads(text)
    assert set(noise_only) == {"request", "picture", "seed", "noise"}
    assert (noise_only["request"], noise_only["picture"], noise_only["seed"]) == (10, whole["picture"], 5)
    values = math.prod(whole["shape"])
    assert len(text) < 4 * math.ceil(4 * values / 3) + 200, "float32 in base64, and little besides"
    np.testing.assert_allclose(floats(noise_only["noise"]), next(noise(5, whole["shape"], 1)).ravel(), atol=1e-6)


@pytest.mark.parametrize(
    ("example", "picture", "seed", "words"),
    [
        ("no", None, 0, "no example"),
        ("coffee", None, -1, "whole number"),
        (None, "0" * 32, 0, "upload it again"),
        (None, None, 0, "Picture must be text"),
    ],
)
def test_questions_that_make_no_sense_are_answered_in_words(example, picture, seed, words):
    answer = json.loads(instrument.asked(example, picture, seed, 3))
    assert words in answer["error"]
    assert answer["request"] == 3


def test_uploads_are_read_or_refused(tmp_path):
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(DEEP)
    bad.write_bytes(b"these are words")
    taken = json.loads(instrument.uploaded('{"seed": 8}', str(good)))
    assert (taken["seed"], taken["example"]) == (8, None)
    assert any("16-bit" in note for note in taken["notes"])
    first_error = json.loads(instrument.uploaded(None, str(bad)))
    assert "text file" in first_error["error"]
    again = json.loads(instrument.uploaded(None, str(bad)))
    assert again["request"] != first_error["request"], "or the browser would not be told again"


def test_the_same_seed_is_the_same_noise():
    one, same, other = (
        json.loads(forward.instrument_value(View.of(EXAMPLE_IDS["dress"], seed=seed)))["noise"] for seed in (1, 1, 2)
    )
    assert one == same != other
    wanted = next(noise(1, (1, 32, 32), 1)).ravel()
    np.testing.assert_allclose(floats(one), wanted, atol=1e-6)
