"""Rooms beyond this machine: inside another FastAPI app, below a path, and on a Space that lends its GPUs."""

import contextlib
import re
import sys
import threading
import time
import types
from functools import wraps
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from gradio_client import Client
from gradio_client.exceptions import AppError

from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.turns import AT_ONCE
from pixelviz.ui import scripts
from pixelviz.ui.app import build_app, launch_options, mount, on_gpu
from pixelviz.ui.guard import FORWARDED
from tests.browser import PATIENCE, watched


@pytest.fixture(scope="module")
def hosted(service):
    """Somebody's own app, with PixelViz below /lab/pixelviz."""
    app = FastAPI()

    @app.get("/")
    def home():
        return {"message": "somebody's own app"}

    @app.get("/favicon.ico", status_code=204)
    def icon():
        return None

    return mount(app, "/lab/pixelviz", service, TrainingJobs(service))


@contextlib.contextmanager
def serving(app):
    """The address of an app, served in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


def test_a_mounted_app_leaves_its_host_alone(hosted):
    with TestClient(hosted) as client:
        assert client.get("/").json() == {"message": "somebody's own app"}
        assert "PixelViz" in client.get("/lab/pixelviz/").text
        assert client.get(f"/lab/pixelviz{scripts.address()}/page.js").status_code == 200
        assert client.get(f"{scripts.address()}/page.js").status_code == 404


def test_a_mounted_app_takes_nobody_for_somebody_at_its_computer(monkeypatch, tmp_path):
    """Whatever address a visitor's own request names: a proxy before the host may say nothing of itself."""
    monkeypatch.setenv("PIXELVIZ_RUNS", str(tmp_path / "runs"))
    with serving(mount(FastAPI(), "/lab")) as address:
        client = Client(f"{address}/lab", verbose=False)
        with pytest.raises(AppError, match="no folder of the server can be named"):
            client.predict(data=str(tmp_path), steps=0, api_name="/train_start")
        client.close()


def test_the_readme_s_proxy_says_that_it_is_one():
    said = re.findall(r"proxy_set_header\s+(\S+)", (Path(__file__).parents[1] / "README.md").read_text())
    assert {name.lower() for name in said} & set(FORWARDED)


def test_a_mounted_app_works_in_a_browser(hosted, browser):
    with serving(hosted) as address:
        page = browser.new_page(reduced_motion="reduce")
        page.set_default_timeout(PATIENCE)
        complaints = watched(page, address)
        page.goto(f"{address}/lab/pixelviz/")
        page.locator("#instrument canvas >> visible=true").first.wait_for()  # the instrument has its picture
        page.get_by_role("tab", name="Checkpoints", exact=True).click()
        page.get_by_text("tiny", exact=True).first.wait_for()
        page.close()
        assert not complaints


def test_on_zero_gpu_the_handlers_that_run_networks_get_one(service, monkeypatch):
    """A stand-in for the package that such a Space has: it records what it was given, and what ran."""
    given, ran = [], []

    def gpu(duration):
        def decorate(handler):
            given.append((handler, duration))

            @wraps(handler)
            def run(*args, **kwargs):
                ran.append(handler.__name__)
                return handler(*args, **kwargs)

            return run

        return decorate

    spaces = types.ModuleType("spaces")
    spaces.GPU = gpu
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    demo = build_app(service, TrainingJobs(service))
    wanted = [event for event in demo.fns.values() if event.concurrency_id in AT_ONCE and event.fn]
    assert len(given) == len(wanted) > 5
    assert {"generate", "scale", "run", "estimate", "light"} <= {handler.__name__ for handler, _ in given}
    assert not {"train_status", "train_start", "look", "refresh"} & {handler.__name__ for handler, _ in given}
    assert all(0 < seconds <= 300 for _, seconds in given)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        client = Client(address, verbose=False)
        images, report = client.predict(n=1, api_name="/generate")
        assert (len(images), report["network_evaluations"]) == (1, 1)
        client.close()
    finally:
        demo.close()
    assert ran == ["generate"]


def test_elsewhere_handlers_are_what_they_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)  # not installed, whatever is
    assert on_gpu(sys.exit) is sys.exit
