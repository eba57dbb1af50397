"""The instrument in a real browser: what it shows, what a hand and a keyboard do with it, and its door for scripts."""

import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from pixelviz.data.images import SCREEN_SIDE, fit, read_image
from pixelviz.data.pictures import to_bytes
from pixelviz.data.sets import to_unit
from pixelviz.process import theory
from pixelviz.process.formulas import FormulaRate
from pixelviz.process.forward import closed_form, noise
from pixelviz.process.schedules import LinearBeta, PixelAware
from pixelviz.ui.widgets import EXAMPLE_IDS
from tests.browser import INSTRUMENT, LINK, PATIENCE, watched

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


@pytest.fixture
def page(browser, url):
    """The Forward tab, ready; nothing may complain."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    complaints = watched(page, url)
    page.goto(url + "#view=all")
    page.wait_for_function(f"{INSTRUMENT}?.pvInstrument?.ready")
    yield page
    page.close()
    assert not complaints


def state(page):
    return page.evaluate(f"{INSTRUMENT}.pvInstrument.state()")


def put(page, **partial):
    """Set and wait until it is drawn."""
    page.evaluate(
        f"async (s) => {{ await {INSTRUMENT}.pvInstrument.set(s); "
        "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); }",
        partial,
    )


# --- What is on the screen


def drawn(page, view):
    """The pixels of a view's canvas, (H, W, 3)."""
    uri = page.locator(f"#instrument [data-view={view}] canvas").evaluate("c => c.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


@pytest.mark.parametrize("example", ["chelsea", "dress"])
def test_the_canvases_show_these_numbers(page, example):
    put(page, example=example, gamma=35, T=120, floor=0.05, t=0.25, seed=3, ddpm="printed")
    assert state(page)["example"] == example
    x0 = to_unit(fit(read_image(EXAMPLE_IDS[example]), SCREEN_SIDE).tensor(), 0.05, torch.float64)
    eps = next(noise(3, x0.shape, 1))
    for view, schedule in (("ours", PixelAware(120, 35.0)), ("ddpm", LinearBeta(120))):
        wanted = to_bytes(closed_form(schedule, x0, 30, eps), 0.05)
        shown = drawn(page, view).transpose(2, 0, 1)
        # A value within float32's error of a half may be rounded either way.
        assert np.abs(shown.astype(int) - wanted).max() <= 1
        assert (shown == wanted).mean() > 0.999


def test_a_new_seed_is_new_noise_on_the_same_picture(page):
    before = drawn(page, "image")
    put(page, t=0.25, pixels=[[10, 20, 1]], seed=11)
    x0 = to_unit(fit(read_image(EXAMPLE_IDS["astronaut"]), SCREEN_SIDE).tensor(), 0.004, torch.float64)
    wanted = to_bytes(closed_form(PixelAware(200, 20.0), x0, 50, next(noise(11, x0.shape, 1))), 0.004)
    assert np.abs(drawn(page, "ours").transpose(2, 0, 1).astype(int) - wanted).max() <= 1
    assert (drawn(page, "image") == before).all()
    assert (state(page)["example"], state(page)["seed"], state(page)["pixels"]) == ("astronaut", 11, [[10, 20, 1]])


def test_an_upload_keeps_the_seed(page, tmp_path):
    put(page, seed=6)
    path = tmp_path / "mine.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    page.locator("#forward-upload").locator("xpath=..").locator("input[type=file]").set_input_files(path)
    page.wait_for_function(f"{INSTRUMENT}.pvInstrument.state().example === null")
    put(page, t=0.5)
    x0 = to_unit(read_image(path).tensor(), 0.004, torch.float64)
    wanted = to_bytes(closed_form(PixelAware(200, 20.0), x0, 100, next(noise(6, x0.shape, 1))), 0.004)
    assert np.abs(drawn(page, "ours").transpose(2, 0, 1).astype(int) - wanted).max() <= 1
    put(page, seed=7)
    wanted = to_bytes(closed_form(PixelAware(200, 20.0), x0, 100, next(noise(7, x0.shape, 1))), 0.004)
    assert np.abs(drawn(page, "ours").transpose(2, 0, 1).astype(int) - wanted).max() <= 1


def test_the_table_and_the_spoken_line_follow_time(page):
    put(page, pixels=[[10, 20, 0], [200, 50, 2]], t=0.5, ddpm="printed")
    x0 = to_unit(read_image(EXAMPLE_IDS["astronaut"]).tensor(), 0.004, torch.float64)[[0, 2], [10, 200], [20, 50]]
    rows = page.locator("#instrument .pvi-numbers tbody tr")
    expect(rows).to_have_count(2)
    expect(page.locator("#instrument .pvi-numbers caption")).to_have_text("Numbers at t = 0.500 (step 100 of 200)")
    for k, (row, value) in enumerate(zip(rows.all(), x0, strict=True)):
        cells = [float(text) for text in row.locator("td").all_inner_texts()[:4]]
        ours, ddpm = PixelAware(200, 20.0), LinearBeta(200)
        wanted = [value, ours.alpha_bar(value, 100), ours.snr(value, 100), ddpm.snr(value, 100)]
        assert cells == pytest.approx([w.item() for w in wanted], rel=6e-3), k
    spoken = page.locator("#instrument .pvi-live")
    expect(spoken).to_have_attribute("aria-live", "polite")
    expect(spoken).to_contain_text("Step 100 of 200")
    page.get_by_label("time", exact=True).press("ArrowRight")
    expect(spoken).to_contain_text("Step 101 of 200")


def test_the_formulas_hold_the_pixels_numbers(page):
    put(page, gamma=20, T=200, floor=0.004, pixels=[[60, 100, 1]], t=0.25)
    x0 = to_unit(read_image(EXAMPLE_IDS["astronaut"]).tensor(), 0.004, torch.float64)[1, 60, 100].item()
    page.locator("#instrument .pvi-formulas").scroll_into_view_if_needed()
    step = page.locator("#instrument .pvi-formulas > div", has_text="one step")
    expect(step).to_contain_text(f"20×{x0:.3g}")
    expect(step).to_contain_text(f"{math.exp(-20 * x0 / 200):.3g}")
    badge = page.locator("#instrument .pvi-badge")
    expect(badge).to_contain_text("✓ The product of the 200 alphas is")
    assert float(re.search(r"alphas is (\S+),", badge.inner_text())[1]) == pytest.approx(math.exp(-20 * x0), rel=1e-5)


def test_what_belongs_to_a_pixel_lights_up(page):
    put(page, pixels=[[10, 20, 0], [200, 50, 2], [100, 100, 1]])
    marks = page.locator("#instrument [data-view=image] button.pvi-mark")
    marks.nth(1).locator("b").hover()
    for lit in ("[data-view=ours] .pvi-mark", ".pvi-chip", ".pvi-numbers tbody tr"):
        expect(page.locator(f"#instrument {lit}").nth(1)).to_have_class(re.compile("pvi-lit"))
        expect(page.locator(f"#instrument {lit}").nth(0)).not_to_have_class(re.compile("pvi-lit"))
    expect(page.locator("#instrument .pvi-readout")).to_contain_text("Pixel 2 at row 200, column 50, blue")


# --- The hand


def test_a_click_adds_a_pixel_and_a_drag_moves_it(page):
    put(page, pixels=[])
    frame = page.locator("#instrument [data-view=ddpm] canvas")
    box = frame.bounding_box()
    frame.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.5})
    ((row, col, _),) = state(page)["pixels"]
    assert (row, col) == (pytest.approx(128, abs=2), pytest.approx(64, abs=2))
    mark = page.locator("#instrument [data-view=image] button.pvi-mark b").bounding_box()
    page.mouse.move(mark["x"] + 12, mark["y"] + 12)
    page.mouse.down()
    image = page.locator("#instrument [data-view=image] canvas").bounding_box()
    page.mouse.move(image["x"] + image["width"] * 0.75, image["y"] + image["height"] * 0.25, steps=4)
    page.mouse.up()
    ((row, col, _),) = state(page)["pixels"]
    assert (row, col) == (pytest.approx(64, abs=2), pytest.approx(192, abs=2))


