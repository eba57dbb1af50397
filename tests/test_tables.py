"""One contract for every row of every table, and CONTRIBUTING.md's examples, executed and put to work."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from pixelviz import __main__ as cli
from pixelviz import paper
from pixelviz.config import PRESETS, ModelConfig, Preset, preset
from pixelviz.data.sets import DATASETS, DataSet, load_images, origin_of
from pixelviz.devices import Compute
from pixelviz.lesson import pages
from pixelviz.measure import benchmark, report
from pixelviz.measure.benchmark import Reference
from pixelviz.measure.metrics import features_of, statistics_of
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.schedules import SCHEDULES, ScheduleRow, by_pixel
from pixelviz.samplers import SAMPLERS, STARTS, ImageNoise, Sampler, draw
from pixelviz.samplers.starts import consistent
from pixelviz.service.jobs import Asked, TrainingJobs
from pixelviz.tables import Table
from tests.served import empty_service, train_tiny
from tests.test_benchmark import Means
from tests.tiny import randomised, tiny_config, tiny_images, tiny_model

CPU = Compute(torch.device("cpu"), None)
GUIDE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLES = (SAMPLERS, STARTS, SCHEDULES, DATASETS, PRESETS)


def blocks(section, language="python"):
    """The code blocks of a section."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)[1]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def example(section, **names):
    """The row that a section's last block gives, with what its first defines."""
    *made, row = blocks(section)
    space = dict(names)
    for block in made:
        exec(block, space)
    return eval(row, space)


# --- The contract


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.what)
def test_rows_have_a_name_and_a_title_of_their_own(table):
    for name, row in table.items():
        assert row.name == name
        assert re.fullmatch(r"[a-z0-9+-]+", name)
        with pytest.raises(ValueError, match="name or title"):
            table.add(row)
        with pytest.raises(ValueError, match="name or title"):
            table.add(dataclasses.replace(row, name=f"{name}-again"))
    assert len(dict(table.choices())) == len(table)
    with pytest.raises(table.error, match=f"no {table.what} 'nothing'; there are: {table.first}"):
        table.find("nothing")


def test_a_table_extended_is_as_before_when_it_is_over():
    row = SAMPLERS[SAMPLERS.first]
    table = Table("thing", [row])
    with table.extended(dataclasses.replace(row, name="other", title="Other")):
        assert list(table) == [row.name, "other"]
    assert list(table) == [row.name]
    with pytest.raises(ValueError, match="needs a name"):
        table.add(dataclasses.replace(row, name=""))


def run_of(row, passes):
    """A sampler's states on a tiny model, and how often its network ran."""
    model = randomised(PixelAwareModel(tiny_config(head_target=row.head_target or "v"), row.needs))
    with benchmark.counted_runs(getattr(model, row.network)) as runs:
        states = list(draw(model, CPU, n=1, sampler=row.name, passes=passes))
    return model, states, len(runs)


def check_sampler(row):
    """What a row of SAMPLERS says is what its sampler does."""
    assert re.search(r"\d", row.citation)
    for passes in (1, 2, 5) if row.passes else (1,):
        model, states, runs = run_of(row, passes)
        assert runs == states[-1].network_evaluations == row.runs(passes)
        assert len(states) == row.yields(model.config, passes)
        steps = [state.i for state in states]
        assert steps == sorted(steps, reverse=True)
        assert steps[-1] == 0
        if row.states is not None:
            assert steps == row.states(model.config, passes)
    assert row.ours == (row.states is not None)
    assert set(row.raced) <= set(row.compared)
    assert row.aim is None or row.compared
    assert row.variant_of is None or not SAMPLERS[row.variant_of].ours


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_does_what_its_row_says(name):
    check_sampler(SAMPLERS[name])


def check_schedule(row):
    """A row's schedule starts at 0, falls, has the slope it says, and depends on the pixel if it is ours."""
    schedule, i = row.build(40, 3.0), torch.arange(41, dtype=torch.float64)
    x0 = torch.tensor([0.2, 1.0], dtype=torch.float64)[:, None]
    log_bar = schedule.log_alpha_bar(x0, i)
    assert (log_bar[:, 0] == 0).all()
    assert (log_bar.diff(dim=1) < 0).all()
    torch.testing.assert_close(schedule.log_alpha(x0, i[1:]), log_bar.diff(dim=1))
    torch.testing.assert_close(schedule.log_between(x0, 40, i), log_bar[:, -1:] - log_bar)
    assert bool((log_bar[1, 1:] < log_bar[0, 1:]).all()) == (row.side == "ours")
    if row.side == "ours":
        torch.testing.assert_close(schedule.step_at(schedule.clock(i)), i)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_keeps_its_contract(name):
    check_schedule(SCHEDULES[name])


