"""A and B: two ways of the same seed with a divider between them; every picture looked at closely, saved and made again
by the copied code."""

import base64
import io
import re
import shlex
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from pixelviz.data.assets import EXAMPLES_DIR
from pixelviz.numerals import in_words
from pixelviz.service.sides import difference
from pixelviz.service.toy import TOY_GAMMAS, TOY_STEPS
from pixelviz.store import checkpoints
from tests.browser import LEFT, PATIENCE, opened, served, visit
from tests.served import train_tiny
from tests.test_links import settings
from tests.test_restart import environment
from tests.tiny import tiny_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two checkpoints that differ; the second draws larger images."""
    folder = tmp_path_factory.mktemp("sides")
    train_tiny(folder / "checkpoints" / "a-first", steps=3)
    shutil.copytree(folder / "checkpoints" / "a-first", folder / "checkpoints" / "other")
    for name, changes in {
        "large": {"image_size": 32, "vae_widths": (8, 8, 8)},
        "told": {"classes": ("bright", "dark")},
    }.items():
        checkpoints.save(folder / "checkpoints" / name, tiny_model(**changes), checkpoints.Record())
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as url:
        yield url


@pytest.fixture
def page(browser, address):
    with opened(
        browser, address, left=LEFT, viewport={"width": 1280, "height": 1600}, has_touch=True, accept_downloads=True
    ) as page:
        yield page


def picture_of(source):
    """A data URI's picture as an array (H, W) or (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))


def run(folder, line):
    """Execute a copied command line where the checkpoints are."""
    _, *arguments = shlex.split(line)
    done = subprocess.run(
        [sys.executable, *arguments, "--device", "cpu"], cwd=folder, env=environment(folder), capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_difference_is_of_single_values():
    a = np.array([[[10, 20, 30], [0, 0, 0]]], np.uint8)
    b = np.array([[[13, 20, 24], [0, 0, 0]]], np.uint8)
    found = difference(a, b)
    assert found.mean == pytest.approx((3 + 0 + 6) / 6 / 255)
    assert found.most == pytest.approx(6 / 255)
    assert found.image.tolist() == [[[255], [0]]]
    gray = difference(a, np.zeros((1, 2, 1), np.uint8))
    assert gray.most == pytest.approx(30 / 255)
    assert difference(a, a).most == 0
    assert difference(a, np.zeros((2, 2, 3), np.uint8)) is None


def divided(page, share, within=0.01):
    """Wait until A is seen of so many percent."""
    page.wait_for_function(
        "([share, within]) => { const all = [...document.querySelectorAll('.pv-side-a')].filter((a) => a.offsetParent);"
        "  return all.length > 0 && all.every((a) => Math.abs(100 - share"
        " - parseFloat(getComputedStyle(a).clipPath.match(/inset\\(0px (.*?)%/)[1])) <= within); }",
        arg=[share, within],
    )


def test_the_divider_follows_keys_the_mouse_and_a_finger(page, address):
    visit(page, f"{address}#tab=generate&generate.images=4&generate.ab=true&generate.b_passes=4")
    slider = page.get_by_role("slider", name="Divider between A and B")
    slider.wait_for()
    expect(slider).to_have_attribute("aria-valuetext", "50 % A, 50 % B")
    slider.focus()
    slider.press("ArrowLeft")
    divided(page, 49)
    slider.press("End")
    expect(slider).to_have_value("100")
    divided(page, 100)
    box = page.locator(".pv-side-b:visible").bounding_box()
    at = lambda share: (box["x"] + share * box["width"], box["y"] + box["height"] / 2)  # noqa: E731
    page.mouse.move(*at(0.9))
    page.mouse.down()
    page.mouse.move(*at(0.25), steps=4)
    page.mouse.up()
    divided(page, 25, 1)
    page.touchscreen.tap(*at(0.75))
    divided(page, 75, 1)
    divider = page.locator(".pv-sides-stage i:visible").bounding_box()
    assert divider["x"] + divider["width"] / 2 == pytest.approx(at(0.75)[0], abs=4), "the divider is under the finger"


TOLD = {"checkpoint": "told", "b_checkpoint": "told", "class": "dark", "guidance": "2", "b_class": "bright"}


@pytest.mark.parametrize(
    ("ways", "a", "b"),
    [({"b_passes": "4"}, "1 pass", "4 passes"), (TOLD | {"b_passes": "1"}, "dark, guidance 2", "bright, guidance 1")],
)
def test_both_ways_of_generate_are_those_of_the_copied_commands(page, address, folder, ways, a, b):
    visit(page, f"{address}#tab=generate{settings('generate', images=4, seed=5, ab='true', **ways)}")
    sides = page.locator("#generate-sides")
    expect(sides.locator(".pv-name-a")).to_have_text(f"A: {a}")
    expect(sides.locator(".pv-name-b")).to_have_text(f"B: {b}")
    code = page.locator("#as-code textarea")
    page.wait_for_function("document.querySelector('#as-code textarea').value.includes('b.png')")
    lines = code.input_value().splitlines()
    shown = [picture_of(sides.locator(f".pv-side-{side}").get_attribute("src")) for side in "ab"]
    for line, file, image in zip(lines, ("samples.png", "b.png"), shown, strict=True):
        run(folder, line)
        assert np.array_equal(np.asarray(Image.open(folder / file)), image)
    apart = np.abs(shown[0].astype(int) - shown[1])
    said = f"|A − B|: {apart.mean() / 255:.2%} of the range from black to white on average, {apart.max() / 255:.1%}"
    expect(sides.locator(".pv-status")).to_contain_text(said)
    found = picture_of(sides.locator(".pv-side-apart").get_attribute("src"))
    assert np.array_equal(found, np.rint(apart * 255 / apart.max()))
    page.locator("#generate-sides").get_by_role("button", name="Look closer or save").click()
    expect(page.locator("dialog.pv-look h2")).to_have_text(f"{a} (1 of 3)")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)


