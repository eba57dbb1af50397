"""The command line's options are the declarations' fields, and a training is one that can be watched and stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from pixelviz.commands import common, draw, follow, learn
from pixelviz.commands.options import Options, takes
from pixelviz.config import ModelConfig, TrainConfig
from pixelviz.declare import fields_of
from pixelviz.learning.training import TrainStep
from pixelviz.store import checkpoints, runs

ROOT = Path(__file__).parents[1]
WIDE = {"COLUMNS": "400", "TERM": "dumb"}


def call(command, *arguments):
    """Run one command of the command line; gives typer's result."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    return CliRunner(env=WIDE).invoke(app, [str(one) for one in arguments])


@pytest.fixture
def images(tmp_path, tiny_preset):
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(20):
        Image.fromarray(np.full((16, 16), 12 * k, np.uint8)).save(folder / f"{k:02}.png")
    return folder


def test_every_field_has_an_option_with_its_help():
    said = " ".join(call(learn.train, "--help").output.split())
    for declaration in (ModelConfig, TrainConfig):
        for name, field in fields_of(declaration).items():
            assert f"--{name.replace('_', '-')}" in said
            assert field.description
            assert " ".join(field.description.split()) in said


def test_only_what_is_given_reaches_the_command():
    seen = {}

    @takes(model=Options(ModelConfig, "Model"), training=Options(TrainConfig, "Training"))
    def command(model: dict, training: dict, out: str = "", times: int = 2) -> None:
        seen.update(out=out, model=model, training=training, times=times)

    done = call(command, "--out", "x")
    assert done.exit_code == 0, done.output
    assert seen == {"out": "x", "model": {}, "training": {}, "times": 2}
    arguments = ["--vae-widths", "8, 16", "--no-true-scale", "--parts", "twin,scale_vae", "--ema", "0.5", "--flips"]
    assert call(command, "--out", "x", "--channels", "3", *arguments).exit_code == 0
    assert seen["model"] == {"channels": 3, "vae_widths": (8, 16), "true_scale": False}
    assert seen["training"] == {"parts": ("twin", "scale_vae"), "ema": 0.5, "flips": True}
    wrong = call(command, "--out", "x", "--vae-widths", "8,wide")
    assert wrong.exit_code == 2
    assert "whole numbers with commas" in wrong.output


def test_help_shows_its_brackets():
    assert "[[row, column, channel], ...]" in " ".join(call(draw.export, "--help").output.split())


def train(images, out, *arguments):
    return call(learn.train, "--data", images, "--out", out, "--batch", 4, "--device", "cpu", *arguments)


def resume(out, *arguments):
    return call(learn.train, "--out", out, "--resume", "--device", "cpu", *arguments)


def test_resuming_changes_nothing_that_is_not_given(images, tmp_path):
    """Target, cosine, images, title and all settings stay; interrupted before its second step, the run goes on."""
    out = tmp_path / "run"
    own = ["--images", 6, "--title", "Greys", "--steps", 3, "--ema", 0.7, "--clip", 0.5, "--terminal-share", 0.5]
    own += ["--warmup", 1, "--heads-per-step", 2, "--accumulate", 2, "--flips", "--parts", "twin", "--seed", 4]
    assert train(images, out, "--preset", "tiny", *own).exit_code == 0
    before = runs.recipe_of(out)
    assert before.training.ema == 0.7
    assert before.training.flips
    ended = resume(out)
    assert ended.exit_code == 1
    assert "made 3 steps already" in str(ended.exception)
    assert resume(out, "--steps", 5).exit_code == 0
    after = runs.recipe_of(out)
    assert after.data == before.data
    assert after.training == TrainConfig(**before.training.__dict__ | {"steps": 5})
    record = checkpoints.read_config(out)[2]
    assert str(record.data) == "Greys (6 of the 18 training images)"
    assert [one["images_seen"] for one in record.history] == [{"twin": 20}]


def test_what_contradicts_the_run_that_goes_on_is_refused(images, tmp_path):
    out = tmp_path / "run"
    assert train(images, out, "--preset", "tiny", "--steps", 1, "--parts", "twin").exit_code == 0
    for arguments in (["--preset", "compact"], ["--latent", 5], ["--true-scale"]):
        refused = resume(out, "--steps", 3, *arguments)
        assert refused.exit_code == 1
        assert "a resumed run cannot make it" in str(refused.exception)
    assert resume(out, "--steps", 2, "--preset", "tiny", "--latent", 4).exit_code == 0
    refused = train(images, tmp_path / "x", "--preset", "tiny", "--config", out / runs.RUN)
    assert refused.exit_code == 2


