"""What is on the screen is in the address, and comes back from it; presenter mode and its keys."""

import re

import pytest

from pixelviz.data.images import EXAMPLES
from pixelviz.lesson.pages import languages
from pixelviz.ui.app import TABS
from tests.browser import LINK, PATIENCE, opened

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

VIEW = {
    "example": "coffee",
    "gamma": 35.5,
    "T": 120,
    "floor": 0.05,
    "t": 0.5,
    "seed": 7,
    "crop": 0.25,
    "ddpm": "rescaled",
    "pixels": [[10, 20, 0], [100, 30, 2]],
    "pair": [1, 0],
}
HASH = (
    "#tab=forward&image=coffee&gamma=35.5&T=120&floor=0.05&t=0.5&seed=7&crop=0.25&ddpm=rescaled"
    "&schedule=pixel-aware&pixels=10.20.0,100.30.2&pair=1.0"
)
NODE = "document.querySelector('#{} .pv-instrument')?.pvInstrument"


@pytest.fixture
def page(browser, url):
    with opened(browser, url, permissions=("clipboard-read", "clipboard-write")) as page:
        yield page


def visit(page, address, instrument="instrument"):
    """Open an address in a new load of the page, and wait for its instrument."""
    page.goto("about:blank")
    page.goto(address)
    if instrument:
        page.wait_for_function(NODE.format(instrument) + "?.ready")


def state(page, instrument="instrument"):
    return page.evaluate(NODE.format(instrument) + ".state()")


def until_state(page, wanted, instrument="instrument"):
    """Wait until the instrument is as wanted, and give its whole state."""
    page.wait_for_function(
        f"want => {{ const now = {NODE.format(instrument)}?.state(); return now && Object.entries(want).every("
        "([key, value]) => JSON.stringify(now[key]) === JSON.stringify(value)); }",
        arg=wanted,
    )
    return state(page, instrument)


def note(page):
    return page.locator(".pv-address-note")


def test_a_view_goes_into_the_address_and_comes_back(page, url):
    visit(page, url)
    page.evaluate("view => " + NODE.format("instrument") + ".set(view)", VIEW)
    until_state(page, VIEW)
    link = page.evaluate(LINK)
    assert link == url.rstrip("/") + "/" + HASH + "&view=basic"
    visit(page, link)
    until_state(page, VIEW)
    expect(note(page)).to_be_hidden()
    assert page.evaluate(LINK) == link


def test_the_address_follows_the_hand_without_new_pages_in_the_history(page, url):
    visit(page, url)
    before = page.evaluate("history.length")
    page.get_by_label("time", exact=True).fill("150")
    page.wait_for_function("location.hash.includes('t=0.75')")
    page.get_by_label("gamma", exact=True).fill("42")
    page.wait_for_function("location.hash.includes('gamma=42')")
    page.get_by_role("tab", name="Generate").click()
    page.wait_for_function("location.hash.includes('tab=generate')")
    assert "gamma=42" in page.url, "the view of the first tab stays in the address"
    assert page.evaluate("history.length") == before
    page.get_by_role("tab", name="Lesson").click()
    page.wait_for_function("location.hash.includes('tab=lesson&step=1')")


def test_every_tab_has_an_address(page, url):
    visit(page, f"{url}#tab={TABS[-1][0].lower()}")  # the last one opened with it, the others by editing it
    for title in (title for title, _ in reversed(TABS)):
        page.evaluate("hash => { location.hash = hash; }", f"tab={title.lower()}")
        expect(page.get_by_role("tab", name=title, exact=True)).to_have_attribute("aria-selected", "true")


def test_an_edit_wins_against_a_write_that_waited(page, url):
    visit(page, url + "#tab=forward&gamma=11")
    until_state(page, {"gamma": 11})
    page.evaluate("() => { location.hash = 'tab=claims'; history.replaceState(null, '', '#tab=forward&gamma=12'); }")
    expect(page.get_by_role("tab", name="Claims", exact=True)).to_have_attribute("aria-selected", "true")
    page.wait_for_function("location.hash.startsWith('#tab=claims')")