def test_two_checkpoints_stand_beside_each_other_in_scale_whatever_their_sizes(page, address, folder):
    visit(page, f"{address}#tab=scale&scale.picture=coffee&scale.checkpoint=a-first&scale.i=4")
    sides = page.locator("#scale-sides")
    expect(sides.locator(".pv-name-b")).to_have_text("B: x̂_δ")
    figures = page.locator("#scale-code").locator("xpath=ancestor::*[.//*[contains(@class, 'pv-figures')]][1]")
    shown = [picture_of(one.get_attribute("src")) for one in figures.locator(".pv-figures img").all()]
    page.wait_for_function("document.querySelector('#scale-code textarea').value.includes('--i 4')")
    line = page.locator("#scale-code textarea").input_value()
    shutil.copytree(EXAMPLES_DIR, folder / "assets" / "examples", dirs_exist_ok=True)
    run(folder, line)
    made = np.asarray(Image.open(folder / "scale.png"))
    assert len(shown) == 8
    assert np.array_equal(np.concatenate(shown, axis=1), made)
    true, guessed = (picture_of(sides.locator(f".pv-side-{side}").get_attribute("src")) for side in "ab")
    assert np.array_equal(true, shown[2])
    assert np.array_equal(guessed, shown[3])
    page.locator("#scale-b-checkpoint input").click()
    page.get_by_role("option", name="large").click()
    expect(sides.locator(".pv-name-b")).to_have_text("B: x̂_δ of large")
    expect(sides.locator(".pv-status")).to_have_text("They differ in size, so there is no difference image.")
    page.wait_for_function("location.hash.includes('scale.b_checkpoint=large')")


