"""The app in a real browser, for the tests that drive it: the browser, the server, and pages that tell what went wrong.

Without a browser these tests are skipped, unless PIXELVIZ_REQUIRE_BROWSER=1. PIXELVIZ_BROWSER names another one.
"""

import contextlib
import os
import shutil

import pytest

from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.service import Service
from pixelviz.ui import scripts
from pixelviz.ui.app import build_app, launch_options

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000  # milliseconds, for answers of a busy machine
INSTRUMENT = "document.querySelector('#instrument .pv-instrument')"  # its node in the Forward tab, in JavaScript


def module(name):
    """JavaScript for a module of the page, the very one that the page uses, as a promise."""
    return f"import('{scripts.address()}/{name}')"


LEFT = ("AbortError", "errored out")  # complaints about what was under way when a page was left
LINK = f"async () => (await {module('address.js')}).link()"  # the address of what is on the screen


def browser_path():
    """The browser to drive, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("PIXELVIZ_BROWSER") or next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def launched():
    """A browser; skips the test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = browser_path()
    if path is None:
        if os.environ.get("PIXELVIZ_REQUIRE_BROWSER") == "1":
            pytest.fail("no Chromium was found; install one, or set PIXELVIZ_BROWSER")
        pytest.skip("no Chromium was found")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def served(folder):
    """The address of the app on the checkpoints and runs in a folder."""
    service = Service([folder / "checkpoints", folder / "runs"], device="cpu")
    jobs = TrainingJobs(service)
    app = build_app(service, jobs)
    _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    yield address
    jobs.stop()
    app.close()


def watched(page, url):
    """A list that fills with all that a page's console and its requests complain about."""
    complaints = []
    host = url.split("//")[1].rstrip("/")

    def stays_home(request):
        if not request.url.startswith(("data:", "blob:")) and host not in request.url:
            complaints.append(f"a request left this machine: {request.url}")

    page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", stays_home)
    return complaints


@contextlib.contextmanager
def opened(browser, url, permissions=(), left=(), **options):
    """A page with a context of its own; nothing may complain, but with one of the words `left`."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options})
    context.grant_permissions(list(permissions))
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    complaints = watched(page, url)
    yield page
    context.close()
    assert [line for line in complaints if not any(words in line for words in left)] == []


def visit(page, url):
    """Open an address in a new load of the page."""
    page.goto("about:blank")
    page.goto(url)
