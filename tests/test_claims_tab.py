"""The Claims tab and the download: what is shown for a verdict, and both in a real browser."""

import json
import math
import re
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest

from pixelviz.checks import ServiceError
from pixelviz.claims import CLAIMS, VERDICTS, Context, Number
from pixelviz.data.assets import ASSETS
from pixelviz.data.images import EXAMPLES
from pixelviz.data.picture_store import PICTURES
from pixelviz.service import claims
from pixelviz.ui import claims_page as claims_view
from tests.browser import PATIENCE, watched


@pytest.fixture(scope="module")
def context():
    return Context.of(np.random.default_rng(0).uniform(0, 1, (12, 12)))


@pytest.fixture(scope="module")
def verdicts(context):
    return claims.judge(context)


def test_every_statement_is_well_formed_and_has_no_latex_left():
    for claim in CLAIMS.values():
        html = claims_view.statement(claim.statement)
        text = "".join(ElementTree.fromstring(f"<p>{html}</p>").itertext())
        assert "\\" not in text, claim.id
        assert "$" not in text


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("x0 and gamma", "x<sub>0</sub> and γ"),
        ("e^(gamma/2) and e^2", "e<sup>γ/2</sup> and e<sup>2</sup>"),
        ("x_{i+1} by 1/sqrt(alpha)", "x<sub>i+1</sub> by 1/√α"),
        ("alpha_bar_i < x_delta_hat", "ᾱ<sub>i</sub> &lt; x̂<sub>δ</sub>"),
        ("fashion_mnist alphas", "fashion_mnist alphas"),
    ],
)
def test_symbols_are_typeset(text, html):
    assert claims_view.symbols(text) == html


def test_numbers_are_written_for_people():
    assert Number("", 0.125, percent=True).text == "12.5 %"
    assert Number("", 3.71e-8).text == "3.71 × 10⁻⁸"


def test_the_page_holds_every_claim_its_verdict_and_the_counts(context, verdicts):
    page = claims_view.page(context, verdicts)
    root = ElementTree.fromstring(f"<div>{page}</div>")
    cards = {card.get("id"): card for card in root.iter("details") if card.get("class") == "pv-claim"}
    assert list(cards) == [f"claim-{id}" for id in CLAIMS]
    for id, verdict in verdicts.items():
        card = cards[f"claim-{id}"]
        assert card.get("data-verdict") == verdict.verdict
        assert verdict.verdict in "".join(card.find("summary").itertext())  # in words, beside the colour
        for number in verdict.numbers:
            assert number.text in "".join(card.itertext())
    buttons = {button.get("data-show"): "".join(button.itertext()) for button in root.iter("button")}
    for name in VERDICTS:
        count = sum(verdict.verdict == name for verdict in verdicts.values())
        assert (name in buttons) == bool(count)
        if count:
            assert buttons[name].endswith(str(count))
    assert "γ = 20, T = 200, floor 0.004" in page


def test_the_code_that_a_claim_names_is_there():
    for claim in CLAIMS.values():
        path, *names = re.split(r", | and ", claim.code)
        text = (ASSETS.parent / "pixelviz" / path).read_text(encoding="utf-8")
        for name in names:
            last = name.split(".")[-1].removeprefix("output ")
            assert re.search(rf"\b{last}\b", text), claim.code


def test_a_card_holds_the_figure_of_its_plot(context, verdicts):
    root = ElementTree.fromstring(f"<div>{claims_view.page(context, verdicts)}</div>")
    drawn = 0
    for id, verdict in verdicts.items():
        hosts = [node for node in root.find(f".//details[@id='claim-{id}']").iter() if node.get("data-figure")]
        assert len(hosts) == (verdict.plot is not None), id
        for host in hosts:
            figure = json.loads(host.get("data-figure"))
            drawn += 1
            assert figure["layout"]["meta"]["label"] == verdict.plot.label
            assert figure["layout"]["yaxis"]["type"] == ("log" if verdict.plot.log else "linear")
            for trace, curve in zip(figure["data"], verdict.plot.curves, strict=True):
                assert trace["x"] == pytest.approx(list(map(float, curve.x)), rel=1e-4)
                there = [(y, w) for y, w in zip(trace["y"], map(float, curve.y), strict=True) if y is not None]
                assert len(there) == sum(math.isfinite(y) and (y > 0 or not verdict.plot.log) for y in curve.y)
                assert [y for y, _ in there] == pytest.approx([w for _, w in there], rel=1e-4)
            names = [figure["layout"]["xaxis"]["title"]["text"], *(trace["name"] for trace in figure["data"])]
            assert not any(re.search(r"_|\bgamma\b|\balpha\b", name) for name in names), names
    assert drawn >= 10