def test_the_keyboard_does_what_the_mouse_does(page):
    put(page, pixels=[[5, 5, 0], [50, 60, 1]], t=0.5)
    mark = page.get_by_role("button", name=re.compile("^Pixel 1: row 5, column 5"))
    mark.focus()
    for key in ("ArrowDown", "ArrowRight", "Shift+ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    assert state(page)["pixels"][0] == [4, 16, 0]
    for _ in range(6):
        page.keyboard.press("ArrowUp")
    assert state(page)["pixels"][0] == [0, 16, 0], "it stays inside the picture"
    assert state(page)["t"] == 0.5, "the arrows of a pixel are not those of time"
    page.keyboard.press("Delete")
    assert state(page)["pixels"] == [[50, 60, 1]]
    time = page.get_by_label("time", exact=True)
    time.press("ArrowRight")
    assert state(page)["t"] == pytest.approx(101 / 200)
    time.press("End")
    assert state(page)["t"] == 1
    page.get_by_label("gamma", exact=True).press("ArrowRight")
    assert state(page)["gamma"] == 20.5
    page.get_by_role("button", name="Step back").press("Enter")
    assert state(page)["t"] == pytest.approx(199 / 200)
    page.get_by_role("radio", name="red").check(force=True)
    assert state(page)["pixels"] == [[50, 60, 0]]
    page.get_by_role("button", name="Add", exact=True).press("Enter")
    assert len(state(page)["pixels"]) == 2
    page.get_by_role("button", name="Clear", exact=True).press("Enter")
    assert state(page)["pixels"] == []


@pytest.mark.parametrize("slider", ["time", "gamma", "T", "floor"])
def test_sixty_moves_of_a_slider_ask_the_server_nothing(page, slider):
    before = drawn(page, "ours")
    page.wait_for_timeout(1000)
    requests = []
    # server.js looks now and then whether the server is still there, whatever the hand does.
    page.on("request", lambda request: request.url.endswith("/app_id") or requests.append(request.url))
    page.evaluate(
        """async (label) => {
          const slider = document.querySelector(`#instrument input[type=range][aria-label="${label}"]`);
          const [low, high] = [Number(slider.min), Number(slider.max)];
          for (let k = 1; k <= 60; k++) {
            slider.value = low + ((high - low) * k) / 60;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise(requestAnimationFrame);
          }
        }""",
        slider,
    )
    page.wait_for_timeout(1000)
    assert not requests
    if slider != "T":  # the closed form at t = 0.16 is the same whatever T is
        assert (drawn(page, "ours") != before).any()
    assert (
        state(page)["t" if slider == "time" else slider] == {"time": 1, "gamma": 100, "T": 1000, "floor": 0.5}[slider]
    )


def test_gamma_stays_below_T_and_comes_back(page):
    note = page.locator("#instrument .pvi-warn").first
    put(page, gamma=40, T=30)
    assert state(page)["gamma"] == 29.5
    expect(note).to_contain_text("gamma must stay below T")
    put(page, T=100)
    assert state(page)["gamma"] == 40
    expect(note).to_be_hidden()
    typed = page.get_by_label("gamma, typed")
    typed.fill("1000")
    typed.press("Enter")
    assert state(page)["gamma"] == 99.5
    put(page, T=1)
    assert 0 < state(page)["gamma"] < 1 or state(page)["gamma"] == 100, "T = 1 allows any gamma"


def test_the_advice_can_be_followed_with_the_sliders(page):
    """Python's limit is gamma 500 and floor 0.9; what the sliders cannot reach is no way out."""
    pixels = read_image(EXAMPLE_IDS["astronaut"]).tensor()
    assert theory.advise_gamma(pixels, 0.01, 200, 0.004).gamma > 100
    put(page, example="astronaut", gamma=20, T=200, floor=0.004)
    advice = page.locator("#instrument .pvi-advice")
    advice.scroll_into_view_if_needed()
    expect(advice).to_contain_text("No γ up to 100 is enough at this floor")
    expect(advice).to_contain_text("Raise the floor.")
    put(page, T=50)
    expect(advice).to_contain_text("No γ up to 50 is enough at this floor")
    expect(advice).to_contain_text("Raise the floor or T.")
    put(page, T=200, floor=0.05)
    needed = theory.advise_gamma(pixels, 0.01, 200, 0.05).gamma
    assert needed < 100
    expect(advice).to_contain_text(f"γ = {needed:.3g} at this floor")


def test_play_runs_to_the_end_and_pause_stops(page):
    put(page, t=0.9)
    page.locator("#instrument .pvi-speed select").select_option("4")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"{INSTRUMENT}.pvInstrument.state().t === 1")
    page.wait_for_function(f"!{INSTRUMENT}.pvInstrument.state().playing")
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").click()
    held = state(page)
    assert held["t"] < 1
    assert not held["playing"]


