"""The Compare tab in a real browser, on the bundled checkpoint: its benchmark, a race, and the toy experiment."""

import re
import shutil
from pathlib import Path

import pytest

from pixelviz.measure import report
from pixelviz.measure.benchmark import read_results
from tests.browser import PATIENCE, served, watched

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

ROOT = Path(__file__).parents[1]
NAME = "fashion-mnist"


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    shutil.copytree(ROOT / "checkpoints" / NAME, folder / "checkpoints" / NAME)
    with served(folder) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE)
        complaints = watched(page, address)
        page.goto(address)
        page.get_by_role("tab", name="Compare", exact=True).click()
        yield page
        page.close()
        assert not complaints


def test_the_benchmark_is_the_files(page):
    """Those with more images or more steps first, then that of all methods."""
    files = [*sorted(report.RESULTS.glob(f"{NAME}-*.json")), report.RESULTS / f"{NAME}.json"]
    assert len(files) == 4
    wanted = [list(map(str, row)) for path in files for row in report.table_rows(read_results(path))]
    table = page.locator("#compare-table tbody tr")
    expect(table).to_have_count(len(wanted), timeout=PATIENCE)
    shown = table.evaluate_all("rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))")
    assert shown == wanted
    expect(page.locator("#goals .pv-goals li")).to_have_count(5)
    results = read_results(files[-1])
    expect(page.locator("#pareto svg[role=img]")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#pareto .points path.point")).to_have_count(len(results["rows"]), timeout=PATIENCE)
    point = page.locator("#pareto .points path.point").last
    point.hover(force=True)
    last = results["rows"][-1]
    expect(page.locator("#pareto .hoverlayer")).to_contain_text(f"FID {last['fid']:.2f}")
    expect(page.locator("#paper-tables table")).to_have_count(2)


def test_the_same_seed_by_each_method_stands_beside_its_figures(page):
    figures = page.locator("#each-method figure")
    expect(figures).to_have_count(4, timeout=PATIENCE)
    names = figures.locator("b").all_inner_texts()
    assert set(names) == {"Pixel-aware, 1 pass", "Pixel-aware, 10 passes", "DDIM, 50", "DPM-Solver++(2M), 10"}
    fids = [float(re.search(r"FID ([\d.]+)", text)[1]) for text in figures.locator("span").all_inner_texts()]
    assert fids == sorted(fids)
    rows = read_results(report.RESULTS / f"{NAME}.json")["rows"]
    [one_pass] = [row["fid"] for row in rows if (row["method"], row["passes"]) == ("parallel", 1)]
    assert fids[names.index("Pixel-aware, 1 pass")] == pytest.approx(one_pass, abs=0.005)
    for image in figures.locator("img").all():
        assert image.evaluate("(i) => i.complete && i.naturalWidth === 6 * i.naturalHeight")


def test_a_point_of_the_plot_shows_its_method_s_images(page):
    """Of the seed that all are shown with; where no mouse is, the list beside the plot does the same."""
    figure, chosen = page.locator("#point-images figure"), page.locator("#point input")
    page.locator("#pareto .points path.point").first.click(force=True)
    expect(figure.locator("b")).to_have_text("Pixel-aware, 1 pass", timeout=PATIENCE)
    expect(chosen).to_have_value("Pixel-aware, 1 pass")
    above = page.locator("#each-method figure", has_text="Pixel-aware, 1 pass").locator("img")
    assert figure.locator("img").get_attribute("src") == above.get_attribute("src")
    page.wait_for_function("location.hash.includes('compare.point=parallel%3A1%40fashion-mnist')")
    chosen.click()
    rows = read_results(report.RESULTS / f"{NAME}.json")["rows"]
    expect(page.get_by_test_id("dropdown-option")).to_have_count(len(rows))
    page.get_by_role("option", name="UniPC, 10").first.click()
    expect(figure.locator("b")).to_have_text("UniPC, 10", timeout=PATIENCE)
    assert figure.locator("img").evaluate("(i) => i.complete && i.naturalWidth === 6 * i.naturalHeight")
    page.reload()
    expect(figure.locator("b")).to_have_text("UniPC, 10", timeout=PATIENCE)


def test_the_copied_commands_are_those_of_every_table(page):
    """Each asks for its table's rows; `test_benchmark` runs one."""
    code = page.locator("#bench-code textarea")
    page.wait_for_function("document.querySelector('#bench-code textarea')?.value.split('\\n').length === 4")
    files = [*sorted(report.RESULTS.glob(f"{NAME}-*.json")), report.RESULTS / f"{NAME}.json"]
    for line, path in zip(code.input_value().splitlines(), files, strict=True):
        rows = read_results(path)["rows"]
        asked = ",".join("{method}:{passes}".format(**row) for row in rows)
        assert f"--methods {asked} " in line
        assert line.startswith(f"python -m pixelviz bench --checkpoint checkpoints/{NAME} ")


def test_a_race_of_four_starts_at_once_and_ends_with_images_and_clocks(page):
    page.get_by_role("tab", name="Race", exact=True).click()
    expect(page.locator("#race .pv-lane.pv-arrived")).to_have_count(4, timeout=PATIENCE)
    expect(page.get_by_role("button", name="Start the race")).to_be_enabled(timeout=PATIENCE)
    page.get_by_role("button", name="Who races").click()
    wanted = {"Pixel-aware, 1 pass", "DPM-Solver++(2M), 10"}
    boxes = page.locator("#race-methods label")
    expect(boxes.filter(has_text="Pixel-aware, 1 pass").locator("input")).to_be_checked(timeout=PATIENCE)
    for box in boxes.all():
        box.locator("input").set_checked(box.inner_text().strip() in wanted)
    page.get_by_label("number input for Images").locator("visible=true").fill("2")
    page.get_by_role("button", name="Start the race").click()
    lanes = page.locator("#race .pv-lane")
    expect(lanes).to_have_count(2, timeout=PATIENCE)
    expect(page.locator("#race .pv-lane.pv-arrived")).to_have_count(2, timeout=PATIENCE)
    assert set(lanes.locator("b").all_inner_texts()) == wanted
    first = lanes.filter(has_text="Pixel-aware, 1 pass")
    expect(first.locator(".pv-place")).to_have_text("1")
    expect(first.locator(".pv-lane-note")).to_have_text(re.compile(r"^1 network evaluation; FID \d"))
    expect(lanes.filter(has_text="DPM").locator(".pv-lane-note")).to_have_text(re.compile(r"^10 network evaluations"))
    assert all(float(text.removesuffix(" s")) > 0 for text in lanes.locator(".pv-clock").all_inner_texts())
    for image in lanes.locator("img").all():
        assert image.evaluate("i => i.complete && i.naturalWidth === 2 * i.naturalHeight")
        assert image.get_attribute("alt").endswith(", finished")
    expect(page.get_by_role("button", name="Start the race")).to_be_enabled(timeout=PATIENCE)
    before = page.locator("#race .pv-status").inner_text()
    page.get_by_role("button", name="Another seed").click()
    expect(page.locator("#race .pv-status")).to_have_text(re.compile("took .* as long"), timeout=PATIENCE)
    expect(page.locator("#race .pv-status")).not_to_have_text(before, timeout=PATIENCE)
    expect(page.get_by_role("button", name="Start the race")).to_be_enabled(timeout=PATIENCE)


def test_a_stopped_race_stays_stopped(page):
    boxes = page.locator("#race-methods label")
    for box in boxes.all():
        box.locator("input").set_checked(box.inner_text().strip().startswith("DDPM"))
    page.get_by_role("button", name="Start the race").click()
    expect(page.locator("#race .pv-lane")).to_have_count(1, timeout=PATIENCE)
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    said = page.locator("#race .pv-status")
    expect(said).to_have_text(re.compile("^Stopped"), timeout=PATIENCE)
    page.wait_for_timeout(1500)  # a report that was under way would be here by now
    assert said.inner_text().startswith("Stopped")
    expect(page.get_by_role("button", name="Start the race")).to_be_enabled(timeout=PATIENCE)


def test_the_toy_experiment_answers_the_keyboard(page):
    page.get_by_role("tab", name="Toy experiment", exact=True).click()
    said = page.locator("#toy .pv-toy-said")
    expect(said).to_have_text(re.compile(r"At γ = .*Eq. 4’s step .*to the letter 0.*v-form"), timeout=PATIENCE)
    before = said.inner_text()
    page.get_by_label("gamma of the point").press("ArrowRight")
    expect(said).not_to_have_text(before)
    gamma = page.locator("#toy output").first
    assert gamma.inner_text() == "22.4"  # after 20, a 46th of the way from 1 to 200 further
    heat = page.locator("#toy .pv-map[data-form=printed] .hm image")
    drawn = heat.get_attribute("href")
    brightness = page.locator("#toy-brightness .pv-typed")
    brightness.fill("0.9")
    brightness.press("Enter")
    expect(heat).not_to_have_attribute("href", drawn, timeout=PATIENCE)
    area = page.locator("#toy .pv-map[data-form=v] .nsewdrag")
    area.hover()
    words = page.locator("#toy .pv-map[data-form=v] .hoverlayer")
    expect(words).to_contain_text("error")
    error = re.search(r"error (\S+)", words.text_content())[1]
    area.click()
    expect(page.locator("#toy .pv-map[data-form=v] .pv-reading")).to_have_text(f"error {error}")
    assert gamma.inner_text() != "22.4"
