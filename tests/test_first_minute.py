"""What a newcomer and a class meet first: the water, its scene, and what a hand types."""

import re

import pytest

from pixelviz.lesson.pages import languages
from tests.browser import INSTRUMENT, PATIENCE, module, opened

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


@pytest.fixture
def page(browser, url):
    """A page that has not been opened yet; nothing may complain."""
    with opened(browser, url, viewport={"width": 1920, "height": 1080}) as page:
        yield page


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


# --- What a hand types


def say(page):
    return page.locator(".pv-number-note")


TYPED = [  # field's label, text, and the value that the instrument then has
    ("gamma, typed", "12,5", "gamma", 12.5),
    ("floor, typed", "0,1", "floor", 0.1),
    ("floor, typed", ",2", "floor", 0.2),
    ("T, typed", "1.000", "T", 1000),  # asked about
    ("gamma, typed", "1.000", "gamma", 1),  # only one reading fits
    ("Seed", "7,0", "seed", 7),
]


@pytest.mark.parametrize("locale", ["de-DE", "en-US"])
def test_a_decimal_comma_means_what_its_writer_means(browser, url, locale):
    context = browser.new_context(locale=locale, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    visit(page, url + "#tab=forward&t=0.1&view=all")
    panel = page.locator("#instrument")
    for label, text, key, value in TYPED:
        field = panel.get_by_label(label, exact=True)
        field.click()
        field.press("Control+a")
        field.press_sequentially(text)
        field.press("Tab")
        if (key, text) == ("T", "1.000"):
            expect(say(page)).to_contain_text("“1.000” is")
            say(page).get_by_role("button", name="1000").click()
        page.wait_for_function(f"want => {INSTRUMENT}.pvInstrument.state()[want[0]] === want[1]", arg=[key, value])
    for tab, label, text, value in (("Scale", "Seed", "3,0", "3"), ("Train", "Learning rate", "0,002", "0.002")):
        page.get_by_role("tab", name=tab, exact=True).click()
        field = page.get_by_role("tabpanel").filter(visible=True).get_by_label(label).first
        field.click()
        field.press("Control+a")
        field.press_sequentially(text)
        field.press("Enter")
        expect(field).to_have_value(value)
    context.close()


def test_what_does_not_fit_is_said_and_seen(page, url):
    visit(page, url + "#tab=forward&t=0.1&view=all")
    gamma = page.locator("#instrument").get_by_label("gamma, typed")
    for text, shown, said in (
        ("abc", "20", "“abc” is not a number; it stays 20."),
        ("", "20", "A number is needed here; it stays 20."),
        ("500", "100", "500 is above the greatest value here: 100 is taken."),
    ):
        gamma.fill(text)
        gamma.press("Enter")
        expect(say(page)).to_have_text(said)
        expect(gamma).to_have_value(shown)
    gamma.press("ArrowDown")
    expect(gamma).to_have_value("99.5")
    page.get_by_role("tab", name="Train", exact=True).click()
    steps = page.locator("#steps input")
    steps.fill("0")
    steps.press("Tab")
    expect(say(page)).to_contain_text("below the least value here: 1 is taken")
    expect(steps).to_have_value("1")


def test_a_keyboard_reaches_the_time_in_ten_stops_and_keeps_its_place(page, url):
    visit(page, url + "#tab=forward&t=0.1&view=all&generate.images=64&generate.passes=8")
    page.locator("#instrument [data-view=image] button.pvi-mark").first.wait_for(state="attached")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the contents")).to_be_focused()
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == "time":
            break
    else:
        pytest.fail("no time after ten stops")
    page.get_by_role("tab", name="Forward", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Lesson", exact=True)).to_be_focused()
    expect(page.get_by_role("tab", name="Lesson", exact=True)).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="Generate", exact=True).click()
    go = page.locator("button#generate")
    page.locator("#film h2").wait_for()  # the first sheet, which the tab draws by itself, is whole
    expect(go).to_be_enabled()  # of one answer, the film may be shown before the button is
    page.evaluate(
        """() => {
          const button = document.querySelector("button#generate"), seen = window.seen = [];
          new MutationObserver(() => seen.push(button.disabled)).observe(button, { attributeFilter: ["disabled"] });
        }"""
    )
    go.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("seen.includes(true) && seen.at(-1) === false")  # it may be too short to be met
    expect(go).to_be_focused()


def test_a_finger_finds_targets_of_44_pixels(browser, url):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    visit(page, url + "#tab=forward&t=0.1&view=all")
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input:not([type=radio])")]
          .filter((e) => e.offsetParent && !e.closest("footer") && !e.matches(".pvi-mark, .pv-term, [type=range]"))
          .filter((e) => e.getBoundingClientRect().height < 44).map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert not small
    context.close()


# --- The opening, the basic view, and words


def still(page):
    """The time and the picture of the instrument."""
    return page.evaluate(f"(({{ t, example }}) => [t, example])({INSTRUMENT}.pvInstrument.state())")


@pytest.mark.parametrize("stop", ["touch", "end"])
def test_the_opening_runs_once_and_any_touch_stops_it(browser, url, stop):
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="no-preference")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    visit(page, url)
    scene, head = page.locator("#instrument .pvi-scene"), page.locator("#instrument .pvi-head p")
    page.wait_for_function(f"{INSTRUMENT}.pvInstrument.state().t > 0.05")
    assert page.locator("#instrument .pv-instrument.pvi-scene").count() == 1
    expect(head).to_be_hidden()
    picture = page.locator("#instrument [data-view=ddpm] .pvi-frame")
    before = picture.bounding_box()
    if stop == "touch":
        page.mouse.click(640, 20)
    expect(head).to_be_visible(timeout=20_000)
    expect(head).to_have_text(languages()["en"]["scenes"]["opening"]["say"])
    assert picture.bounding_box() == before  # the answer moves nothing
    held = still(page)
    assert held[1] == "camera"
    assert held[0] < 0.3 if stop == "touch" else held[0] == 0.3
    page.wait_for_timeout(300)
    assert still(page) == held
    page.get_by_role("button", name="Try it").click()
    expect(scene).to_have_count(0)
    expect(page.get_by_label("gamma", exact=True)).to_be_visible()
    visit(page, url)
    page.wait_for_timeout(500)
    assert page.locator("#instrument .pv-instrument.pvi-scene").count() == 0
    context.close()


