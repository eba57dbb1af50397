"""Every tab's controls go into its link, and come back from it; what a link cannot mean is said."""

import json
import shutil

import gradio as gr
import pytest

from pixelviz.store import checkpoints
from pixelviz.ui.links import fitting, understood
from pixelviz.ui.tabs import train
from tests.browser import LEFT, LINK, PATIENCE, opened, served, visit
from tests.served import photo, png, train_tiny
from tests.tiny import tiny_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server with three checkpoints: the second is nobody's first choice, nor is the third, which has classes."""
    folder = tmp_path_factory.mktemp("links")
    train_tiny(folder / "checkpoints" / "a-first")
    shutil.copytree(folder / "checkpoints" / "a-first", folder / "checkpoints" / "second")
    checkpoints.save(folder / "checkpoints" / "told", tiny_model(classes=("bright", "dark")), checkpoints.Record())
    with served(folder) as url:
        yield url


@pytest.fixture
def page(browser, address):
    with opened(browser, address, permissions=("clipboard-read", "clipboard-write"), left=LEFT) as page:
        yield page


def settings(tab, **values):
    return "".join(f"&{tab}.{key}={value}" for key, value in values.items())


def panel(page):
    return page.get_by_role("tabpanel").filter(visible=True).first


def value(field):
    """A check that a field shows a value."""
    return lambda page, shown: expect(panel(page).locator(field)).to_have_value(shown)


def who_races(page, _):
    """A check that one method is chosen, in what is folded at first."""
    methods = page.locator("#race-methods input:checked")
    if not methods.count():
        page.get_by_role("button", name="Who races").click()
    expect(methods).to_have_count(1)


def checked(label):
    return lambda page, _: expect(panel(page).get_by_label(label, exact=True).first).to_be_checked()


CHECKPOINT = ("second", value("[id$=-checkpoint]:not([id*=-b-]) input"))
# By tab: the link's text of every control, none of which is what the tab begins with, and what is then seen.
LINKS = {
    "generate": {
        "checkpoint": ("told", value("#generate-checkpoint input")),
        "class": ("dark", value("#generate-class input")),
        "guidance": ("2.5", value("#generate-guidance input[type=range]")),
        "images": ("3", lambda page, shown: expect(page.locator(".pv-samples button")).to_have_count(int(shown))),
        "passes": ("2", value("#passes input")),
        "start": ("printed", checked("as printed")),
        "sampler": ("rotation", None),
        "seed": ("7", value("#seed input")),
        "ab": ("true", checked("A and B")),
        "b_checkpoint": ("told", value("#b-checkpoint input")),
        "b_passes": ("3", value("#b-passes input")),
        "b_class": ("bright", value("#b-class input")),
        "b_guidance": ("0.5", value("#b-guidance input[type=range]")),
    },
    "scale": {
        "picture": (
            "coffee",
            lambda page, _: expect(panel(page).get_by_label("Example: Coffee")).to_have_attribute(
                "aria-pressed", "true"
            ),
        ),
        "checkpoint": CHECKPOINT,
        "size": ("tiled", checked("Tiled, at the picture's own size")),
        "i": ("3", value("input[aria-label*='Step i'][type=range]")),
        "crop": ("0.25", value("#scale-crop input[type=range]")),
        "seed": ("9", value("input[aria-label=Seed], label:has-text('Seed') input")),
    },
    "compare": {
        "part": (
            "race",
            lambda page, _: expect(page.get_by_role("tab", name="Race")).to_have_attribute("aria-selected", "true"),
        ),
        "checkpoint": CHECKPOINT,
        "methods": (
            "rotation:1@second",
            who_races,
        ),
        "images": ("2", value("#race-settings input[type=range]")),
        "seed": ("5", value("#race-seed input")),
        "pixels": ("camera", None),
        "brightness": ("0.25", None),
        "floor": ("0.2", None),
        "given": ("heads", None),
        "fresh": ("true", None),
        "error": ("0.05", None),
        "tolerance": ("0.1", None),
    },
    "claims": {"checkpoint": CHECKPOINT},
    "train": {
        "data": ("fashion-mnist", None),
        "preset": ("cifar10", None),
        "schedule": ("generalised", None),
        "classes": ("true", checked("Learn the classes")),
        "steps": ("77", value("#steps input")),
        "batch": ("8", None),
        "rate": ("0.01", None),
    },
    "checkpoints": {"checkpoint": ("second", checked("second"))},
}


