"""The command line as its users run it, on the smallest real checkpoint."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from pixelviz import __main__ as cli
from pixelviz.data.sets import load_images, origin_of
from pixelviz.devices import choose
from pixelviz.samplers import ImageNoise
from pixelviz.store import checkpoints
from tests.served import photo, train_tiny

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("cli") / "tiny")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `python -m pixelviz ...`; gives (exit status, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["pixelviz", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.mark.parametrize("passes", [1, 4])
def test_sample_npz(run, checkpoint, tmp_path, passes):
    out = tmp_path / "s.npz"
    status, text, _ = run("sample", "--checkpoint", checkpoint, "--n", 3, "--passes", passes, "--seed", 2, "--out", out)
    assert status == 0
    assert "s per image" in text
    with np.load(out) as data:
        assert data["images"].shape == (3, 16, 16, 1)
        assert data["images"].dtype == np.uint8
        assert int(data["network_evaluations"]) == passes
        assert float(data["seconds"]) > 0
        first = data["images"]
    run("sample", "--checkpoint", checkpoint, "--n", 2, "--passes", passes, "--seed", 2, "--out", out)
    with np.load(out) as data:
        assert np.abs(data["images"].astype(int) - first[:2]).max() <= 1


def test_sample_png_and_the_printed_way(run, checkpoint, tmp_path):
    out = tmp_path / "new" / "s.png"
    status, _, _ = run(
        "sample", "--checkpoint", checkpoint, "--n", 4, "--start", "printed", "--sampler", "printed", "--out", out
    )
    assert status == 0
    assert Image.open(out).size == (32, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--passes", 9], "passes must be between 1"),
        (["--sampler", "magic"], "no sampler 'magic'"),
        (["--start", "cold"], "no start 'cold'"),
        (["--n", 0], "at least 1"),
        (["--device", "abacus"], "not available"),
    ],
)
def test_wrong_settings_are_one_line_without_a_traceback(run, checkpoint, tmp_path, arguments, message):
    status, out, err = run("sample", "--checkpoint", checkpoint, "--out", tmp_path / "s.npz", *arguments)
    assert status != 0
    assert message in " ".join((out + err).split())
    assert "Traceback" not in out + err


def test_a_wrong_folder_and_a_wrong_file(run, checkpoint, tmp_path):
    status, _, err = run("sample", "--checkpoint", tmp_path / "none", "--out", tmp_path / "s.npz")
    assert status == 1
    assert "is not a folder" in err
    torch.save({}, tmp_path / "model.pt")
    status, _, err = run("inspect", "--checkpoint", tmp_path / "model.pt")
    assert status == 1
    assert "refused" in err
    status, _, err = run("sample", "--checkpoint", checkpoint, "--out", tmp_path / "s.gif")
    assert status != 0
    assert ".npz" in err


def test_inspect(run, checkpoint, tmp_path):
    status, text, _ = run("inspect", "--checkpoint", checkpoint, "--json", tmp_path / "i.json")
    assert status == 0
    assert "parallel_unet" in text
    written = json.loads((tmp_path / "i.json").read_text())
    assert written["config"]["T"] == 8
    weights = sum(p.numel() for p in checkpoints.load(checkpoint).model.scale_vae.parameters())
    assert written["parts"]["scale_vae"]["parameters"] == weights
    assert run("inspect")[0] != 0


def test_train_resume_and_evaluate(run, tmp_path, monkeypatch, tiny_preset):
    images = tmp_path / "images"
    images.mkdir()
    for k in range(20):
        Image.fromarray(np.full((16, 16), 12 * k, np.uint8)).save(images / f"{k:02}.png")
    out = tmp_path / "run"
    common = ["train", "--preset", "tiny", "--data", images, "--batch", 4, "--out", out]
    assert run(*common, "--steps", 2)[0] == 0
    status, _, err = run(*common, "--steps", 2)
    assert status == 1
    assert "already holds a checkpoint" in err
    assert run(*common, "--steps", 3, "--resume", "--step-power", 0.5)[0] == 0
    record = checkpoints.load(out).record
    assert record.steps["twin"] == 3
    assert record.training["step_power"] == 0.5
    status, text, _ = run(
        "evaluate", "--checkpoint", out, "--data", images, "--json", tmp_path / "e.json", "--write", "--images", 2
    )
    assert status == 0
    assert "Mean SSIM" in text
    figures = json.loads((tmp_path / "e.json").read_text())
    assert list(figures["ssim_x_delta"]) == ["1", "2", "4", "8"]
    assert "generation" not in figures  # no reference statistics for these images
    assert checkpoints.load(out).record.figures["ssim_x_delta"] == figures["ssim_x_delta"]


@pytest.fixture
def picture(tmp_path):
    """A gray picture of the checkpoint's size, as a file."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo(16, 16, channels=1)).save(path)
    return path


