"""The class answers together, in a browser: ten phones, and the lecturer's screen."""

import re

import pytest

from tests.browser import PATIENCE, opened, watched

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
expect.set_options(timeout=PATIENCE)  # ten phones keep a machine busy


@pytest.fixture
def visit(browser, url):
    """Opens a page of its own browser context: `visit(hash, width, height)`; nothing may complain."""
    contexts, complaints = [], []

    def opened(place, width=390, height=844):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce"))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        complaints.append(watched(page, url))
        page.goto(url + place)
        page.wait_for_function("document.querySelector('#lesson-choices')?.children.length")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not any(complaints)


def answer(phone, option):
    phone.locator(f"[name=pv-lesson-choice][value={option}]").check()
    phone.locator(".pv-lesson-commit").click()


def ask_the_class(visit):
    """The lecturer's page, on a projector, and the code."""
    screen = visit("#tab=lesson&step=1&route=short", 1920, 1080)
    screen.get_by_role("button", name="Ask the class").click()
    code = screen.locator(".pv-poll strong")
    expect(code).to_have_text(re.compile("^[A-Z0-9]{5}$"))
    return screen, code.inner_text()


def test_ten_phones_and_the_projectors_histogram(visit):
    screen, code = ask_the_class(visit)
    expect(screen.get_by_alt_text(re.compile(f"poll={code}"))).to_be_visible()
    expect(screen.locator(".pv-poll")).to_contain_text("Phones here: 0")
    phones = [visit(f"#tab=lesson&step=1&route=short&poll={code.lower()}") for _ in range(10)]
    for k, phone in enumerate(phones):
        expect(phone.locator(".pv-poll-head")).to_contain_text(f"class {code}")
        assert "poll" not in phone.evaluate("location.hash"), "a copied link joins nobody"
        answer(phone, ("bright", "all", "none")[min(k % 4, 2)])
        expect(phone.locator(".pv-lesson-body")).to_contain_text("Your answer is counted")
        assert phone.locator(".pv-lesson-verdict").count() == 0
        if k == 4:
            expect(screen.locator(".pv-poll-count")).to_have_text(re.compile("^5 of"))
    expect(screen.locator(".pv-poll-count")).to_have_text("10 of 10 have answered")
    assert screen.locator(".pv-poll li b").count() == 0, "no counts before the reveal"
    screen.get_by_role("button", name="Reveal").click()
    # k % 4 of 0..9: three 0, three 1, two 2, two 3.
    expect(screen.locator(".pv-poll li b")).to_have_text(["3", "3", "0", "4"])
    expect(screen.locator(".pv-poll li[data-true]")).to_contain_text("Only in the bright parts")
    widths = [screen.locator(".pv-poll li i").nth(k).bounding_box()["width"] for k in (0, 3)]
    assert widths[0] / widths[1] == pytest.approx(3 / 4, abs=0.01)
    for phone in phones:
        expect(phone.locator(".pv-lesson-verdict")).to_be_visible()
    texts = screen.locator(".pv-poll *").filter(has_text=re.compile(r"\S"))
    assert min(texts.evaluate_all("all => all.map((one) => parseFloat(getComputedStyle(one).fontSize))")) >= 28

    screen.get_by_role("button", name="Next question").click()
    expect(screen.locator(".pv-poll h3")).to_contain_text("Whose stream")
    expect(screen.locator(".pv-poll")).to_contain_text("Phones here: 10")
    screen.get_by_role("button", name="End the class").click()
    expect(screen.locator(".pv-poll")).to_have_count(0)
    phones[0].get_by_role("button", name="Next", exact=True).click()
    answer(phones[0], "dark")
    expect(phones[0].get_by_role("alert").filter(visible=True)).to_contain_text("no class with this code")
    expect(phones[0].locator(".pv-lesson-verdict")).to_be_visible()


def test_a_wrong_code_and_impatience(visit):
    screen, code = ask_the_class(visit)
    phone = visit("#tab=lesson")
    for typed in ("WRONG", code):
        phone.get_by_role("button", name="Join a class").click()
        phone.get_by_label("Code of the class").fill(typed)
        phone.keyboard.press("Enter")
        expected = "no class with this code" if typed == "WRONG" else f"class {code}"
        expect(phone.locator(".pv-poll-head")).to_contain_text(expected)
    answer(phone, "dark")
    phone.get_by_role("button", name="Show it now").click()
    expect(phone.locator(".pv-lesson-verdict")).to_contain_text("Your prediction: Only in the dark parts")
    phone.get_by_role("button", name="Leave").click()
    expect(phone.get_by_role("button", name="Join a class")).to_be_visible()

    screen.keyboard.press("Escape")
    expect(screen.locator(".pv-poll")).to_have_count(0)
    screen.reload()
    screen.get_by_role("button", name="Ask the class").click()
    expect(screen.locator(".pv-poll strong")).to_have_text(code)
    expect(screen.locator(".pv-poll-count")).to_have_text("1 of 1 have answered")


def test_a_network_that_flickers_costs_nobody_a_seat_or_a_class(browser, url):
    """No answer of the server ends anything: the vote is sent again, and the screen goes on counting."""
    silence = re.compile("component_server")
    with (
        opened(browser, url, left=("ERR_FAILED",), viewport={"width": 1920, "height": 1080}) as screen,
        opened(browser, url, left=("ERR_FAILED",)) as phone,
    ):
        screen.goto(url + "#tab=lesson&step=1&route=short")
        screen.get_by_role("button", name="Ask the class").click()
        code = screen.locator(".pv-poll strong").inner_text()
        phone.goto(url + f"#tab=lesson&step=1&route=short&poll={code}")
        expect(phone.locator(".pv-poll-head")).to_contain_text(f"class {code}")
        for page in (screen, phone):
            page.route(silence, lambda route: route.abort())
        answer(phone, "bright")
        screen.get_by_role("button", name="Reveal").click()
        expect(screen.locator(".pv-poll-count")).to_have_text("The server did not answer. Try again.")
        phone.wait_for_timeout(4000)  # beyond a look of either
        expect(phone.locator(".pv-lesson-body")).to_contain_text("Your answer is counted")
        for page in (screen, phone):
            page.unroute(silence)
        expect(screen.locator(".pv-poll-count")).to_have_text("1 of 1 have answered")
        screen.get_by_role("button", name="Reveal").click()
        expect(phone.locator(".pv-lesson-verdict")).to_be_visible()


def test_a_lost_answer_of_the_lesson_is_asked_for_again(browser, url):
    with opened(browser, url, left=("ERR_FAILED", "Failed to fetch")) as page:
        page.goto(url + "#tab=lesson&step=1")
        page.route(re.compile("queue/join|/run/"), lambda route: route.abort())
        answer(page, "bright")
        expect(page.locator(".pv-lesson-body")).to_contain_text("Computing")
        page.unroute_all()
        expect(page.locator(".pv-lesson-verdict")).to_be_visible()
