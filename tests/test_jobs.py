"""Training in the background: one at a time, stopped and saved, usable at once, and never in people's way."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from pixelviz.config import TrainConfig
from pixelviz.data.image_set import Origin
from pixelviz.data.sets import DATASETS
from pixelviz.learning import training
from pixelviz.service import jobs as jobs_module
from pixelviz.service.jobs import POINTS, Asked, LossCurve, TrainingJobs
from pixelviz.service.service import ServiceError
from pixelviz.service.worker import NICENESS
from pixelviz.store import checkpoints
from pixelviz.view import View
from tests.served import empty_service, folder_of_images, photo, train_tiny
from tests.tiny import tiny_config, tiny_images

LONG = 900_000  # steps that no test waits for


pytestmark = pytest.mark.usefixtures("tiny_preset")


@pytest.fixture
def jobs(tmp_path):
    found = TrainingJobs(empty_service(tmp_path))
    found.data = str(folder_of_images(tmp_path / "squares", tiny_images().images))
    yield found
    found.stop()
    wait(found, lambda status: not status.running)


def wait(jobs, condition, seconds=30):
    """Poll the status until the condition holds."""
    ends = time.monotonic() + seconds
    while not condition(status := jobs.status()):
        assert time.monotonic() < ends, status
        time.sleep(0.01)
    return status


def process():
    """That of the training."""
    [found] = (one for one in multiprocessing.active_children() if one.name == "training")
    return found


def start(jobs, **changes):
    return jobs.start("me", **{"data": jobs.data, "preset": "tiny", "steps": 5, "batch": 4, **changes})


def test_a_training_runs_to_its_end_and_is_selectable_at_once(jobs):
    assert jobs.status().state == "idle"
    assert start(jobs).running
    done = wait(jobs, lambda status: not status.running)
    assert done.state == "finished", done
    assert (done.step, done.steps) == (5, 5)
    assert done.error is None
    assert done.checkpoint == "tiny-squares-1"
    assert jobs.service.names() == [done.checkpoint]
    assert "parallel_unet/head_i" in done.losses
    assert [step for step, _ in done.losses["scale_vae/x_delta"]] == [1, 2, 3, 4, 5]
    assert done.losses["scale_vae/x_delta"][-1][1] == done.latest["scale_vae/x_delta"]
    assert done.preview.dtype == np.uint8
    assert done.preview.shape == (3, 8, 16, 16, 1)
    assert np.array_equal(done.preview[0, 0, ..., 0], tiny_images().images[0, 0].numpy())
    assert done.images_per_second > 0
    record = checkpoints.read_config(jobs.service.runs / done.checkpoint)[2]
    assert record.steps["parallel_unet"] == 5
    *_, drawn = jobs.service.generate(done.checkpoint, 2)
    assert drawn.images.shape == (2, 16, 16, 1)
    json.dumps(done.to_json(), allow_nan=False)
    assert "preview" not in done.to_json()


def test_a_second_start_is_refused_with_what_is_running(jobs):
    start(jobs, steps=LONG)
    wait(jobs, lambda status: status.step >= 2)
    with pytest.raises(ServiceError, match=r"already running \(tiny-squares-1: step \d+ of 900,000, started 0"):
        start(jobs)
    assert jobs.status().running


def test_only_one_of_many_starts_at_once_wins(jobs):
    refused = []

    def attempt():
        try:
            start(jobs, steps=LONG)
        except ServiceError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(refused) == 7


def test_stop_stops_and_saves(jobs):
    start(jobs, steps=LONG)
    wait(jobs, lambda status: status.step >= 3)
    jobs.stop()
    done = wait(jobs, lambda status: not status.running)
    assert done.state == "stopped"
    assert f"step {done.step}" in done.message
    assert jobs.service.names() == [done.checkpoint]
    record = checkpoints.read_config(jobs.service.runs / done.checkpoint)[2]
    assert record.steps["twin"] == done.step
    assert jobs.stop().message == "No training is running."
    assert start(jobs).running  # and another may start


def test_what_is_saved_on_the_way_can_be_used_while_the_training_goes_on(jobs):
    jobs.save_every_seconds = 0.0
    start(jobs, steps=LONG)
    wait(jobs, lambda status: jobs.service.names("parallel_unet"))
    *_, drawn = jobs.service.generate(jobs.status().checkpoint, 1)
    assert drawn.done
    assert jobs.status().running


def test_resume_goes_on_from_the_last_step(jobs):
    start(jobs, name="mine")
    wait(jobs, lambda status: not status.running)
    assert jobs.resumable() == ["mine"]
    start(jobs, resume="mine", steps=8, preset="faces")  # its own model stays
    done = wait(jobs, lambda status: not status.running)
    assert done.state == "finished", done
    assert [step for step, _ in done.losses["twin/x0"]] == [6, 7, 8]
    assert jobs.service.names() == ["mine"]
    start(jobs, resume="mine", steps=8)
    failed = wait(jobs, lambda status: not status.running)
    assert failed.state == "failed"
    assert "8 steps already" in failed.error


def test_resume_keeps_the_run_s_own_settings(jobs):
    """What was trained, and how, is the checkpoint's; the form has only steps, batch and learning rate."""
    folder = jobs.service.runs / "mine"
    settings = TrainConfig(steps=3, batch=4, parts=("scale_vae",), kl_weight=0.3, seed=7)
    list(training.train(tiny_images(), tiny_config(), settings, folder, device="cpu"))
    start(jobs, resume="mine", steps=LONG)
    wait(jobs, lambda status: status.step > 4)
    assert "Training on squares" in jobs.status().message
    assert "Until now it learnt squares." in jobs.status().message  # of memory, not of a folder
    jobs.stop()
    at = wait(jobs, lambda status: not status.running).step
    start(jobs, resume="mine", steps=at + 1, learning_rate=2e-3)
    assert wait(jobs, lambda status: not status.running).state == "finished"
    record = checkpoints.read_config(folder)[2]
    assert record.training == asdict(replace(settings, steps=at + 1, learning_rate=2e-3)) | {"parts": ["scale_vae"]}
    assert record.steps == {"scale_vae": at + 1}


