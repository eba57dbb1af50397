"""The app in a real browser: what a visitor does first, in every tab, and what happens to bad uploads.

Without a browser these tests are skipped, unless PIXELVIZ_REQUIRE_BROWSER=1. PIXELVIZ_BROWSER names another one.
"""

import base64
import contextlib
import io
import os
import re
import shutil
import zlib

import numpy as np
import pytest
from PIL import Image

from pixelviz import checkpoints
from pixelviz.images import EXAMPLES
from pixelviz.process.schedules import PixelAware
from pixelviz.ui.app import build_app, launch_options
from pixelviz.ui.jobs import TrainingJobs
from pixelviz.ui.service import Service
from tests.tiny import tiny_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

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
TABS = ("Forward", "Scale", "Generate", "Train", "Checkpoints")
PHOTOGRAPH = dict(EXAMPLES)["Coffee"]


def browser_path():
    """The browser to drive, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("PIXELVIZ_BROWSER") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser():
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


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A server with one tiny checkpoint and an empty folder for runs."""
    folder = tmp_path_factory.mktemp("app")
    model = tiny_model()
    record = checkpoints.Record(
        data="squares",
        steps=dict.fromkeys(model.parts, 3),
        figures={"ssim_x_delta": {"1": 0.5, "8": 0.25}, "ssim_alpha_bar": {"1": 0.6, "8": 0.3}},
    )
    checkpoints.save(folder / "checkpoints" / "tiny", model, record)
    with served(folder) as address:
        yield address


