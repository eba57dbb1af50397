"""An uploaded picture survives a reload of the page, in which a restart of the server ends; in a real browser."""

import pytest

from tests.browser import INSTRUMENT, LEFT, PATIENCE, module, opened, served
from tests.served import photo, png, train_tiny

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
expect.set_options(timeout=PATIENCE)

STATE = f"{INSTRUMENT}.pvInstrument.state()"
READY = f"{INSTRUMENT}?.pvInstrument?.ready"
SHOWN = "() => document.querySelector('[data-view=image] canvas').toDataURL()"  # every pixel of the picture
ESTIMATED = "document.querySelector('canvas[aria-label^=\"The image as\"]')"  # what the Scale tab works on
LINKED = "location.hash.includes('scale.picture')"
KEPT = "() => Object.keys(sessionStorage).filter((key) => key.startsWith('pixelviz-')).sort()"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    train_tiny(folder / "checkpoints" / "one")
    with served(folder) as url:
        yield url


@pytest.fixture
def page(browser, address):
    with opened(browser, address, left=LEFT) as page:
        yield page


def send(page, tab, data):
    file = {"name": "mine.png", "mimeType": "image/png", "buffer": data}
    page.locator(f"#{tab}-upload").locator("..").locator("input[type=file]").set_input_files(file)


def test_the_forward_tabs_picture_and_pixels_come_back(page, address):
    page.goto(address)
    page.wait_for_function(READY)
    send(page, "forward", png(photo(30, 50, seed=1)))
    page.wait_for_function(f"{STATE}.example === null")
    page.evaluate(f"{INSTRUMENT}.pvInstrument.set({{ gamma: 33, seed: 5, t: 0, pixels: [[29, 49, 2], [3, 4, 0]] }})")
    page.wait_for_function(f"location.hash.includes('seed=5') && {STATE}.seed === 5")
    page.wait_for_function("sessionStorage.getItem('pixelviz-forward-upload')")
    before, shown = page.evaluate(STATE), page.evaluate(SHOWN)
    for _ in range(2):  # it is kept again, too
        page.reload()
        page.wait_for_function(f"{READY} && {STATE}.seed === 5 && {STATE}.pixels.length === 2")
        assert page.evaluate(STATE) == before
        assert page.evaluate(SHOWN) == shown
    send(page, "forward", b"no picture")
    expect(page.locator("#instrument .pvi-message")).to_contain_text("text file")
    page.reload()  # the one that was refused is not the one that comes back
    page.wait_for_function(f"{READY} && {STATE}.seed === 5 && {STATE}.pixels.length === 2")
    assert page.evaluate(STATE) == before
    page.evaluate(f"{INSTRUMENT}.pvInstrument.set({{ example: 'coffee' }})")
    page.wait_for_function(f"{STATE}.example === 'coffee' && location.hash.includes('image=coffee')")
    assert page.evaluate(KEPT) == []
    page.reload()
    page.wait_for_function(f"{READY} && {STATE}.example === 'coffee'")


def test_the_scale_tabs_picture_comes_back_with_its_settings(page, address):
    page.goto(f"{address}#tab=scale&scale.seed=9")
    examples = page.locator("[data-example][aria-pressed=true]").filter(visible=True)
    expect(examples).to_have_count(1)
    send(page, "scale", png(photo(24, 24, seed=2)))
    expect(examples).to_have_count(0)
    page.wait_for_function(f"!{LINKED} && sessionStorage.getItem('pixelviz-scale-upload')")
    shown = page.evaluate(f"{ESTIMATED}.toDataURL()")
    page.reload()
    page.wait_for_function(f"shown => {ESTIMATED}?.toDataURL() === shown && !{LINKED}", arg=shown)
    expect(examples).to_have_count(0)
    assert "scale.seed=9" in page.url
    page.goto("about:blank")
    page.goto(f"{address}#tab=scale&scale.picture=camera")  # a link to another picture, in the same browser tab
    expect(page.get_by_label("Example: Camera").filter(visible=True)).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(KEPT) == []


def test_a_browser_keeps_few_pictures(page, address):
    page.goto(address)
    page.wait_for_function(READY)
    counted = page.evaluate(
        f"""async () => {{
          const {{ kept }} = await {module("kept.js")};
          const stores = [...Array(20).keys()].map((k) => kept(`button-${{k}}`));
          for (const [k, store] of stores.entries()) await store.keep(new File([String(k)], `${{k}}.png`));
          const files = await Promise.all(stores.map((store) => store.back()));
          stores[19].drop();
          return [files.map((file) => file?.name ?? null), (await stores[19].back()) ?? null];
        }}"""
    )
    assert counted == [[None] * 14 + [f"{k}.png" for k in range(14, 20)], None]
