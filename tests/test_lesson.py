"""The lesson: its answers are computed, and its texts are complete."""

import json
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from pixelviz.checks import ServiceError
from pixelviz.data.sets import to_image
from pixelviz.lesson import answers, steps
from pixelviz.lesson import pages as lesson_module
from pixelviz.lesson.exercises import EXERCISES
from pixelviz.lesson.pages import LESSONS, Lesson, _sentences, languages, plan
from pixelviz.lesson.steps import ROUTES, STEPS, THREE
from pixelviz.measure.ladder import effect_of_the_schedule, read_ladder
from pixelviz.process.schedules import LinearBeta, PixelAware
from pixelviz.ui.widgets import EXAMPLE_IDS
from pixelviz.view import View
from tests.served import empty_service, tiny_service, train_tiny

STEP = {step.key: step for step in STEPS}
GAMMA, T = 20.0, 200
OURS = PixelAware(T, GAMMA)


# --- The answers, each one made to come out differently


@pytest.mark.parametrize(("x0", "i", "answer"), [(0.7, T, "noise"), (0.7, 0, "same"), (0.01, T, "same")])
def test_what_remains_of_a_pixel(x0, i, answer):
    assert answers.what_remains(OURS, x0, i) == answer


def bits(x0, t):
    return math.log2(1 + x0**2 / math.expm1(GAMMA * t * x0)) / 2


def fastest(values, t):
    """Which vessel empties fastest, by differences of the bits in it."""
    rates = [bits(x, t - 1e-6) - bits(x, t + 1e-6) for x in values]
    return ("dark", "middle", "bright")[int(np.argmax(rates))]


def test_the_fastest_vessel_follows_the_finite_difference_of_its_bits(service):
    values = THREE.view.x0_at_pixels
    for t in (steps.POUR_AT, steps.LATER, 0.99):
        assert answers.strongest(steps.bits_rate(OURS, values, t * T)) == fastest(values.tolist(), t)
    found = STEP["pouring"].outcome(THREE.view, service)
    assert found.answer == fastest(values.tolist(), steps.POUR_AT) == "bright"
    for level, since in (("middle", found.numbers["middle_from"]), ("dark", found.numbers["dark_from"])):
        assert fastest(values.tolist(), since + 1e-9) == level
        assert fastest(values.tolist(), since - 1 / T) != level


def test_who_leads_has_four_answers():
    x0 = torch.tensor([0.05, 0.3, 0.9], dtype=torch.float64)
    fair, printed = LinearBeta(T, range="rescaled"), LinearBeta(T)
    assert answers.who_leads(OURS, fair, x0, 0.5) == "bright"
    assert answers.who_leads(OURS, printed, x0[1:], 0.5) == "all"  # as printed DDPM hardly moves in 200 steps
    assert answers.who_leads(OURS, fair, x0[:1], 1.0) == "none"
    assert answers.who_leads(fair, OURS, x0, 0.5) == "dark"


def test_noise_share_similarity_and_growth_are_cut_where_the_options_say():
    pairs = ((0.95, 0.9), (0.077, 0.95), (0.95, 0.077), (0.89, 0.5))
    assert [answers.where_noise_ends(*pair) for pair in pairs] == ["all", "bright", "dark", "none"]
    assert [answers.by_thirds(s) for s in (0.1, 0.5, 0.9)] == ["lost", "half", "kept"]
    # 100 errors of 0.01: 0.1 as a random walk, 1 added up.
    assert [answers.error_growth(e, 0.01, 100) for e in (0.005, 0.1, 0.5, 1.0, 70)] == [
        "stays",
        "stays",
        "adds",
        "adds",
        "explodes",
    ]