def test_an_edited_address_is_read_at_once(page, url):
    visit(page, url)
    page.evaluate("location.hash = 'tab=forward&gamma=11&t=0.25'")
    until_state(page, {"gamma": 11, "t": 0.25})
    page.evaluate("location.hash = 'tab=lesson&step=1&lang=es'")
    page.get_by_role("heading", name="¿Quién va por delante?").wait_for()


UNFIT = [
    ("gamma=9000", {"gamma": 100}, "gamma = 9000 does not fit; it became 100"),
    ("T=-3", {"T": 1}, "T = -3 does not fit"),
    ("floor=7&t=0.5", {"floor": 0.5, "t": 0.5}, "floor = 7 does not fit"),
    ("t=1e9", {"t": 1}, "t = 1000000000 does not fit"),
    ("gamma=abc&T=100", {"gamma": 20, "T": 100}, "“gamma=abc” was not understood"),
    ("gamma=&t=0.5", {"gamma": 20, "t": 0.5}, "“gamma=” was not understood"),
    ("pixels=1.2;3&t=0.5", {"t": 0.5}, "was not understood"),
    ("image=../../etc/passwd&t=0.5", {"example": "astronaut", "t": 0.5}, "was not understood"),
    ("seed=-1&t=0.5", {"seed": 0, "t": 0.5}, "seed = -1 does not fit"),
    ("tab=nowhere&t=0.5", {"t": 0.5}, "“tab=nowhere” was not understood"),
    ("<img src=x onerror=alert(1)>=1&t=0.5", {"t": 0.5}, "was not understood"),
    ("%&%E0%A4%A&t=0.5", {"t": 0.5}, "was not understood"),
]


def test_what_an_address_cannot_mean_is_left_out_and_said(page, url):
    start = {"example": "astronaut", "gamma": 20, "T": 200, "floor": 0.004, "t": 0.1, "seed": 0}
    visit(page, url + "#" + UNFIT[0][0])  # at the start; the others by editing it
    for k, (hash_, kept, said) in enumerate(UNFIT):
        if k:
            page.evaluate("view => " + NODE.format("instrument") + ".set(view)", start)
            until_state(page, start)
            page.evaluate(LINK)
            page.evaluate("hash => { location.hash = hash; }", hash_)
        expect(note(page)).to_contain_text(said)
        until_state(page, kept)
    assert page.locator(".pv-address-note img").count() == 0, "an address is text, never markup"


def test_pixels_outside_the_picture_are_said_to_be(page, url):
    visit(page, url + "#image=ankle-boot&pixels=5.5.0,400.3.0")
    until_state(page, {"example": "ankle-boot"})
    expect(note(page)).to_contain_text("pixels = 5.5.0,400.3.0 does not fit")
    assert all(row < 32 and column < 32 for row, column, _ in state(page)["pixels"])


def test_a_link_is_copied_and_an_upload_is_not_in_it(page, url):
    visit(page, url + HASH)
    until_state(page, VIEW)
    page.get_by_role("button", name="Copy link").click()
    expect(note(page)).to_have_text("Link copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    page.locator("#forward-upload").locator("..").locator("input[type=file]").set_input_files(
        str(dict(EXAMPLES)["Cat"])
    )
    until_state(page, {"example": None})
    page.get_by_role("button", name="Copy link").click()
    expect(note(page)).to_contain_text("Your uploaded picture is not in the link")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "image=" not in copied
    assert "gamma=35.5" in copied


