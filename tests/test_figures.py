"""Pictures: decoded again with other tools, and compared with what went in."""

import base64
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from pixelviz.data import pictures
from pixelviz.data.images import LEVEL_STEPS, Picture
from pixelviz.service import payloads


def decode(uri):
    """The picture in a data URI, as an array."""
    kind, _, data = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{image.format.lower()}"
    return np.asarray(image)


def unpack(text, kind):
    """Base64 of little-endian numbers, read with struct."""
    data = base64.b64decode(text)
    return struct.unpack(f"<{len(data) // struct.calcsize(kind)}{kind}", data)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def luminance(colour):
    """WCAG 2 relative luminance of #rrggbb."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("background", ["#ffffff", "#f8fafc", "#0b1220", "#111a2c"])
def test_curve_colours_have_three_to_one_on_light_and_dark(background):
    for colour in (*pictures.PIXEL_COLOURS, *(c for _, c in (*pictures.RGB_CHANNELS, pictures.GRAY_CHANNEL))):
        low, high = sorted((luminance(colour), luminance(background)))
        assert (high + 0.05) / (low + 0.05) >= 3, (colour, background)


def test_number_colours_are_all_different():
    assert len(set(pictures.PIXEL_COLOURS)) == pictures.MAX_PIXELS_SHOWN == 6


def test_as_bytes_rounds_clips_and_replaces_what_is_no_number():
    values = np.array([-1, 0, 0.5, 1, 2, np.nan, np.inf, -np.inf])
    assert pictures.as_bytes(values).tolist() == [0, 0, 128, 255, 255, 0, 255, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_data_uri_keeps_every_pixel(random, channels):
    image = random.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    decoded = decode(pictures.data_uri(image))
    np.testing.assert_array_equal(decoded, image[..., 0] if channels == 1 else image)


def test_data_uri_stores_gray_pictures_once(random):
    gray = np.repeat(random.integers(0, 256, (5, 7, 1), dtype=np.uint8), 3, axis=2)
    np.testing.assert_array_equal(decode(pictures.data_uri(gray)), gray[..., 0])


def test_tile_puts_image_k_in_row_k_over_columns(random):
    images = random.integers(1, 256, (5, 2, 3, 3), dtype=np.uint8)
    sheet = pictures.tile(images, 3)
    assert sheet.shape == (4, 9, 3)
    for k, image in enumerate(images):
        row, column = divmod(k, 3)
        np.testing.assert_array_equal(sheet[2 * row : 2 * row + 2, 3 * column : 3 * column + 3], image)
    assert not sheet[2:, 6:].any()


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (16, 4), (64, 8)])
def test_grid_columns(n, columns):
    assert pictures.grid_columns(n) == columns


@pytest.mark.parametrize("T", [1, 7, 40, 200, 5000])
def test_frame_steps_span_the_way(T):
    steps = pictures.frame_steps(T)
    assert steps[0] == 0
    assert steps[-1] == T
    assert steps == sorted(set(steps))
    assert len(steps) == min(T + 1, pictures.FRAMES)


def test_suggested_pixels_are_dark_middling_and_bright():
    rows, columns = np.mgrid[0:20, 0:30]
    x0 = np.stack([np.zeros((20, 30)), (rows * 30 + columns) / 600, np.ones((20, 30))])
    suggested = pictures.suggest_pixels(x0)
    assert [channel for _, _, channel in suggested] == [1, 1, 1]
    values = [x0[channel, row, column] for row, column, channel in suggested]
    inner = np.sort(x0[1, 2:18, 3:27].ravel())
    for value, share in zip(values, (0.1, 0.5, 0.95), strict=True):
        assert (inner < value).mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 28, 28)])
def test_a_flat_image_suggests_one_pixel_inside_it(shape):
    ((row, column, channel),) = pictures.suggest_pixels(np.full(shape, 0.3))
    assert 0 <= row < shape[1]
    assert 0 <= column < shape[2]
    assert 0 <= channel < shape[0]


def as_levels(pixels):
    """What the instrument is sent of a picture (C, H, W)."""
    return Picture(pixels.transpose(1, 2, 0)).levels


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (3, 256), (1, 257)])
def test_the_instrument_gets_every_value_and_its_noise(random, channels, levels):
    pixels = random.choice(np.linspace(0, 1, levels), (channels, 20, 30))
    noise = random.normal(size=pixels.shape)
    payload = json.loads(payloads.instrument(noise, as_levels(pixels), seed=4, notes=["a note"]))
    found, kind = unpack(payload["levels"], "d"), "H" if payload["wide"] else "B"
    values = [found[k] for k in unpack(payload["index"], kind)]
    np.testing.assert_array_equal(values, pixels.ravel())
    np.testing.assert_allclose(unpack(payload["noise"], "f"), noise.ravel(), rtol=1e-6)
    assert payload["shape"] == [channels, 20, 30]
    assert (payload["seed"], payload["notes"]) == (4, ["a note"])
    assert payload["suggested"] == [list(p) for p in pictures.suggest_pixels(pixels)]


def test_the_instrument_rounds_what_has_too_many_levels(random):
    pixels = random.random((3, 50, 60))
    payload = json.loads(payloads.instrument(np.zeros_like(pixels), as_levels(pixels)))
    levels = unpack(payload["levels"], "d")
    assert len(levels) <= LEVEL_STEPS + 1 < pixels.size
    values = np.array([levels[k] for k in unpack(payload["index"], "H")])
    assert np.abs(values - pixels.ravel()).max() <= 0.5 / LEVEL_STEPS + 1e-12


def test_sample_sheet_holds_every_image_where_the_browser_looks(random):
    images = random.integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    payload = json.loads(payloads.sample_sheet(images, "five", chosen=2))
    sheet = decode(payload["sheet"])
    for k, image in enumerate(images):
        row, column = divmod(k, payload["columns"])
        np.testing.assert_array_equal(sheet[4 * row : 4 * row + 4, 4 * column : 4 * column + 4], image[..., 0])
    assert (payload["count"], payload["size"], payload["chosen"], payload["progress"]) == (5, 4, 2, None)


def test_sample_sheet_without_images():
    payload = json.loads(payloads.sample_sheet(None, "Starting", progress=0.0, done=False, keep=True))
    assert payload["sheet"] is None
    assert payload["keep"]
    assert payload["progress"] == 0