def check_data_set(row):
    """A row's images come as asked for, under its id."""
    if not row.bundled:
        assert row.images["train"] > row.images["test"]
        return
    for split in ("train", "test"):
        found = load_images(row.name, split=split, size=16, channels=4 - row.channels, limit=6)
        assert found.images.shape == (6, 4 - row.channels, 16, 16)
        assert (found.origin.id, found.origin.split, found.origin.number) == (row.name, split, 6)
        assert origin_of(dataclasses.asdict(found.origin)) == found.origin
        if row.classes:
            assert found.labels.max() < len(row.classes)


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_keeps_its_contract(name):
    row = DATASETS[name]
    check_data_set(row)
    assert all((row.citation, row.licence))
    assert (row.classifier is None) == (row.reference is None)
    for path in filter(None, (row.classifier, row.reference)):
        assert path.is_file()


def test_an_old_checkpoint_s_sentence_names_its_row():
    for name, row in DATASETS.items():
        whole = dataclasses.replace(row.origin, number=row.images["train"], total=row.images["train"])
        parts = [other for other in DATASETS.values() if other.called == row.called]
        total = max(other.images["train"] for other in parts)
        assert origin_of(str(dataclasses.replace(whole, total=total))).id == name
    assert origin_of("squares").title == "squares"


def check_preset(row):
    assert ModelConfig.from_dict(row.config.to_dict()) == row.config == preset(row.name)
    with torch.device("meta"):
        model = PixelAwareModel(row.config)
    assert row.parameters in (None, model.parameter_counts())
    assert row.paper is None or row.paper in paper.TABLES


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_model_that_can_be_built(name):
    check_preset(PRESETS[name])


# --- Adding a row


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    train_tiny(root / "checkpoints" / "tiny", parts=("scale_vae", "parallel_unet", "linear_twin"))
    return root


@pytest.fixture
def heun():
    with SAMPLERS.extended(example("A sampler", Sampler=Sampler)) as row:
        yield row


def test_a_new_sampler_is_of_second_order(heun):
    """x0 ~ N(m, s^2) in every pixel: the flow keeps (x_i - sqrt(abar) m) / sqrt(abar s^2 + 1 - abar)."""
    check_sampler(heun)
    mean, spread = 0.5, 0.2

    class Best(torch.nn.Module):
        def forward(self, x_i, x_delta, i, heads=None, *, drift=False):
            bar = model.schedule.alpha_bar(model.rate_x0(x_delta), i.item())
            x0_hat = mean + bar.sqrt() * spread**2 / (bar * spread**2 + 1 - bar) * (x_i - bar.sqrt() * mean)
            return ((bar.sqrt() * x_i - x0_hat) / (1 - bar))[:, None]

    model = tiny_model(T=400, gamma=8.0, i_min=0.01)
    model.parallel_unet = Best()
    start = consistent(model, ImageNoise(0, 1))
    start = start._replace(x_T=start.x_T.double(), x_delta=start.x_delta.double())
    bar = model.schedule.alpha_bar(model.rate_x0(start.x_delta), 400)
    exact = mean + spread * (start.x_T - bar.sqrt() * mean) / (bar * spread**2 + 1 - bar).sqrt()

    def error(name, passes):
        *_, last = SAMPLERS[name].run(model, start, ImageNoise(0, 1), passes=passes)
        return (last.x - exact).abs().mean().item()

    first, second = (error(name, 20) / error(name, 80) for name in ("rotation", heun.name))
    assert 2.5 < first < 6  # order 1: a quarter of the step, a quarter of the error
    assert second > 8  # order 2 tends to a sixteenth; of order 1.5 it would be an eighth
    assert error(heun.name, 80) < error("rotation", 159) / 2  # for as many runs of the network