def test_a_hand_quicker_than_the_opening_is_not_called_back(browser, url):
    """Whoever has gone to another tab before the film begins stays there, and sees it on another visit."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="no-preference")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    held = []
    page.route("**/instrument/instrument.js", lambda route: held.append(route))  # the film waits for the instrument
    page.goto(url)
    page.evaluate(f"async () => {{ await {module('presenter.js')}; }}")
    page.get_by_role("tab", name="Checkpoints", exact=True).click()
    for route in held:
        route.continue_()
    page.unroute("**/instrument/instrument.js")
    page.locator("#checkpoint-samples img").wait_for()
    page.wait_for_timeout(1500)
    expect(page.get_by_role("tab", name="Checkpoints", exact=True)).to_have_attribute("aria-selected", "true")
    assert page.locator("[inert] [role=tab]").count() == 0
    assert page.evaluate("localStorage.getItem('pixelviz-seen')") is None
    context.close()


def test_less_motion_means_no_opening_and_more_is_kept_in_the_link(page, url):
    visit(page, url)
    page.wait_for_timeout(500)
    assert page.locator("#instrument .pv-instrument.pvi-scene").count() == 0
    basic = {"image", "ours", "ddpm", "snr", "water", "controls"}
    shown = page.locator("#instrument [data-view]").filter(visible=True)
    assert set(shown.evaluate_all("all => all.map((v) => v.dataset.view)")) == basic
    for name, seen in (("gamma", True), ("T", False), ("floor", False)):
        assert page.get_by_label(name, exact=True).is_visible() == seen
    page.wait_for_function("location.hash.includes('view=basic')")
    page.get_by_role("button", name="More:").click()
    expect(shown).to_have_count(15)
    page.wait_for_function("!location.hash.includes('view=basic')")
    visit(page, page.url)
    expect(shown).to_have_count(15)


def test_a_term_is_explained_by_mouse_touch_and_keyboard_in_the_visitors_language(page, url):
    visit(page, url + "#tab=forward&view=all&lang=es")
    term, note = page.locator("#instrument .pv-term", has_text="Brecha final").first, page.locator(".pv-gloss")
    term.hover()
    expect(note).to_have_text(languages()["es"]["glossary"]["terminal gap"])
    page.mouse.move(0, 0)
    expect(note).to_be_hidden()
    term.focus()
    expect(note).to_be_visible()
    page.keyboard.press("Escape")
    expect(note).to_be_hidden()
    term.click()
    expect(note).to_be_visible()
    page.get_by_role("tab", name="Generar", exact=True).click()
    expect(page.locator(".pv-term").filter(visible=True).first).to_be_visible()


def test_one_thing_has_one_name(page, url):
    visit(page, url + "#view=all")
    for tab in ("Forward", "Generate", "Compare"):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_timeout(300)
        text = page.locator("[role=tabpanel]").filter(visible=True).first.inner_text()
        assert not re.search(r"\b[Oo]urs\b|Parallel, stable", text), tab
