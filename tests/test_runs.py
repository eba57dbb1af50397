"""A run is what it says: what made it is recorded, read again, and gone on with exactly."""

import json
import math
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from pixelviz.config import PARTS, ConfigError, DataConfig, TrainConfig
from pixelviz.data.image_set import Origin
from pixelviz.learning import training
from pixelviz.learning.training import TrainingError, train
from pixelviz.store import checkpoints, runs
from tests.tiny import tiny_config, tiny_images

FAST = TrainConfig(steps=4, batch=6, heads_per_step=2, ema=0.5, warmup=2, learning_rate=5e-3)
# A value for every setting that is not its default, so that none is forgotten when a run goes on.
OTHER = {
    "batch": 4, "learning_rate": 1e-2, "parts": ("scale_vae", "parallel_unet"), "ema": 0.9, "clip": 0.1, "warmup": 0,
    "kl_weight": 0.5, "scale_weight": 2.0, "log_weight": 0.3, "ssim_weight": 0.2, "step_power": 0.5,
    "unet_step_power": 2.0, "clean_share": 0.7, "deviation": 0.1, "terminal_share": 0.6, "heads_per_step": 1,
    "accumulate": 3, "flips": True, "seed": 7, "class_drop": 0.3,
}  # fmt: skip
ELSEWHERE = {"steps", "pair_share", "least_gap"}  # the target, and those of distilling and tuning, tested there


