"""The scale of a picture larger than the network, put together from tiles."""

import numpy as np
import pytest
import torch

from pixelviz.measure.estimate import ScaleResult, Tiling, tile_starts, tile_window
from pixelviz.process.schedules import image_scale
from pixelviz.view import View
from tests.served import photo
from tests.tiny import tiny_config

GAMMA = tiny_config().gamma


@pytest.fixture
def vae(service):
    return service.checkpoint("tiny").model.scale_vae


@pytest.mark.parametrize(("length", "side"), [(16, 16), (17, 16), (24, 16), (25, 16), (256, 32), (171, 32), (9, 4)])
def test_tiles_cover_everything_and_overlap_by_half(length, side):
    starts = tile_starts(length, side)
    assert starts[0] == 0
    assert starts[-1] == length - side
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= side // 2).all()
    assert len(starts) <= 2 + (length - side) // (side // 2)  # and no more of them than that needs


def test_the_window_is_smooth_and_nowhere_zero():
    window = tile_window(16)
    assert window.min() > 0
    assert window.max() == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(window, window.T)
    torch.testing.assert_close(window, window.flip(0))
    # Raised cosines half a tile apart add up to one.
    line = window.sum(1) / window.sum(1).max()
    torch.testing.assert_close(line[:8] + line[8:], torch.full((8,), float(line[0] + line[8]), dtype=line.dtype))


@pytest.mark.parametrize("shape", [(40, 27), (16, 16), (16, 61), (33, 64)])
def test_perfect_estimates_give_the_true_scale_whatever_the_size(service, vae, monkeypatch, shape):
    """At i = 0 x_i is the image: a network that reads it off must give every pixel of the whole, each in its place."""
    monkeypatch.setattr(vae, "forward", lambda x_i, i: image_scale(x_i, GAMMA))
    result = service.scale("tiny", View.of(photo(*shape, channels=1)), 0, tiled=True)
    assert result.x0.shape == (1, *shape)
    np.testing.assert_allclose(result.x_delta_hat, result.x_delta, rtol=1e-5)
    assert result.ssim_x_delta == pytest.approx(1, abs=1e-5)
    assert result.picture("x_delta_hat").shape == (*shape, 1)


def test_no_seam_shows_between_tiles_that_disagree(service, vae, monkeypatch):
    generator = torch.Generator().manual_seed(0)

    def fickle(x_i, i):
        gray = torch.rand(len(x_i), 1, 1, 1, generator=generator).expand_as(x_i)
        return image_scale(0.1 + 0.9 * gray, GAMMA)

    monkeypatch.setattr(vae, "forward", fickle)
    x0_hat = service.scale("tiny", View.of(photo(64, 64, channels=1)), 3, tiled=True).x0_hat[0].numpy()
    # A raised cosine over 16 pixels rises by at most pi/16 a pixel; two tiles side by side would jump by up to 0.9.
    assert np.ptp(x0_hat) > 0.3
    assert max(np.abs(np.diff(x0_hat, axis=axis)).max() for axis in (0, 1)) < 0.9 * np.pi / 16


def test_one_tile_is_the_checkpoint_s_own_size(service):
    image = photo(16, 16, channels=1)
    view = View.of(image, seed=3)
    one, tiled = service.scale("tiny", view, 5), service.scale("tiny", view, 5, True)
    for which in ("x_i", "x_delta_hat", "twin_x0_hat", "x0_hat", "alpha_bar_hat"):
        np.testing.assert_allclose(getattr(tiled, which), getattr(one, which), rtol=1e-12)
    assert (one.tiles, one.fitted) == (tiled.tiles, tiled.fitted) == (1, None)
    assert "tiles" not in " ".join(tiled.notes)


def test_progress_is_told_and_both_similarities(service):
    *steps, result = service.scale_steps("tiny", View.of(photo(80, 120), seed=1), 4, tiled=True)
    assert isinstance(result, ScaleResult)
    assert all(isinstance(step, Tiling) and step.total == 9 * 14 for step in steps)
    assert [step.done for step in steps] == [32, 64, 96]
    assert result.tiles == 126
    assert result.seconds >= steps[-1].seconds > 0
    assert "120x80 pixels in 126 tiles of 16x16" in " ".join(result.notes)
    assert "gray" in " ".join(result.notes)
    small = service.scale("tiny", View.of(photo(80, 120), seed=1), 4)
    assert result.fitted == (4, pytest.approx(small.ssim_x_delta), pytest.approx(small.ssim_alpha_bar))


def test_the_number_of_tiles_at_once_changes_nothing(service, monkeypatch):
    many = service.scale("tiny", View.of(photo(50, 40)), 6, tiled=True)
    monkeypatch.setattr("pixelviz.measure.estimate.TILES_AT_ONCE", 3)
    few = service.scale("tiny", View.of(photo(50, 40)), 6, tiled=True)
    # bfloat16 products may be grouped otherwise.
    np.testing.assert_allclose(few.x0_hat, many.x0_hat, atol=0.01)


def test_too_little_memory_for_all_tiles_means_fewer_at_once(service, vae, monkeypatch):
    forward, seen = vae.forward, []

    def hungry(x_i, i):
        seen.append(len(x_i))
        if len(x_i) > 5:
            torch.empty(2**58)  # more than any machine has: the allocator's own error
        return forward(x_i, i)

    monkeypatch.setattr(vae, "forward", hungry)
    result = service.scale("tiny", View.of(photo(80, 120)), 4, tiled=True)
    assert seen[:4] == [32, 16, 8, 4]
    assert set(seen[4:-1]) == {4, 126 % 4}
    assert result.x_delta_hat.isfinite().all()
    monkeypatch.setattr(vae, "forward", lambda x_i, i: torch.empty(2**58))
    with pytest.raises(RuntimeError, match="memory"):
        service.scale("tiny", View.of(photo(80, 120)), 4, tiled=True)
    with service.turn.short():  # the app goes on
        pass


@pytest.mark.parametrize(
    ("shape", "wanted"), [((600, 300), (256, 128)), ((1000, 3), (256, 16)), ((5, 7), (16, 22)), ((28, 28), (32, 32))]
)
def test_any_picture_gets_a_size_that_tiles_fit(service, shape, wanted):
    result = service.scale("tiny", View.of(photo(*shape, channels=1)), 2, tiled=True)
    assert result.x0.shape[1:] == wanted