def test_what_passes_change(rng):
    one = rng.integers(60, 200, (6, 16, 16, 1), dtype=np.uint8)
    smooth = ((one.astype(int) + np.roll(one, 1, 2)) // 2).astype(np.uint8)
    assert answers.what_passes_change(one, one) == "same"
    assert answers.what_passes_change(one, smooth) == "blur"
    assert answers.what_passes_change(smooth, one) == "detail"
    assert answers.what_passes_change(one, one[::-1]) == "other"
    stripes = np.zeros((1, 4, 4, 1), np.uint8)
    stripes[:, :, ::2] = 255  # every horizontal pair differs by white, no vertical one does
    assert answers.detail(stripes) == 0.5
    stripes[:, :, 2:] = 7  # of three pairs in a row the last one is flat, and one in two of the others
    assert answers.flat(stripes) == pytest.approx(np.median([255, 7, 0]) / 255)


# --- The outcomes


@pytest.mark.parametrize("key", [step.key for step in STEPS if not step.network])
def test_the_steps_without_a_network_are_as_audited(key, service):
    wanted = {
        "ahead": "bright",
        "pixel": "noise",
        "pouring": "bright",
        "gap": "bright",
        "diverge": "explodes",
    }
    step = STEP[key]
    assert step.outcome(step.scene.view, service).answer == wanted[key]


def test_numbers_of_the_explanations_against_formulas_by_hand(service):
    def numbers(key):
        return STEP[key].outcome(STEP[key].scene.view, service).numbers

    x = STEP["pixel"].scene.view.x0_at_pixels.item()
    found = numbers("pixel")
    assert found["mean"] == pytest.approx(math.exp(-GAMMA * x / 2) * x)
    assert x * math.exp(-GAMMA * found["half"] * x / 2) == pytest.approx(x / 2)

    dark, middle, bright = THREE.view.x0_at_pixels.tolist()

    def rate(x0, t):
        u = GAMMA * t * x0
        return GAMMA * x0**3 * math.exp(u) / math.expm1(u) ** 2

    found = numbers("pouring")
    for k, x0 in enumerate((dark, middle, bright), 1):
        assert found[f"rate{k}"] == pytest.approx(rate(x0, steps.POUR_AT))
    # Of all pairs the brightest and one just below it change places first.
    assert found["all_pairs"] == pytest.approx(brentq(lambda t: rate(1, t) - rate(1 - 1e-7, t), 0.05, 1), rel=1e-4)

    found = numbers("ahead")
    betas = np.linspace(1e-4, 0.02, T) * 1000 / T
    log_bar = np.log1p(-betas).cumsum()
    assert found["line"] == pytest.approx(-log_bar[T // 2 - 1] / (GAMMA * 0.5))
    x0 = THREE.view.x0.numpy()
    assert found["share"] == pytest.approx(100 * (x0 > found["line"]).mean())
    assert found["dark"] == pytest.approx(100 * math.exp(-GAMMA * 0.5 * dark / 2))
    assert found["dark_ddpm"] == pytest.approx(100 * math.exp(log_bar[T // 2 - 1] / 2))

    found = numbers("gap")
    assert found["spread"] ** 2 == pytest.approx(1 - math.exp(-GAMMA * 0.004))
    assert found["spread_raised"] ** 2 == pytest.approx(1 - math.exp(-GAMMA * 0.2))

    found = numbers("diverge")
    assert found["factor"] == pytest.approx(math.exp(GAMMA / 2))
    assert found["known"] == pytest.approx(1)
    assert found["letter_known"] < 1e-10 < found["error_stable"] < found["error_end"] < found["error_letter"]


@pytest.mark.parametrize("key", ["scale", "passes"])
def test_the_steps_with_a_network_really_run_it(key, service):
    step = STEP[key]
    outcome = step.outcome(step.scene.view, service)
    assert outcome.answer in step.options
    if key == "scale":
        run = service.scale("tiny", View.of(EXAMPLE_IDS["ankle-boot"]), 8)
        assert outcome.numbers["ssim"] == run.ssim_x_delta
        np.testing.assert_array_equal(outcome.pictures[2].image, run.picture("x_delta_hat"))
    else:
        assert outcome.numbers["passes"] == 8, "no more passes than steps"
        *_, done = service.generate("tiny", steps.SAMPLES, 1)
        assert outcome.answer == answers.what_passes_change(
            done.images, list(service.generate("tiny", steps.SAMPLES, 8))[-1].images
        )


def test_a_visitors_training_changes_no_answer(tmp_path):
    def pinned(service):
        return [one.name for one in steps._pinned(service, "scale_vae", fits=lambda one: True)]

    service = tiny_service(tmp_path)
    assert pinned(service) == ["tiny"]
    train_tiny(tmp_path / "runs" / "later", floor=0.3)
    assert set(service.names("scale_vae")) == {"tiny", "later"}
    assert pinned(service) == ["tiny"]
    train_tiny(tmp_path / "checkpoints" / "fashion-mnist", floor=0.25)
    assert pinned(service) == ["fashion-mnist"]
    only = empty_service(tmp_path / "elsewhere")
    train_tiny(tmp_path / "elsewhere" / "runs" / "mine")
    assert pinned(only) == ["mine"]


def test_a_distilled_network_stands_beside_the_papers(tmp_path):
    service = tiny_service(tmp_path)
    step = STEP["passes"]
    alone = step.outcome(step.scene.view, service)
    assert [shown.key for shown in alone.pictures] == ["one", "many"]
    for name in ("faces", "fashion-mnist"):
        train_tiny(tmp_path / "checkpoints" / name, floor=0.25)
    config = tmp_path / "checkpoints" / "fashion-mnist" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base": "an earlier one"}))
    both = step.outcome(step.scene.view, service)
    assert [shown.key for shown in both.pictures] == ["one", "many", "one_taught", "many_taught"]
    assert (both.numbers["name"], both.numbers["name_taught"]) == ("faces", "fashion-mnist")
    words = languages()["en"]["steps"]["passes"]
    assert placeholders(" ".join(words["explain"])) - {"n"} <= both.numbers.keys()


def test_what_the_lesson_says_of_the_schedule_is_what_the_ladder_found():
    results = read_ladder()
    rows = {row["name"]: row for row in results["rows"]}
    assert effect_of_the_schedule(results, 1) == "none", "the schedule itself does nothing that shows"
    for judge in (dict, lambda row: row["judge"]):  # the pass helps
        start, after = judge(rows["prior"]), judge(rows["uniform-1"])
        assert start["fid"] - after["fid"] > 2 * math.hypot(start["fid_spread"], after["fid_spread"])
    said = steps._causes()
    assert said["fid_ours"] == pytest.approx(np.mean([one["fid"] for one in rows["pixel-aware-1"]["seeds"]]))
    assert said["seeds"] == 3


def test_a_step_with_a_network_says_what_is_missing_where_there_is_none(empty):
    lesson = Lesson(empty)
    for key in ("scale", "passes"):
        with pytest.raises(ServiceError, match="Train one, or go on"):
            lesson.outcome(key)
    answers = lesson.answers()
    assert "error" in answers["steps"]["scale"]
    assert answers["steps"]["pixel"]["answer"] == "noise"
    with pytest.raises(ServiceError, match="no step"):
        lesson.outcome("nonsense")


def test_a_class_that_asks_at_once_has_it_computed_once(empty, monkeypatch):
    lesson, computed, made = Lesson(empty), [], lesson_module._for_browser

    def slowly(*args):
        computed.append(args)
        time.sleep(0.2)
        return made(*args)

    monkeypatch.setattr(lesson_module, "_for_browser", slowly)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lesson.outcome, ["pixel"] * 8))
    assert len(computed) == 1
    assert all(answer == answers[0] for answer in answers)


def test_an_outcome_is_kept_until_the_checkpoints_change(service, monkeypatch):
    lesson, runs = Lesson(service), []
    monkeypatch.setattr(service, "scale", lambda *a, run=service.scale: runs.append(a) or run(*a))
    assert lesson.outcome("scale") == lesson.outcome("scale")
    assert len(runs) == 2, "two checkpoints are asked, once"
    monkeypatch.setattr(lesson, "_state_of_models", lambda: "other")
    lesson.outcome("scale")
    assert len(runs) == 4


# --- The scenes


def test_the_marked_pixels_have_the_brightness_that_the_text_says():
    for step in STEPS:
        view = step.scene.view
        for pixel, value, wanted in zip(view.pixels, view.x0_at_pixels.tolist(), step.scene.wanted, strict=True):
            assert value == pytest.approx(wanted, abs=0.02)
            row, column, channel = pixel
            assert view.x0[channel, row, column] == value
    rows, columns = THREE.view.x0.shape[1:]
    places = np.array(THREE.view.pixels)[:, :2] / (rows, columns)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(3, 1)]
    assert apart.min() > 0.1, "markers that hide each other"


# --- The exercises


def test_the_answers_to_the_exercises_against_formulas_by_hand():
    answers = {exercise.key: (exercise.scene.view, exercise.answer(exercise.scene.view)) for exercise in EXERCISES}
    scene, found = answers["half_life"]
    for k, x in enumerate(scene.x0_at_pixels.tolist(), 1):
        assert math.exp(-GAMMA * x * found[f"t{k}"] / 2) == pytest.approx(0.5)
    assert answers["crossing"][1]["ratio"] == pytest.approx(50 / 20)
    grid = np.linspace(0.01, 1, 100_000)
    snr = grid**2 / np.expm1(GAMMA * 0.5 * grid)
    assert answers["peak"][1]["peak"] == pytest.approx(grid[snr.argmax()], abs=1e-4)
    betas = np.linspace(1e-4, 0.02, T) * 1000 / T
    assert answers["lead"][1]["slow"] == pytest.approx(-np.log1p(-betas).sum() / GAMMA)

    scene, found = answers["floor"]
    pixels = to_image(scene.x0, scene.floor).numpy()

    def gap(floor):
        x0 = floor + (1 - floor) * pixels
        bar = np.exp(-GAMMA * x0)
        return ((bar * (x0**2 - 1) - np.log1p(-bar)) / 2).mean()

    assert gap(found["least"]) <= 0.01 + 1e-9
    assert gap(found["least"] - 1e-4) > 0.01
    assert answers["amplify"][1]["slow"] * answers["amplify"][1]["shrink"] == pytest.approx(1)


# --- The texts


def leaves(texts, path=()):
    """(path, text) of everything in nested dictionaries and lists; a list counts as one leaf."""
    if isinstance(texts, dict):
        for key, value in texts.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, " ".join(texts) if isinstance(texts, list) else texts


def placeholders(text):
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("file", sorted(LESSONS.glob("*.json")), ids=lambda file: file.stem)
def test_every_language_has_every_text_with_the_same_numbers(file):
    english = dict(leaves(json.loads((LESSONS / "en.json").read_text(encoding="utf-8"))))
    other = dict(leaves(json.loads(file.read_text(encoding="utf-8"))))
    assert other.keys() == english.keys()
    for path, text in other.items():
        assert text.strip(), path
        assert placeholders(text) == placeholders(english[path]), path


def test_three_languages_at_least_and_a_new_one_may_be_incomplete(tmp_path, monkeypatch):
    assert {"en", "es", "zh"} <= languages().keys()
    assert next(iter(languages())) == "en"
    for file in LESSONS.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "fr.json").write_text('{"language": "Français", "ui": {"next": "Suivant"}}', encoding="utf-8")
    monkeypatch.setattr("pixelviz.lesson.pages.LESSONS", tmp_path)
    languages.cache_clear()
    french = languages()["fr"]
    languages.cache_clear()
    assert french["ui"]["next"] == "Suivant"
    assert french["ui"]["back"] == "Back"


def test_every_number_that_the_texts_quote_is_there_and_none_is_typed_in(service):
    lesson = Lesson(service)
    answers = lesson.answers()
    for language in languages().values():
        for step in STEPS:
            text, given = language["steps"][step.key], step.given().keys()
            assert text["options"].keys() == set(step.options)
            assert text.get("tries", {}).keys() == step.tries.keys()
            before = [*text["set_up"], text["question"], *text["options"].values()]
            assert placeholders(" ".join(before)) <= given, step.key
            outcome = lesson.outcome(step.key)
            assert {p["key"] for p in outcome["pictures"]} <= text.get("pictures", {}).keys()
            assert {c["key"] for c in outcome["curves"]} == text.get("curves", {}).keys()
            after = " ".join(line for _, line in leaves(text))
            # A line about a distilled network is left out where there is none.
            missing = placeholders(after) - outcome["numbers"].keys()
            assert all(key.endswith("_taught") for key in missing), step.key
            typed = re.findall(r"\d\.\d+", after)
            assert not typed, f"{step.key}: {typed} should be computed"
        for exercise in EXERCISES:
            text = language["exercises"][exercise.key]
            assert placeholders(text["do"] + text["find"]) <= exercise.given().keys()
            assert placeholders(text["answer"]) <= answers["exercises"][exercise.key].keys()


def test_the_routes_take_as_long_as_their_names_say_and_each_step_can_be_read_in_its_time():
    minutes = {key: sum(step.minutes for step in route) for key, route in ROUTES.items()}
    assert minutes == {"whole": 25, "short": 12}
    assert [step.key for step in ROUTES["short"]] == ["ahead", "pouring", "gap", "passes"]
    for step in STEPS:  # at 150 words a minute, with a minute to look and to talk
        text = languages()["en"]["steps"][step.key]
        lines = [*text["set_up"], text["question"], *text["options"].values(), *text["explain"]]
        assert len(" ".join(lines).split()) / 150 <= step.minutes - 1, step.key


def test_the_lesson_judges_the_papers_schedule_and_says_so():
    for step in plan()["steps"]:
        assert step["settings"]["schedule"] == "pixel-aware"
    for language in languages().values():
        assert {"gamma", "T", "floor"} <= placeholders(language["ui"]["judged"])


def test_the_live_table_shows_what_its_own_step_or_an_earlier_one_has_named():
    named = ""
    for step in STEPS:
        text = languages()["en"]["steps"][step.key]
        named += " ".join([*text["set_up"], text["question"], *text["explain"]]).lower()
        for column in step.columns:
            word = {"x0": "x₀", "left_ours": "signal left", "left_ddpm": "signal left"}.get(column, column)
            assert word in named, (step.key, column)


def test_the_plan_holds_no_answers():
    sent = plan()
    for step in sent["steps"]:
        assert not {"answer", "outcome", "numbers"} & step.keys()
        assert step["settings"]["example"] in EXAMPLE_IDS
    json.dumps(sent)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.62, "0.62"), (0.9401, "0.94"), (1234.5, "1234"), (22026.4, "2.2 × 10⁴"), (8.4e-7, "8.4 × 10⁻⁷"),
        (-2e-5, "−2.0 × 10⁻⁵"), (0.0, "0"), (200, "200"), (math.inf, "∞"), (-math.inf, "−∞"),
        (math.nan, "undefined"), ("tiny", "tiny"),
    ],
)  # fmt: skip
def test_numbers_in_sentences(value, words):
    assert _sentences({"n": value}) == {"n": words}
