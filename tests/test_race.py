"""The Compare tab's service: a fair race, a checkpoint's benchmark, its peers, and the toy experiment's payload."""

import json
import math

import numpy as np
import pytest
import torch

from pixelviz.checks import ServiceError
from pixelviz.data.pictures import to_bytes
from pixelviz.lesson.pages import languages
from pixelviz.measure import report
from pixelviz.measure.benchmark import BenchmarkError, Case
from pixelviz.paper import TABLES
from pixelviz.process.theory import advise_gamma
from pixelviz.process.toy import square_error
from pixelviz.samplers import SAMPLERS, SamplerError, draw
from pixelviz.service import measured, race, toy
from pixelviz.service.race import label
from pixelviz.ui.tabs import compare as tab
from pixelviz.view import View
from tests.served import empty_service, train_tiny
from tests.test_peers import save_pipeline


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("race")
    train_tiny(root / "checkpoints" / "twin", parts=("scale_vae", "parallel_unet", "linear_twin"))
    train_tiny(root / "checkpoints" / "alone", parts=("scale_vae", "parallel_unet"))
    return empty_service(root)


def keys(service, name, *labels):
    return [case.key for case in service.contenders(name) if case.label in labels]


def test_every_lane_ends_with_its_method_s_images(served):
    chosen = keys(served, "twin", "parallel:1", "ddim:10", "dpm++:10")
    states = list(served.race("twin", chosen, n=3, seed=5))
    last = states[-1]
    assert last.done
    assert sorted(lane.place for lane in last.lanes) == [1, 2, 3]
    model = served.checkpoint("twin").model
    for lane in last.lanes:
        *_, alone = draw(model, served.compute, n=3, seed=5, sampler=lane.case.method, passes=lane.case.passes)
        torch.testing.assert_close(lane.x, alone.x.float(), rtol=1e-3, atol=1e-3)
        assert lane.runs == lane.case.passes
        assert lane.progress == 1
        assert lane.seconds > 0
    by_place = sorted(last.lanes, key=lambda lane: lane.place)
    assert [lane.seconds for lane in by_place] == sorted(lane.seconds for lane in by_place)


