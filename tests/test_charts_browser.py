"""Charts in a real browser: Plotly comes with the first one; hover, pictures to save, the theme, and the table."""

import re

import pytest

from tests.browser import PATIENCE, watched

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
FIGURE = "stage => ({ data: stage.data, layout: stage.layout })"  # what Plotly was given
# The colours of the drawing, and those of the page around it.
COLOURS = """stage => {
  const style = getComputedStyle(stage), page = (name) => style.getPropertyValue(name).trim();
  const node = document.createElement("i");
  const plain = (colour) => { node.style.color = colour; return node.style.color; };
  const drawn = [stage.layout.template.layout.paper_bgcolor, stage.querySelector(".xtitle").style.fill];
  return [drawn, [page("--block-background-fill"), page("--body-text-color")]].map((pair) => pair.map(plain));
}"""
INK = "before => document.querySelector('.pv-stage .xtitle')?.style.fill !== before"


@pytest.fixture
def page(browser, url):
    """The app at its first tab, with a list of what was asked for Plotly's script."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce", accept_downloads=True)
    page.set_default_timeout(PATIENCE)
    page.complaints = watched(page, url)
    page.scripts = []
    page.on("request", lambda request: "plotly" in request.url and page.scripts.append(request.url))
    page.goto(url)
    page.wait_for_function("document.querySelector('#instrument .pv-instrument')?.pvInstrument?.ready")
    yield page
    page.close()
    assert not page.complaints


def scale_chart(page):
    """The Scale tab's chart, drawn."""
    page.get_by_role("tab", name="Scale", exact=True).click()
    chart = page.locator(".pv-chart").filter(visible=True)
    expect(chart.locator("svg[role=img]")).to_be_visible(timeout=PATIENCE)
    return chart


def test_plotly_comes_once_with_the_first_chart(page):
    page.get_by_role("tab", name="Claims", exact=True).click()
    page.locator(".pv-claim").first.wait_for()
    assert page.scripts == [], "no chart is unfolded yet"
    page.locator(".pv-claim-section:has(#claim-eq10):not([open]) > summary").evaluate_all("all => all[0]?.click()")
    page.locator("#claim-eq10 > summary").click()
    expect(page.locator("#claim-eq10 svg[role=img]")).to_be_visible(timeout=PATIENCE)
    assert page.locator(".pv-claim svg[role=img]").count() == 1, "the folded ones wait"
    scale_chart(page)
    assert len(page.scripts) == 1
    answer = page.request.get(page.scripts[0])
    assert "immutable" in answer.headers["cache-control"]
    configuration = page.request.get(re.sub(r"/pixelviz/.*", "/config", page.scripts[0]))
    assert "plotly.js v" not in configuration.text()


def test_hover_tells_the_numbers_of_the_table(page):
    chart = scale_chart(page)
    stage = chart.locator(".pv-stage")
    figure = stage.evaluate(FIGURE)
    assert figure["data"][0]["name"].startswith("x<sub>δ</sub>")
    chart.locator(".nsewdrag").hover()
    words = chart.locator(".hoverlayer")
    expect(words).to_contain_text("step i = ")
    said = words.text_content()
    step = float(re.search(r"step i = ([\d.,]+)", said)[1])
    for trace in figure["data"]:
        if step in trace["x"]:
            assert f"{trace['y'][trace['x'].index(step)]:.4g}" in said
    chart.locator("summary").click()
    expect(chart.locator("table")).to_be_visible()
    cells = "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    rows = chart.locator("table tr").evaluate_all(cells)
    assert rows[0][0] == "step i"
    assert len(rows[0]) == 1 + len(figure["data"])
    for first, *cells in rows[1:]:
        for cell, trace in zip(cells, figure["data"], strict=True):
            there = dict(zip(trace["x"], trace["y"], strict=True))
            value = there.get(float(first))
            assert cell == "–" if value is None else float(cell.replace("−", "-")) == pytest.approx(value, rel=1e-3)


def test_colours_follow_the_theme_without_a_question(page):
    stage = scale_chart(page).locator(".pv-stage")
    light = stage.evaluate(COLOURS)
    asked = []
    page.on("request", lambda request: request.url.endswith("/app_id") or asked.append(request.url))
    page.locator(".pv-dark").click()
    page.wait_for_function(INK, arg=light[0][1])
    page.wait_for_timeout(300)
    dark = stage.evaluate(COLOURS)
    assert asked == []
    assert light[0] == light[1]
    assert dark[0] == dark[1]
    assert not set(light[0]) & set(dark[0])


def test_zoom_stays_and_pictures_are_saved_by_keyboard(page, tmp_path):
    chart = scale_chart(page)
    stage = chart.locator(".pv-stage")
    before = stage.evaluate("stage => stage.layout.xaxis.range")
    zoom = chart.get_by_role("button", name="Zoom in")
    zoom.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    zoomed = stage.evaluate("stage => stage.layout.xaxis.range")
    assert zoomed[1] - zoomed[0] < before[1] - before[0]
    page.locator(".pv-dark").click()
    page.wait_for_timeout(500)
    assert stage.evaluate("stage => stage.layout.xaxis.range") == zoomed
    for name, beginning in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        button = chart.get_by_role("button", name=re.compile(f"Download plot as an? {name}"))
        button.focus()
        with page.expect_download() as taken:
            page.keyboard.press("Enter")
        path = tmp_path / taken.value.suggested_filename
        taken.value.save_as(path)
        assert path.read_bytes().startswith(beginning), name


def test_a_script_that_does_not_come_leaves_the_numbers(page):
    page.route("**/plotly.min.js", lambda route: route.abort())
    page.get_by_role("tab", name="Scale", exact=True).click()
    chart = page.locator(".pv-chart").filter(visible=True)
    expect(chart.locator(".pv-empty")).to_contain_text("Reload the page", timeout=PATIENCE)
    chart.locator("summary").click()
    expect(chart.locator("table tr").nth(2)).to_be_visible()
    page.complaints[:] = [line for line in page.complaints if "ERR_FAILED" not in line]