def test_a_run_is_asked_for_again_by_its_run_yaml(images, tmp_path):
    own = ["--preset", "tiny", "--steps", 2, "--parts", "scale_vae", "--kl-weight", 0.3, "--images", 9, "--latent", 6]
    assert train(images, tmp_path / "a", *own).exit_code == 0
    again = call(learn.train, "--config", tmp_path / "a" / "run.yaml", "--out", tmp_path / "b", "--device", "cpu")
    assert again.exit_code == 0
    assert runs.recipe_of(tmp_path / "b") == runs.recipe_of(tmp_path / "a")
    more = ["--out", tmp_path / "c", "--device", "cpu", "--steps", 3]
    assert call(learn.train, "--config", tmp_path / "a" / "run.yaml", *more).exit_code == 0
    assert runs.recipe_of(tmp_path / "c").training.steps == 3
    assert runs.recipe_of(tmp_path / "c").training.kl_weight == 0.3


def test_distilling_takes_the_data_from_the_record(images, tmp_path):
    own = ["--preset", "tiny", "--steps", 1, "--parts", "scale_vae,parallel_unet", "--images", 9, "--title", "Greys"]
    assert train(images, tmp_path / "a", *own).exit_code == 0
    settings = ["--pairs", 4, "--passes", 2, "--steps", 1, "--batch", 4, "--device", "cpu", "--ema", 0.5]
    done = call(learn.distill, "--checkpoint", tmp_path / "a", "--out", tmp_path / "b", *settings)
    assert done.exit_code == 0, done.exception
    assert runs.recipe_of(tmp_path / "b").data == runs.recipe_of(tmp_path / "a").data
    assert runs.recipe_of(tmp_path / "b").training.ema == 0.5


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_saves_and_resuming_goes_on(tmp_path, name):
    """A real process, asked to stop once its first steps are saved, ends well with a checkpoint of whole steps."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "pixelviz", "train", "--data", "fashion-mnist-10k", "--images", "64"]
    command += ["--out", str(out), "--steps", "100000", "--batch", "1", "--parts", "twin", "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--save-every", "0"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 200
        while not (out / runs.RUN).exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.1)
        process.send_signal(getattr(signal, name))
        said, _ = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "Stopping; saving" in said
    assert "Traceback" not in said
    assert re.search(r"step 1 of 100,000, \d+ images/s, [\d:]+ left", said)
    steps = checkpoints.load(out).record.steps["twin"]
    lines = (out / runs.LOSSES).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, steps + 1))


def test_progress_fits_80_columns(monkeypatch):
    """Step, images/s and time left in the first line, whole; a part's losses in each of the next."""
    console = Console(width=80, force_terminal=True, color_system=None, record=True)
    monkeypatch.setattr(follow, "console", console)
    names = ("scale_vae/x_delta", "scale_vae/log_x_delta", "scale_vae/kl", "twin/x0", "twin/kl", "parallel_unet/head_i")
    steps = (TrainStep(12_345, 20_000, dict.fromkeys(names, 1.25), 1234.5, 3600.0, 1.0) for _ in range(3))
    follow.follow(steps)
    last = console.export_text().split("training ")[-1]  # of the frames, drawn one over the other
    first, *losses = [line.rstrip() for line in f"training {last}".splitlines()]
    assert len(first) <= 80
    assert first.endswith("12345/20000 1234 images/s 1:00:00 left")
    assert losses[0] == "  scale_vae: x_delta 1.2500  log_x_delta 1.2500  kl 1.2500"
    assert max(map(len, losses)) <= 80


@pytest.mark.parametrize("width", [40, 80, 300])
def test_a_table_fits_its_screen_and_loses_nothing(monkeypatch, width):
    """Every cell stands whole in one line, with the keys of its row before it."""
    console = Console(width=width, record=True, color_system=None)
    monkeypatch.setattr(common, "console", console)
    head = ["Method", "Passes", *(f"a figure, the {k}th" for k in range(9))]
    rows = [[name, f"{n}", *(f"{name}-{n}-{k}" for k in range(9))] for name in ("parallel", "ddim") for n in (1, 50)]
    common.show_table(head, rows, keys=2, title="All", caption="Measured here.")
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    for row in rows:
        for cell in row[2:]:
            (line,) = [line for line in lines if f" {cell} " in line]
            assert [part.strip() for part in line.split("│")[1:3]] == row[:2]
    assert "Measured here." in " ".join(lines)


def test_losses_are_a_line_a_part():
    text = follow.losses_text({"twin/x0": 0.5, "twin/kl": 2.0, "parallel_unet/head_i": 0.25})
    assert text == "  twin: x0 0.5000  kl 2.0000\n  parallel_unet: head_i 0.2500"


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0:00"), (59.6, "1:00"), (3_723, "1:02:03")])
def test_the_time_left(seconds, said):
    assert follow.time_left(seconds) == said
