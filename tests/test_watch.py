"""What is seen and kept of a run on its way changes nothing of what it learns."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pixelviz.config import ConfigError, TrainConfig, Watch
from pixelviz.devices import choose
from pixelviz.learning.held_out import held_out_losses
from pixelviz.learning.training import train
from pixelviz.learning.watch import Watcher
from pixelviz.store import checkpoints, runs
from tests.test_runs import one_thread  # noqa: F401  used by every test here
from tests.tiny import tiny_config, tiny_images, tiny_model

FAST = TrainConfig(steps=6, batch=6, heads_per_step=2, ema=0.5, warmup=2, parts=("scale_vae", "parallel_unet"))
HELD_OUT = replace(tiny_images(10), images=tiny_images(34).images[24:])


def go(out, settings=FAST, resume=False, **options):
    run = train(
        tiny_images(), tiny_config(), settings, out, resume=resume, device="cpu", precision="float32",
        preview_every=1000, **options,
    )  # fmt: skip
    return list(run)


def held(out):
    """Held-out losses by step, as losses.jsonl has them."""
    lines = [json.loads(line) for line in (out / runs.LOSSES).read_text().splitlines()]
    return {line["step"]: line["held_out"] for line in lines if "held_out" in line}


def test_a_run_that_is_looked_at_learns_the_same(tmp_path):
    watch = Watch(every=2, keep=2, best="parallel_unet/head_i", sheets=True)
    go(tmp_path / "a")
    states = go(tmp_path / "b", watch=watch, held_out=HELD_OUT)
    for file in (checkpoints.WEIGHTS, checkpoints.STATE):
        one, two = (load_file(tmp_path / run / file) for run in "ab")
        assert all(torch.equal(one[key], two[key]) for key in one)
    found = held(tmp_path / "b")
    assert list(found) == [2, 4, 6]
    assert [state.held_out for state in states if state.held_out] == list(found.values())
    kept = sorted((tmp_path / "b" / "kept").iterdir())
    assert [folder.name for folder in kept] == ["step-00000004", "step-00000006"]
    for folder, step in zip(kept, (4, 6), strict=True):
        loaded = checkpoints.load(folder)
        assert loaded.record.steps["scale_vae"] == step
        assert held_out_losses(loaded.model, HELD_OUT, FAST, choose("cpu", "float32")) == found[step]
    best = checkpoints.read_config(tmp_path / "b" / "best")[2].figures["held_out"]["parallel_unet/head_i"]
    assert best == min(losses["parallel_unet/head_i"] for losses in found.values())
    sheets = sorted((tmp_path / "b" / "sheets").iterdir())
    assert [np.asarray(Image.open(path)).shape for path in sheets] == [(64, 64)] * 3
    assert runs.recipe_of(tmp_path / "b").watch == watch


def test_the_best_is_that_of_all_runs(tmp_path):
    """A later run at a rate that ruins the weights leaves the best of the first."""
    watch = Watch(every=3, best="scale_vae/kl")
    go(tmp_path / "a", replace(FAST, steps=3), watch=watch, held_out=HELD_OUT)
    best = (tmp_path / "a" / "best" / checkpoints.WEIGHTS).read_bytes()
    go(tmp_path / "a", replace(FAST, learning_rate=0.1, ema=0.0), resume=True, watch=watch, held_out=HELD_OUT)
    found = held(tmp_path / "a")
    assert found[6]["scale_vae/kl"] > found[3]["scale_vae/log_x_delta"]
    assert (tmp_path / "a" / "best" / checkpoints.WEIGHTS).read_bytes() == best


@pytest.mark.parametrize(
    ("best", "kept"),
    [
        ("scale_vae/ssim", [0.2, 0.2, 0.9, 0.9]),
        ("twin/ssim", [0.2, 0.2, 0.9, 0.9]),
        ("scale_vae/kl", [0.2, 0.1, 0.1, 0.1]),
    ],
)
def test_of_a_similarity_the_greatest_is_the_best(best, kept, tmp_path, monkeypatch):
    """vae_loss reports SSIM itself: its least is the run at its worst."""
    seen = iter([0.2, 0.1, 0.9, 0.5])
    monkeypatch.setattr("pixelviz.learning.watch.held_out_losses", lambda *_: {best: next(seen)})
    model = tiny_model()
    run = SimpleNamespace(averaged=model, record=checkpoints.Record(), step=1)
    found = []
    for _ in kept:  # each of another run, which knows the folder alone
        Watcher(Watch(best=best), tmp_path, FAST, choose("cpu", "float32"), HELD_OUT).look(run)
        found.append(checkpoints.read_config(tmp_path / "best")[2].figures["held_out"][best])
    assert found == kept


def test_a_choice_that_cannot_be_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(ConfigError, match="no held-out loss 'fid' here; there are: scale_vae/x_delta"):
        go(tmp_path / "a", watch=Watch(best="fid"), held_out=HELD_OUT)
    with pytest.raises(ConfigError, match="there are: none"):
        go(tmp_path / "b", watch=Watch(best="scale_vae/kl"))
    with pytest.raises(ConfigError, match="colours is not installed, pip install it"):
        go(tmp_path / "c", watch=Watch(track="colours"))


def test_tensorboard_gets_the_same_losses(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    go(tmp_path / "a", watch=Watch(every=3, track="tensorboard"), held_out=HELD_OUT)
    (folder,) = {path.parent for path in (tmp_path / "a").rglob("events.out*") if path.parent.name == "pixelviz"}
    events = EventAccumulator(str(folder)).Reload()
    lines = [json.loads(line) for line in (tmp_path / "a" / runs.LOSSES).read_text().splitlines()]
    seen = [(one.step, one.value) for one in events.Scalars("scale_vae/kl")]
    assert seen == [(line["step"], pytest.approx(line["scale_vae/kl"], rel=1e-6)) for line in lines]
    assert [one.step for one in events.Scalars("held_out/scale_vae/kl")] == [3, 6]
