"""The app in a real browser: what a visitor does first, in every tab, and what happens to bad uploads."""

import base64
import io
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from pixelviz.data.images import EXAMPLES
from pixelviz.ui.app import TABS
from tests.browser import PATIENCE, served, watched

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

PHOTOGRAPH = dict(EXAMPLES)["Coffee"]


class Visit:
    """A page, and all that its console and its requests complained about."""

    def __init__(self, browser, url, width=1280, height=800, query=""):
        self.page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        self.page.set_default_timeout(PATIENCE)
        self.complaints = watched(self.page, url)
        self.page.goto(url + query + "#view=all")
        self.see(self.page.locator(".pv-cards dd").first)

    def open(self, tab):
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def see(self, locator):
        expect(locator).to_be_visible(timeout=PATIENCE)

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True).filter(visible=True)

    def upload(self, name, data=None, tab="forward"):
        """Through the hidden input of a tab's upload button."""
        files = str(name) if data is None else {"name": name, "mimeType": "image/png", "buffer": data}
        self.page.locator(f"#{tab}-upload").locator("xpath=..").locator("input[type=file]").set_input_files(files)

    def state(self):
        """The instrument's state."""
        return self.page.evaluate("document.querySelector('#instrument .pv-instrument').pvInstrument.state()")

    def picture(self):
        """The picture in the instrument, as text."""
        return self.page.locator("#instrument [data-view=image] canvas").evaluate("c => c.toDataURL()")

    def numbers(self):
        """The instrument's table: the cells of each pixel."""
        rows = self.page.locator("#instrument .pvi-numbers tbody tr")
        return rows.evaluate_all("rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))")

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
    before = visit.picture()
    visit.upload(PHOTOGRAPH)
    visit.until(lambda: visit.picture() != before, "the photograph")
    visit.until(lambda: len(visit.numbers()) == 3, "three suggested pixels")
    assert visit.state()["example"] is None

    before, gamma = visit.numbers(), page.get_by_label("gamma, typed")
    gamma.fill("40")
    gamma.press("Enter")
    visit.until(lambda: visit.numbers() != before, "numbers for another gamma")
    assert visit.state()["gamma"] == 40

    page.locator("#instrument [data-view=image] canvas").click(position={"x": 8, "y": 6})
    visit.until(lambda: len(visit.numbers()) == 4, "the fourth pixel")

    view = page.locator("#instrument [data-view=ours] canvas")
    start = view.evaluate("c => c.toDataURL()")
    page.get_by_label("time", exact=True).fill("145")
    expect(page.locator("#instrument .pvi-clock")).to_have_text("i = 145 of 200, t = 0.725")
    assert view.evaluate("c => c.toDataURL()") != start

    visit.button("Clear").click()
    visit.until(lambda: not visit.numbers(), "no pixels")
    page.locator("#instrument [data-view=formulas]").scroll_into_view_if_needed()
    visit.see(page.get_by_text("Pick a pixel to see its numbers."))


DROP = """([event, data]) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  transfer.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
  const target = document.querySelector("#instrument .pvi-frame canvas");
  target.dispatchEvent(event === "drop"
    ? new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer })
    : new ClipboardEvent("paste", { bubbles: true, clipboardData: transfer }));
}"""


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(visit, event):
    before = visit.picture()
    visit.page.evaluate(DROP, [event, base64.b64encode(PHOTOGRAPH.read_bytes()).decode()])
    visit.until(lambda: visit.picture() != before, f"the {event} to be used")


def test_a_setting_that_cannot_work_says_so_and_comes_back(visit):
    steps, warning = visit.page.get_by_label("T, typed"), visit.page.locator("#instrument .pvi-warn").first
    steps.fill("15")
    steps.press("Enter")
    expect(warning).to_contain_text("gamma must stay below T")
    assert visit.state()["gamma"] < 15
    steps.fill("100")
    steps.press("Enter")
    expect(warning).to_be_hidden()
    assert visit.state()["gamma"] == 20


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
    before, message = visit.picture(), visit.page.locator("#instrument .pvi-message")
    for name, (data, words) in REFUSED.items():
        visit.upload(name, data)
        expect(message).to_contain_text(words, timeout=PATIENCE)
        assert visit.picture() == before, name
    for name, (data, words) in ACCEPTED.items():
        visit.upload(name, data)
        visit.see(visit.page.locator("#instrument .pv-notes li", has_text=words))
        expect(message).to_be_hidden()