def test_the_race_s_code_draws_its_images(page, address, folder):
    methods = "parallel:1@a-first,rotation:2@a-first"
    visit(page, f"{address}#tab=compare&compare.part=race&compare.checkpoint=a-first&compare.methods={methods}"
          "&compare.images=3&compare.seed=2")  # fmt: skip
    expect(page.locator("#race .pv-arrived")).to_have_count(2)  # it starts by itself
    expect(page.locator("#race-go")).to_be_enabled()
    page.wait_for_function("document.querySelector('#race-code textarea')?.value.includes('rotation-2.png')")
    lines = page.locator("#race-code textarea").input_value().splitlines()
    strips = [picture_of(one.get_attribute("src")) for one in page.locator("#race .pv-lane img").all()]
    for line, strip, file in zip(lines, strips, ("parallel-1.png", "rotation-2.png"), strict=True):
        run(folder, line)
        sheet = np.asarray(Image.open(folder / file))  # two by two, the last place black
        side = sheet.shape[0] // 2
        wanted = [sheet[:side, :side], sheet[:side, side:], sheet[side:, :side]]
        assert np.array_equal(strip, np.concatenate(wanted, axis=1))


def test_the_toy_s_code_computes_its_maps(page, address):
    visit(page, f"{address}#tab=compare&compare.part=toy&compare.pixels=camera&compare.fresh=true&compare.floor=0.1")
    code = page.locator("#toy-code textarea")
    page.wait_for_function("document.querySelector('#toy-code textarea')?.value.includes('camera.jpg')")
    names = {}
    exec(code.input_value(), names)
    said = page.locator("#toy .pv-toy-said")
    expect(said).to_contain_text("At γ")
    gamma, T, *shown = re.match(
        r"At γ = (\S+), T = (\d+): Eq. 4’s step (\S+), line 9 to the letter (\S+), v-form (\S+?)\.(?: |$)",
        said.inner_text(),
    ).groups()
    row = TOY_STEPS.index(int(T))
    column = min(range(len(TOY_GAMMAS)), key=lambda k: abs(TOY_GAMMAS[k] - float(gamma)))  # it is shown rounded
    maps = names["maps"]
    assert shown == [in_words(maps.errors[form][row, column].item(), 3) for form in ("printed", "letter", "v")]
    expect(page.locator("#toy")).to_contain_text(maps.advice)


def test_pictures_are_looked_at_closely_and_saved(page, address, tmp_path):
    visit(page, f"{address}#tab=generate&generate.images=3")
    sheet = page.locator("#sheet")
    sheet.get_by_role("button", name="Look closer or save").click()
    dialog = page.locator("dialog.pv-look")
    title, canvas = dialog.locator("h2"), dialog.locator("canvas")
    expect(title).to_have_text("Image 1 (1 of 3)")
    dialog.get_by_role("button", name="Next").click()
    expect(title).to_have_text("Image 2 (2 of 3)")
    dialog.get_by_label("Scale").select_option("4")
    expect(canvas).to_have_attribute("width", "64")
    small = picture_of(sheet.locator("canvas").nth(1).evaluate("(canvas) => canvas.toDataURL()"))
    with page.expect_download() as saved:
        dialog.get_by_role("button", name="Save PNG").click()
    assert saved.value.suggested_filename == "image-2.png"
    large = np.asarray(Image.open(saved.value.path()))
    assert np.array_equal(large, small.repeat(4, 0).repeat(4, 1))
    with page.expect_download() as saved:
        dialog.get_by_role("button", name="Save all 3 (zip)").click()
    with zipfile.ZipFile(saved.value.path()) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["1-image-1.png", "2-image-2.png", "3-image-3.png"]
        assert np.array_equal(np.asarray(Image.open(archive.open("2-image-2.png"))), large)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    frame = page.locator("#film .pv-zoom").last
    frame.focus()
    frame.press("Enter")
    expect(title).to_contain_text("i = 0")
    dialog.get_by_role("button", name="Close").click()
    expect(frame).to_be_focused()
