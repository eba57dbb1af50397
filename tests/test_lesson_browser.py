"""A visitor takes the lesson: both routes, in all languages, and with the keyboard alone."""

import math

import pytest
import torch

from pixelviz.data.sets import to_image
from pixelviz.lesson.exercises import EXERCISES
from pixelviz.lesson.pages import languages
from pixelviz.lesson.steps import POUR_AT, ROUTES, STEPS, THREE
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


TRUE = {"ahead": "bright", "pixel": "noise", "pouring": "bright", "gap": "bright", "diverge": "explodes"}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("language", ["en", "es", "zh"])
def test_the_lesson_from_start_to_end(page, url, language, route):
    """On the whole route the first option is always taken, on the short one what is true."""
    texts, steps, hits = languages()[language], ROUTES[route], 0
    page.goto(url + f"#tab=lesson&step=1&lang={language}")
    awake(page)
    page.get_by_label(texts["ui"]["route"]).select_option(route)
    assert page.locator(".pv-lesson-progress button").count() == len(steps) + 1
    for k, step in enumerate(steps, 1):
        text = texts["steps"][step.key]
        page.get_by_role("heading", name=text["title"], exact=True).wait_for()
        page.get_by_text(texts["ui"]["step"].format(k=k, n=len(steps)), exact=True).wait_for()
        assert page.locator(".pv-lesson-verdict").count() == 0
        assert shown(page) == set(step.ask.views), "nothing is shown before the prediction"
        page.get_by_role("button", name=texts["ui"]["commit"]).click()
        page.get_by_text(texts["ui"]["choose_first"]).wait_for()
        wanted = TRUE.get(step.key) if route == "short" else None
        page.locator(f"[name=pv-lesson-choice][value={wanted or step.options[0]}]").check()
        page.get_by_role("button", name=texts["ui"]["commit"]).click()
        verdict = page.locator(".pv-lesson-verdict")
        verdict.wait_for()
        right = texts["ui"]["right"] in verdict.inner_text()
        hits += right
        assert right or not wanted
        said = page.locator("#lesson-row").inner_text()
        assert "{" not in said, "a number that was not filled in"
        assert page.locator(".pv-lesson").get_attribute("lang") == language
        if step.see:
            until_time(page, step.see.until)
            assert shown(page) == set(step.see.views)
            assert page.locator(".pv-lesson-live tr").count() == len(step.scene.wanted) + 1
            heads = page.locator(".pv-lesson-live th[scope=col]").all_inner_texts()
            assert heads == [texts["ui"][key] for key in ("pixel", *step.columns)]
        else:
            assert not page.locator("#lesson-instrument").is_visible()
            page.locator("#lesson-stage img, #lesson-stage svg[role=img]").first.wait_for()
            curves = list(text.get("curves", {}).values())
            sync_api.expect(page.locator("#lesson-stage .legendtext")).to_have_text(curves)
        assert f"step={STEPS.index(step) + 1}" in page.evaluate(LINK)
        page.get_by_role("button", name=texts["ui"]["finish" if k == len(steps) else "next"], exact=True).click()
    score = texts["closing"]["score"].format(right=hits, asked=len(steps))
    page.get_by_text(score).wait_for()
    assert 0 < hits < len(steps) if route == "whole" else hits >= len(steps) - 1
    cards = page.locator(".pv-lesson-takeaways li")
    for step, card in zip(steps, cards.all(), strict=True):
        assert texts["steps"][step.key]["takeaway"][:12] in card.inner_text()
        assert texts["closing"]["predicted"] in card.inner_text()

    page.reload()
    page.get_by_text(score).wait_for()
    assert page.get_by_label(texts["ui"]["route"]).input_value() == route
    page.get_by_role("button", name=texts["closing"]["again"]).click()
    page.get_by_role("heading", name=texts["steps"]["ahead"]["title"]).wait_for()
    assert page.locator("[data-mark=right], [data-mark=wrong]").count() == 0


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
@pytest.mark.parametrize("language", ["en", "es", "zh"])
def test_what_must_be_seen_is_on_the_screen_without_scrolling(page, url, size, language):
    page.set_viewport_size({"width": size[0], "height": size[1]})

    def inside(place, share=1.0):
        box = page.locator(place).filter(visible=True).first.bounding_box()
        assert box["y"] >= -1, (place, k)
        assert box["y"] + share * box["height"] <= size[1] + 1, (place, k, box)

    for k, step in enumerate(STEPS, 1):
        page.goto("about:blank")
        page.goto(url + f"#tab=lesson&step={k}&lang={language}")
        awake(page)
        page.locator("[name=pv-lesson-choice]").first.wait_for()
        page.wait_for_timeout(300)
        inside(".pv-lesson-commit", 0.8)
        page.locator("[name=pv-lesson-choice]").first.check()
        page.locator(".pv-lesson-commit").click()
        page.locator(".pv-lesson-verdict").wait_for()
        page.wait_for_timeout(500)
        inside(".pv-lesson-verdict")
        inside("[data-press=next]")
        inside("#lesson-instrument .pvi-look" if step.see else "#lesson-stage img", 0.8)


def test_the_keyboard_alone_is_enough_for_a_step(page, url):
    page.goto(url)
    page.get_by_role("tab", name="Lesson").focus()
    page.keyboard.press("Enter")
    awake(page)
    page.locator(".pv-lesson-progress button").nth(2).focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="The water").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H2"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # the first option
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")  # the third, the right one
    page.keyboard.press("Tab")  # back
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
        cells = [float(cell) for cell in row.locator("td").all_inner_texts()]
        snr = scene.ours.snr(x0, 120).item()
        assert cells == pytest.approx([x0.item(), snr, math.log2(1 + snr) / 2], rel=0.006)


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
    assert "unos 25 minutos; el recorrido corto, 12." in text
    assert languages()["es"]["steps"]["pouring"]["options"]["bright"] in text
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