def test_scale_estimates_and_takes_a_photograph(visit):
    visit.open("Scale")
    visit.see(visit.page.locator(".pv-cards dt", has_text="SSIM of x̂"))
    # x0, x_i, x_delta, its estimate, that as an image, the twin's, and alpha_bar_i twice.
    expect(visit.page.locator(".pv-figures img").filter(visible=True)).to_have_count(8)
    visit.see(visit.page.locator(".pv-chart svg[role=img]").filter(visible=True))
    visit.upload(PHOTOGRAPH, tab="scale")
    visit.see(visit.page.locator(".pv-notes li", has_text="turned into gray").filter(visible=True))
    visit.page.get_by_label("Tiled, at the picture's own size").check()
    visit.see(visit.page.locator(".pv-cards dd", has_text=re.compile(r"256×\d+ pixels in \d+ tiles")))
    visit.see(visit.page.locator(".pv-cards dd", has_text="at the checkpoint's size").first)
    sizes = (
        visit.page.locator(".pv-figures img")
        .filter(visible=True)
        .evaluate_all("images => images.map(image => image.naturalWidth)")
    )
    assert set(sizes) == {256}


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
    visit.see(page.locator("#train-examples figure", has_text="12 of 10,000 images"))
    classes, of = page.locator("#train-classes input"), page.get_by_label("Data set")
    for title, number in (("CelebA", 0), ("Fashion-MNIST, 10,000", 1)):
        of.click()
        page.get_by_role("option", name=title).click()
        expect(classes).to_have_count(number)
    classes.check()
    page.locator("#steps input").fill("20")
    page.get_by_label("Batch").fill("4")
    visit.button("Start training").click()
    visit.see(page.locator("#train-status", has_text="of 20"))
    visit.see(page.locator("#train-status", has_text="Finished"))
    visit.see(page.get_by_label(re.compile("Training losses")))
    assert page.locator("#train-preview img").count() == 3
    expect(visit.button("Start training")).to_be_enabled()
    page.locator("#steps input").fill("7")
    page.get_by_label("Batch").fill("5")
    of.click()
    page.get_by_role("option", name="Drawn faces, 10,000").click()
    page.locator("#resume input").click()
    page.get_by_role("option", name=re.compile("compact")).click()
    expect(classes).to_be_disabled()  # these are the run's own
    expect(page.locator("#steps input")).to_have_value("20")
    expect(page.get_by_label("Batch")).to_have_value("4")
    expect(of).to_have_value(re.compile("^Fashion-MNIST, 10,000"))
    visit.see(page.locator("#train-examples figure", has_text="Fashion-MNIST"))
    page.locator("#steps input").fill("24")
    visit.button("Start training").click()
    visit.see(page.locator("#train-status", has_text="24 of 24"))
    visit.see(page.locator("#train-status", has_text="Finished"))
    visit.see(page.locator(".pv-stage .legend", has_text="parallel U-Net"))
    visit.button("Generate with this model").click()
    expect(page.locator("#generate-checkpoint input")).to_have_value(re.compile("compact"), timeout=PATIENCE)
    visit.see(page.locator("#sheet", has_text="16 images in"))
    visit.see(page.locator("#generate-class"))


def test_checkpoints_are_described_and_bad_folders_refused(visit, tmp_path):
    visit.open("Checkpoints")
    visit.see(visit.page.get_by_text("squares").first)
    visit.see(visit.page.locator("#checkpoint-samples img"))
    visit.see(visit.page.locator(".pv-table", has_text="parallel U-Net"))
    visit.page.get_by_label("Load another folder").fill(str(tmp_path / "nothing"))
    visit.button("Load folder").click()
    visit.see(visit.page.locator("#checkpoint-message [role=alert]"))


@pytest.mark.parametrize(("width", "height", "query"), [(390, 844, "?__theme=dark"), (1280, 800, "")])
def test_every_tab_fits_the_screen(browser, url, width, height, query):
    visit = Visit(browser, url, width, height, query)
    for tab, _ in TABS:
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
