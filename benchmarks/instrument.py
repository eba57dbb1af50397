"""How fast the instrument follows the hand, measured in headless Chromium on a 128x128 color image.

    python benchmarks/instrument.py [--json FILE] [--browser PATH] [--events N] [--side N]

Script time of one event is what JavaScript takes for it: the input handler, and then the animation frame that it
asked for, with all drawing calls. It is given twice: by the clock on the wall, and by the clock of the page's thread,
which other work on a busy machine does not slow. Needs playwright and Chromium (requirements-dev.txt).
"""

from __future__ import annotations

import argparse
import bisect
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from pixelviz.data.images import EXAMPLES
from pixelviz.service.service import Service
from pixelviz.ui.app import build_app, launch_options

LIMIT = 16.0  # milliseconds: a frame at 60 Hz
NODE = "document.querySelector('#instrument .pv-instrument')"
READY = f"{NODE}?.pvInstrument?.ready"

# Sends inputs to one slider, one every other frame, and times handler and frame apart from everything else.
DRIVE = """async ([label, values]) => {
  const slider = document.querySelector(`#instrument input[type=range][aria-label="${label}"]`);
  const native = window.requestAnimationFrame, times = [];
  let spent = 0, frames = 0;
  const timed = (work) => { const start = performance.now(); work(); spent += performance.now() - start; };
  window.requestAnimationFrame = (callback) => native((now) => { frames += 1; timed(() => callback(now)); });
  for (const value of values) {
    await new Promise((done) => native(() => native(done)));
    spent = frames = 0;
    timed(() => { slider.value = value; slider.dispatchEvent(new Event("input", { bubbles: true })); });
    await new Promise((done) => native(() => native(done)));
    if (!frames) throw new Error(`${label} = ${value} drew nothing`);
    times.push(spent);
  }
  window.requestAnimationFrame = native;
  return times;
}"""


# The opening's film from its first moved frame to the sentence at its end: how often the browser came to draw.
FILM = """async () => {
  const seen = (test) => new Promise((done) => {
    const look = () => (test() ? done() : requestAnimationFrame(look));
    look();
  });
  const said = () => !document.querySelector("#instrument .pv-try[data-asks]"); // the sentence has come
  await seen(() => document.querySelector("#instrument .pv-instrument")?.pvInstrument?.state()?.t > 0.01 && !said());
  const start = performance.now();
  let frames = 0;
  await seen(() => { frames += 1; return said(); });
  return [frames, (performance.now() - start) / 1000];
}"""


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def thread_times(trace: bytes) -> list[float]:
    """Milliseconds of the page's thread in script, an input event each, from a trace of Chromium's."""
    events = [e for e in json.loads(trace)["traceEvents"] if e.get("ph") == "X" and "tdur" in e]
    inputs = [e for e in events if e["name"] == "EventDispatch" and e["args"]["data"]["type"] == "input"]
    if not inputs:
        return []
    thread = inputs[0]["tid"]
    starts = sorted(e["ts"] for e in inputs)
    times = [0.0] * len(starts)
    for event in events:
        mine = event["tid"] == thread and (event["name"] == "FireAnimationFrame" or event in inputs)
        index = bisect.bisect_right(starts, event["ts"]) - 1
        if mine and index >= 0:
            times[index] += event["tdur"] / 1000
    return times


def film(browser: Browser, url: str) -> dict:
    """Frames a second of the opening on a first visit, and what script takes for a frame."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="no-preference").new_page()
    page.goto(url)
    page.wait_for_function(READY)
    browser.start_tracing(page=page, categories=["devtools.timeline"])
    frames, seconds = page.evaluate(FILM)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    drawn = [e["tdur"] / 1000 for e in events if e["name"] == "FireAnimationFrame" and "tdur" in e]
    busy = [one for one in drawn if one > 0.2]  # what only counts frames takes less
    page.context.close()
    return {"frames_a_second": frames / seconds, "seconds": seconds, "p95_frame_ms": quantile(busy, 0.95)}


def drive(page: Page, label: str, values: list[float]) -> dict:
    """Script times of the events, and how many requests left the page meanwhile."""
    requests: list[str] = []

    def note(request) -> None:
        if not request.url.endswith("/app_id"):  # the look whether the server is still there, every few seconds
            requests.append(request.url)

    page.on("request", note)
    browser = page.context.browser
    browser.start_tracing(page=page, categories=["devtools.timeline"])
    wall = page.evaluate(DRIVE, [label, values])
    thread = thread_times(browser.stop_tracing())
    page.wait_for_timeout(300)
    page.remove_listener("request", note)
    found = {"requests": len(requests)}
    for clock, times in (("wall", wall), ("thread", thread)):
        if len(times) != len(values):
            raise SystemExit(f"{len(values)} events were sent and {len(times)} found on the {clock} clock")
        found |= {f"p50_{clock}_ms": statistics.median(times), f"p95_{clock}_ms": quantile(times, 0.95)}
    return found


def measure(browser_path: str, events: int, side: int) -> dict:
    """All figures of one run, milliseconds."""
    app = build_app(Service(device="cpu"))
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    try:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            path = Path(folder) / "picture.png"
            Image.open(EXAMPLES[0][1]).convert("RGB").resize((side, side)).save(path)
            browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
            opening = film(browser, url)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            url += "#view=all"
            page.goto(url)
            page.wait_for_function(READY)
            first = []
            for _ in range(3):  # the first visit also started the server's own caches
                page.goto("about:blank")  # the same address again would load nothing
                start = time.perf_counter()
                page.goto(url)
                page.wait_for_function(READY, polling="raf")
                first.append(1000 * (time.perf_counter() - start))
            page.locator("#forward-upload").locator("xpath=..").locator("input[type=file]").set_input_files(path)
            page.wait_for_function(f"{NODE}.pvInstrument.state().example === null")
            drive(page, "time", [float(k) for k in range(10)])  # let the engine compile
            drive(page, "gamma", [20 + k / 2 for k in range(10)])
            shares = [k / (events - 1) for k in range(events)]
            found: dict = {
                "picture": f"{side}x{side}x3",
                "events": events,
                "first_picture_ms": statistics.median(first),
                "film": opening,
            }
            for label, values in (
                ("time", [round(200 * share) for share in shares]),
                ("gamma", [round(2 * (1 + 99 * share)) / 2 for share in shares]),
            ):
                found[label] = drive(page, label, values)
            browser.close()
        return found
    finally:
        app.close()


def main() -> None:
    """Measure, print, and fail where the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--side", type=int, default=128)
    given = parser.parse_args()
    if given.browser is None:
        parser.error("no Chromium was found; name one with --browser")
    found = measure(given.browser, given.events, given.side)
    print(f"first useful picture: {found['first_picture_ms']:.0f} ms")
    shown = found["film"]
    rate, script = shown["frames_a_second"], shown["p95_frame_ms"]
    print(f"opening's film: {rate:.1f} frames a second, script p95 {script:.1f} ms a frame")
    for label in ("time", "gamma"):
        one = found[label]
        times = ", ".join(
            f"{clock} p50 {one[f'p50_{clock}_ms']:.1f} p95 {one[f'p95_{clock}_ms']:.1f} ms"
            for clock in ("thread", "wall")
        )
        print(
            f"{label}, {found['events']} events on {found['picture']}: {times}; "
            f"requests to the server {one['requests']}"
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    slow = [label for label in ("time", "gamma") if found[label]["p95_thread_ms"] >= LIMIT or found[label]["requests"]]
    if slow:
        raise SystemExit(f"{', '.join(slow)}: over {LIMIT:g} ms, or asked the server")


if __name__ == "__main__":
    main()
