"""The benchmark on the smallest real models: what it counts, what it writes, and that it goes on where it was."""

import copy
import json
import shlex
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from pixelviz import __main__ as cli
from pixelviz.devices import Compute
from pixelviz.measure import benchmark, pareto, report
from pixelviz.measure.benchmark import (
    BenchmarkError,
    Reference,
    bench,
    cases,
    counted_runs,
    parse_methods,
    read_results,
)
from pixelviz.measure.likelihood import bits_per_dimension
from pixelviz.measure.metrics import features_of, fid, kid, precision_recall, statistics_of
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers.batches import sample_images
from pixelviz.service.measured import bench_command
from pixelviz.service.service import Service
from pixelviz.store import checkpoints
from pixelviz.ui import charts
from tests.served import train_tiny
from tests.tiny import tiny_images

CPU = Compute(torch.device("cpu"), None)
METHODS = ("parallel:1", "parallel:3", "ddim:2", "sde-pc:2")


class Means(nn.Module):
    """Four features: the means of the quarters of an image."""

    num_features = 4

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "checkpoints" / "tiny"
    return checkpoints.load(train_tiny(folder, parts=("scale_vae", "parallel_unet", "linear_twin")))


@pytest.fixture(scope="module")
def reference():
    features = features_of(tiny_images(40).images, Means())
    return Reference(statistics_of(features), features, Means(), "means of quarters")


def run(checkpoint, path, reference, **settings):
    *_, last = bench(checkpoint, CPU, path, reference, **{"samples": 24, "seeds": 2, "methods": METHODS, **settings})
    return last