class Visit:
    """A page, and all that its console and its requests complained about."""

    def __init__(self, browser, url, width=1280, height=800, query=""):
        self.page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        self.page.set_default_timeout(PATIENCE)
        self.complaints = []
        self.page.on("console", lambda m: m.type == "error" and self.complaints.append(m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._stays_home)
        self.host = url.split("//")[1].rstrip("/")
        self.page.goto(url + query)
        self.see(self.page.locator(".pv-cards dd").first)

    def _stays_home(self, request):
        if not request.url.startswith(("data:", "blob:")) and self.host not in request.url:
            self.complaints.append(f"a request left this machine: {request.url}")

    def open(self, tab):
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def see(self, locator):
        expect(locator).to_be_visible(timeout=PATIENCE)

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True).filter(visible=True)

    def upload(self, name, data=None):
        """Through the hidden input of the upload button in the tab that is open."""
        files = str(name) if data is None else {"name": name, "mimeType": "image/png", "buffer": data}
        # Tabs that were opened once stay in the page; the input belongs to the visible button.
        box = self.page.locator(".column").filter(has=self.button("Upload a picture")).last
        box.locator("input[type=file]").first.set_input_files(files)

    def curves(self):
        """What the SNR chart shows, as its SVG paths."""
        return self.page.locator(".pv-snr path.pv-line").evaluate_all("lines => lines.map(l => l.getAttribute('d'))")

    def until(self, condition, what):
        """Poll, as expect does for locators."""
        for _ in range(PATIENCE // 100):
            if condition():
                return
            self.page.wait_for_timeout(100)
        pytest.fail(f"waited in vain for {what}")


@pytest.fixture
def visit(browser, url):
    visit = Visit(browser, url)
    yield visit
    visit.page.close()
    assert not visit.complaints


def test_forward_from_upload_to_time(visit):
    page = visit.page
    before = visit.page.locator(".pv-picture canvas").first.screenshot()
    visit.upload(PHOTOGRAPH)
    visit.until(lambda: page.locator(".pv-picture canvas").first.screenshot() != before, "the photograph")
    assert len(visit.curves()) == 6, "three suggested pixels, two methods"

    gamma, before = page.locator("#gamma input[type=number]"), visit.curves()
    gamma.fill("40")
    gamma.press("Enter")
    visit.until(lambda: visit.curves() != before, "curves for another gamma")
    assert len(visit.curves()) == 6

    page.locator(".pv-picture canvas").first.click(position={"x": 40, "y": 50})
    visit.until(lambda: len(visit.curves()) == 8, "the fourth pixel's curves")
    assert page.locator("#pixels textarea").input_value().count(";") == 3

    time = page.get_by_label("Time", exact=True)
    view = page.locator(".pv-view[data-key=pixel_aware] canvas")
    start, cursor = view.evaluate("c => c.toDataURL()"), page.locator(".pv-snr .pv-cursor")
    at = cursor.get_attribute("x1")
    time.fill("22")
    expect(page.locator(".pv-time")).to_contain_text(re.compile(r"i = 1[45]\d of 200"))
    assert view.evaluate("c => c.toDataURL()") != start
    assert float(cursor.get_attribute("x1")) > float(at)

    visit.button("Clear pixels").click()
    visit.see(page.get_by_text("Click the picture to add a pixel."))


DROP = """([event, data]) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  transfer.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
  const target = document.querySelector(".pv-picture canvas");
  target.dispatchEvent(event === "drop"
    ? new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer })
    : new ClipboardEvent("paste", { bubbles: true, clipboardData: transfer }));
}"""


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(visit, event):
    before = visit.curves()
    visit.page.evaluate(DROP, [event, base64.b64encode(PHOTOGRAPH.read_bytes()).decode()])
    visit.until(lambda: visit.curves() != before, f"the {event} to be used")


def test_a_setting_that_cannot_work_says_so_and_the_curves_stay(visit):
    before = visit.curves()
    steps = visit.page.get_by_label("number input for T")
    steps.fill("15")
    steps.press("Enter")
    visit.see(visit.page.locator("#forward-message [role=alert]", has_text="gamma must stay below T"))
    assert visit.curves() == before
    steps.fill("100")
    steps.press("Enter")
    expect(visit.page.locator("#forward-message [role=alert]")).to_have_count(0)


def png(array, **settings):
    """An array as the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, settings.pop("format", "PNG"), **settings)
    return buffer.getvalue()


def bomb(side):
    """A small PNG that declares side x side pixels."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    rows = zlib.compress(bytes((side + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
REFUSED = {
    "text.png": (b"these are words", "text file"),
    "truncated.png": (png(NOISE)[:1500], "damaged"),
    "bomb.png": (bomb(9000), "81 megapixels"),
}
FRAMES = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
ACCEPTED = {
    "wide.png": (png(np.linspace(0, 65535, 1600).reshape(40, 40).astype(np.uint16)), "16-bit"),
    "alpha.png": (png(np.dstack([NOISE, NOISE[..., :1]])), "laid on white"),
    "animated.gif": (png(NOISE, format="GIF", save_all=True, append_images=FRAMES[1:]), "several frames"),
}
with io.BytesIO() as _buffer:
    FRAMES[0].convert("CMYK").save(_buffer, "JPEG")
    ACCEPTED["cmyk.jpg"] = (_buffer.getvalue(), "CMYK")


def test_bad_uploads_get_a_message_and_the_picture_stays(visit):
    before = visit.curves()
    for name, (data, message) in REFUSED.items():
        visit.upload(name, data)
        visit.see(visit.page.locator("#forward-message [role=alert]", has_text=message))
        assert visit.curves() == before, name
    for name, (data, message) in ACCEPTED.items():
        visit.upload(name, data)
        visit.see(visit.page.locator(".pv-notes li", has_text=message))
        expect(visit.page.locator("#forward-message [role=alert]")).to_have_count(0)


def test_scale_estimates_and_takes_a_photograph(visit):
    visit.open("Scale")
    visit.see(visit.page.locator(".pv-cards dt", has_text="SSIM of x̂"))
    # x0, x_i, x_delta, its estimate, that as an image, the twin's, and alpha_bar_i twice.
    expect(visit.page.locator(".pv-figures img").filter(visible=True)).to_have_count(8)
    visit.see(visit.page.locator(".pv-line-chart svg[role=img]").filter(visible=True))
    visit.upload(PHOTOGRAPH)
    visit.see(visit.page.locator(".pv-notes li", has_text="turned into gray").filter(visible=True))


def test_generate_shows_images_their_cost_and_how_they_were_made(visit):
    page = visit.page
    visit.open("Generate")
    images = page.locator(".pv-samples button")
    expect(images).to_have_count(16, timeout=PATIENCE)
    page.get_by_label("number input for Images").fill("4")
    page.get_by_label("number input for Images").press("Enter")
    page.locator("#passes input").fill("8")
    page.locator("#passes input").press("Enter")
    visit.button("Generate").click()
    expect(images).to_have_count(4, timeout=PATIENCE)
    expect(page.locator(".pv-cards div", has_text="Network evaluations").locator("dd").first).to_have_text("8")
    visit.see(page.locator(".pv-cards", has_text="computed from one measured run"))
    images.nth(2).click()
    visit.see(page.get_by_role("heading", name="How image 3 was made"))
    page.get_by_text("Algorithm 1 as printed (diverges)").click()
    expect(page.locator("#passes input")).to_have_value("1")
    visit.button("Generate").click()
    visit.see(page.get_by_label(re.compile("Size of the values")))


def test_train_twenty_steps_and_use_the_result_at_once(visit):
    page = visit.page
    visit.open("Train")
    page.locator("#steps input").fill("20")
    page.get_by_label("Batch").fill("4")
    visit.button("Start training").click()
    visit.see(page.locator("#train-status", has_text="of 20"))
    visit.see(page.locator("#train-status", has_text="Finished"))
    visit.see(page.get_by_label(re.compile("Training losses")))
    assert page.locator("#train-preview img").count() == 3
    expect(visit.button("Start training")).to_be_enabled()
    page.locator("#resume input").click()
    page.get_by_role("option", name=re.compile("compact")).click()
    page.locator("#steps input").fill("24")
    visit.button("Start training").click()
    visit.see(page.locator("#train-status", has_text="24 of 24"))
    visit.see(page.locator("#train-status", has_text="Finished"))
    visit.open("Generate")
    page.locator("#generate-checkpoint input").click()
    visit.see(page.get_by_role("option", name=re.compile("compact")))


def test_checkpoints_are_described_and_bad_folders_refused(visit, tmp_path):
    visit.open("Checkpoints")
    visit.see(visit.page.get_by_text("squares").first)
    visit.see(visit.page.locator(".pv-table", has_text="parallel U-Net"))
    visit.page.get_by_label("Load another folder").fill(str(tmp_path / "nothing"))
    visit.button("Load folder").click()
    visit.see(visit.page.locator("#checkpoint-message [role=alert]"))


@pytest.mark.parametrize(("width", "height", "query"), [(390, 844, "?__theme=dark"), (1280, 800, "")])
def test_every_tab_fits_the_screen(browser, url, width, height, query):
    visit = Visit(browser, url, width, height, query)
    for tab in TABS:
        visit.open(tab)
        visit.see(visit.page.locator(".pv-intro").filter(visible=True).first)
        visit.page.wait_for_timeout(1500)
        wide = visit.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{tab} is {wide} pixels wide"
    visit.page.close()
    assert not visit.complaints


def test_without_a_checkpoint_every_tab_says_what_to_do(browser, tmp_path):
    with served(tmp_path) as address:
        visit = Visit(browser, address)
        for tab, message in (("Scale", "#scale-message"), ("Generate", "#generate-message")):
            visit.open(tab)
            visit.see(visit.page.locator(message, has_text="Train one in the Train tab"))
        visit.open("Checkpoints")
        visit.see(visit.page.get_by_text("There is no checkpoint yet"))
        visit.page.close()
        assert not visit.complaints


def test_the_curves_that_follow_the_hand_are_those_of_python(visit):
    schedule = PixelAware(T=200, gamma=30.0)
    for x0, i in ((0.004, 1), (0.3, 50), (1.0, 200)):
        wanted = schedule.snr(x0, i).item()
        assert visit.page.evaluate(f"PixelViz.snr({x0}, 30, {i / 200})") == pytest.approx(wanted, rel=1e-12)
