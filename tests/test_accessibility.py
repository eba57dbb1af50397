"""axe-core finds nothing in any tab, light and dark, on a large screen and on a phone; motion stays out on request."""

import json
import os
from pathlib import Path

import pytest

from pixelviz.lesson.steps import LEAD_AT, STEPS
from pixelviz.ui.app import TABS
from tests.browser import FLAGS, PATIENCE, browser_path, watched

pytest.importorskip("playwright.sync_api")
axe_module = pytest.importorskip("axe_playwright_python.sync_playwright")

SCREENS = {"light": (1280, 800), "dark": (390, 844)}
# Nothing is being computed or faded: half-transparent text has half the contrast.
SETTLED = """() => !!document.querySelector("#instrument .pv-instrument")?.pvInstrument?.ready
  && !document.querySelector(".pending, .generating")
  && document.getAnimations().every((one) => one.playState !== "running")"""
NODE = "document.querySelector('#lesson-instrument .pv-instrument')?.pvInstrument"


@pytest.fixture(params=SCREENS)
def page(browser, url, request):
    """A page in each theme, with less motion."""
    width, height = SCREENS[request.param]
    page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    complaints = watched(page, url)
    page.goto(f"{url}?__theme={request.param}#view=all")
    settle(page)
    assert page.locator("body.dark").count() == (request.param == "dark")
    yield page
    page.close()
    assert not complaints


