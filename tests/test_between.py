"""Dragging between samples: the corners are the samples, the way between them is a walk of likely codes and noises."""

from collections import deque

import numpy as np
import pytest
import torch

from pixelviz.checks import ServiceError
from pixelviz.data.pictures import last_channel, to_bytes
from pixelviz.samplers import draw
from pixelviz.samplers.starts import Beginning
from tests.browser import PATIENCE, launched, served, watched
from tests.served import tiny_service


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("between")
    tiny_service(root)
    return root


@pytest.fixture(scope="module")
def service(folder):
    from pixelviz.service.service import Service

    return Service([folder / "checkpoints", folder / "runs"], device="cpu")


def test_a_corner_is_the_sample_itself(service):
    model = service.checkpoint("tiny").model
    drawn = deque(draw(model, service.compute, n=4, sampler="rotation", seed=3), maxlen=1).pop().x
    images = last_channel(to_bytes(drawn, model.config.floor))
    for corner, weights in ((1, [1, 0, 0]), (3, [0, 0, 5])):
        found = service.between("tiny", 3, [1, 0, 3], weights)
        assert np.abs(found.image.astype(int) - images[corner]).max() <= 1
        assert found.milliseconds > 0
    middle = service.between("tiny", 3, [1, 0, 3], [1, 1, 1]).image
    assert np.abs(middle.astype(int) - images[1]).max() > 1


def test_a_mixture_keeps_the_noise_as_likely_as_it_was():
    ends = Beginning(torch.eye(3), torch.randn(3, 2, 64, 64, generator=torch.Generator().manual_seed(0)))
    weights = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    mixed = ends.mixed(weights)
    assert torch.allclose(mixed.z, weights)
    assert mixed.eps.std(dim=(1, 2, 3)).sub(1).abs().max() < 0.03  # 8192 values: 0.008 is one standard error
    assert torch.equal(mixed.eps[1], ends.eps[0])


@pytest.mark.parametrize(
    ("seed", "corners", "weights"),
    [
        (-1, [0, 1], [1, 1]),
        (0, [0], [1]),
        (0, "012", [1, 1, 1]),
        (0, [0, 1, 2, 3], [1, 1, 1, 1]),
        (0, [0, 999], [1, 1]),
        (0, [0, 1], [1]),
        (0, [0, 1], [0, 0]),
        (0, [0, 1], [-1, 2]),
        (0, [0, 1], [float("nan"), 1]),
        (0, [0, None], [1, 1]),
    ],
)
def test_what_is_not_a_place_is_refused(service, seed, corners, weights):
    with pytest.raises(ServiceError):
        service.between("tiny", seed, corners, weights)


def test_the_image_follows_the_hand_and_the_keys(folder):
    with served(folder) as url, launched() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE)
        complaints = watched(page, url)
        page.goto(f"{url}?tab=generate")
        page.get_by_role("tab", name="Generate").click()
        shown = page.locator(".pv-between")
        shown.wait_for()
        image, handle = shown.locator("figure img"), shown.locator(".pv-handle")
        page.wait_for_function("document.querySelector('.pv-between figure img').src.startsWith('data:')")
        first = image.get_attribute("src")
        shown.scroll_into_view_if_needed()
        box = shown.locator(".pv-pad").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        for k in range(16):
            page.mouse.move(box["x"] + box["width"] * (0.5 - 0.03 * k), box["y"] + box["height"] * (0.5 + 0.03 * k))
        page.mouse.up()
        page.wait_for_function("(old) => document.querySelector('.pv-between figure img').src !== old", arg=first)
        assert handle.get_attribute("aria-label").startswith("0 % of image 1, 100 % of image 2")
        name = "One run: 0 % of image 1, 100 % of image 2, 0 % of image 3"
        page.get_by_alt_text(name).wait_for()  # the answer to the hand's last place
        page.get_by_role("button", name="Image between the three: look closer").click()
        page.get_by_role("heading", name=f"{name} (1 of 4)").wait_for()
        page.get_by_role("button", name="Next", exact=True).click()
        page.get_by_role("heading", name="Image 1 (2 of 4)").wait_for()
        page.keyboard.press("Escape")
        # A server that was busy is asked for the last place again, without another move.
        refused = {"error": "Busy for a moment.", "busy": True}
        page.route("**/component_server/", lambda route: route.fulfill(json=refused), times=2)
        handle.press("ArrowUp")
        page.get_by_text("Busy for a moment.").wait_for()
        page.get_by_alt_text(f"One run: {handle.get_attribute('aria-label')}").wait_for()
        handle.press("ArrowRight")
        assert not handle.get_attribute("aria-label").startswith("0 % of image 1, 100 % of image 2")
        page.locator("#sheet .pv-samples button").nth(7).click()
        page.wait_for_function("document.querySelector('.pv-handle').getAttribute('aria-label').includes('image 8')")
        assert complaints == []