def test_what_is_not_said_stays_as_it_was_in_the_run_that_goes_on(jobs):
    """The data among it: of a data set the same one, of other pictures none that nobody has named."""
    settings = TrainConfig(steps=3, batch=5, parts=("scale_vae",), learning_rate=2e-4)
    for name, origin in (("faces", DATASETS["faces-10k"].origin), ("squares", Origin(title="squares"))):
        images = replace(tiny_images(), origin=origin)
        list(training.train(images, tiny_config(), settings, jobs.service.runs / name, device="cpu"))
    assert jobs.own("faces") == (settings, "faces-10k")
    plan = jobs._plan(Asked(resume="faces"))
    assert (plan.data, plan.training) == ("faces-10k", settings)
    assert jobs._plan(Asked(resume="faces", data=jobs.data)).data == jobs.data
    assert jobs._plan(Asked()).data == DATASETS.first
    assert jobs.own("squares") == (settings, None)
    with pytest.raises(ServiceError, match="squares learnt pictures that are no data set here"):
        start(jobs, resume="squares", data=None)


def test_a_run_is_never_written_over(jobs):
    for _ in range(2):
        start(jobs, steps=1)
        wait(jobs, lambda status: not status.running)
    assert jobs.service.names() == ["tiny-squares-1", "tiny-squares-2"]
    with pytest.raises(ServiceError, match="already is a checkpoint"):
        start(jobs, name="tiny-squares-1")
    (jobs.service.runs / "mine").mkdir()
    (jobs.service.runs / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ServiceError, match="already is a checkpoint"):
        start(jobs, name="mine")
    assert not jobs.status().running