# --- The door for scripts


def test_whatever_is_set_is_checked(page):
    before = state(page)
    put(
        page,
        t="x",
        gamma=None,
        T=float("1e9"),
        floor=-1,
        ddpm="toString",
        seed=-3,
        example="nothing",
        pair=[0, 9],
        nonsense=1,
    )
    after = state(page)
    assert (after["T"], after["floor"]) == (1000, 0.001)
    unchanged = ("t", "gamma", "ddpm", "seed", "example", "pair", "pixels")
    assert {k: after[k] for k in unchanged} == {k: before[k] for k in unchanged}
    put(page, pixels=[[9999, -4, 7], "x", [1, 2]])
    assert state(page)["pixels"] == [[255, 0, 2], [1, 2, 0]]


def test_a_new_picture_can_bring_its_pixels_and_the_old_one_leaves_none(page):
    put(page, example="coffee", pixels=[[3, 4, 2], [9, 9, 0]], pair=[1, 0])
    found = state(page)
    assert (found["example"], found["pixels"], found["pair"]) == ("coffee", [[3, 4, 2], [9, 9, 0]], [1, 0])
    put(page, seed=77)
    assert state(page)["pixels"] == [[3, 4, 2], [9, 9, 0]], "other noise, same pixels"
    put(page, example="bag")
    found = state(page)
    assert all(channel == 0 for _, _, channel in found["pixels"])
    assert found["seed"] == 77


