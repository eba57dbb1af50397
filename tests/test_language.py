"""Every word of the page is in every language, is used, and is what the page shows; in a browser, live."""

import re
from pathlib import Path

import gradio as gr
import pytest

from pixelviz.data.images import EXAMPLES
from pixelviz.lesson.pages import languages
from pixelviz.process.schedules import RANGES, SCHEDULES, by_pixel
from pixelviz.service.jobs import TrainingJobs
from pixelviz.ui import header, scripts
from pixelviz.ui.app import TABS, build_app
from pixelviz.ui.markup import render, said, word
from tests.browser import INSTRUMENT, PATIENCE, watched
from tests.test_accessibility import found, settle

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

UI = Path(scripts.__file__).parent
SOURCES = {path: path.read_text(encoding="utf-8") for kind in ("html", "js", "py") for path in UI.rglob(f"*.{kind}")}
ENGLISH = languages()["en"]
# What is the same in all languages: names, symbols, units, and the letters of keys.
SAME = re.compile(r"DDPM|SNR|UNet2DModel|gamma|Hubble|Delete|Gallager|safetensors|nats?|bits?|[A-Za-z]{1,2}\b")


def test_a_word_in_a_template_is_english_until_a_script_changes_it():
    assert word("instrument.image", "b", title='"') == (
        '<b data-word="instrument.image" title="&#34;">Image x<sub>0</sub></b>'
    )
    assert said(label="page.copy") == 'data-word-label="page.copy" aria-label="Copy link"'
    with pytest.raises(KeyError):
        word("instrument.nothing")
    assert "Signal-to-noise ratio" in render("instrument", ranges={})


@pytest.mark.parametrize("section", ["instrument", "page"])
def test_every_word_is_asked_for(section):
    everything = "\n".join(SOURCES.values())
    # fault("name") of the formulas is asked for as formula_name; a slider's words by the slider's key.
    asked = {key for key in ENGLISH[section] if re.search(rf"\b{key}\b", everything)}
    made = {f"formula_{key}" for key in re.findall(r'fault\("(\w+)"', everything)}
    made |= {f"{key}_hint" for key in ("gamma", "T", "floor")}
    assert ENGLISH[section].keys() - asked - made == set()


def test_the_tables_and_the_examples_have_names():
    titles = [name for name, _ in (*TABS, *EXAMPLES)] + [SCHEDULES[name].title for name in by_pixel()]
    titles += [text for row in RANGES.values() for text in (row.title, row.about)]
    assert set(titles) <= ENGLISH["names"].keys()
    assert all(key == text for key, text in ENGLISH["names"].items())


def test_every_component_of_gradio_is_named(empty):
    """A label that stands in Python alone would stay English."""
    shown = [block for block in build_app(empty, TrainingJobs(empty)).blocks.values() if block.visible is True]
    for block in shown:
        own = ("label", "info", "value") if isinstance(block, gr.Button | gr.Markdown) else ("label", "info")
        said = {name: str(getattr(block, name, None) or "") for name in own}
        assert {name for name in own if re.search("[a-z]{3}", said[name])} <= header.english(block).keys(), said


# --- In a browser

# What can be read or heard on the page, but for the page's own name, the languages' own, and Gradio's foot.
TEXTS = """() => [...document.querySelectorAll("main *")]
  .filter((node) => node.checkVisibility() && !node.closest("math, footer, h1, .pv-language option"))
  .flatMap((node) => [...node.childNodes].filter((one) => one.nodeType === Node.TEXT_NODE).map((one) => one.data)
    .concat(["aria-label", "title", "placeholder"].map((name) => node.getAttribute(name))))
  .map((text) => text?.trim()).filter(Boolean)"""
WIDE = "() => document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(params=[(1280, 800), (390, 844)], ids=["screen", "phone"])
def page(browser, url, request):
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    complaints = watched(page, url)
    yield page
    page.close()
    assert not complaints


def visit(page, address):
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function(f"{INSTRUMENT}?.pvInstrument?.ready")
    settle(page)


def foreign(texts):
    """Of texts, those with a word that is not the same everywhere."""
    return {text for text in texts if re.search(r"[A-Za-z]{3}", SAME.sub("", text))}


def names(page):
    return page.get_by_role("tab").filter(visible=True).all_inner_texts()


def test_the_page_changes_its_language_at_once_and_keeps_it(page, url):
    visit(page, f"{url}#tab=forward&view=all")
    english = foreign(page.evaluate(TEXTS))
    assert len(english) > 60
    assert names(page) == [title for title, _ in TABS]
    for code in ("es", "zh"):
        page.locator(".pv-language").select_option(code)
        texts = languages()[code]
        expect(page.get_by_role("tab").first).to_have_text(texts["names"]["Forward"])
        settle(page)
        assert names(page) == [texts["names"][title] for title, _ in TABS]
        assert page.evaluate("document.documentElement.lang") == code
        assert f"lang={code}" in page.url
        assert not english & set(page.evaluate(TEXTS))
        assert page.evaluate(WIDE) <= 0
        assert not found(page)
    visit(page, url)
    assert names(page)[0] == languages()["zh"]["names"]["Forward"]  # the browser remembers
    visit(page, f"{url}#tab=forward&lang=es&view=all")
    assert names(page)[0] == languages()["es"]["names"]["Forward"]  # what a link says comes first
    assert not english & set(page.evaluate(TEXTS))
    term = page.locator("#instrument .pv-term", has_text=languages()["es"]["terms"]["floor"]).first
    term.focus()
    expect(page.locator(".pv-gloss")).to_have_text(languages()["es"]["glossary"]["floor"])


def test_a_formula_that_is_no_rate_is_told_in_the_language(page, url):
    visit(page, f"{url}#tab=forward&lang=es&view=all&schedule=formula&formula=gamma")
    expect(page.locator("#instrument .pvi-formula [role=alert]")).to_contain_text("Γ debe crecer con x0")
    page.locator(".pv-language").select_option("zh")
    expect(page.locator("#instrument .pvi-formula [role=alert]")).to_contain_text("Γ 必须随 x0 增大")