def test_turns_go_to_the_lane_whose_clock_shows_least(served, monkeypatch):
    """With a clock that says each step takes 1 s for every lane, all lanes advance together."""
    ticks = iter(range(100_000))
    monkeypatch.setattr("pixelviz.service.race.time.perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr("pixelviz.service.race.REPORT_SECONDS", -1)
    chosen = keys(served, "twin", "ddim:10", "unipc:10", "dpm++:20")
    for state in served.race("twin", chosen, n=1):
        clocks = [lane.seconds for lane in state.lanes if not lane.place]
        assert max(clocks, default=0) - min(clocks, default=0) <= 1
    assert [lane.seconds for lane in state.lanes] == [12, 22, 12]  # n steps, the start, and the end, in table order


def test_payload_and_words(served):
    chosen = keys(served, "twin", "parallel:2", "ddim:10")
    *_, last = served.race("twin", chosen, n=2)
    case = last.lanes[0].case
    payload = json.loads(last.payload({("twin", "ddim", 10): 3.21}))
    assert payload["done"] is True
    assert [lane["fid"] for lane in payload["lanes"]] == [None, 3.21]
    assert all(lane["strip"].startswith("data:image/png") for lane in payload["lanes"])
    assert "was the fastest" in payload["status"]
    assert label(case, "twin") == "Pixel-aware, 2 passes"
    assert label(case, "other") == "Pixel-aware, 2 passes, twin"
    assert to_bytes(last.lanes[0].x, 0.1).dtype == np.uint8


def test_without_a_twin_only_ours_races(served):
    methods = {case.method for case in served.contenders("alone")}
    assert {"parallel", "rotation"} <= methods
    assert all(SAMPLERS[method].ours for method in methods)


@pytest.mark.parametrize(("n", "seed", "chosen"), [(0, 0, None), (17, 0, None), (2, -1, None), (2, 0, [])])
def test_impossible_races_are_refused(served, n, seed, chosen):
    with pytest.raises(ServiceError):
        next(served.race("twin", keys(served, "twin", "parallel:1") if chosen is None else chosen, n, seed))


def test_a_peer_s_folder_joins_the_race(served, tmp_path, monkeypatch):
    save_pipeline(tmp_path / "small-ddpm")
    assert served.peers.load(f" {tmp_path / 'small-ddpm'} ") == "small-ddpm"
    case = next(c for c in served.contenders("alone") if c.label == "ddim:10")
    assert case.model == "small-ddpm"
    *_, last = served.race("alone", [case.key], n=2)
    assert last.lanes[0].name == "DDIM, 10, small-ddpm"
    assert last.lanes[0].x.shape == (2, 1, 16, 16)
    for path in ("", None, "a\0b"):
        with pytest.raises(ServiceError, match="name the folder"):
            served.peers.load(path)
    for name in ("second", "third"):
        save_pipeline(tmp_path / name)
        served.peers.load(str(tmp_path / name))
    assert served.peers.names() == ["second", "third"]
    with pytest.raises(ServiceError, match="load its folder again"):
        served.peers.get("small-ddpm")


# --- the benchmark's file


def _results(service, name, **changes):
    row = {
        "model": name, "method": "parallel", "title": "Parallel", "citation": "", "passes": 1, "network_evaluations": 1,
        "fid": 2.5, "fid_spread": 0.1, "kid": 0.001, "kid_spread": None, "precision": 0.5, "recall": 0.25,
        "seconds_per_image": 0.01, "parameters": 10, "images_seen": None, "parts": {}, "peak_memory": None,
        "commit": None,
    }  # fmt: skip
    return {
        "format": 1, "checkpoint": name, "weights": measured.digest(service.find(name).folder), "samples": 10,
        "seeds": 1, "batch": 10, "features": "f", "device": "CPU", "rows": [row],
        "environment": {"machine": "m", "threads": 1, "versions": {"torch": "2"}, "date": "2026-01-01T00:00:00"},
        **changes,
    }  # fmt: skip


def test_only_a_benchmark_of_these_weights_is_shown(served, tmp_path):
    found = served.find("twin")
    assert measured.results_or_reason(found, tmp_path)[0] is None
    assert "python -m pixelviz bench" in measured.results_or_reason(found, tmp_path)[1]
    path = tmp_path / "twin.json"
    path.write_text(json.dumps(_results(served, "twin")))
    results, reason = measured.results_or_reason(found, tmp_path)
    assert (results["rows"][0]["fid"], reason) == (2.5, "")
    goals, chart, table = tab.bench_page(results, reason)
    assert [trace["y"] for trace in json.loads(chart)["data"]] == [[2.5], [2.5]]  # the method, and the best
    assert "2.50 ± 0.10" in table
    assert "not measured yet" in goals  # those whose rows are missing
    assert measured.fids(results) == {("twin", "parallel", 1): 2.5}
    path.write_text(json.dumps(_results(served, "twin", weights="other")))
    assert measured.results_or_reason(found, tmp_path)[0] is None
    path.write_text("{")
    assert "cannot be read" in measured.results_or_reason(found, tmp_path)[1]
    assert "cannot be read" in tab.bench_page(None, measured.results_or_reason(found, tmp_path)[1])[0]


def test_a_longer_benchmark_stands_before_the_short_one(served, tmp_path):
    found = served.find("twin")
    short = _results(served, "twin")
    long = _results(served, "twin", samples=10_000, seeds=3)
    ddim = {**long["rows"][0], "method": "ddim", "title": "DDIM", "passes": 10, "fid": 3.5, "seconds_per_image": 0.1}
    long["rows"].append(ddim)
    (tmp_path / "twin-10000.json").write_text(json.dumps(long))
    (tmp_path / "twin-other.json").write_text(json.dumps({**long, "weights": "other"}))
    (tmp_path / "twin-broken.json").write_text("{")
    longer = measured.longer_benchmarks(found, tmp_path)
    assert longer == [long]
    goals, chart, tables = tab.bench_page(short, "", longer)
    assert len(json.loads(chart)["data"]) == 2, "the short one's only method, and the best"
    assert "FID 2.50 against 3.50 of DDIM" in goals  # measured in the longer one alone
    assert "<i>10,000 images and 3 seeds.</i>" in goals
    assert goals.count("not measured yet") == len(report.goals()) - 1
    assert tables.index("10,000 images and 3 seeds") < tables.index("All measures, 10 images")


def test_a_lineup_keeps_who_was_chosen_and_is_still_there():
    there = [Case("parallel", 1, "a"), Case("parallel", 7, "a"), Case("ddim", 10, "peer")]
    usual = race.lineup(there, "a")
    assert [key for _, key in usual.choices] == ["parallel:1@a", "parallel:7@a", "ddim:10@peer"]
    assert usual.choices[2][0].endswith(", peer")
    assert "parallel:7@a" not in usual.chosen  # no pass number that a race begins with
    assert not usual.alone
    assert race.lineup(there[:2], "a", ["parallel:7@a", "gone:1@a"])[1:] == (("parallel:7@a",), True)
    assert race.lineup(there, "a", ["gone:1@a"]).chosen == usual.chosen


def test_every_peer_is_met_at_its_measured_best():
    there = [Case(method, 10, "a") for method in ("dpm++", "dpm++-clip", "unipc")] + [Case("dpm++-clip", 10, "peer")]
    fids = {("a", "dpm++", 10): 230.5, ("a", "dpm++-clip", 10): 64.6, ("a", "unipc", 10): 1.0}
    assert race.lineup(there, "a", fids=fids).chosen == ("dpm++-clip:10@a",)
    assert race.lineup(there, "a", fids=fids | {("a", "dpm++", 10): 60.0}).chosen == ("dpm++:10@a",)
    assert race.lineup(there, "a").chosen == ("dpm++:10@a",), "nothing is measured"


def test_a_method_may_race_with_passes_that_no_comparison_shows(served):
    *_, last = served.race("twin", ["ddim:8@twin", "parallel:1@twin"], 2)
    assert [(lane.case.label, lane.runs) for lane in last.lanes] == [("parallel:1", 1), ("ddim:8", 8)]
    with pytest.raises(BenchmarkError, match="is no method"):
        next(served.race("twin", ["nothing:1@twin"], 2))


def test_the_paper_s_tables_as_printed():
    first, second = ([row.cells for row in rows] for rows in TABLES.values())
    assert first[-1] == ("Our Model", "71.5", "200", "3.15", "0.3")
    assert second[-1] == ("Our Model", "145.5", "500", "3.25", "1.3")
    assert [len(rows) for rows in (first, second)] == [11, 10]
    assert first[7] == ("DPM Discrete Solver", "35.7", "100", "3.94", "0.15")
    assert second[1] == ("SDE based", "65.6", "1000", "3.20", "246.69")
    assert tab.paper_tables().count("<table>") == 2
    assert "not measured here" in languages()["en"]["about"]["compare_paper"]


# --- the toy experiment


@pytest.mark.parametrize("forward_noise", [True, False])
def test_toy_maps(forward_noise):
    maps = toy.toy_maps(None, 0.5, 0.1, forward_noise=forward_noise, head_error=0.05)
    x0 = 0.1 + 0.9 * 0.5
    row, column = toy.TOY_STEPS.index(1000), 20
    gamma = toy.TOY_GAMMAS[column]
    settings = {"head_error": 0.05} if not forward_noise else {}
    for form in ("printed", "v"):
        wanted = square_error(gamma, 1000, x0, form, forward_noise=forward_noise, fresh_noise=False, **settings)
        assert maps.errors[form][row, column].item() == pytest.approx(wanted.sqrt().item(), rel=1e-6)
    assert maps.errors["v"][0, -1].isnan()  # gamma = 200 at T = 5
    advice = advise_gamma(torch.tensor([0.5]), 0.01, 1000, 0.1)
    assert maps.advised == pytest.approx(advice.gamma)
    assert maps.brightest == pytest.approx(x0)


def test_toy_of_a_picture_and_without_advice():
    picture = View.of(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))).original
    values = toy.brightnesses(picture, 0.5)
    assert len(values) == toy.BRIGHTNESSES
    torch.testing.assert_close(values.mean(), picture.tensor().mean(), atol=0.01, rtol=0)
    hopeless = toy.toy_maps(None, 0.0, 0.001, tolerance=1e-6)
    assert hopeless.advised is None
    assert "no γ" in hopeless.advice


@pytest.mark.parametrize("settings", [{"brightness": 2}, {"floor": 0}, {"head_error": "1"}, {"tolerance": math.nan}])
def test_toy_refuses_nonsense(settings):
    with pytest.raises(ServiceError, match="must be a number"):
        toy.toy_maps(None, **settings)


def test_errors_are_put_into_words():
    from pixelviz.service.errors import friendly

    assert friendly(BenchmarkError("no rows")) == "No rows"
    assert friendly(SamplerError("too many")) == "Too many"
    assert report.RESULTS.name == "benchmarks"
