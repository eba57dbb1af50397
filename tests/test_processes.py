"""Two processes of accelerate (gloo, on this processor) against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file

from pixelviz.config import TrainConfig
from pixelviz.learning.training import TrainingError, train
from pixelviz.store import checkpoints
from tests.launched import run
from tests.tiny import tiny_config, tiny_images

ROOT = Path(__file__).parent.parent


def launch(*command, processes=2):
    """Run `accelerate launch ...` to its end; returns its output."""
    # Its option --cpu would need MPI; --multi_gpu starts torch's own processes, which are told to use the CPU.
    options = ["--multi_gpu", "--num_processes", str(processes), "--num_machines", "1", "--main_process_port", "0"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"]
    return started("-m", "accelerate.commands.accelerate_cli", "launch", *options, *command)


def started(*command):
    """Run Python to its end; returns its output."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def assert_same_losses(found, wanted):
    for one, two in zip(found, wanted, strict=True):
        assert set(one) == set(two)
        for key, value in two.items():
            assert one[key] == pytest.approx(value, rel=1e-4), key


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folder and losses of: one process throughout; two throughout; two, then one; one, then two."""
    root = tmp_path_factory.mktemp("processes")
    losses = {"one": run(root / "one", 4), "one, two": run(root / "one, two", 2)}
    launch("-m", "tests.launched", root / "two", 4, root / "two, one", 2, root / "one, two", 4)
    for name in ("two", "two, one", "one, two"):
        count, found = json.loads((root / name / "losses.json").read_text())
        assert count == 2
        losses[name] = losses.get(name, []) + found
    losses["two, one"] += run(root / "two, one", 4)
    return root, losses


@pytest.mark.parametrize("name", ["two", "two, one", "one, two"])
def test_two_processes_learn_what_one_learns(both, name):
    root, losses = both
    assert len(losses["one"]) == 4
    assert_same_losses(losses[name], losses["one"])
    for file in (checkpoints.WEIGHTS, checkpoints.STATE):
        one, two = load_file(root / "one" / file), load_file(root / name / file)
        assert set(one) == set(two)
        for key in one:
            if "prior" not in key:  # fitted at each end of a run, so its history is another
                torch.testing.assert_close(
                    two[key], one[key], rtol=1e-3, atol=2e-5, msg=lambda text, k=key: f"{k} {text}"
                )


def test_the_record_counts_the_whole_batch(both):
    root, _ = both
    record = checkpoints.load(root / "two").record
    assert record.images_seen["scale_vae"] == 4 * 8
    assert "in each of 2 processes" in record.device
    assert "in each" not in checkpoints.load(root / "one").record.device


def test_the_command_line_runs_in_two_processes(tmp_path):
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    for k in range(8):
        Image.new("L", (32, 32), 20 * k).save(folder / "train" / f"{k}.png")
    out = tmp_path / "out"
    own = ["-m", "pixelviz", "train", "--data", folder, "--out", out, "--steps", 2, "--batch", 4, "--parts", "twin"]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, *own, "--device", "cpu"]
    text = started(*start)  # what README calls torchrun
    assert "Processes: 2, which share every batch." in text
    assert text.count("Saved") == 1  # only the main process speaks
    assert checkpoints.read_config(out)[2].images_seen == {"twin": 8}


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(TrainingError, match="multiple of 3"):
        next(train(tiny_images(), tiny_config(), TrainConfig(steps=1, batch=8), device="cpu"))
