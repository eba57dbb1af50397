"""The square that a network gets of a picture whose sides differ: cut by hand, seen at once, kept in a link."""

import itertools

import numpy as np
import pytest

from pixelviz.checks import ServiceError
from pixelviz.data.images import Picture, fit_square
from pixelviz.export.benches import bench_of
from pixelviz.view import View
from tests.browser import INSTRUMENT, PATIENCE
from tests.served import photo, png

RAMP = np.arange(12.0) / 11  # every column, or row, has its own brightness


@pytest.mark.parametrize(("crop", "first"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_the_square_lies_where_crop_says(crop, first):
    wide = np.broadcast_to(RAMP, (4, 12))[..., None]
    for pixels, line in ((wide, slice(None)), (wide.transpose(1, 0, 2), slice(None))):
        square = fit_square(Picture(pixels, crop=crop), 4, 1).pixels[..., 0]
        found = square[0, line] if pixels is wide else square[line, 0]
        np.testing.assert_array_equal(found, RAMP[first : first + 4])
    assert fit_square(Picture(np.zeros((4, 4, 1)), crop=crop), 4, 1).notes == ()


def test_a_view_keeps_its_crop(service):
    views = [View.of(png(photo(20, 40)), crop=crop) for crop in (0.0, 0.5, 1.0)]
    found = [bench_of("tiny", service.checkpoint("tiny"), view, service.compute).x0 for view in views]
    assert not any(bool((one == other).all()) for one, other in itertools.pairwise(found))
    settings = views[0].settings()
    assert View.from_settings(settings, png(photo(20, 40))).crop == 0
    del settings["crop"]  # a file of before there was one
    assert View.from_settings(settings, png(photo(20, 40))).crop == 0.5
    with pytest.raises(ServiceError, match="crop"):
        views[0].but(crop=1.5)


def test_the_square_follows_its_slider_and_a_link_keeps_it(browser, url):
    page = browser.new_page(reduced_motion="reduce", viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}#tab=forward&image=coffee&crop=0.2")
    slider = page.locator("#instrument .pvi-crop input")
    slider.wait_for()
    page.wait_for_function(f"{INSTRUMENT}.pvInstrument.state().crop === 0.2")
    square = page.locator("#instrument [data-view=image] .pvi-square")
    before = square.bounding_box()
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("location.hash.includes('crop=0.3')")
    after, frame = square.bounding_box(), page.locator("#instrument [data-view=image] .pvi-frame").bounding_box()
    assert after["width"] == pytest.approx(after["height"], abs=1.5)
    assert after["x"] > before["x"]
    assert after["x"] - frame["x"] == pytest.approx(0.3 * (frame["width"] - after["width"]), abs=1.5)
    page.evaluate("location.hash = 'tab=forward&image=t-shirt'")
    slider.wait_for(state="hidden")  # its sides are equal
    page.close()
