"""The app as a process: killed, restarted under open pages, and told to end. Nothing is lost."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import torch
from gradio_client import Client
from safetensors.torch import load_file

from pixelviz.store import checkpoints
from tests.browser import INSTRUMENT, PATIENCE
from tests.served import photo, png
from tests.test_package import free_port

ROOT = Path(__file__).parents[1]
STEPS = 6
LEARN = {"data": "fashion-mnist-10k", "preset": "compact", "steps": STEPS, "batch": 2, "learning_rate": 1e-3}
# The app, which saves after every step.
APP = """
import sys
from functools import partial
from pixelviz.ui import serve
if __name__ == "__main__":
    serve.TrainingJobs = partial(serve.TrainingJobs, save_every_seconds=0)
    serve.app(port=int(sys.argv[1]))
"""


class App:
    """The app's process, with its own process group, on a port and a folder of runs."""

    def __init__(self, folder, port):
        script = folder / "start_app.py"
        script.write_text(APP)
        self.url, self.runs = f"http://127.0.0.1:{port}", folder / "runs"
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(port)], env=environment(folder), start_new_session=True
        )
        self.until(lambda: self.answers(), "the app answers")

    def answers(self):
        assert self.process.poll() is None, "the app ended"
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/gradio_api/app_id", timeout=5).status_code == 200

    def until(self, condition, what, patience=120):
        ends = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < ends, what
            time.sleep(0.05)

    def client(self):
        return Client(self.url, verbose=False)

    def kill(self):
        """All of it at once, as when the power goes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def environment(folder):
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PIXELVIZ_RUNS": str(folder / "runs")}


def numbers(folder):
    """All numbers of a run: weights, averages and moments, without the prior, which is fitted to what the run saw."""
    return load_file(folder / checkpoints.STATE) | load_file(folder / checkpoints.WEIGHTS)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX's")
def test_a_class_survives_a_crash_of_the_server(browser, tmp_path):
    """kill -9 in a training: the open page comes back with picture and gamma, the training goes on to the same bits."""
    whole = ["--out", str(tmp_path / "whole"), "--steps", str(STEPS), "--batch", "2", "--data", LEARN["data"]]
    reference = subprocess.Popen(
        [sys.executable, "-m", "pixelviz", "train", "--preset", "compact", *whole, "--device", "cpu"],
        env=environment(tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    port = free_port()
    app = App(tmp_path, port)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    gamma = f"{INSTRUMENT}?.pvInstrument?.state().gamma"
    size = f"{INSTRUMENT}?.querySelector('[data-view=image] figcaption span').textContent"
    try:
        page.goto(app.url)
        page.wait_for_function(f"{INSTRUMENT}?.pvInstrument?.ready")
        sent = {"name": "mine.png", "mimeType": "image/png", "buffer": png(photo(12, 34))}
        page.locator("#forward-upload").locator("..").locator("input[type=file]").set_input_files(sent)
        page.wait_for_function(f"{size} === '34 × 12' && sessionStorage.length")
        page.evaluate(f"{INSTRUMENT}.pvInstrument.set({{ gamma: 33 }})")
        page.wait_for_url("**gamma=33**")
        page.evaluate("window.before = true")
        client = app.client()
        client.predict(**LEARN, name="killed", api_name="/train_start")
        saved = app.runs / "killed" / checkpoints.WEIGHTS
        app.until(saved.exists, "something is saved")
        app.kill()
        app = App(tmp_path, port)
        came = f"{INSTRUMENT}?.pvInstrument?.ready && {gamma} === 33 && {size} === '34 × 12'"
        page.wait_for_function(f"!window.before && {came}")
        page.get_by_role("tab", name="Train", exact=True).click()
        page.get_by_text("killed stopped at step").wait_for()
        client = app.client()
        client.predict(data=LEARN["data"], resume="killed", api_name="/train_start")
        app.until(lambda: not client.predict(api_name="/train_status")["running"], "the training ends")
        assert client.predict(api_name="/train_status")["state"] == "finished"
        assert reference.wait(200) == 0
        one, other = numbers(tmp_path / "whole"), numbers(app.runs / "killed")
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
        # SIGTERM in a training, and in the preparation of one, which leaves nothing.
        client.predict(**LEARN | {"steps": 100_000}, name="ended", api_name="/train_start")
        app.until((app.runs / "ended" / checkpoints.WEIGHTS).exists, "something is saved")
        began = time.monotonic()
        app.process.send_signal(signal.SIGTERM)
        assert app.process.wait(60) == 0
        assert time.monotonic() - began < 20
        kept = checkpoints.load(app.runs / "ended").record
        assert kept.steps["scale_vae"] >= 1
        assert sorted(path.name for path in app.runs.iterdir()) == ["ended", "killed"]
    finally:
        page.close()
        app.kill()
        reference.kill()