def test_views_can_be_chosen_and_pointed_at(page):
    page.evaluate(f"{INSTRUMENT}.pvInstrument.show(['image', 'snr'])")
    shown = page.locator("#instrument [data-view]").filter(visible=True)
    assert shown.evaluate_all("all => all.map((v) => v.dataset.view)") == ["image", "snr"]
    expect(page.get_by_label("time", exact=True)).to_be_visible()
    page.evaluate(f"{INSTRUMENT}.pvInstrument.highlight('snr')")
    expect(page.locator("#instrument .pvi-look")).to_have_attribute("data-view", "snr")
    page.evaluate(f"{INSTRUMENT}.pvInstrument.show(null)")
    expect(shown).to_have_count(15)


def test_a_change_is_told_once_a_frame(page):
    told = page.evaluate(
        f"""async () => {{
          const node = {INSTRUMENT}, told = [];
          document.addEventListener("pv:state", (event) => told.push(event.detail));
          for (let k = 0; k < 20; k++) node.pvInstrument.set({{ t: k / 20, gamma: 30 + k }});
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          return told;
        }}"""
    )
    assert len(told) == 1
    assert (told[0]["t"], told[0]["gamma"]) == (0.95, 49)


# --- A rate of one's own


def test_a_formula_is_a_schedule_in_frames_link_and_message(page, url):
    """The drawn frame is x_t by the formula; a link brings it back; what is no rate is told, and changes nothing."""
    text, name = "gamma*x0*(1 + t)/3", next(iter(EXAMPLE_IDS))
    put(page, example=name, t=0.5, T=40, gamma=6, basic=False)
    page.locator("#instrument .pvi-schedule select").select_option("formula")
    field = page.locator("#instrument .pvi-formula input")
    expect(field).to_have_value("gamma*x0/2")
    field.fill(text)
    field.press("Enter")
    put(page)
    x0 = to_unit(fit(read_image(EXAMPLE_IDS[name]), SCREEN_SIDE).tensor(), 0.004, torch.float64)
    x = closed_form(FormulaRate(40, 6.0, text), x0, 20, next(noise(0, x0.shape, 1)))
    shown = to_bytes(x, 0.004).transpose(1, 2, 0)
    assert np.abs(drawn(page, "ours").astype(int) - shown).max() <= 1
    link = page.evaluate(LINK)
    assert "schedule=formula&formula=gamma*x0*(1%20%2B%20t)%2F3" in link

    field.fill("gamma")
    field.press("Enter")
    warning = page.locator("#instrument .pvi-formula p")
    expect(warning).to_contain_text("Γ must rise with x0")
    put(page)
    assert np.abs(drawn(page, "ours").astype(int) - shown).max() <= 1, "what was there stays"
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_function(
        f"{INSTRUMENT}?.pvInstrument?.ready && {INSTRUMENT}.pvInstrument.state().schedule === 'formula'"
    )
    assert state(page)["formula"] == text
    expect(warning).to_be_hidden()
