"""The cost figures: what is timed, what is divided by what, and that a real run writes them."""

import json
import sys
import time

import pytest
import torch

from pixelviz import __main__ as cli
from pixelviz.config import PRESETS, ConfigError
from pixelviz.learning import costs
from pixelviz.learning.costs import in_turns, measure
from pixelviz.paper import PARAMETERS
from tests.tiny import tiny_config

CPU = torch.device("cpu")
MANY_HEADS = tiny_config(T=300)  # so many that they outweigh the tiny backbone


@pytest.fixture(scope="module")
def states():
    return list(measure(MANY_HEADS, device="cpu", batch=2, repeats=3))


def times_of(runs, repeats=3):
    """What in_turns returns, and the rounds it reports."""
    states, turns = [], in_turns("work", runs, repeats, CPU, done=2, total=9)
    while True:
        try:
            states.append(next(turns))
        except StopIteration as end:
            return end.value, states


def test_runs_take_turns_and_the_first_round_does_not_count():
    order = []
    times, states = times_of({"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert [(state.done, state.total) for state in states] == [(3, 9), (4, 9), (5, 9), (6, 9)]
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]  # a round to warm up, then three
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_of_medians_by_both_clocks():
    def busy():
        end, clock = time.process_time() + 0.02, time.perf_counter() + 0.02
        while time.process_time() < end or time.perf_counter() < clock:  # other threads may use the processor, too
            pass

    times, _ = times_of({"busy": busy, "asleep": lambda: time.sleep(0.02)})
    clock, processor = costs._ratio(times, "busy", "asleep", CPU)
    assert all(clock >= 0.02 for name in times for clock, _ in times[name])
    assert processor > 4 * clock  # asleep, a process takes no processor time
    assert costs._ratio(times, "busy", "asleep", torch.device("cuda"))[1] is None


def test_progress_reaches_its_total_with_the_figures(states):
    assert [state.done for state in states] == [*range(1, states[-1].total + 1), states[-1].total]
    assert [state.figures is None for state in states] == [True] * (len(states) - 1) + [False]


def test_figures_of_a_tiny_model(states):
    figures = states[-1].figures
    assert figures["head_cost_ratio"] == pytest.approx(figures["seconds_all_heads"] / figures["seconds_one_head"])
    assert figures["training_ratio"] == pytest.approx(figures["images_per_second"] / figures["bare_images_per_second"])
    assert figures["head_cost_ratio_cpu_time"] > 0
    assert figures["training_ratio_cpu_time"] > 0
    assert figures["seconds_per_image"] > 0
    assert figures["one_pass_ratio"] > 0
    assert figures["one_pass_ratio_cpu_time"] > 0
    assert figures["few_heads_ratio"] > 0
    assert figures["few_heads_ratio_cpu_time"] > 0
    assert figures["config"] == MANY_HEADS.to_dict()
    assert set(figures["parameters"]) == {"scale_vae", "parallel_unet"}
    assert figures["environment"]["threads"] == torch.get_num_threads()
    for peak in figures["peak_memory"].values():
        assert peak is None or peak > 50


def test_impossible_settings_are_refused():
    for settings in ({"batch": 0}, {"repeats": 0}):
        with pytest.raises(ConfigError, match="must be 1 to"):
            next(measure(tiny_config(), device="cpu", **settings))


@pytest.fixture
def run(monkeypatch, capsys, tiny_preset):
    """Run `python -m pixelviz ...` with a preset "tiny"; gives (exit status, all that it printed)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["pixelviz", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, " ".join((captured.out + captured.err).split())

    return call


def test_bench_writes_what_it_shows(run, tmp_path):
    file = tmp_path / "new" / "b.json"
    settings = ("--batch", 1, "--repeats", 1, "--threads", 1, "--device", "cpu", "--head-attention", "linear")
    status, text = run("bench", "--preset", "tiny", "--json", file, *settings)
    assert status == 0
    written = json.loads(file.read_text())
    assert (written["preset"], written["batch"], written["head_attention"]) == ("tiny", 1, "linear")
    assert f"all T heads / one head │ {written['head_cost_ratio']:.3f}" in text
    assert f"one pass / DDIM with 10 steps │ {written['one_pass_ratio']:.3f}" in text
    assert f"training / bare │ {written['training_ratio']:.3f}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "huge"), "no preset 'huge'"),
        (("--preset", "tiny", "--batch", 0), "batch must be 1 to 4096"),
        (("--preset", "tiny", "--head-attention", "half"), "off, full, pooled, linear, shared"),
        ((), "--preset"),
    ],
)
def test_wrong_settings_are_a_message(run, arguments, message):
    status, text = run("bench", *arguments)
    assert status != 0
    assert message in text
    assert "Traceback" not in text


@pytest.mark.parametrize("name", [name for name, row in PRESETS.items() if row.paper])
def test_inspect_compares_with_the_paper(run, tmp_path, name):
    status, text = run("inspect", "--preset", name, "--json", tmp_path / "i.json")
    assert status == 0
    parts = json.loads((tmp_path / "i.json").read_text())["parts"]
    for part, millions in PARAMETERS[PRESETS[name].paper].items():
        assert parts[part]["paper"] == millions
        difference = (parts[part]["parameters"] - millions) / millions
        assert parts[part]["difference_percent"] == pytest.approx(100 * difference)
        assert abs(parts[part]["difference_percent"]) <= 2
        assert f"{parts[part]['parameters']:,}" in text
        assert f"{parts[part]['difference_percent']:+.2f} %" in text
    assert "paper" not in run("inspect", "--preset", "compact")[1]


def test_a_ratio_is_of_medians_and_the_first_is_above():
    """On given times, so that it holds whatever else the machine does: clock 6 over 2, processor time 5 over 4."""
    times = {"all": [(5.0, 5.0), (6.0, 1.0), (90.0, 9.0)], "one": [(2.0, 4.0), (1.0, 4.0), (3.0, 40.0)]}
    assert costs._ratio(times, "all", "one", torch.device("cpu")) == (3.0, 1.25)
    assert costs._ratio(times, "all", "one", torch.device("cuda")) == (3.0, None)
    assert costs._ratio(times, "one", "all", torch.device("cpu")) == (pytest.approx(1 / 3), 0.8)
