"""One's own pictures: a model of them is judged as any other, from what its run says of itself."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pixelviz import __main__ as cli
from pixelviz.config import PRESETS, TrainConfig
from pixelviz.data.sets import to_unit
from pixelviz.devices import choose
from pixelviz.learning.held_out import SEED, held_out_losses
from pixelviz.learning.losses import draw_step, forward_noise
from pixelviz.measure import judges
from pixelviz.measure.nearest import UNJUDGED, memorised
from pixelviz.store import checkpoints
from tests.served import folder_of_images
from tests.test_peers import save_pipeline
from tests.tiny import TINY, tiny_images, tiny_model

ROOT = Path(__file__).parents[1]
CPU = choose("cpu", "float32")


def call(*arguments):
    """Run a command of the command line; gives typer's result."""
    app = cli._cli(str(arguments[0]))
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [str(one) for one in arguments])


def test_a_launch_of_one_process_says_so_and_what_starts_several(model, monkeypatch):
    """`accelerate launch --cpu --num_processes 2` starts one where there is no MPI; this variable is all it leaves."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    done = call("train", "--out", model, "--resume", "--steps", 4, "--device", "cpu")
    assert done.exit_code == 0, done.exception
    assert "Processes: 1; on processors several are started by: torchrun --nproc_per_node 2" in done.output


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model of 90 pictures in two folders, trained from where these were named by a relative path."""
    root = tmp_path_factory.mktemp("own")
    for k, image in enumerate(tiny_images(90).images):
        (root / "nested" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(root / "nested" / "ab"[k % 2] / f"{k}.png")
    with pytest.MonkeyPatch.context() as patch, PRESETS.extended(TINY):
        patch.chdir(root)
        own = ["--steps", 3, "--batch", 8, "--device", "cpu", "--parts", "scale_vae,parallel_unet"]
        done = call("train", "--data", "nested", "--out", "run", "--preset", "tiny", *own)
        assert done.exit_code == 0, done.output
    return root / "run"


@pytest.mark.skipif(not judges.installed(), reason="needs the extra judge")
def test_evaluating_a_recorded_folder_gives_every_figure(model, tmp_path):
    """With 9 pictures held out all are compared with, and it is said; no word of a classifier."""
    settings = ["--samples", 40, "--passes", "1,2", "--starts", "consistent", "--device", "cpu", "--write"]
    files = ["--json", tmp_path / "e.json", "--nearest", tmp_path / "near.png"]
    done = call("evaluate", "--checkpoint", model, *settings, *files)
    assert done.exit_code == 0, done.exception
    assert "9 held-out images are few" in done.output
    assert "classifier" not in done.output
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["data"] == "nested (9 test images)"
    assert found["judge"] == found["features"]
    assert found["features"].endswith("90 images")
    for row in found["generation"]:
        assert row["fid"] == pytest.approx(row["judge"]["fid"], abs=1e-3)
        assert set(row["judge"]) == {"fid", "kid", "precision", "recall"}
    assert set(found["held_out"]) == {f"scale_vae/{k}" for k in ("x_delta", "log_x_delta", "kl")} | {
        f"parallel_unet/{k}" for k in ("head_i", "all_heads", "head_T")
    }
    assert found["nearest"]["memorised"] is None  # squares at few places: held-out ones are learnt as well
    assert Image.open(tmp_path / "near.png").size == (16 * 16, 2 * 16)
    assert checkpoints.load(model).record.figures["held_out"] == found["held_out"]


def test_held_out_losses_are_those_of_the_formula():
    """The twin's by hand: mean square of x0_hat - x0 at the same i, noise and code, and finite for all."""
    model = tiny_model()
    training = TrainConfig(parts=model.parts, heads_per_step=2)
    images = tiny_images(12)
    found = held_out_losses(model, images, training, CPU)
    assert found == held_out_losses(model, images, training, CPU)
    assert np.isfinite(list(found.values())).all()
    draws = draw_step(model.config, training, 12, torch.Generator().manual_seed(SEED))["twin"]
    x0 = to_unit(images.images, model.config.floor)
    with torch.no_grad():
        code = model.twin.encode(forward_noise(model, x0, x0, draws.i, draws.noise), draws.i)
        z = code.mean + (code.log_variance / 2).exp() * draws.code
        wanted = (model.twin.decode(z, draws.i) - x0).square().mean().item()
    assert found["twin/x0"] == pytest.approx(wanted, rel=1e-5)


def test_what_is_memorised_is_found():
    generator = torch.Generator().manual_seed(0)
    training, test, other = torch.randint(0, 256, (3, 60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    half = torch.cat([training[:20], other[:20]])
    pictures, figures = memorised(half, training, test)
    assert figures["memorised"] == 0.5
    assert torch.equal(pictures[0], pictures[1])  # the sixteen nearest are copies
    assert memorised(other, training, test)[1]["memorised"] == 0


def test_with_a_handful_of_pictures_nobody_can_say_what_is_memorised(model, tmp_path, monkeypatch):
    """None are held out of nine: the training pictures are the test's, and no sample could be nearer than these."""
    monkeypatch.setattr("pixelviz.commands.measure.SAMPLES", 16)
    folder = folder_of_images(tmp_path / "nine", tiny_images(9).images)
    own = ["--data", folder, "--samples", 0, "--no-judge", "--nearest", tmp_path / "near.png", "--device", "cpu"]
    done = call("evaluate", "--checkpoint", model, *own, "--json", tmp_path / "e.json", "--write")
    assert done.exit_code == 0, done.exception
    assert f"learnt by heart {UNJUDGED}" in done.output
    assert json.loads((tmp_path / "e.json").read_text())["nearest"]["memorised"] is None
    assert checkpoints.load(model).record.figures["nearest"]["memorised"] is None


def test_the_criterion_is_said_as_it_is(model, tmp_path, monkeypatch):
    monkeypatch.setattr("pixelviz.commands.measure.SAMPLES", 16)
    images = torch.randint(0, 256, (40, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    own = ["--data", folder_of_images(tmp_path / "forty", images), "--samples", 0, "--no-judge", "--device", "cpu"]
    done = call("evaluate", "--checkpoint", model, *own, "--nearest", tmp_path / "near.png")
    assert done.exit_code == 0, done.exception
    said = "of 16 samples are nearer to a training image than 0.5 times the distance that all but the nearest 5% of the"
    assert f"{said} test images keep" in done.output


def test_what_nearest_raises_comes_before_the_measuring(model, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("this takes hours")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("pixelviz.measure.evaluation.evaluate", never)
    own = ["--samples", 0, "--no-judge", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr("pixelviz.commands.measure.memorised", full)
        done = call("evaluate", "--checkpoint", model, *own, "--nearest", tmp_path / "near.png")
        assert isinstance(done.exception, OSError)
        patch.setattr(checkpoints, "load", never)
        done = call("evaluate", "--checkpoint", model, *own, "--nearest", tmp_path / "near.jpg")
        assert "--nearest must end in .png; it is near.jpg." in done.output + str(done.exception)


def commands(page):
    """The lines of a page's bash blocks."""
    blocks = page.read_text(encoding="utf-8").split("```bash\n")[1:]
    return [line for block in blocks for line in block.split("```")[0].splitlines()]


@pytest.mark.skipif(not judges.installed(), reason="needs the extra judge")
def test_the_page_s_commands_run_as_they_stand(tmp_path, monkeypatch):
    """On 60 photographs of sorts, with a tiny diffusers model as the peer; every file that it speaks of is there."""
    generator = np.random.default_rng(0)
    for k in range(60):
        folder = tmp_path / "photos" / ("cats", "dogs")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / f"{k}.jpg")
    save_pipeline(tmp_path / "my-ddpm", side=32, channels=3)
    monkeypatch.chdir(tmp_path)
    lines = commands(ROOT / "docs" / "own-pictures.md")
    assert len(lines) == 7
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "pixelviz"]
        done = call(*words[3:])
        assert done.exit_code == 0, (line, done.output, done.exception)
    run = tmp_path / "runs" / "photos"
    there = {path.name for path in run.iterdir()}
    assert {"best", "kept", "sheets", "run.yaml", "losses.jsonl", "nearest.png"} <= there
    assert sorted(path.name for path in (run / "kept").iterdir()) == ["step-00000004", "step-00000006"]
    card = (tmp_path / "runs" / "published" / "model" / "README.md").read_text()
    assert 'base_model: "someone/photos-before"' in card
    assert "Classes: `cats`, `dogs`." in card
    rows = json.loads((tmp_path / "runs" / "photos-sharp" / "bench.json").read_text())["rows"]
    assert [(row["model"], row["method"]) for row in rows] == [("photos-sharp", "parallel"), ("my-ddpm", "ddim")]
