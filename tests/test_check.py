"""The check of a checkpoint: its figures against known ones, and every red flag raised where it should be, only."""

import json
import re

import pytest
import torch
from PIL import Image

from pixelviz import __main__ as cli
from pixelviz.checks import ServiceError
from pixelviz.data.assets import CHECKPOINTS
from pixelviz.data.sets import ImageSet
from pixelviz.devices import choose
from pixelviz.export.check_page import check_page
from pixelviz.measure import check as checks
from pixelviz.measure.evaluation import ssim_steps
from pixelviz.measure.judges import Reference
from pixelviz.measure.metrics import frechet_distance, statistics_of
from pixelviz.measure.nearest import UNJUDGED, Nearest, nearest_by_pixels, too_near
from pixelviz.progress import Progress
from pixelviz.service.service import Service
from pixelviz.store import checkpoints
from tests.browser import PATIENCE, launched, served, watched
from tests.served import tiny_service
from tests.tiny import tiny_images, tiny_model

CPU = choose("cpu", "float32")


def _smooth(n, seed, low=0.2, high=0.8):
    """uint8 images (n, 3, 16, 16): each two flat halves of colours drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    halves = low + (high - low) * torch.rand(n, 3, 1, 2, generator=generator)
    return (255 * halves).to(torch.uint8).repeat_interleave(8, 3).expand(-1, -1, 16, -1).contiguous()


REAL = _smooth(64, 0)


def _raised(samples, *, shares=None, memorised=0.0, outside=0.0):
    seen = checks.look(samples, REAL, shares or {}, memorised) | {"outside": outside}
    return {flag.name for flag in checks.flags(seen)}


def test_samples_like_the_images_raise_nothing():
    assert _raised(_smooth(64, 1), shares={"a": 0.3, "b": 0.3, "c": 0.2, "d": 0.2}, memorised=0.01) == set()


def test_collapse():
    assert _raised(_smooth(1, 1).expand(64, -1, -1, -1)) >= {"collapse"}
    few = _smooth(64, 1)
    assert "collapse" in _raised(few, shares={"a": 0.9, "b": 0.1, "c": 0.0, "d": 0.0})
    assert "collapse" not in _raised(few, shares={"a": 0.9, "b": 0.1})  # two classes may well be uneven


def test_grain():
    noise = torch.randint(-40, 41, REAL.shape, generator=torch.Generator().manual_seed(0))
    assert _raised((_smooth(64, 1) + noise).clamp(0, 255).to(torch.uint8)) == {"grain"}
    faint = torch.randint(-3, 4, REAL.shape, generator=torch.Generator().manual_seed(0))
    assert _raised((_smooth(64, 1) + faint).clamp(0, 255).to(torch.uint8)) == set()


def test_wrong_range():
    assert "wrong range" in _raised(_smooth(64, 1, 0.5, 1.0))
    assert "wrong range" in _raised(_smooth(64, 1, 0.45, 0.55))  # the right mean, hardly any contrast
    assert "wrong range" not in _raised(_smooth(64, 1, 0.25, 0.85))


def test_diverged():
    x = torch.full((4, 1, 8, 8), 0.5)
    assert checks.outside(x, 0.2) == 0
    x[0, 0, 0, :4] = torch.tensor([float("nan"), float("inf"), 1.5, -0.3])
    assert checks.outside(x, 0.2) == pytest.approx(4 / 256)
    assert _raised(_smooth(64, 1), outside=4 / 256) == {"diverged"}
    assert _raised(_smooth(64, 1), outside=1 / 256) == set()


def test_memorising():
    training, unseen = _smooth(400, 2), _smooth(64, 3)
    kept = nearest_by_pixels(unseen, training)
    copies = (training[10:74].int() + 1).to(torch.uint8)
    found = nearest_by_pixels(copies, training)
    assert found.index.tolist() == list(range(10, 74))
    torch.testing.assert_close(found.distance, torch.full((64,), 1 / 255), rtol=1e-2, atol=0)
    assert _raised(copies, memorised=too_near(found, kept).float().mean().item()) == {"memorising"}
    fresh = too_near(nearest_by_pixels(_smooth(64, 4), training), kept).float().mean().item()
    assert _raised(_smooth(64, 4), memorised=fresh) == set()


def test_too_near_is_half_of_what_real_images_keep():
    real = Nearest(torch.zeros(100), torch.linspace(1, 2, 100))  # a twentieth is below 1.05
    near = Nearest(torch.zeros(3), torch.tensor([0.5, 0.52, 0.53]))
    assert too_near(near, real).tolist() == [True, True, False]


def test_where_the_real_images_are_training_images_nothing_is_judged():
    """A twentieth of copies takes the measure away, one less does not; a copy's distance is 0, however it is taken."""
    training = torch.randint(0, 256, (300, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert nearest_by_pixels(training[100:200], training).distance.max() == 0
    fresh = torch.randint(0, 256, (101, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    real = [torch.cat([training[:k], fresh[k:]]) for k in (6, 5)]
    copies = nearest_by_pixels(training[:9], training)
    unjudged, judged = (too_near(copies, nearest_by_pixels(images, training)) for images in real)
    assert unjudged is None
    assert judged.all()
    assert _raised(_smooth(64, 1), memorised=None) == set()


@pytest.mark.parametrize("judged", [False, True])
def test_the_check_says_that_memorising_cannot_be_judged(judged, monkeypatch):
    """By a folder of few pictures, which are learnt and compared with as well."""
    monkeypatch.setattr(checks, "QUICK", 16)
    images = tiny_images(9)
    features = Means()(images.images)
    judge = Reference(statistics_of(features), features, Means(), "means of rows") if judged else None
    *_, last = checks.examine(checkpoints.Checkpoint(tiny_model(), checkpoints.Record()), CPU, images, images, judge)
    assert last.figures["memorised"] is None
    page = check_page([last])
    assert "<td>cannot be judged</td>" in page
    assert f"<p>Memorising {UNJUDGED}.</p>" in page


def test_the_quick_distance_is_the_frechet_distance():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(300, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 0.3
    b = torch.randn(500, 6, generator=generator)
    assert checks.frechet(a, b) == pytest.approx(frechet_distance(statistics_of(b), a), rel=1e-6)
    assert checks.frechet(b, b) == pytest.approx(0, abs=1e-9)


def test_the_interval_holds_the_distance_of_other_samples():
    """Of 24 sets of samples, at least 20 have an interval that holds the mean distance of all of them."""
    generator = torch.Generator().manual_seed(1)
    reference = torch.randn(300, 4, generator=generator)
    sets = [torch.randn(60, 4, generator=generator) + 0.5 for _ in range(24)]
    mean = sum(checks.frechet(one, reference) for one in sets) / len(sets)
    found = [checks.frechet_interval(one, reference, seed=k) for k, one in enumerate(sets)]
    assert sum(low <= mean <= high for low, high in found) >= 20
    assert all(high - low < 1.5 * mean for low, high in found)


class Means(torch.nn.Module):
    """Sixteen features: the means of the rows."""

    num_features = 16

    def forward(self, images):
        return images.float().mean((1, 3))


@pytest.fixture(scope="module")
def found():
    model, images = tiny_model(), tiny_images(60)
    labelled = ImageSet(images.images, images.name, labels=torch.arange(60) % 3)
    features = Means()(images.images)
    judge = Reference(statistics_of(features), features, Means(), "means of rows")
    loaded = checkpoints.Checkpoint(model, checkpoints.Record())
    *steps, last = checks.examine(loaded, CPU, labelled, images, judge, names=("a", "b", "c"))
    assert [state.done for state in steps] == sorted(state.done for state in steps)
    assert steps[-1].done == steps[-1].total
    return last


def test_a_check_looks_from_all_sides(found):
    assert {k: len(sheet) for k, sheet in found.sheets.items()} == dict.fromkeys(checks.PASSES, checks.SHEET)
    assert all(len(row) == checks.ROW for row in found.rows.values())
    assert list(found.rows)[:2] == ["images", "x_delta_hat from i = 1"]
    assert list(found.rows)[-1] == "one run from x_T"
    assert set(found.nearest) == {"samples", "nearest by pixels", "nearest by features"}
    assert len(found.interpolation) == checks.ROW
    assert sum(found.classes.values()) == pytest.approx(1)
    low, high = found.figures["fid_interval"]
    assert low <= found.figures["fid"] <= high
    assert {flag.name for flag in found.flags} <= {"diverged", "wrong range", "grain", "collapse", "memorising"}
    assert found.flags  # random weights draw nothing like squares


def test_the_page_stands_alone(found):
    other = checks.Findings("<b>other</b>", "squares")
    html = check_page([found, other])
    assert "<b>other</b>" not in html
    assert "&lt;b&gt;other&lt;/b&gt;" in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert html.count("<section>") == 2
    assert html.count("data:image/png") == len(found.sheets) + len(found.rows) + len(found.nearest) + 1
    assert found.flags[0].text in html.replace("&#39;", "'")


def test_a_checkpoint_without_R_phi_is_checked_as_far_as_it_goes():
    model = tiny_model()
    model.parallel_unet = None
    loaded = checkpoints.Checkpoint(model, checkpoints.Record())
    *_, last = checks.examine(loaded, CPU, tiny_images(20), tiny_images(20))
    assert last.rows
    assert not last.sheets
    assert "Trained on" in check_page([last])


def test_check_writes_one_page_for_two(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checks, "QUICK", 16)
    for name in ("one", "two"):
        checkpoints.save(tmp_path / name, tiny_model(), checkpoints.Record())
    folder = tmp_path / "images"
    folder.mkdir()
    for k, image in enumerate(tiny_images(40).images):
        Image.fromarray(image[0].numpy()).save(folder / f"{k:02}.png")
    arguments = [tmp_path / "one", tmp_path / "two", "--data", folder, "--out", tmp_path / "c.html", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["pixelviz", "check", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert (tmp_path / "c.html").read_text(encoding="utf-8").count("<section>") == 2
    written = json.loads((tmp_path / "c.json").read_text())
    assert {"one", "two", "seconds"} == set(written)
    assert str(tmp_path) not in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_two_of_one_name_are_told_apart(tmp_path, monkeypatch):
    """The figures of neither are dropped; their folder names nothing of the way that both have."""
    monkeypatch.setattr(checks, "check_against", lambda *_: iter([checks.Findings("best", "squares")]))
    for run in "ab":
        checkpoints.save(tmp_path / run / "best", tiny_model(), checkpoints.Record())
    both = [str(tmp_path / run / "best") for run in "ab"]
    monkeypatch.setattr(
        "sys.argv", ["pixelviz", "check", *both, "--data", "fashion-mnist-10k", "--out", str(tmp_path / "c.html")]
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert set(json.loads((tmp_path / "c.json").read_text())) == {"a/best", "b/best", "seconds"}
    assert "Check of a/best and b/best" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_the_app_checks_too_and_says_where_it_cannot(tmp_path):
    service = tiny_service(tmp_path)  # trained on squares, which are no data set
    with pytest.raises(ServiceError, match="cannot load; run `pixelviz check` with --data"):
        next(service.check("tiny"))
    service = Service(device="cpu")
    *steps, page = service.check("fashion-mnist-paper-floor")
    assert all(isinstance(step, Progress) for step in steps)
    assert "Check of fashion-mnist-paper-floor" in page
    assert page.count("<img") >= len(ssim_steps(200)) + 1


def test_the_checkpoints_tab_checks_under_the_page_s_policy():
    with served(CHECKPOINTS.parent) as url, launched() as browser:
        page = browser.new_page(reduced_motion="reduce")
        page.set_default_timeout(PATIENCE)
        complaints = watched(page, url)
        page.goto(url)
        page.get_by_role("tab", name="Checkpoints", exact=True).click()
        page.get_by_label("fashion-mnist-paper-floor").check()
        page.locator("#check").click()
        inside = page.frame_locator(".pv-check")
        inside.locator("h1").get_by_text("Check of fashion-mnist-paper-floor").wait_for()
        assert inside.locator("img").first.evaluate("image => image.naturalWidth") > 0
        with page.expect_download() as download:
            page.locator("#checked a").click()
        assert download.value.suggested_filename == "check-fashion-mnist-paper-floor.html"
        assert complaints == []
