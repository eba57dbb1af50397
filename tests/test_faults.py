"""What goes wrong around a training: full disks, two at once, kill -9. Nothing that was learnt is lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pixelviz.config import TrainConfig
from pixelviz.learning import state, training
from pixelviz.learning.training import TrainingError
from pixelviz.service.jobs import TrainingJobs
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import CheckpointError
from tests.served import empty_service, folder_of_images
from tests.test_jobs import wait
from tests.tiny import tiny_config, tiny_images

ROOT = Path(__file__).parents[1]
FAST = {"batch": 4, "parts": ("twin",)}
TRAINER = """
import sys, torch
from pathlib import Path
from pixelviz.config import TrainConfig
from pixelviz.learning.training import train
from tests.tiny import tiny_config, tiny_images
torch.set_num_threads(1)
out, steps = Path(sys.argv[1]), int(sys.argv[2])
settings = TrainConfig(steps=steps, batch=4, parts=("twin",))
resume = (out / "config.json").exists()
for _ in train(tiny_images(), tiny_config(), settings, out, resume=resume, device="cpu", save_every_seconds=0):
    pass
"""


def run(folder, steps=4, **options):
    """A tiny training into a folder."""
    settings = TrainConfig(steps=steps, **FAST)
    return training.train(tiny_images(), tiny_config(), settings, folder, device="cpu", **options)


@contextmanager
def small_disk(folder, size):
    """A disk of so many bytes: a tmpfs where one may be mounted."""
    folder.mkdir()
    if os.name != "posix" or os.geteuid() or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], stderr=subprocess.DEVNULL
    ).returncode:  # fmt: skip
        pytest.skip("no disk can be mounted here; the test with a limit on files stands in")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def size(tmp_path):
    """Bytes of a finished tiny training."""
    list(run(tmp_path / "measured"))
    return sum(file.stat().st_size for file in (tmp_path / "measured").iterdir())


def test_a_run_that_would_not_fit_is_refused_before_it_starts(tmp_path, size):
    with small_disk(tmp_path / "disk", size) as disk:
        with pytest.raises(CheckpointError, match="MB free, and this run writes"):
            next(run(disk / "run"))
        assert not list(disk.iterdir())


def test_on_a_disk_that_fills_up_the_weights_wait_for_room(tmp_path, size, monkeypatch):
    monkeypatch.setattr(state, "RETRY_SECONDS", 0.01)
    said = []
    with small_disk(tmp_path / "disk", 8 * size) as disk:
        ballast = disk / "ballast"

        def warn(text):
            said.append(text)
            if len(said) == 2:  # the last save waits by now
                ballast.unlink()

        steps = run(disk / "run", 3, save_every_seconds=0, warn=warn)
        next(steps)
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free))
        assert [step.saved for step in steps] == [False, False]
        kept = checkpoints.load(disk / "run")
        assert kept.record.steps["twin"] == 3
        assert not list((disk / "run").glob("*.partial"))
    assert "run" in said[0]
    assert "goes on" in said[0]
    assert "kept in memory" in said[-1]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system limits no files")
def test_where_files_may_not_grow_the_weights_wait(tmp_path, size, monkeypatch):
    """As a full disk, for whoever may mount none: the limit is lifted while the weights wait."""
    import resource

    monkeypatch.setattr(state, "RETRY_SECONDS", 0.01)
    before, said = resource.getrlimit(resource.RLIMIT_FSIZE), []

    def warn(text):
        said.append(text)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    steps = run(tmp_path / "run", 2, warn=warn)
    next(steps)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 20, before[1]))
        list(steps)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(said) == 1
    assert checkpoints.load(tmp_path / "run").record.steps["twin"] == 2


def test_patience_with_a_disk_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(state, "PATIENCE", 0.05)
    steps = run(tmp_path / "run", 1)
    next(steps)
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("a mount that is gone")
    with pytest.raises((CheckpointError, OSError), match="run"):
        list(steps)


def test_two_trainings_do_not_write_into_one_folder(tmp_path):
    first = run(tmp_path / "run")
    next(first)
    with pytest.raises(TrainingError, match="another training writes"):
        next(run(tmp_path / "run"))
    first.close()
    again = run(tmp_path / "run", resume=True)
    next(again)
    with pytest.raises(TrainingError, match="another training writes"):
        next(run(tmp_path / "run", resume=True))
    again.close()
    assert checkpoints.load(tmp_path / "run").record.steps["twin"] == 2
    assert not (tmp_path / "run" / state.LOCK).exists()


def test_a_resumed_run_begins_where_one_that_was_just_stopping_ends(tmp_path, monkeypatch):
    """Its last steps are written while the other asks for the folder."""
    list(run(tmp_path / "run", 1))
    stopping = run(tmp_path / "run", 9, resume=True)
    for _ in range(3):
        next(stopping)

    def after_it(out):
        stopping.close()
        return state.locked(out)

    monkeypatch.setattr(training, "locked", after_it)
    assert next(run(tmp_path / "run", 9, resume=True)).step == 5


def test_a_run_that_cannot_begin_leaves_no_lock(tmp_path):
    list(run(tmp_path / "run", 1))
    with pytest.raises(TrainingError, match="ask for more"):
        next(run(tmp_path / "run", 1, resume=True))
    assert not (tmp_path / "run" / state.LOCK).exists()


def trainer(folder, steps):
    """A process that trains into a folder and saves after every step; what is there is resumed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", TRAINER, str(folder), str(steps)], env=environment, cwd=ROOT)