def settle(page):
    """Wait until nothing has moved for a second and a half: one answer may ask the next question."""
    still = 0
    for _ in range(PATIENCE // 100):
        page.wait_for_timeout(100)
        still = still + 1 if page.evaluate(SETTLED) else 0
        if still == 15:
            return
    pytest.fail("the page does not come to rest")


def open_tab(page, title):
    page.get_by_role("tab", name=title, exact=True).click()
    settle(page)


def found(page):
    """What axe-core finds in what is on the screen, as lines to read; all of its rules."""
    report = axe_module.Axe().run(page).response
    return [
        f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for one in report["violations"]
        for node in one["nodes"]
    ]


def test_axe_does_find_what_is_wrong(page):
    page.evaluate("document.querySelector('.pv-copy').removeAttribute('aria-label')")
    page.evaluate("document.querySelector('.pv-copy b').remove()")
    page.evaluate("document.querySelector('.pv-copy').removeAttribute('title')")
    page.evaluate("document.querySelector('.pv-header p').style.opacity = 0.4")
    settle(page)
    rules = {line.split(":")[0] for line in found(page)}
    assert rules >= {"button-name", "color-contrast"}


def test_the_basic_view_a_scene_a_term_and_a_question_are_clean(page):
    problems = {}

    def look(name):
        settle(page)
        problems[name] = found(page)

    page.locator("#instrument .pv-term", has_text="gamma").focus()
    look("a term")
    typed = page.get_by_label("T, typed")
    typed.fill("1.000")
    typed.press("Tab")
    look("a question")
    page.keyboard.press("Escape")
    page.evaluate("document.querySelector('#instrument .pv-instrument').pvInstrument.set({ basic: true })")
    look("the basic view")
    page.locator(".pv-present").click()
    look("the opening's scene")
    page.keyboard.press("n")
    page.keyboard.press("n")
    look("the water's scene")
    assert not {name: lines for name, lines in problems.items() if lines}


def test_every_tab_is_clean_and_fits(page):
    problems = {}
    for title, _ in TABS:
        open_tab(page, title)
        problems[title] = found(page)
        wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        if wide[0] > wide[1]:
            problems[title].append(f"{wide[0]} pixels wide")
        # A picture that is drawn says what it shows, or stands in a control that does.
        silent = page.locator("canvas").evaluate_all(
            "all => all.filter(c => c.offsetParent && !c.closest('button, [aria-hidden=true]')"
            " && !(c.getAttribute('role') === 'img' && c.getAttribute('aria-label'))).map(c => c.outerHTML)"
        )
        problems[title] += silent
    assert not any(problems.values()), json.dumps(problems, indent=1, ensure_ascii=False)


def test_a_and_b_a_closer_look_and_open_claims_are_clean(page):
    problems = {}
    page.evaluate("location.hash = 'tab=generate&generate.ab=true&generate.b_passes=2&generate.images=4'")
    page.locator("#generate-sides .pv-sides").wait_for()
    settle(page)
    problems["a and b"] = found(page)
    page.locator("#generate-sides .pv-closer").click()
    page.locator("dialog canvas").wait_for()
    problems["closer"] = found(page)
    page.keyboard.press("Escape")
    open_tab(page, "Claims")
    page.locator(".pv-claim-all").click()
    settle(page)
    problems["claims"] = found(page)
    open_tab(page, "Compare")
    page.get_by_role("tab", name="Race", exact=True).click()
    page.locator("#race .pv-arrived").first.wait_for()
    page.get_by_role("button", name="Who races").click()
    settle(page)
    problems["race"] = found(page)
    assert not any(problems.values()), json.dumps(problems, indent=1, ensure_ascii=False)


# Another computer's fonts: those that Matplotlib brings, wider, higher and lower than this one's.
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir>
{aliases}</fontconfig>"""
ALIAS = (
    '<match target="pattern"><edit name="family" mode="assign" binding="strong"><string>{}</string></edit></match>\n'
)
# What scrolls and can be reached by no key: axe-core's scrollable-region-focusable, and what is cut off beside it.
SCROLLS = """() => [...document.querySelectorAll('*')].filter((one) => {
  const style = getComputedStyle(one);
  return one.offsetParent && one.tabIndex < 0 && !one.querySelector('a, button, input, select, textarea, [tabindex]')
    && ((/auto|scroll/.test(style.overflowY) && one.scrollHeight > one.clientHeight)
      || (/auto|scroll/.test(style.overflowX) && one.scrollWidth > one.clientWidth));
}).map((one) => `${one.className} ${one.scrollHeight} > ${one.clientHeight}: ${one.innerText.slice(0, 60)}`)"""


@pytest.mark.parametrize(("family", "theme"), [("STIXGeneral", "dark")])
def test_every_tab_fits_with_other_fonts(browser, url, tmp_path, family, theme):
    """Fontconfig is told of other families alone; a formula or a button a little larger makes nothing scroll."""
    matplotlib = pytest.importorskip("matplotlib")
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    text = FONTS.format(fonts=fonts, cache=tmp_path / "cache", aliases=ALIAS.format(family))
    (tmp_path / "fonts.conf").write_text(text)
    environment = {**os.environ, "FONTCONFIG_FILE": str(tmp_path / "fonts.conf")}
    other = browser.browser_type.launch(executable_path=browser_path(), args=FLAGS, env=environment)
    (width, height), problems = SCREENS[theme], {}
    try:
        page = other.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}?__theme={theme}")
        settle(page)
        for title, _ in TABS:
            open_tab(page, title)
            problems[title] = page.evaluate(SCROLLS)
            wide = page.evaluate("document.documentElement.scrollWidth")
            problems[title] += [f"{wide} pixels wide"] if wide > width else []
    finally:
        other.close()
    assert not any(problems.values()), {key: value for key, value in problems.items() if value}


def test_the_lesson_is_clean_in_all_its_states(page):
    open_tab(page, "Lesson")
    problems = {}
    for k in (1, 2, 5, 6, 7):  # the maps, one pixel, the pictures, the chart
        page.locator(".pv-lesson-progress button").nth(k - 1).click()
        page.locator("[name=pv-lesson-choice]").nth(1).check()
        page.locator(".pv-lesson-commit").click()
        page.locator(".pv-lesson-verdict").wait_for()
        settle(page)
        problems[STEPS[k - 1].key] = found(page)
    page.locator(".pv-lesson-progress button").last.click()
    settle(page)
    problems["result"] = found(page)
    for k in range(2):
        page.locator("#lesson-rest .pv-lesson-bar button").nth(k).click()
        page.wait_for_function("!document.querySelector('#lesson-page').innerText.includes('Computing')")
        problems[f"page {k}"] = found(page)
        page.locator("#lesson-page .pv-lesson-bar button").first.click()
    page.evaluate("document.querySelector('.pv-poll-open').click()")  # a phone does not offer it
    page.locator(".pv-poll li").first.wait_for()
    page.locator(".pv-poll-reveal").click()
    page.locator(".pv-poll li b").first.wait_for()
    problems["the class"] = found(page)
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    settle(page)
    problems["presenter"] = found(page)
    assert not any(problems.values()), json.dumps(problems, indent=1, ensure_ascii=False)


def test_less_motion_means_none(page):
    open_tab(page, "Lesson")
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter(node => { const style = getComputedStyle(node);"
        " return [style.transitionDuration, style.animationDuration].some("
        "all => all.split(',').some(one => parseFloat(one) * (one.includes('ms') ? 1 : 1000) > 1)); }).length"
    )
    assert moving == 0
    page.locator("[name=pv-lesson-choice]").first.check()
    page.evaluate(
        "() => { window.times = []; document.addEventListener('pv:state', (event) => times.push(event.detail.t)); }"
    )
    page.locator(".pv-lesson-commit").click()
    page.wait_for_function(f"{NODE}.state().t === {LEAD_AT}")
    assert set(page.evaluate("times")) <= {0, LEAD_AT}, "the time jumps to where it would have run"