@pytest.mark.parametrize("tab", LINKS)
def test_a_tab_s_controls_come_back_from_its_link(page, address, tab):
    wanted = {key: text for key, (text, _) in LINKS[tab].items()}
    visit(page, f"{address}#tab={tab}{settings(tab, **wanted)}")
    for text, seen in LINKS[tab].values():
        if seen:
            seen(page, text)
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator(".pv-address-note")).to_have_text("Link copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    held = page.evaluate("link => Object.fromEntries(new URLSearchParams(new URL(link).hash.slice(1)))", link)
    assert {key: held.get(f"{tab}.{key}") for key in wanted} == wanted
    page.reload()  # as it is when the server comes back
    for text, seen in LINKS[tab].values():
        if seen:
            seen(page, text)
    page.wait_for_function("document.querySelector('[role=tab][aria-selected=true]')")
    assert page.evaluate(LINK) == link
    expect(page.locator(".toast-body")).to_have_count(0)


def test_controls_that_a_hand_moves_are_in_the_address(page, address):
    visit(page, f"{address}#tab=generate")
    expect(page.locator("#seed input")).to_be_visible()
    page.locator("#seed input").fill("41")
    page.locator("#seed input").press("Enter")
    page.wait_for_function("location.hash.includes('generate.seed=41')")
    page.get_by_role("tab", name="Scale", exact=True).click()
    page.wait_for_function("location.hash.includes('scale.picture=t-shirt')")
    assert "generate.seed=41" in page.url, "a reload brings back the other tabs, too"
    assert "generate" not in page.evaluate(LINK), "a copied link tells of its own tab"
    panel(page).get_by_label("Example: Coffee").click()
    page.wait_for_function("location.hash.includes('scale.picture=coffee')")
    page.evaluate("location.hash = '#tab=scale&scale.seed=3&scale.picture=camera'")  # another link in the same page
    expect(panel(page).get_by_label("Example: Camera")).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("location.hash.includes('scale.seed=3')")


def test_what_a_link_asks_for_in_vain_is_said_and_is_no_markup(page, address):
    wrong = {"checkpoint": "gone", "images": "900", "seed": "x", "<img src=x onerror=alert(1)>": "<b>1</b>"}
    wrong |= {"class": "dark", "guidance": "3", "b_checkpoint": "told", "b_class": "grey"}
    visit(page, f"{address}#tab=generate{settings('generate', **wrong, passes='2')}")
    toast = page.locator(".toast-body")
    expect(toast).to_contain_text("The link asks for checkpoint = 'gone', which is not to be had here")
    expect(toast).to_contain_text("The link's images = 900 does not fit; it became 64.")
    for key, text in (("seed", "x"), ("class", "dark"), ("guidance", "3"), ("b_class", "grey")):
        expect(toast).to_contain_text(f"The link asks for {key} = '{text}', which")
    assert page.locator(".toast-body img[src=x], .toast-body b:text('1')").count() == 0
    expect(page.locator("#generate-checkpoint input")).to_have_value("a-first")
    expect(page.locator("#passes input")).to_have_value("2")
    page.wait_for_function("location.hash.includes('generate.images=64')")
    assert "gone" not in page.url
    assert "onerror" not in page.url
    visit(page, f"{address}#tab=compare&compare.part=%3Cimg%3E&forward.t=1")
    expect(page.locator(".pv-address-note")).to_contain_text("was not understood and is ignored")
    assert page.locator(".pv-address-note img").count() == 0


def test_an_upload_is_said_not_to_be_in_the_link(page, address, tmp_path):
    picture = tmp_path / "mine.png"
    picture.write_bytes(png(photo()))
    visit(page, f"{address}#tab=scale")
    panel(page).get_by_label("Example: T-shirt").wait_for()
    page.wait_for_function("location.hash.includes('scale.picture')")
    page.locator("#scale-upload").locator("..").locator("input[type=file]").set_input_files(str(picture))
    page.wait_for_function("!location.hash.includes('scale.picture')")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator(".pv-address-note")).to_contain_text("Your uploaded picture is not in the link")