def weights(folder):
    """All numbers of a run: weights, averages and moments."""
    return load_file(folder / checkpoints.STATE) | load_file(folder / checkpoints.WEIGHTS)


def test_a_run_that_is_killed_anywhere_resumes_to_the_same_bits(tmp_path):
    steps, seed = 60, random.Random(0)
    assert trainer(tmp_path / "whole", steps).wait(200) == 0
    kills = 0
    while kills < 2:
        process = trainer(tmp_path / "killed", steps)
        deadline = time.monotonic() + 100
        saved = tmp_path / "killed" / checkpoints.STATE
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        while process.poll() is None and time.monotonic() < deadline:
            if saved.exists() and saved.stat().st_mtime_ns != before:
                break
            time.sleep(0.001)
        time.sleep(seed.uniform(0, 0.15))
        assert process.poll() is None, "it was done before it was killed"
        process.kill()
        process.wait()
        kills += 1
    assert trainer(tmp_path / "killed", steps).wait(200) == 0
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[key], killed[key]) for key in whole)
    lines = [json.loads(line)["step"] for line in (tmp_path / "killed" / "losses.jsonl").read_text().splitlines()]
    assert lines == list(range(1, steps + 1))


@pytest.mark.parametrize("left", [(checkpoints.STATE,), (checkpoints.STATE, checkpoints.CONFIG)])
def test_a_first_save_that_was_cut_short_is_no_dead_end(tmp_path, left):
    """Killed between two files of it: the run starts again, or goes on, and ends in the same numbers."""
    list(run(tmp_path / "whole", 4))
    half = run(tmp_path / "half", 2)
    list(half)
    for file in (tmp_path / "half").iterdir():
        if file.name not in left:
            file.unlink()
    list(run(tmp_path / "half", 4, resume=checkpoints.CONFIG in left))
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "half")
    assert all(torch.equal(whole[key], killed[key]) for key in whole)


def test_two_apps_on_one_folder_do_not_learn_into_one_run(tmp_path, tiny_preset):
    """The second is told so, and the first goes on."""
    data = str(folder_of_images(tmp_path / "squares", tiny_images().images))
    first, second = (TrainingJobs(empty_service(tmp_path), save_every_seconds=0) for _ in range(2))
    try:
        first.start("me", data=data, preset="tiny", steps=900_000, batch=4, name="shared")
        wait(first, lambda status: second.resumable())
        assert second.unfinished()[0].startswith("shared stopped at step")
        second.start("you", data=data, resume="shared")
        ended = wait(second, lambda status: not status.running)
        assert ended.state == "failed"
        assert "nother training writes to shared now" in ended.error
        at = first.status().step
        wait(first, lambda status: status.step > at)
    finally:
        first.stop()
        wait(first, lambda status: not status.running)
    assert first.status().state == "stopped"