def test_scale_is_that_of_the_network_by_scikit_image(run, checkpoint, picture, tmp_path):
    out, figures = tmp_path / "new" / "sheet.png", tmp_path / "figures.json"
    status, text, _ = run(
        "scale", "--checkpoint", checkpoint, "--image", picture, "--i", 5, "--seed", 3, "--out", out, "--json", figures
    )
    assert status == 0
    model, pixels = checkpoints.load(checkpoint).model, np.asarray(Image.open(picture)) / 255
    config = model.config
    x0 = config.floor + (1 - config.floor) * torch.from_numpy(pixels)[None, None]
    bar = torch.exp(-config.gamma * x0 * 5 / config.T)
    x_i = bar.sqrt() * x0 + (1 - bar).sqrt() * ImageNoise(3, 1).normal(1, 16, 16)
    with torch.no_grad(), choose("auto").autocast():
        x_delta_hat = model.scale_vae(x_i.float(), torch.tensor([5])).double()
    found = json.loads(figures.read_text())
    for key, rate in (("ssim_x_delta", config.gamma), ("ssim_alpha_bar", config.gamma * 5 / config.T)):
        span = np.exp(-rate * config.floor) - np.exp(-rate)
        true, said = torch.exp(-rate * x0)[0, 0].numpy(), (x_delta_hat ** (rate / config.gamma))[0, 0].numpy()
        wanted = structural_similarity(
            true, said, data_range=span, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert found[key] == pytest.approx(wanted, abs=1e-6)
        assert f"{wanted:.3f}" in text
    names = [name.strip(" .") for name in text.split("From left to right:")[1].split("\n")[0].split(",")]
    assert names[0] == "x0"
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (16, 16 * len(names))
    assert np.array_equal(sheet[:, :16], np.asarray(Image.open(picture)))
    assert (found["checkpoint"], found["image"], found["i"]) == ("tiny", "photo.png", 5)


def test_scale_in_tiles_and_half_way_by_default(run, checkpoint, tmp_path):
    path, figures = tmp_path / "wide.png", tmp_path / "figures.json"
    Image.fromarray(photo(20, 40)).save(path)
    status, text, _ = run(
        "scale", "--checkpoint", checkpoint, "--image", path, "--tiled", "--out", tmp_path / "s.png", "--json", figures
    )
    assert status == 0
    found = json.loads(figures.read_text())
    assert (found["i"], found["tiles"], found["fitted"]["i"]) == (4, 2 * 4, 4)
    assert "40x20 pixels in 8 tiles" in text
    assert np.asarray(Image.open(tmp_path / "s.png")).shape[0] == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--i", 9], "i must be a whole number from 0 to 8"),
        (["--out", "sheet.txt"], "must end in .png"),
        (["--image", "nowhere.png"], "cannot be opened"),
    ],
)
def test_scale_says_what_is_wrong(run, checkpoint, picture, tmp_path, arguments, message):
    given = {"--checkpoint": checkpoint, "--image": picture, "--out": tmp_path / "s.png"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    status, _, error = run("scale", *(part for pair in given.items() for part in pair))
    assert status != 0
    assert message in " ".join(error.split())


def test_evaluate_refuses_nonsense(run, checkpoint):
    for option, value in (("--passes", "one"), ("--starts", "cold")):
        status, _, err = run("evaluate", "--checkpoint", checkpoint, option, value, "--images", 1)
        assert status != 0
        assert option[2:] in err


def test_bundled_test_images_serve_the_evaluation():
    assert len(load_images("fashion-mnist-10k", split="test", size=32, channels=1, limit=500)) == 500


def test_convert_halves_a_checkpoint_that_still_draws(run, checkpoint, tmp_path):
    out = tmp_path / "half"
    status, text, _ = run("convert", "--checkpoint", checkpoint, "--out", out, "--dtype", "bfloat16")
    assert status == 0
    assert "MiB" in text
    assert (out / "model.safetensors").stat().st_size < 0.6 * (checkpoint / "model.safetensors").stat().st_size
    status, _, _ = run("sample", "--checkpoint", out, "--n", 2, "--precision", "float32", "--out", tmp_path / "s.npz")
    assert status == 0
    status, _, err = run("convert", "--checkpoint", checkpoint, "--out", out)
    assert status == 1
    assert "already holds a checkpoint" in err
    status, _, err = run("convert", "--checkpoint", checkpoint, "--out", tmp_path / "x", "--dtype", "int8")
    assert status == 2
    assert not (tmp_path / "x").exists()
    assert "float32, float16, bfloat16" in err


def test_a_folder_of_images_is_trained_on_under_its_title(run, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(12):
        Image.new("RGB", (32, 32), (20 * k, 0, 0)).save(folder / f"{k:02}.png")
    out = tmp_path / "run"
    status, _, err = run(
        "train", "--data", folder, "--title", "Reds", "--images", 6, "--out", out, "--steps", 1, "--batch", 2,
        "--parts", "twin", "--preset", "compact-rgb", "--precision", "float32", "--device", "cpu",
    )  # fmt: skip
    assert status == 0, err
    record = json.loads((out / "config.json").read_text())
    assert record["data"] == {"id": None, "title": "Reds", "number": 6, "total": 11, "split": "train"}
    assert record["device"] == "CPU, float32"


@pytest.mark.parametrize(("option", "message"), [("--compile", "CUDA device only"), ("--precision=half", "float16")])
def test_what_this_device_cannot_do_is_one_line(run, tmp_path, option, message):
    status, _, err = run(
        "train", "--data", "fashion-mnist-10k", "--images", 8, "--out", tmp_path / "x", "--device", "cpu", option
    )
    assert status == 1
    assert message in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["README.md", "model.safetensors"])
def test_nobody_s_files_are_overwritten(run, checkpoint, tmp_path, name):
    (tmp_path / name).write_text("notes")
    for command in (
        ("train", "--data", "fashion-mnist-10k", "--images", 8, "--steps", 1),
        ("convert", "--checkpoint", checkpoint),
        ("distill", "--checkpoint", checkpoint, "--data", "fashion-mnist-10k", "--pairs", 2),
    ):
        status, _, error = run(*command, "--out", tmp_path)
        assert status == 1
        assert "would be overwritten" in error
    assert [file.read_text() for file in tmp_path.iterdir()] == ["notes"]


def test_a_folder_that_cannot_be_written_is_found_out_before_the_work(run, checkpoint, tmp_path):
    file = tmp_path / "file"
    file.touch()
    status, printed, error = run(
        "train", "--data", "fashion-mnist-10k", "--images", 8, "--steps", 1, "--out", file / "x"
    )
    assert status == 1
    assert "cannot be written" in error
    status, printed, _ = run("sample", "--checkpoint", checkpoint, "--n", 2, "--out", file / "x" / "s.png")
    assert status == 1
    assert "sampling" not in printed


def test_a_resumed_run_cannot_change_its_model(run, checkpoint):
    status, _, error = run("train", "--data", "fashion-mnist-10k", "--out", checkpoint, "--resume", "--gamma", 3)
    assert status == 1
    assert "cannot make it 3" in error


def test_stopped_before_the_first_step_nothing_is_said_to_be_saved(run, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pixelviz.learning.steps.Steps.next", interrupted)
    out = tmp_path / "x"
    _, printed, _ = run("train", "--data", "fashion-mnist-10k", "--images", 8, "--out", out, "--steps", 2)
    assert "no checkpoint yet" in printed
    assert not out.exists()


def test_brackets_in_a_path_are_no_markup(run, tmp_path):
    status, _, error = run("inspect", "--checkpoint", tmp_path / "x[/y]")
    assert status == 1
    assert "x[/y]" in error


def test_an_export_goes_into_a_zip_only(run, tmp_path):
    picture = tmp_path / "p.png"
    Image.fromarray(photo()).save(picture)
    before = picture.read_bytes()
    assert run("export", "--image", picture, "--out", picture)[0] != 0
    assert picture.read_bytes() == before


def test_distill(run, checkpoint, tmp_path):
    data, out = tmp_path / "data", tmp_path / "distilled"
    data.mkdir()
    for k in range(12):
        Image.fromarray(photo(16, 16, 1, seed=k)).save(data / f"{k}.png")
    arguments = ["--data", data, "--pairs", 6, "--passes", 2, "--steps", 2, "--batch", 4, "--device", "cpu"]
    status, printed, _ = run("distill", "--checkpoint", checkpoint, "--out", out, *arguments)
    assert status == 0
    assert "distilled" in printed.replace("\n", "")
    record = checkpoints.load(out).record
    assert record.images_seen["parallel_unet"] == 2 * 4 + 2 * 4  # train_tiny's, and these
    assert "2 runs each" in record.notes[-1]
    status, _, error = run("distill", "--checkpoint", checkpoint, "--out", checkpoint, *arguments)
    assert status == 1
    assert "must be another folder" in error


def test_the_data_are_the_checkpoint_s_unless_another_set_is_named(run, checkpoint, tmp_path):
    """The tiny one learnt squares, which no name stands for: figures of grey clothes would be no figures of it."""
    for command in (
        ("evaluate", "--checkpoint", checkpoint),
        ("distill", "--checkpoint", checkpoint, "--out", tmp_path),
    ):
        status, _, err = run(*command)
        assert status == 2
        assert "trained on squares" in " ".join(err.replace("│", " ").split())
    out = tmp_path / "run"
    shutil.copytree(checkpoint, out)
    assert run("train", "--out", out, "--resume", "--steps", 99)[0] == 2
    for title, name in (
        ("Fashion-MNIST (60,000 training images)", "fashion-mnist"),
        ("Fashion-MNIST (10,000 of the 60,000 training images)", "fashion-mnist-10k"),
        ("CIFAR-10 (JPEG) (50,000 training images)", "cifar10"),
        ("Fashion-MNIST-C (5 training images)", None),
    ):
        assert origin_of(title).id == name
        assert str(origin_of(title)) == title
    for folder, name in (("fashion-mnist", "fashion-mnist"), ("cifar10", "cifar10")):
        bundled = checkpoints.read_config(ROOT / "checkpoints" / folder)[2]
        assert bundled.data.id == name


def test_the_names_of_data_sets_are_those_that_loading_gives():
    for name in ("fashion-mnist-10k", "fashion-mnist"):
        loaded = load_images(name, size=32, channels=1, allow_download=False)
        assert loaded.origin.id == ("fashion-mnist-10k" if len(loaded) == 10_000 else name)


def test_resume_keeps_what_is_not_given(run, checkpoint, tmp_path, tiny_preset):
    images, out = tmp_path / "images", tmp_path / "run"
    images.mkdir()
    for k in range(8):
        Image.fromarray(np.full((16, 16), 12 * k, np.uint8)).save(images / f"{k:02}.png")
    common = ["train", "--data", images, "--out", out]
    first = ("--preset", "tiny", "--parts", "scale_vae", "--batch", 4, "--kl-weight", 0.3, "--seed", 7, "--steps", 2)
    assert run(*common, *first)[0] == 0
    before = checkpoints.read_config(out)[2]
    assert run(*common, "--resume", "--steps", 4, "--ssim-weight", 0.5)[0] == 0
    after = checkpoints.read_config(out)[2]
    assert after.training == before.training | {"steps": 4, "ssim_weight": 0.5}
    assert after.steps == {"scale_vae": 4}
    assert after.images_seen == {"scale_vae": 16}


def test_sample_does_not_draw_for_a_folder(run, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "sheet.png").mkdir()
    monkeypatch.setattr("pixelviz.commands.draw.sample_images", lambda *args, **kwargs: pytest.fail("it drew first"))
    status, _, err = run("sample", "--checkpoint", checkpoint, "--out", tmp_path / "sheet.png")
    assert status == 2
    assert "sheet.png is a folder" in " ".join(err.replace("│", " ").split())