def test_bundled_checkpoints_are_not_trained_on(jobs):
    train_tiny(jobs.service.runs.parent / "checkpoints" / "bundled")
    with pytest.raises(ServiceError, match="was not trained here"):
        start(jobs, resume="bundled")
    assert jobs.resumable() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to 1,000,000"),
        ({"steps": 10**9}, "steps must be"),
        ({"steps": 2.5}, "steps must be"),
        ({"steps": "many"}, "steps must be"),
        ({"batch": 0}, "batch must be a whole number from 1 to 512"),
        ({"batch": 4096}, "batch must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"learning_rate": 5}, "at most 0.1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number"),
        ({"learning_rate": "fast"}, "learning_rate must be a number"),
        ({"preset": "enormous"}, "preset must be one of compact"),
        ({"preset": None}, "preset must be one of"),
        (
            {"data": "imagenet"},
            "data must be fashion-mnist-10k, fashion-mnist, faces-10k, faces, cifar10, celeba or",
        ),
        ({"data": 7}, "data must be"),
        ({"data": "a\0b"}, "data must be"),
        ({"data": "~nobody-of-this-name/x"}, "data must be"),
        ({"name": "../outside"}, "letters, digits"),
        ({"name": "/etc/passwd"}, "letters, digits"),
        ({"name": "a" * 65}, "letters, digits"),
        ({"name": ".hidden"}, "letters, digits"),
        ({"name": 7}, "letters, digits"),
        ({"resume": "nothing"}, "no checkpoint"),
        ({"resume": "../x"}, "no checkpoint"),
        ({"resume": ["x"]}, "resume must be text"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(jobs, changes, message):
    with pytest.raises(ValueError, match=message):
        start(jobs, **changes)
    assert jobs.status().state == "idle"
    assert not jobs.service.runs.exists()


def test_a_folder_gives_the_run_its_name_and_an_empty_one_is_said(jobs, tmp_path):
    (tmp_path / "My photos (2)").mkdir()
    assert start(jobs, data=str(tmp_path / "My photos (2)"), steps=1).checkpoint == "tiny-my-photos-2-1"
    failed = wait(jobs, lambda status: not status.running)
    assert failed.state == "failed"
    assert "no images" in failed.error
    assert jobs.service.names() == []


@pytest.mark.parametrize("saved", [False, True])
def test_a_process_that_is_killed_is_said_in_one_line_and_another_can_start(jobs, saved):
    jobs.save_every_seconds = 0.0 if saved else 1e9
    start(jobs, steps=LONG)
    wait(jobs, lambda status: jobs.service.names() if saved else status.step > 1)
    os.kill(process().pid, signal.SIGKILL)
    done = wait(jobs, lambda status: not status.running)
    assert done.state == "failed"
    assert "was killed (SIGKILL), as happens where memory runs out, at step" in done.error
    assert ("saved as tiny-squares-1" in done.error) == saved
    assert "\n" not in done.error
    start(jobs, steps=LONG, resume=done.checkpoint if saved else None)
    assert wait(jobs, lambda status: status.step > 1).running


def test_stopping_before_the_first_step_saves_nothing(jobs, monkeypatch):
    monkeypatch.setattr(jobs_module, "STOP_SECONDS", 0.0)
    assert start(jobs, steps=LONG).state == "preparing"
    assert jobs.stop("you").running  # answers although the process is busy
    assert "another visitor" in jobs.status().message
    done = wait(jobs, lambda status: not status.running)
    assert done.state == "stopped"
    assert "nothing was saved" in done.message
    assert jobs.service.names() == []


@pytest.mark.parametrize("how", ["the app ends", "SIGTERM"])
def test_what_is_to_end_is_saved(jobs, how, monkeypatch):
    start(jobs, steps=LONG)
    wait(jobs, lambda status: status.step > 1)
    assert os.getpriority(os.PRIO_PROCESS, process().pid) == os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
    if how == "SIGTERM":
        os.kill(process().pid, signal.SIGTERM)
    else:
        monkeypatch.setattr(process(), "terminate", process().kill)  # as on Windows
        jobs.end(20)
    done = wait(jobs, lambda status: not status.running)
    assert done.state == "stopped"
    assert checkpoints.read_config(jobs.service.runs / done.checkpoint)[2].steps["twin"] == done.step


APP = """
import os, signal, sys, time
from pathlib import Path
from pixelviz.config import PRESETS
from pixelviz.service.jobs import TrainingJobs
from tests.served import empty_service
from tests.tiny import TINY
if __name__ == "__main__":
    PRESETS.add(TINY)
    root = Path(sys.argv[1])
    jobs = TrainingJobs(empty_service(root))
    jobs.start("me", data=str(root / "squares"), preset="tiny", batch=4, steps=900_000)
    while jobs.status().step < 2:
        time.sleep(0.01)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["ends", "killed"])
def test_where_the_app_ends_or_is_killed_its_training_saves_and_ends(tmp_path, how):
    """A spawned process, as the app's own is; its standard output closes when the last of both is gone."""
    folder_of_images(tmp_path / "squares", tiny_images().images)
    (tmp_path / "app.py").write_text(APP)
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, tmp_path / "app.py", tmp_path, how],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == (0 if how == "ends" else -signal.SIGKILL)
    [folder] = (tmp_path / "runs").iterdir()
    assert checkpoints.read_config(folder)[2].steps["twin"] >= 2


def test_people_draw_images_while_a_training_runs(jobs):
    train_tiny(jobs.service.runs / "ready")
    start(jobs, steps=LONG)
    wait(jobs, lambda status: status.step >= 2)
    *_, drawn = jobs.service.generate("ready", 2, 8, seed=5)
    assert drawn.done
    jobs.service.scale("ready", View.of(photo()), 3)
    assert jobs.status().running
    at = jobs.status().step
    wait(jobs, lambda status: status.step > at + 2)
    jobs.stop()
    wait(jobs, lambda status: not status.running)
    *_, again = jobs.service.generate("ready", 2, 8, seed=5)
    assert np.array_equal(drawn.images, again.images)  # the training's random numbers are its own


def test_curves_are_thinned_to_means_of_blocks():
    curve, values = LossCurve(), np.random.default_rng(0).random(12_345)
    for step, value in enumerate(values, start=1):
        curve.add(step, float(value))
    points = curve.means()
    assert POINTS / 2 <= len(points) <= POINTS
    block = points[0][0]
    assert block & (block - 1) == 0
    for k, (step, mean) in enumerate(points):
        first = k * block
        assert step == min(first + block, len(values))
        assert mean == pytest.approx(values[first : first + block].mean())
