"""The page's scripts: served once from an address of their own, and their mathematics in Node, without a browser."""

import json
import math
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
import torch
import uvicorn
from fastapi import FastAPI

from pixelviz.config import PAPER_FLOOR, ConfigError
from pixelviz.process import theory, water
from pixelviz.process.formulas import FormulaRate
from pixelviz.process.schedules import SCHEDULES, LinearBeta, PixelAware, by_pixel
from pixelviz.service.jobs import TrainingJobs
from pixelviz.ui import scripts
from pixelviz.ui.app import build_app, launch_options
from tests.browser import INSTRUMENT, PATIENCE, watched

REPOSITORY = Path(__file__).parent.parent
LEVELS = [0.001, 0.004, 0.05, 0.418, 0.8555, 1.0]
MODULES = sorted(path for path in scripts.STATIC.rglob("*.js"))


def schedule_cases():
    """Both schedules at some steps: log alpha_bar, SNR and its rate, the gap's KL."""
    x0 = torch.tensor(LEVELS, dtype=torch.float64)
    for T, gamma, beta_range in (
        (2, 0.9, "rescaled"),
        (40, 7.5, "rescaled"),
        (200, 20.0, "printed"),
        (1000, 50.0, "rescaled"),
    ):
        ours, ddpm = PixelAware(T, gamma), LinearBeta(T, beta_range)
        steps = torch.arange(T + 1, dtype=torch.float64)
        table = ddpm.alpha_bar(torch.ones((), dtype=torch.float64), steps).log()
        yield "ddpmTable", [T, beta_range], table
        for i in {1, T // 2, T}:
            yield "ddpmRate", [table.tolist(), i], T * (table[i - 1] - table[i])
            snr, rate = ours.snr(x0, i), ours.snr_derivative(x0, i).abs()
            for k, x in enumerate(LEVELS):
                log = -gamma * x * i / T
                yield "logBar", [x, gamma, i / T], log
                yield "snr", [x, log], snr[k]
                yield "snrRate", [x, gamma * x, log], rate[k]
                yield "snr", [x, table[i].item()], ddpm.snr(x0[k], i)
        for x, kl in zip(LEVELS, theory.terminal_gap(ours, x0).kl, strict=True):
            yield "kl", [x, -gamma * x], kl
            yield "productOfAlphas", [x, gamma, T], ours.alpha_bar(torch.tensor(x, dtype=torch.float64), T)
        yield "snrPeak", [gamma, 0.3], theory.snr_peak(gamma, 0.3)


def table_cases():
    """Every row of SCHEDULES at every step, and the clocks of ours read, paced and undone."""
    for T, gamma in ((1, 0.5), (40, 7.5), (200, 20.0)):
        steps = torch.arange(T + 1, dtype=torch.float64)
        for name, row in SCHEDULES.items():
            schedule = row.build(T, gamma)
            for x in (0.004, 0.418, 1.0):
                yield (
                    "logBars",
                    [name, x, gamma, T],
                    schedule.log_alpha_bar(torch.tensor(x, dtype=torch.float64), steps),
                )
            if name not in by_pixel():
                continue
            clock = schedule.clock(steps).tolist()
            for t in (0.0, 0.13, 0.5, 1.0):
                now = schedule.clock(torch.tensor(t * T, dtype=torch.float64)).item()
                yield "clockAt", [clock, t], now
                yield "timeAt", [clock, now], t
            for x, noise in ((0.004, 1e-4), (0.418, 0.3), (1.0, 0.5)):
                level = -math.log(noise / (1 - noise)) / 2  # of the variance of noise, by its definition
                yield "halfLogOdds", [math.log1p(-noise)], level
                yield "timeOf", [clock, x, gamma, level], schedule.step_of(x, level) / T
            for i in {1, T}:
                yield "pace", [clock, i], schedule.pace(torch.tensor(i, dtype=torch.float64)).item()


def proposition_cases():
    """Crossings of two pixels, and both ways of pouring water."""
    for a, b in ((0.1, 0.2), (0.5, 1.0), (0.8, 0.2), (0.004, 1.0), (0.4, 0.4001)):
        yield "tDelta", [a, b, 20], theory.t_delta(a, b, 20.0)
    yield "tDelta", [0.5, 0.5, 20], None
    rng = np.random.default_rng(0)
    for n in (1, 2, 6):
        noise, variances = rng.uniform(0.01, 1, n), rng.uniform(0.01, 1, n)
        for share in (0.01, 0.3, 0.999):
            distortion = share * variances.sum()
            for name, values, amount, found in (
                ("waterFilling", noise, 3 * share, water.water_filling(noise, 3 * share)),
                ("reverseWaterFilling", variances, distortion, water.reverse_water_filling(variances, distortion)),
            ):
                yield name, [values.tolist(), amount], {"level": found.level, "amounts": found.amounts.tolist()}


def water_cases():
    """Bits of signal, how fast they go, and which pixel's go fastest, from SNR = x0^2 / (e^(gamma t x0) - 1)."""
    x0 = torch.tensor([0.05, 0.3, 0.95], dtype=torch.float64)
    for T, gamma in ((50, 20.0), (200, 7.5)):
        t = (torch.arange(1, T + 1, dtype=torch.float64) / T)[:, None].expand(T, 3).requires_grad_()
        snr = x0**2 / torch.expm1(gamma * t * x0)
        bits = torch.log2(1 + snr) / 2
        falls = -torch.autograd.grad(snr.sum(), t, retain_graph=True)[0]
        rates = -torch.autograd.grad(bits.sum(), t)[0]
        for i in (0, T // 4, T - 1):
            yield "bits", [snr[i, 0].item()], bits[i, 0].detach()
            yield "bitsRate", [snr[i, 1].item(), falls[i, 1].item()], rates[i, 1]
        fastest = rates.argmax(1)
        changes = [
            {"t": (i + 1) / T, "from": fastest[i - 1].item(), "to": fastest[i].item()}
            for i in range(1, T)
            if fastest[i] != fastest[i - 1]
        ]
        assert changes
        yield "changesOfFastest", [x0.tolist(), "pixel-aware", T, gamma], changes


def formula_cases():
    """Rates of one's own: log alpha_bar, a crossing by the clock's closed form, and what is said of what is no rate."""
    x0, T, gamma = torch.tensor(LEVELS, dtype=torch.float64)[:, None], 60, 12.0
    for text in (
        "gamma*x0/2",
        "gamma*x0*(1 + t)/3",
        "x0^2 + 0.1*x0",
        "-(-x0)**1*2^-1 + exp(x0*t) - .5",
        "2e0*sqrt(x0)+sin(x0/3)",
    ):
        steps = torch.tensor([0.0, 0.4, 1.0, 17.0, 33.25, 60.0], dtype=torch.float64)
        schedule = FormulaRate(T, gamma, text)
        yield "formulaBars", [text, LEVELS, T, gamma, steps.tolist()], schedule.log_alpha_bar(x0, steps)
        yield "formulaRates", [text, LEVELS, T, gamma, [1, 17, 60]], schedule.rate(x0, torch.tensor([1, 17, 60]))
    exact = theory.t_delta(0.2, 0.8, 20.0).item()
    yield "formulaCrossing", ["gamma*x0/2", 0.2, 0.8, 200, 20.0], math.ceil(200 * exact) / 200
    for text in ("x0 - 0.5", "gamma*(2 - x0)", "gamma", "x0 + 0.2 - t", "5 + 1/(x0 + 1)"):
        with pytest.raises(ConfigError) as fault:
            FormulaRate(T, gamma, text)
        yield "formulaFault", [text, gamma], str(fault.value)
    for text in ("", "x0 +", "(x0", "x0 x0", "eval(x0)", "x0.a", "x0; 1", "x1", "x0**", "2(x0)", "x0" * 61):
        with pytest.raises(ConfigError):
            FormulaRate(T, gamma, text)
        yield "formulaRefused", [text], True


def adviser_cases():
    """What to choose for pixels of these levels: the adviser of Python looks at the pixels one by one."""
    levels, counts = [0.0, 0.1, 0.6, 1.0], [3, 1, 4, 2]
    pixels = torch.tensor(levels, dtype=torch.float64).repeat_interleave(torch.tensor(counts))
    limits = {"least": PAPER_FLOOR, "most": theory.LARGEST_FLOOR, "leastGamma": theory.LEAST_GAMMA_FOR_FLOOR}

    def left(gamma, floor):  # KL(N(sqrt(abar) x, 1 - abar) || N(0, 1)) = (abar x^2 - log(1 - abar) - abar) / 2
        x = floor + (1 - floor) * pixels
        bar = torch.exp(-gamma * x)
        return ((bar * x**2 - bar - torch.log(1 - bar)) / 2).mean().item()

    for T, floor, tolerance in ((200, 0.004, 1.0), (200, 0.2, 1e-3), (1000, 0.1, 1e-5)):
        found = theory.advise_gamma(pixels, tolerance, T, floor).gamma
        yield "adviseGamma", [levels, counts, tolerance, T, floor, theory.LARGEST_GAMMA], {"value": found}
    none = {"value": None, "limit": 5, "left": left(5, 0.01)}
    yield "adviseGamma", [levels, counts, 1e-4, 5, 0.01, theory.LARGEST_GAMMA], none
    for gamma, tolerance in ((20.0, 0.01), (3.0, 0.2), (100.0, 10.0)):
        found = theory.advise_floor(pixels, tolerance, gamma).floor
        yield "adviseFloor", [levels, counts, tolerance, gamma, limits], {"value": found}
    most = theory.LARGEST_FLOOR
    none = {"value": None, "limit": most, "left": left(2.0, most)}
    yield "adviseFloor", [levels, counts, 1e-4, 2.0, limits], none
    yield "adviseFloor", [levels, counts, 1e-4, 1.6, limits], {"value": None, "limit": None, "left": None}


def picture_cases():
    """Moments of x_t from tallies, and a histogram, beside numpy's of the pixels themselves."""
    rng = np.random.default_rng(3)
    index, eps = rng.integers(0, 5, 400), rng.normal(size=400)
    mean, sd = rng.uniform(0, 1, 6), rng.uniform(0, 1, 6)  # the sixth level occurs nowhere
    count, first, second = (np.bincount(index, weights, 6).tolist() for weights in (None, eps, eps**2))
    x = mean[index] + sd[index] * eps
    tallies = {"size": 400, "count": count, "first": first, "second": second}
    shape = {"mean": mean.tolist(), "sd": sd.tolist()}
    yield "moments", [tallies, shape], {"mean": x.mean(), "variance": x.var()}
    for low, high, bins in ((-1, 2, 12), (0.2, 0.7, 5)):
        yield "histogram", [x.tolist(), low, high, [9] * bins], np.histogram(x, bins, (low, high))[0].tolist()


def test_the_mathematics_in_node_is_that_of_python(tmp_path):
    node = shutil.which("node")
    if node is None:
        if os.environ.get("PIXELVIZ_REQUIRE_BROWSER") == "1":
            pytest.fail("no Node was found; install nodejs")
        pytest.skip("no Node was found")
    cases = [
        {"name": name, "args": args, "wanted": wanted.tolist() if isinstance(wanted, torch.Tensor) else wanted}
        for made in (
            schedule_cases,
            table_cases,
            proposition_cases,
            water_cases,
            adviser_cases,
            picture_cases,
            formula_cases,
        )
        for name, args, wanted in made()
    ]
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    run = subprocess.run(
        [node, "--test", *map(str, sorted(REPOSITORY.glob("tests/node/*.test.js")))],
        cwd=REPOSITORY,
        env={**os.environ, "CASES": str(tmp_path / "cases.json")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = int(re.search(r"^\S+ pass (\d+)$", run.stdout, re.MULTILINE)[1])
    assert passed >= len({case["name"] for case in cases})


# --- How they reach the page


def test_every_import_between_the_modules_is_there():
    for path in MODULES:
        for name in re.findall(r'^import .*?"(\.[^"]+)";', path.read_text(encoding="utf-8"), re.MULTILINE):
            assert (path.parent / name).resolve() in MODULES, f"{path.name} imports {name}"


def test_a_component_only_names_its_module():
    assert len(scripts.mounting("picture.js")) < 300
    with pytest.raises(FileNotFoundError, match="no script nothing"):
        scripts.mounting("nothing.js")


def test_modules_keep_and_nothing_else_is_served(url):
    there = url.rstrip("/") + scripts.address()
    found = httpx.get(f"{there}/page.js")
    assert found.status_code == 200
    assert "javascript" in found.headers["content-type"]
    assert "immutable" in found.headers["cache-control"]
    for elsewhere in ("/../scripts.py", "/%2e%2e/scripts.py", "/nothing.js", "/"):
        missing = httpx.get(there + elsewhere)
        assert missing.status_code == 404
        assert "immutable" not in missing.headers.get("cache-control", "")


def test_a_script_goes_out_once(browser, url):
    page = browser.new_page(reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    complaints, asked = watched(page, url), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_function(f"{INSTRUMENT}?.pvInstrument?.ready")
    page.get_by_role("tab", name="Lesson").click()
    page.wait_for_function("document.querySelector('#lesson-instrument .pv-instrument')?.pvInstrument?.ready")
    page.close()
    modules = [one for one in asked if scripts.address() in one]
    assert len(modules) == len(set(modules)) >= 12
    assert not complaints


def test_the_app_works_below_a_path(browser, empty):
    options = launch_options()
    app = gr.mount_gradio_app(
        FastAPI(), build_app(empty, TrainingJobs(empty)), path="/lab/pixels", app_kwargs=options["app_kwargs"]
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{port}/lab/pixels")
        page.wait_for_function(f"{INSTRUMENT}?.pvInstrument?.ready")
        page.close()
    finally:
        server.should_exit = True
        thread.join(10)