@pytest.fixture(autouse=True)
def one_thread():
    """Sums over several threads come in any order; on one, a result is the same to the bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def go(out, settings, steps=None, resume=False, images=None, **options):
    """Train in float32 and stop after `steps` of this call (None: at the end); returns the steps."""
    run = train(
        images or tiny_images(), tiny_config(), settings, out, resume=resume, device="cpu", precision="float32",
        preview_every=1000, **options,
    )  # fmt: skip
    done = [step for _, step in zip(range(steps or settings.steps), run, strict=False)]
    run.close()
    return done


def test_every_setting_is_among_those_that_are_resumed():
    assert set(OTHER) | ELSEWHERE == set(TrainConfig.__dataclass_fields__)


@pytest.mark.parametrize("name", OTHER)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, name):
    """Weights, training state and losses are equal bit for bit; the settings come from run.yaml."""
    settings = replace(FAST, **{"parts": ("scale_vae", "parallel_unet"), name: OTHER[name]})
    go(tmp_path / "a", settings)
    go(tmp_path / "b", settings, steps=2)
    recorded = runs.recipe_of(tmp_path / "b")
    assert recorded.training == settings
    go(tmp_path / "b", recorded.training, resume=True)
    for file in (checkpoints.WEIGHTS, checkpoints.STATE):
        one, two = (load_file(tmp_path / run / file) for run in "ab")
        assert set(one) == set(two)
        wrong = [key for key in one if not torch.equal(one[key], two[key]) and "prior" not in key]
        assert not wrong
    lines = [(tmp_path / run / runs.LOSSES).read_text().splitlines() for run in "ab"]
    losses = [[json.loads(line) | {"images_per_second": 0} for line in one] for one in lines]
    assert losses[0] == losses[1]
    assert [line["step"] for line in losses[0]] == [1, 2, 3, 4]


def test_run_yaml_says_what_made_the_checkpoint_and_is_read_again(tmp_path):
    source = DataConfig(data="fotos [1]", images=24, title="Größe: 5")
    go(tmp_path / "a", replace(FAST, learning_rate=5e-5), data=source)
    path = tmp_path / "a" / runs.RUN
    assert runs.read_run(path) == runs.Recipe(source, tiny_config(), replace(FAST, learning_rate=5e-5))
    text = path.read_text(encoding="utf-8")
    for said in ("processes: 1", "commit:", f"torch: {torch.__version__}", "device: CPU, float32", "scale_vae: 24"):
        assert said in text
    assert runs.recipe_of(tmp_path) is None
    path.write_text(text.replace("learning_rate: 5.0e-05", "learning_rate: 5e-4"), encoding="utf-8")
    assert runs.read_run(path).training.learning_rate == 5e-4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no settings"),
        ("[", "cannot be read"),
        ("!!python/object/apply:os.system [ls]", "cannot be read"),
        ("- model", "has no settings"),
        ("model: {T: 4}", "incomplete"),
        ("model: {}\ncolour: red", "unknown keys: colour"),
        ("[" * 100_000, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_run_yaml_that_is_none_is_refused(tmp_path, content, message):
    (tmp_path / "run.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        runs.read_run(tmp_path / "run.yaml")


def test_the_history_keeps_every_data_set(tmp_path):
    go(tmp_path / "a", FAST, steps=2)
    go(tmp_path / "a", FAST, steps=1, resume=True)
    other = replace(tiny_images(), origin=Origin(title="circles"))
    go(tmp_path / "a", FAST, resume=True, images=other)
    record = checkpoints.read_config(tmp_path / "a")[2]
    assert record.data == Origin(title="circles")
    assert [(one["data"], one["images_seen"]["twin"]) for one in record.history] == [("squares", 18), ("circles", 6)]
    assert record.images_seen["twin"] == 24
    assert "circles" in (tmp_path / "a" / runs.RUN).read_text()


def test_a_checkpoint_of_before_there_was_a_history_gets_one(tmp_path):
    go(tmp_path / "a", FAST, steps=2)
    path = tmp_path / "a" / checkpoints.CONFIG
    config = json.loads(path.read_text())
    del config["history"]
    path.write_text(json.dumps(config))
    (tmp_path / "a" / checkpoints.STATE).unlink()
    go(tmp_path / "a", FAST, steps=1, resume=True, images=replace(tiny_images(), origin=Origin(title="circles")))
    history = checkpoints.read_config(tmp_path / "a")[2].history
    assert [one["data"] for one in history] == ["squares", "circles"]
    assert [one["images_seen"]["twin"] for one in history] == [12, 6]


def test_weights_are_kept_where_the_prior_cannot_be_fitted(tmp_path, monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise torch.linalg.LinAlgError("linalg.cholesky: (Batch element 0): not positive-definite\nmore")

    monkeypatch.setattr("pixelviz.learning.prior.fit_mixture", fails)
    go(tmp_path / "a", FAST)
    assert checkpoints.load(tmp_path / "a").record.steps["scale_vae"] == 4
    assert "the prior failed" in caplog.text
    assert "lower the learning rate" in caplog.text
    assert "more" not in caplog.text


def test_a_preview_that_fails_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(training, "preview", fails)
    assert len(go(tmp_path / "a", FAST)) == 4
    assert "the preview failed" in caplog.text


def test_weights_that_are_not_finite_never_replace_good_ones(tmp_path):
    go(tmp_path / "a", FAST, steps=1)
    before = (tmp_path / "a" / checkpoints.WEIGHTS).read_bytes()
    run = train(tiny_images(), tiny_config(), FAST, tmp_path / "a", resume=True, device="cpu", precision="float32")
    next(run)
    with torch.no_grad():
        run.gi_frame.f_locals["run"].model.twin.to_code.weight[0] = math.inf
    with pytest.raises(TrainingError, match="no longer finite at step 2; those saved before it are kept"):
        run.close()
    assert (tmp_path / "a" / checkpoints.WEIGHTS).read_bytes() == before


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_are_as_readable_as_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        go(tmp_path / "a", FAST, steps=1)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a").iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~umask)
    assert {checkpoints.WEIGHTS, checkpoints.STATE, checkpoints.CONFIG, runs.RUN, runs.LOSSES} <= set(modes)


def test_a_batch_in_parts_has_the_gradient_and_losses_of_the_whole():
    """7 images in 3 parts of 3, 2 and 2: means over parts of different sizes must be weighed by these."""
    settings = replace(FAST, batch=7, parts=PARTS, ssim_weight=0.5, clip=1e9)

    def first(**changes):
        run = train(tiny_images(), tiny_config(), replace(settings, **changes), device="cpu", precision="float32")
        losses = next(run).losses
        state = run.gi_frame.f_locals["run"]
        gradients = [p.grad.clone() for p in state.model.parameters() if p.grad is not None]
        return losses, gradients

    (whole, expected), (parts, found) = first(), first(accumulate=3)
    assert set(whole) == set(parts)
    for key in whole:
        assert parts[key] == pytest.approx(whole[key], rel=1e-4), key
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)


def test_half_of_the_images_are_mirrored_and_nothing_else_changes(monkeypatch):
    """A step's images are those without flips, each as it is or left to right; noise and steps stay the same."""
    images = replace(tiny_images(), images=torch.randint(0, 256, (64, 1, 16, 16), dtype=torch.uint8))
    seen = {}

    def watch(flips):
        settings = replace(FAST, batch=64, steps=3, flips=flips)
        run = train(images, tiny_config(), settings, device="cpu", precision="float32", preview_every=1000)
        next(run)
        seen[flips] = run.gi_frame.f_locals["steps"].batch
        run.close()

    watch(False)
    watch(True)
    (plain, noise), (flipped, same) = seen[False], seen[True]
    mirrored = (flipped == plain.flip(-1)).flatten(1).all(1)
    kept = (flipped == plain).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 16 < mirrored.sum() < 48
    for part in noise:
        assert torch.equal(noise[part].noise, same[part].noise)
        assert torch.equal(noise[part].i, same[part].i)