def test_the_instruments_settings_are_used():
    label, path = EXAMPLES[6]
    state = {"picture": PICTURES.keep(path), "example": "t-shirt", "gamma": 7.0, "T": 60, "floor": 0.1, "seed": 4}
    state |= {"ddpm": "printed", "pixels": [[5, 6, 0], [7, 8, 0]], "playing": False}
    c = Context.from_state(json.dumps(state))
    assert (c.name, c.gamma, c.T, c.floor, c.seed, c.ddpm) == (label, 7.0, 60, 0.1, 4, "printed")
    assert c.pixels == ((5, 6, 0), (7, 8, 0))
    assert c.x0.min() >= 0.1
    with pytest.raises(ServiceError, match="row"):
        Context.from_state(json.dumps({"pixels": [[500, 0, 0]]}))


def test_claims_with_a_model_are_judged_on_what_there_is(service, context, empty):
    found = dict(claims.judge_with_models(service, context, "no such checkpoint"))
    assert set(found) == {id for id, claim in CLAIMS.items() if claim.needs}
    assert all("tiny" in verdict.text for verdict in found.values())
    assert not dict(claims.judge_with_models(empty, context, None))


# --- in the browser


@pytest.fixture
def page(browser, url):
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce", accept_downloads=True)
    page.set_default_timeout(PATIENCE)
    complaints = watched(page, url)
    page.goto(url)
    page.wait_for_function("document.querySelector('#instrument .pv-instrument')?.pvInstrument?.ready")
    yield page
    page.close()
    assert not complaints


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def test_claims_follow_the_instrument_and_can_be_filtered(page):
    open_tab(page, "Claims")
    page.locator(".pv-claim").first.wait_for()
    assert page.locator(".pv-claim").count() == len(CLAIMS)
    sections = page.locator(".pv-claim-section")
    assert sections.evaluate_all("all => all.map((one) => one.open)") == [True, *[False] * (sections.count() - 1)]
    sections.nth(2).locator("> summary").click()
    assert sections.nth(2).locator(".pv-claim:visible").count() == sections.nth(2).locator(".pv-claim").count()
    assert "γ = 20, T = 200" in page.locator(".pv-claim-settings").inner_text()
    page.locator(".pv-claim-filters button", has_text="slip").click()
    shown = page.locator(".pv-claim:visible")
    assert shown.count() == int(page.locator(".pv-claim-filters button", has_text="slip").locator("b").inner_text())
    assert set(shown.evaluate_all("cards => cards.map(c => c.dataset.verdict)")) == {"slip"}
    page.locator("#claim-eq10 summary").press("Enter")
    body = page.locator("#claim-eq10 .pv-claim-body")
    body.wait_for()
    before = body.inner_text()
    open_tab(page, "Forward")
    page.evaluate("document.querySelector('#instrument .pv-instrument').pvInstrument.set({ gamma: 33 })")
    open_tab(page, "Claims")
    page.locator(".pv-claim-settings", has_text="γ = 33").wait_for()
    assert body.is_visible(), "what was open stays open"
    assert body.inner_text() != before
    assert page.locator(".pv-claim-filters [aria-pressed=true]").inner_text().startswith("slip")
    page.locator(".pv-claim-all").click()
    assert page.locator(".pv-claim[open]:visible").count() == shown.count()
    assert page.locator(".pv-claim-all").get_attribute("aria-expanded") == "true", "charts that fold do not count"


def test_claims_that_need_a_model_are_checked_on_request(page):
    open_tab(page, "Claims")
    page.locator(".pv-claim-all").click()
    page.locator("#claim-eq14[data-verdict='not checked here']").wait_for()
    page.locator("#claims-run").click()
    page.locator("#claim-eq14[data-verdict='holds']").wait_for()
    assert "tiny" in page.locator("#claim-eq14").inner_text()


def test_the_download_is_prepared_and_taken(page, tmp_path):
    page.evaluate("document.querySelector('#instrument .pv-instrument').pvInstrument.set({ gamma: 12, T: 40 })")
    page.get_by_role("button", name=re.compile("Take it with you")).click()
    panel = page.locator("#export")
    for name in ("PNG", "PDF", "Film, MP4"):
        panel.get_by_label(name, exact=True).uncheck()
    for name in ("3", "5", "7", "8"):
        panel.get_by_label(re.compile(f"Fig. {name}")).uncheck()
    page.locator("#export-prepare").click()
    page.locator("#export-status", has_text="Ready").wait_for()
    with page.expect_download() as taken:
        page.locator("#export-take").click()
    path = tmp_path / "taken.zip"
    taken.value.save_as(path)
    assert "gamma12-T40" in taken.value.suggested_filename
    with zipfile.ZipFile(path) as archive:
        assert {"figures/figure-1.svg", "figures/figure-2.svg", "trajectory.gif"} <= set(archive.namelist())
        settings = json.loads(archive.read("settings.json"))
        assert (settings["gamma"], settings["T"]) == (12, 40)
        assert settings["pixels"], "the instrument's own"
    for label in ("SVG", "Curves, CSV"):
        panel.get_by_label(label, exact=True).uncheck()
    page.locator("#export-prepare").click()
    page.locator("#export-status [role=alert]", has_text="at least one format").wait_for()