def test_a_lesson_step_comes_back_with_its_language_and_its_own_view(page, url):
    lesson = "lesson-instrument"
    visit(page, url + "#tab=lesson&step=3&lang=es", lesson)
    page.get_by_role("heading", name="El agua").wait_for()
    page.locator("[name=pv-lesson-choice]").first.check()
    page.get_by_role("button", name="Confirmar").click()
    page.locator(".pv-lesson-verdict").wait_for()
    until_state(page, {"t": 0.125}, lesson)
    page.evaluate(NODE.format(lesson) + ".set({ t: 0.9, gamma: 33 })")
    until_state(page, {"t": 0.9, "gamma": 33}, lesson)
    link = page.evaluate(LINK)
    assert "tab=lesson&step=3&lang=es" in link
    visit(page, link, lesson)  # the same visitor, who has answered
    until_state(page, {"t": 0.9, "gamma": 33}, lesson)
    page.get_by_role("heading", name="El agua").wait_for()
    page.evaluate("sessionStorage.clear()")
    visit(page, link, lesson)  # a student: first the question
    page.get_by_role("button", name="Confirmar").wait_for()
    until_state(page, {"t": 0}, lesson)


def test_steps_that_are_not_there_become_the_nearest(page, url):
    visit(page, url + "#tab=lesson&step=99", "lesson-instrument")
    page.get_by_role("heading", name="What you take away").wait_for()
    expect(note(page)).to_contain_text("no step 99; this is step 8")


SCENES = languages()["en"]["scenes"]


def at_scene(page, key):
    """Wait for a scene of presenter mode, by its title."""
    expect(page.locator("#instrument .pvi-head h2")).to_have_text(SCENES[key]["title"])


def test_presenter_mode_is_a_sequence_of_scenes_by_keys(page, url):
    visit(page, url + "#tab=generate&gamma=35&t=0.3")
    until_state(page, {"gamma": 35})
    page.keyboard.press("p")
    at_scene(page, "opening")
    expect(page.get_by_label("gamma", exact=True)).to_be_hidden()
    for key in list(SCENES)[1:6]:
        page.keyboard.press("n")
        at_scene(page, key)
    page.keyboard.press("b")
    at_scene(page, "ahead")
    page.wait_for_function("location.hash.includes('presenter=1&scene=5')")
    until_state(page, {"example": "camera", "gamma": 20, "t": 0.5})

    time = page.get_by_label("time", exact=True)
    i = int(time.input_value())
    for key, moved in (("ArrowRight", 4), ("ArrowLeft", 0), ("Shift+ArrowRight", 1)):
        page.keyboard.press(key)
        expect(time).to_have_value(str(i + moved))
    page.keyboard.press("Space")
    page.wait_for_function(NODE.format("instrument") + ".state().playing")
    page.keyboard.press("Space")
    page.wait_for_function("!" + NODE.format("instrument") + ".state().playing")

    page.keyboard.press("Escape")
    expect(page.locator(".pv-show")).to_have_count(0)
    until_state(page, {"example": "astronaut", "gamma": 35, "t": 0.3})
    page.wait_for_function("!location.hash.includes('presenter')")
    expect(page.get_by_role("button", name="Presenter mode")).to_be_focused()
    page.keyboard.press("n")  # does nothing outside presenter mode
    page.locator(".pv-typed").first.focus()
    page.keyboard.press("p")  # nor does P while someone types
    expect(page.locator(".pv-show")).to_have_count(0)


def test_a_phone_finds_the_way_through_the_scenes_and_out(browser, url):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    visit(page, url + "#tab=forward&presenter=1&scene=8")
    at_scene(page, "passes")
    page.get_by_role("button", name="Next scene").tap()
    at_scene(page, "diverge")
    expect(page.locator(".pvi-made img")).to_have_count(3, timeout=PATIENCE)
    assert page.get_by_role("button", name="Next scene").is_disabled()
    assert re.fullmatch(r"\d+:\d\d", page.locator(".pv-show time").inner_text())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Leave").tap()
    expect(page.locator(".pv-show")).to_have_count(0)
    expect(page.get_by_role("tab", name="Forward", exact=True)).to_be_visible()
    context.close()