def test_a_new_sampler_works_everywhere(heun, folder, tmp_path, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["pixelviz", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert not caught.value.code, capsys.readouterr()

    checkpoint = folder / "checkpoints" / "tiny"
    call(
        "sample", "--checkpoint", checkpoint, "--n", 2, "--passes", 3, "--sampler", "heun", "--out", tmp_path / "s.png"
    )
    assert "5 network evaluations" in " ".join(capsys.readouterr().out.split())
    service = empty_service(folder)
    *_, made = service.generate("tiny", 2, 3, sampler="heun")
    assert [i for i, _ in made.magnitudes] == heun.states(service.find("tiny").config, 3)
    assert all(frame.any() for frame in made.trajectory(0, 4))
    key = next(case.key for case in service.contenders("tiny") if case.label == "heun:5")
    *_, race = service.race("tiny", [key], n=1)
    assert (race.lanes[0].name, race.lanes[0].progress, race.lanes[0].runs) == ("Heun, 5 passes", 1, 9)
    assert benchmark.parse_methods(["heun:3", "heun"]) == [("heun", 3), ("heun", None)]
    with pytest.raises(benchmark.BenchmarkError, match=r"heun"):
        benchmark.parse_methods(["heun:x"])
    assert benchmark.Case("heun", 5, "tiny") in benchmark.cases(service.checkpoint("tiny"), "tiny")
    features = features_of(tiny_images(40).images, Means())
    reference = Reference(statistics_of(features), features, Means(), "means of quarters")
    monkeypatch.setattr(benchmark, "bundled_reference", lambda *_: reference)
    path = tmp_path / "tiny.json"
    sizes = ["--samples", 10, "--seeds", 1, "--device", "cpu"]
    call("bench", "--checkpoint", checkpoint, "--json", path, "--methods", "heun:5,ddim:10", *sizes)
    results = benchmark.read_results(path)
    assert [row[:3] for row in report.table_rows(results)] == [["DDIM", "10", "10"], ["Heun (second order)", "5", "9"]]
    assert "Heun (second order)" in {one.name for one in report.methods(results)}


def test_a_new_schedule_is_trained_and_drawn_with(tmp_path):
    with SCHEDULES.extended(example("A schedule", ScheduleRow=ScheduleRow, __name__="example")) as row:
        check_schedule(row)
        assert row.name in by_pixel()
        train_tiny(tmp_path / "checkpoints" / "new", schedule=row.name)
        service = empty_service(tmp_path)
        *_, made = service.generate("new", 1, 2)
        assert made.images.shape == (1, 16, 16, 1)
        assert service.checkpoint("new").model.schedule == row.build(8, 4.0)


def test_a_new_data_set_is_loaded_by_its_name():
    with DATASETS.extended(example("A data set", DataSet=DataSet)) as row:
        check_data_set(row)
        assert str(load_images("stripes", size=32, channels=1).origin) == "Stripes (16 training images)"


def test_a_new_preset_can_be_chosen(tmp_path):
    with PRESETS.extended(example("A preset", ModelConfig=ModelConfig, Preset=Preset)) as row:
        check_preset(row)
        assert (row.title, row.name) in PRESETS.choices()
        jobs = TrainingJobs(empty_service(tmp_path))
        assert jobs._plan(Asked(preset=row.name)).config == row.config


@pytest.fixture
def words(tmp_path, monkeypatch):
    (tmp_path / "en.json").write_text((pages.LESSONS / "en.json").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(pages, "LESSONS", tmp_path)
    pages.languages.cache_clear()
    yield tmp_path
    pages.languages.cache_clear()


def test_a_language_may_have_three_lines(words):
    (text,) = blocks("A language", "json")
    assert len(text.splitlines()) == 3
    (words / "de.json").write_text(text, encoding="utf-8")
    found = pages.languages()
    ((key, value),) = json.loads(text).items()
    assert found["de"] == {**found["en"], key: value}


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ("[]", "texts in braces"), ('{"NESTED": []}', "NESTED, must be texts in")]
)
def test_a_language_of_other_kinds_is_refused(words, text, message):
    english = json.loads((words / "en.json").read_text(encoding="utf-8"))
    nested = next(key for key, value in english.items() if isinstance(value, dict))
    (words / "xx.json").write_text(text.replace("NESTED", nested), encoding="utf-8")
    with pytest.raises(pages.LanguageError, match=message.replace("NESTED", nested)):
        pages.languages()
