"""A visitor takes the lesson: from start to end, in both languages, and with the keyboard alone."""

import pytest
import torch

from pixelviz.data.sets import to_image
from pixelviz.lesson.exercises import EXERCISES
from pixelviz.lesson.pages import languages
from pixelviz.lesson.steps import POUR_AT, STEPS, THREE
from tests.browser import LINK, PATIENCE, watched

sync_api = pytest.importorskip("playwright.sync_api")

NODE = "document.querySelector('#lesson-instrument .pv-instrument')?.pvInstrument"


@pytest.fixture
def page(browser, url):
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    complaints = watched(page, url)
    yield page
    page.close()
    assert not complaints


def awake(page):
    """Wait until the lesson's instrument has drawn."""
    page.wait_for_function(NODE + "?.ready")


def until_time(page, t):
    page.wait_for_function("t => Math.abs(" + NODE + ".state().t - t) < 1e-6", arg=t)


def shown(page):
    """The instrument's views that can be seen."""
    views = page.locator("#lesson-instrument [data-view]")
    return set(views.evaluate_all("all => all.filter(one => one.offsetParent).map(one => one.dataset.view)"))


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_lesson_from_start_to_end(page, url, language):
    texts = languages()[language]
    page.goto(url + (f"#tab=lesson&step=1&lang={language}" if language != "en" else "#tab=lesson"))
    awake(page)
    hits = 0
    for k, step in enumerate(STEPS, 1):
        text = texts["steps"][step.key]
        page.get_by_role("heading", name=text["title"]).wait_for()
        assert page.locator(".pv-lesson-verdict").count() == 0
        assert shown(page) == set(step.ask.views), "nothing is shown before the prediction"
        page.get_by_role("button", name=texts["ui"]["commit"]).click()
        page.get_by_text(texts["ui"]["choose_first"]).wait_for()
        page.locator("[name=pv-lesson-choice]").first.check()
        page.get_by_role("button", name=texts["ui"]["commit"]).click()
        verdict = page.locator(".pv-lesson-verdict")
        verdict.wait_for()
        hits += texts["ui"]["right"] in verdict.inner_text()
        body = page.locator(".pv-lesson").inner_text()
        assert "{" not in body, "a number that was not filled in"
        assert page.locator(".pv-lesson").get_attribute("lang") == language
        if step.see:
            until_time(page, step.see.until)
            assert shown(page) == set(step.see.views)
            assert page.locator(".pv-lesson-live tbody tr, .pv-lesson-live tr").count() == len(step.scene.wanted) + 1
        else:
            assert not page.locator("#lesson-instrument").is_visible()
            page.locator("#lesson-stage img, #lesson-stage svg[role=img]").first.wait_for()
            curves = list(texts["steps"][step.key].get("curves", {}).values())
            sync_api.expect(page.locator("#lesson-stage .legendtext")).to_have_text(curves)
        assert f"step={k}" in page.evaluate(LINK)
        page.get_by_role("button", name=texts["ui"]["finish" if k == len(STEPS) else "next"], exact=True).click()
    score = texts["closing"]["score"].format(right=hits, asked=len(STEPS))
    page.get_by_text(score).wait_for()
    assert 0 < hits < len(STEPS), "the first option is sometimes right, and not always"

    page.reload()
    page.get_by_text(score).wait_for()
    page.get_by_role("button", name=texts["closing"]["again"]).click()
    page.get_by_role("heading", name=texts["steps"]["noise"]["title"]).wait_for()
    assert page.locator("[data-mark=right], [data-mark=wrong]").count() == 0


def test_the_keyboard_alone_is_enough_for_a_step(page, url):
    page.goto(url)
    page.get_by_role("tab", name="Lesson").focus()
    page.keyboard.press("Enter")
    awake(page)
    page.locator(".pv-lesson-progress button").nth(2).focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Who has most left?").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H2"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # the first option
    page.keyboard.press("ArrowDown")  # the second, the right one
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    verdict = page.locator(".pv-lesson-verdict")
    verdict.wait_for()
    assert "Right." in verdict.inner_text()
    page.wait_for_function("document.activeElement.matches('.pv-lesson-verdict')")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first thing to try
    until_time(page, POUR_AT)
    page.get_by_text("Live, at t = 0.05").wait_for()
    page.wait_for_timeout(1000)  # and what was still to be shown does not undo it
    until_time(page, POUR_AT)


def test_live_numbers_are_those_of_python(page, url):
    page.goto(url + "#tab=lesson&step=3")
    awake(page)
    page.locator("[name=pv-lesson-choice]").first.check()
    page.get_by_role("button", name="Commit").click()
    page.locator(".pv-lesson-verdict").wait_for()
    page.evaluate(NODE + ".set({ t: 0.6, floor: 0.1, gamma: 30 })")
    page.get_by_text("Live, at t = 0.6").wait_for()
    scene = THREE.view.but(gamma=30.0, floor=0.1)
    values = torch.tensor(
        [0.1 + 0.9 * v for v in to_image(THREE.view.x0_at_pixels, THREE.view.floor).tolist()], dtype=torch.float64
    )
    rows = page.locator(".pv-lesson-live tr").all()[1:]
    for row, x0 in zip(rows, values, strict=True):
        cells = [float(cell.replace("e−", "e-")) for cell in row.locator("td").all_inner_texts()]
        wanted = [x0, scene.ours.snr(x0, 120), scene.theirs.snr(x0, 120), scene.ours.noise_variance(x0, 120)]
        assert cells == pytest.approx([float(w) for w in wanted], rel=0.006)


def test_teacher_and_students_get_a_page_to_print(page, url):
    page.goto(url + "#tab=lesson&lang=es")
    awake(page)
    page.get_by_role("button", name="Ejercicios").click()
    paper = page.locator("#lesson-page")
    assert paper.locator("li").count() == len(EXERCISES)
    assert paper.get_by_role("link").count() == len(EXERCISES)
    page.get_by_role("button", name="Volver a la lección").click()
    page.get_by_role("button", name="Página del profesor").click()
    paper.get_by_text("Los tres chorros").wait_for()
    page.wait_for_function("!document.querySelector('#lesson-page').innerText.includes('Calculando')")
    text = paper.inner_text()
    assert "{" not in text
    assert languages()["es"]["steps"]["peak"]["options"]["middle"] in text
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Imprimir").is_visible()
    assert not page.get_by_role("tab", name="Lesson").is_visible()
    assert paper.is_visible()


def test_an_exercise_opens_its_view(page, url):
    page.goto(url + "#tab=lesson")
    awake(page)
    page.get_by_role("button", name="Exercises").click()
    page.locator("#lesson-page").get_by_role("link").nth(4).click()
    page.wait_for_function(
        "document.querySelector('#instrument .pv-instrument')?.pvInstrument?.state().example === 'ankle-boot'"
    )
    assert page.get_by_role("tab", name="Forward").get_attribute("aria-selected") == "true"