@pytest.fixture(scope="module")
def results(checkpoint, reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "tiny.json"
    last = run(checkpoint, path, reference)
    assert (last.done, last.total) == (24 * 2 * 4, 24 * 2 * 4)
    found = read_results(path)
    assert found == last.figures
    return found


def test_the_file_names_everything_that_a_reader_needs(results, checkpoint):
    assert results["checkpoint"] == "tiny"
    assert results["weights"] == benchmark.digest(checkpoint.folder)
    here = results["environment"]
    assert {"machine", "device", "threads", "commit", "versions", "date"} <= set(here)
    assert {"python", "torch", "diffusers"} <= set(here["versions"])
    assert [(row["method"], row["passes"]) for row in results["rows"]] == [
        ("parallel", 1), ("parallel", 3), ("ddim", 2), ("sde-pc", 2)
    ]  # fmt: skip
    for row in results["rows"]:
        assert {
            "fid", "fid_spread", "kid", "precision", "recall", "seconds_per_image", "parameters", "images_seen",
            "peak_memory", "network_evaluations", "title", "citation", "commit", "date",
        } <= set(row)  # fmt: skip
        assert row["seconds_per_image"] > 0
        ran = ("scale_vae", "parallel_unet") if row["method"] == "parallel" else ("linear_twin",)
        assert row["images_seen"] == sum(checkpoint.record.images_seen[part] for part in ran)
    assert [row["network_evaluations"] for row in results["rows"]] == [1, 3, 2, 4]
    counts = checkpoint.model.parameter_counts()
    assert results["rows"][0]["parameters"] == counts["scale_vae"] + counts["parallel_unet"]
    assert results["rows"][2]["parameters"] == counts["linear_twin"]


def test_the_figures_are_those_of_the_seeds_samples(results, checkpoint, reference):
    row = results["rows"][2]
    values = []
    for seed in (0, 1):
        batches = sample_images(checkpoint.model, CPU, 24, passes=2, sampler="ddim", seed=seed)
        images = torch.cat([batch.images for batch in batches])
        values.append(fid(reference.statistics, images, Means()))
        features = features_of(images, Means())
        assert row["seeds"][seed]["fid"] == pytest.approx(values[-1], rel=1e-6)
        assert row["seeds"][seed]["kid"] == pytest.approx(kid(reference.features, features), rel=1e-6)
        assert row["seeds"][seed]["precision"] == precision_recall(reference.features, features).precision
    assert row["fid"] == pytest.approx(sum(values) / 2)
    assert row["fid_spread"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)  # n - 1 = 1


def test_what_is_there_is_not_measured_again(checkpoint, reference, tmp_path):
    path = tmp_path / "r.json"
    run(checkpoint, path, reference, methods=["ddim:2"])
    before = read_results(path)["rows"][0]
    with counted_runs(checkpoint.model.linear_twin) as runs:
        run(checkpoint, path, reference, methods=["ddim:2"])
        assert not runs
        run(checkpoint, path, reference, methods=["ddim:2", "parallel:1", "ddim:4"])
        assert runs
    rows = read_results(path)["rows"]
    assert [(row["method"], row["passes"]) for row in rows] == [("parallel", 1), ("ddim", 2), ("ddim", 4)]
    assert rows[1] == before
    with pytest.raises(BenchmarkError, match="measured with"):
        run(checkpoint, path, reference, samples=30)


def test_a_part_that_is_trained_further_leaves_the_other_parts_rows(checkpoint, reference, tmp_path):
    path, later = tmp_path / "r.json", tmp_path / "tiny"
    run(checkpoint, path, reference, methods=["ddim:2", "parallel:1"])
    before = read_results(path)
    peer = {**before["rows"][1], "model": "a peer", "weights": {"linear_twin": "of its own"}}
    path.write_text(json.dumps({**before, "rows": [*before["rows"], peer]}))
    changed = copy.deepcopy(checkpoint.model)
    with torch.no_grad():
        changed.parallel_unet.heads.bias += 1
    checkpoints.save(later, changed, checkpoint.record)
    with counted_runs(changed.linear_twin) as runs:
        run(checkpoints.load(later), path, reference, methods=["ddim:2", "parallel:1"])
    after = read_results(path)
    assert not runs
    assert after["weights"] != before["weights"]
    assert after["rows"][1:] == [before["rows"][1], peer]
    assert after["rows"][0]["seeds"] != before["rows"][0]["seeds"]
    bare = PixelAwareModel(changed.config, ("scale_vae", "parallel_unet"))  # the same without its twin
    bare.load_state_dict(
        {key: value for key, value in changed.state_dict().items() if not key.startswith("linear_twin")}
    )
    checkpoints.save(tmp_path / "bare" / "tiny", bare, checkpoint.record)
    run(checkpoints.load(tmp_path / "bare" / "tiny"), path, reference, methods=["parallel:1"])
    without = read_results(path)
    assert without["weights"] == benchmark.digest(tmp_path / "bare" / "tiny") != after["weights"]
    assert without["rows"] == after["rows"]
    path.write_text(json.dumps(after))
    with torch.no_grad():
        changed.linear_twin.outlet.bias += 1
        changed.scale_vae.to_code.weight.mul_(2)
    checkpoints.save(later, changed, checkpoint.record)
    with pytest.raises(BenchmarkError, match="weights"):  # another checkpoint altogether: nothing is thrown away
        run(checkpoints.load(later), path, reference, methods=["ddim:2"])
    assert read_results(path) == after


def test_an_interrupted_benchmark_goes_on_inside_a_seed(checkpoint, reference, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "BATCH", 10)
    monkeypatch.setattr("pixelviz.samplers.batches.BATCH", 10)
    whole = tmp_path / "whole.json"
    run(checkpoint, whole, reference, methods=["ddim:2"])
    path = tmp_path / "r.json"
    steps = bench(checkpoint, CPU, path, reference, samples=24, seeds=2, methods=["ddim:2"])
    while (state := next(steps)).done < 24 + 20:  # two batches into the second seed
        pass
    steps.close()
    assert len(read_results(path)["rows"][0]["seeds"]) == 1
    drawn = []
    monkeypatch.setattr(benchmark, "features_of", lambda x, *a: drawn.append(len(x)) or features_of(x, *a))
    run(checkpoint, path, reference, methods=["ddim:2"])
    assert drawn == [4]
    pairs = zip(read_results(path)["rows"][0]["seeds"], read_results(whole)["rows"][0]["seeds"], strict=True)
    assert all(a["fid"] == pytest.approx(b["fid"], rel=1e-5) for a, b in pairs)
    assert [file.name for file in tmp_path.iterdir() if "unfinished" in file.name] == []
    assert state.what == "ddim:2 of tiny, seed 1"


def test_cases_follow_the_parts(checkpoint):
    every = {(case.method, case.passes) for case in cases(checkpoint, "tiny")}
    assert {("ddpm", 1000), ("ddim", 10), ("ddim", 50), ("ddim", 100), ("dpm++", 34), ("unipc", 10)} <= every
    assert ("parallel", 5) in every
    assert ("parallel", 10) not in every  # T = 8
    assert parse_methods(["ddim:10", " dpm++ "]) == [("ddim", 10), ("dpm++", None)]


def test_a_checkpoint_without_a_twin_gives_ours_alone(tmp_path):
    folder = train_tiny(tmp_path / "old", parts=("scale_vae", "parallel_unet"))
    found = cases(checkpoints.load(folder), "old")
    assert {case.method for case in found} == {"parallel", "few-heads", "rotation", "multistep", "prior"}
    with pytest.raises(BenchmarkError, match="none of these methods"):
        cases(checkpoints.load(folder), "old", ["ddim"])


@pytest.mark.parametrize("text", ["euler", "ddim:x", "", "printed"])
def test_unknown_methods_are_refused(text):
    with pytest.raises(BenchmarkError, match="no method"):
        parse_methods([text])


def test_impossible_settings_are_refused(checkpoint, reference, tmp_path):
    for settings in ({"samples": 3}, {"seeds": 0}):
        with pytest.raises(BenchmarkError, match="or more"):
            run(checkpoint, tmp_path / "r.json", reference, **settings)
    (tmp_path / "r.json").write_text('{"rows": []}')
    with pytest.raises(BenchmarkError, match="cannot be read"):
        run(checkpoint, tmp_path / "r.json", reference)
    with pytest.raises(BenchmarkError, match="no classifier"):
        benchmark.bundled_reference(checkpoint, CPU)


# --- the report


def test_the_table_holds_the_rows(results):
    cells = report.table_rows(results)
    assert len(cells) == len(results["rows"])
    assert all(len(row) == len(report.head(results)) for row in cells)
    first, row = cells[0], results["rows"][0]
    assert first[3] == f"{row['fid']:.2f} ± {row['fid_spread']:.2f}"
    assert first[8] == f"{row['parameters'] / 1e6:.2f}"
    seen = {name: part["images_seen"] for name, part in row["parts"].items()}
    assert first[9] == f"{seen['scale_vae']:,} + {seen['parallel_unet']:,}"  # of all that the parameters count


def test_a_benchmark_that_went_on_elsewhere_names_both_machines(results):
    first, *others = results["rows"]
    here = results["environment"]["machine"]
    assert all(row["machine"] == here and row["threads"] >= 1 for row in results["rows"])
    moved = {**results, "rows": [{**first, "machine": "Another box, 64 cores", "threads": 64}, *others]}
    said = report.conditions(moved)
    assert "Another box, 64 cores, threads: 64" in said
    assert said.count(here) == report.conditions(results).count(here) == 1


def test_a_judge_of_another_kind_has_columns_of_its_own(checkpoint, reference, tmp_path):
    class Rows(nn.Module):
        """Sixteen features: the means of the rows."""

        num_features = 16

        def forward(self, images):
            return images.float().mean((1, 3))

    features = features_of(tiny_images(40).images, Rows())
    judge = Reference(statistics_of(features), features, Rows(), "means of rows")
    both = run(checkpoint, tmp_path / "r.json", reference, judge=judge, methods=["ddim:2"]).figures
    alone = run(checkpoint, tmp_path / "s.json", judge, methods=["ddim:2"]).figures
    row = both["rows"][0]
    assert row["judge"]["fid"] == pytest.approx(alone["rows"][0]["fid"], rel=1e-9)
    assert row["judge"]["fid_spread"] == pytest.approx(alone["rows"][0]["fid_spread"], rel=1e-9)
    (cells,) = report.table_rows(both)
    named = dict(zip(report.head(both), cells, strict=True))
    assert named["FID, other judge"] == report.table_rows(alone)[0][3]
    assert "the other judge: means of rows" in report.conditions(both)
    with pytest.raises(BenchmarkError, match="was measured with"):
        run(checkpoint, tmp_path / "r.json", reference, methods=["ddim:2"])


def assert_drawn(path, results):
    """Every row has its point in the file, within it, and where its time and FID are on log axes."""
    root = ElementTree.parse(path).getroot()
    width, height = map(float, root.get("viewBox").split()[2:])
    places = {}
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        if group.get("id", "").startswith("point-"):
            use = next(group.iter("{http://www.w3.org/2000/svg}use"))
            places[group.get("id")] = float(use.get("x")), float(use.get("y"))
    names = list(dict.fromkeys(report.method_name(row, results) for row in results["rows"]))
    assert len(places) == len(results["rows"])
    rows = [
        (row, places[f"point-{names.index(report.method_name(row, results))}-{row['passes']}"])
        for row in results["rows"]
    ]
    assert all(0 < x < width and 0 < y < height for _, (x, y) in rows)
    for axis, key, sign in ((0, "seconds_per_image", 1), (1, "fid", -1)):  # faster is further left, better is lower
        logs, drawn = np.log10([row[key] for row, _ in rows]), [place[axis] for _, place in rows]
        slope, start = np.polyfit(logs, drawn, 1)
        assert sign * slope > 0
        np.testing.assert_allclose(start + slope * logs, drawn, atol=0.01)
    words = "".join(root.itertext())
    assert all(name in words for name in names)


def test_the_plot_has_every_point_where_it_belongs(results, tmp_path):
    pareto.write_svg(report.methods(results), tmp_path / "a.svg")
    assert_drawn(tmp_path / "a.svg", results)
    pareto.write_svg(report.methods(results), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(BenchmarkError, match="nothing to plot"):
        report.methods({**results, "rows": []})


def test_the_chart_has_every_row(results):
    figure = json.loads(charts.benchmark(results))
    *methods, best = figure["data"]
    found = {
        (trace["name"], text): (x, y)
        for trace in methods
        for text, x, y in zip(trace["text"], trace["x"], trace["y"], strict=True)
    }
    wanted = {
        (report.method_name(row, results), f"{row['passes']:,}"): (row["seconds_per_image"], row["fid"])
        for row in results["rows"]
    }
    assert found == wanted
    assert list(zip(best["x"], best["y"], strict=True)) == [
        (row["seconds_per_image"], row["fid"]) for row in pareto.frontier(results["rows"])
    ]
    for axis, values in (("xaxis", [x for x, _ in wanted.values()]), ("yaxis", [y for _, y in wanted.values()])):
        assert figure["layout"][axis]["type"] == "log"
        low, high = figure["layout"][axis]["range"]
        assert 10**low < min(values) <= max(values) < 10**high
    ids = [key for trace in methods for key in trace["ids"]]
    assert sorted(ids) == sorted(f"{row['method']}:{row['passes']}@tiny" for row in results["rows"])
    cells = {(name, passes, fid) for name, passes, _, fid in figure["layout"]["meta"]["rows"]}
    assert cells == {(*key, f"{fid:.2f}") for key, (_, fid) in wanted.items()}


def test_the_page_s_block_is_renewed(results, tmp_path):
    readme, folder = tmp_path / "README.md", tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("tiny", "tiny-long"):  # two benchmarks of one checkpoint
        (folder / f"{name}.json").write_text(json.dumps(results))
    blocks = "".join(f"<!-- benchmark {name} -->\nold\n<!-- /benchmark {name} -->\n" for name in ("tiny", "tiny-long"))
    readme.write_text(f"before\n{blocks}after\n")
    assert sorted(report.write_page(readme, folder)) == ["tiny", "tiny-long"]
    text = readme.read_text()
    assert "old" not in text
    assert text.count("24 images a seed, 2 seeds") == 2
    assert "assets/benchmarks/tiny-long.svg" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert f"{results['rows'][0]['fid']:.2f}" in text
    assert_drawn(folder / "tiny.svg", results)
    report.write_page(readme, folder)
    assert readme.read_text() == text
    with pytest.raises(BenchmarkError, match="needs the lines"):
        report.with_figures("nothing", results, "tiny")


# --- the command line


def call(monkeypatch, *arguments):
    """`python -m pixelviz bench ...`; the exit status."""
    monkeypatch.setattr("sys.argv", ["pixelviz", "bench", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


def test_bench_writes_its_file_and_prints_the_table(checkpoint, reference, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "bundled_reference", lambda *_: reference)
    path = tmp_path / "new" / "tiny.json"
    arguments = ["--checkpoint", checkpoint.folder, "--json", path, "--device", "cpu"]
    assert call(monkeypatch, *arguments, "--methods", "parallel:1,ddim:2", "--samples", 20, "--seeds", 1) == 0
    assert {(row["method"], row["passes"]) for row in read_results(path)["rows"]} == {("parallel", 1), ("ddim", 2)}
    assert "DDIM" in capsys.readouterr().out


def test_the_copied_command_measures_the_same_table(checkpoint, reference, tmp_path, monkeypatch):
    """All that does not depend on the day: methods, runs and quality."""
    monkeypatch.setattr(benchmark, "bundled_reference", lambda *_: reference)
    monkeypatch.chdir(checkpoint.folder.parents[1])
    found = Service([checkpoint.folder.parent, tmp_path], device="cpu").find("tiny")
    asked = ["--methods", ",".join(METHODS), "--samples", 24, "--seeds", 2, "--json", tmp_path / "r.json"]
    assert call(monkeypatch, "--checkpoint", checkpoint.folder, *asked, "--device", "cpu") == 0
    results = read_results(tmp_path / "r.json")
    line = bench_command(found, results)
    assert line.endswith(" --no-judge")
    assert call(monkeypatch, *shlex.split(line)[4:], "--device", "cpu") == 0
    made = read_results(Path("tiny-24.json"))
    measures = [[row[:7] for row in report.table_rows(one)] for one in (made, results)]
    assert measures[0] == measures[1]
    assert bench_command(found, results | {"judge": "ImageNet"}).endswith(" --judge")
    of_peers = [*results["rows"], results["rows"][2] | {"model": "small"}]
    assert bench_command(found, results | {"rows": of_peers}).endswith("# and --peer with the folder of: small")
    bare = bench_command(replace(found, parts=("scale_vae", "parallel_unet")), results)
    assert bare.endswith("# and with the checkpoint's linear_twin, which is not bundled")


def test_bench_refuses_in_one_line(checkpoint, tmp_path, monkeypatch, capsys):
    folder = ["--checkpoint", checkpoint.folder]
    assert call(monkeypatch, *folder, "--json", tmp_path / "r.json") == 2  # nothing says where squares are
    assert call(monkeypatch, *folder) != 0
    assert call(monkeypatch, "--json", tmp_path / "r.json") != 0
    said = "".join(capsys.readouterr())
    assert "trained on squares" in " ".join(said.replace("│", " ").split())
    assert "Traceback" not in said


def test_the_quick_setting_is_small(checkpoint):
    methods = parse_methods(benchmark.quick_methods())
    assert {"parallel", "ddim", "dpm++", "unipc"} == {method for method, _ in methods}
    assert benchmark.QUICK_SAMPLES * sum(passes for _, passes in methods) < 15_000  # runs of a network per image


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format=2), "format must be one of 1"),
        (lambda r: r["rows"][0].pop("fid"), r"lacks rows\[0\]\.fid"),
        (lambda r: r["rows"][1].update(passes=True), r"rows\[1\]\.passes must be a whole number"),
        (lambda r: r["rows"][0].update(recall=1.5), r"rows\[0\]\.recall must be a number from 0 to 1; it is 1\.5"),
        (lambda r: r["rows"][0]["seeds"][0].update(kid="low"), r"rows\[0\]\.seeds\[0\]\.kid must be a number"),
        (lambda r: r["rows"][0]["parts"].update(nose=3), r"rows\[0\]\.parts\.nose must be an object"),
    ],
)
def test_results_of_another_kind_are_refused_by_what_is_wrong_in_them(tmp_path, change, message):
    results = json.loads((report.RESULTS / "fashion-mnist.json").read_text())
    assert read_results(report.RESULTS / "fashion-mnist.json") == results
    change(results)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    with pytest.raises(BenchmarkError, match=message):
        read_results(path)


def test_the_bits_per_dimension_are_those_of_the_held_out_images_and_are_measured_once(
    checkpoint, reference, tmp_path, monkeypatch
):
    path, images = tmp_path / "r.json", tiny_images(8).images
    last = run(checkpoint, path, reference, methods=["ddim:2"], held_out=images)
    wanted = bits_per_dimension(checkpoint.model, CPU, images)
    assert read_results(path)["bits_per_dimension"] == last.figures["bits_per_dimension"] == wanted
    assert set(wanted) == {"ours", "twin"}
    said = f"tiny {wanted['ours']['all']:.2f}, its linear-beta twin {wanted['twin']['all']:.2f}"
    assert said in report.conditions(last.figures)
    monkeypatch.setattr(benchmark, "bits_per_dimension", None)
    again = run(checkpoint, path, reference, methods=["ddim:2", "ddim:4"], held_out=images)
    assert again.figures["bits_per_dimension"] == wanted
