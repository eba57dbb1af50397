"""What a newcomer and a class meet first: the water, its scene, and what a hand types."""

import re

import pytest

from tests.browser import INSTRUMENT, PATIENCE, watched

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


@pytest.fixture
def page(browser, url):
    """A page that has not been opened yet; nothing may complain."""
    context = browser.new_context(viewport={"width": 1920, "height": 1080}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    complaints = watched(page, url)
    yield page
    context.close()
    assert not complaints


def visit(page, address):
    """Open an address in a new load of the page, and wait for its instrument."""
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function(f"{INSTRUMENT}?.pvInstrument?.ready")


def test_the_water_fills_the_screen_in_large_type_and_gives_it_back(page, url):
    visit(page, url + "#tab=forward&image=camera&t=0.05")
    page.get_by_role("button", name="Large").first.click()
    canvas = page.locator("#instrument canvas[data-chart=water]")
    page.wait_for_function(f"{INSTRUMENT}.querySelector('canvas[data-chart=water]').clientHeight > 600")
    assert canvas.bounding_box()["width"] > 1700
    least = "(e) => parseFloat(getComputedStyle(e).fontSize)"
    zoom = canvas.evaluate("(e) => Number(getComputedStyle(e).getPropertyValue('--zoom'))")
    assert 11.5 * zoom >= 28, "the chart's own type"
    for seen in (".pvi-key", ".pvi-clock", ".pvi-leave", "[data-view=water] h2"):
        assert page.locator(f"#instrument {seen}").filter(visible=True).first.evaluate(least) >= 28, seen
    expect(page.locator("#instrument [data-view=snr]")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#instrument [data-view=snr]")).to_be_visible()
    expect(page.get_by_role("button", name="Large").first).to_be_focused()


def test_who_empties_fastest_changes_where_the_bits_rates_cross(page, url):
    visit(page, url + "#tab=forward&image=camera&t=0.05")
    pixels = page.evaluate(f"{INSTRUMENT}.pvInstrument.state().pixels.length")
    assert pixels == 3
    spoken = page.locator("#instrument .pvi-live")
    seen = []
    for t in (0.05, 0.4, 1):
        page.evaluate(f"t => {INSTRUMENT}.pvInstrument.set({{ t }})", t)
        expect(spoken).to_contain_text(f"t = {t:.2f}")
        seen.append(int(re.search(r"Pixel (\d) empties fastest", spoken.inner_text())[1]))
    assert seen == [3, 2, 1], "the brightest first, then the middle one, in the end the darkest"