FITTING = [
    (gr.Slider(1, 64, step=1), "3", 3),
    (gr.Slider(1, 64, step=1), "3.4", 3),
    (gr.Slider(0, 1, step=0.01), "0.25", 0.25),
    (gr.Slider(0, 1, step=0.01), "-5", 0),
    (gr.Number(0, precision=0, minimum=0), "-1", 0),
    (gr.Number(0, precision=0, minimum=0), "12", 12),
    (gr.Number(0.1), "-2.5", -2.5),
    (gr.Dropdown(["1", "2"], allow_custom_value=True), "17", "17"),
    (gr.Dropdown([("a tenth", 0.1), ("a half", 0.5)]), "0.5", 0.5),
    (gr.Radio([("Whole", "whole")]), "whole", "whole"),
    (gr.Checkbox(), "true", True),
    (gr.CheckboxGroup(["a", "b"]), "b,a", ["b", "a"]),
    (gr.CheckboxGroup(["a", "b"]), "", []),
]


@pytest.mark.parametrize(("control", "text", "meant"), FITTING)
def test_a_link_s_text_means_a_value_in_the_control_s_range(control, text, meant):
    found = fitting(control, text)
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("control", "text"),
    [
        (gr.Slider(1, 64, step=1), "nan"),
        (gr.Number(0), "inf"),
        (gr.Number(0), ""),
        (gr.Dropdown(["1"], allow_custom_value=True), "1.5"),
        (gr.Radio([("Whole", "whole")]), "Whole"),
        (gr.Checkbox(), "1"),
        (gr.CheckboxGroup(["a", "b"]), "a,c"),
        (gr.JSON(), "../../etc/passwd"),
    ],
)
def test_text_without_a_meaning_is_refused(control, text):
    with pytest.raises((LookupError, ValueError)):
        fitting(control, text)


def test_choices_may_depend_on_what_the_link_said_before():
    controls = {"checkpoint": gr.Dropdown([]), "methods": gr.CheckboxGroup([])}
    choices = {"checkpoint": lambda _: ["a", "b"], "methods": lambda now: [f"one@{now['checkpoint']}"]}
    now = {"checkpoint": "a", "methods": []}
    said = {"methods": "one@b", "checkpoint": "b"}
    assert understood(json.dumps(said), controls, choices, now) == ({"checkpoint": "b", "methods": ["one@b"]}, [])
    found, wrong = understood(json.dumps(said | {"checkpoint": "c"}), controls, choices, now)
    assert found == {}
    assert len(wrong) == 2


@pytest.mark.parametrize("text", ["[]", '"seed"', '{"seed": 7}', '{"seed": ["7"]}', '{"seed": null}', "{", "[" * 9_999])
def test_what_no_page_sends_is_not_understood(text):
    assert understood(text, {"seed": gr.Number()}, {}, {}) == ({}, ["The link was not understood and is ignored."])


def test_a_number_or_a_box_may_have_values_that_are_not_offered_now():
    for control, text, offered in (
        (gr.Slider(0, 8, step=0.1), "3", [1]),
        (gr.Checkbox(), "true", [False]),
    ):
        with pytest.raises(LookupError):
            fitting(control, text, offered)
    assert fitting(gr.Slider(0, 8, step=0.1), "1.0", [1]) == 1
    assert fitting(gr.Checkbox(), "false", [False]) is False
    assert (train.may_have_classes("celeba"), train.may_have_classes(train.ZIP)) == (False, True)
    assert train.offer("celeba")[2].visible is False
