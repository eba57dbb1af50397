"""Strangers' pictures are decoded in another process, which may be slow or die without harm."""

import io
import queue
import signal
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from pixelviz.data import apart, folders
from pixelviz.data.decode import MOST_SCANNED, MOST_SCANS
from pixelviz.data.images import EXAMPLES, ImageError, read_image
from pixelviz.data.sets import DataError, load_images
from tests.served import photo, png


@pytest.fixture
def helper():
    """A process of its own, which ends with the test."""
    made = apart._Helper()
    yield made
    if made.process:
        made.process.kill()
        made.process.communicate()


def slow_picture(side):
    """JPEG 2000 of noise, whose every bit has to be decoded: a second of processor time or so at side 1000."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
    stream = io.BytesIO()
    noise.save(stream, "JPEG2000")
    return stream.getvalue()


def test_the_pixels_are_those_of_this_process(helper):
    for _, path in EXAMPLES[::5]:
        data = path.read_bytes()
        here, (pixels, notes) = read_image(data), helper.decode(data)
        assert np.array_equal(pixels, here.pixels)
        assert pixels.dtype == here.pixels.dtype
        assert notes == here.notes


def test_the_words_for_bad_files_are_those_of_this_process(helper):
    for data in (b"", b"<svg>", b"%PDF", b"\x89PNG\r\n\x1a\n" + bytes(30)):
        with pytest.raises(ImageError) as here:
            read_image(data)
        with pytest.raises(ImageError) as there:
            helper.decode(data)
        assert str(there.value) == str(here.value)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system limits no processor time")
def test_what_takes_too_long_is_stopped_and_the_next_picture_is_read(helper, monkeypatch):
    monkeypatch.setattr(apart, "CPU_SECONDS", 0.3)
    slow, began = slow_picture(1500), time.monotonic()
    with pytest.raises(ImageError, match="too long to decode"):
        helper.decode(slow)
    assert time.monotonic() - began < 10
    monkeypatch.undo()
    assert helper.decode(EXAMPLES[0][1].read_bytes())[0].shape[2] == 3


def progressive(side, scans):
    """A progressive JPEG, all black, whose last scan, a refinement, is there so many times: 17 KB are enough."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + scans * data[last:-2] + data[-2:]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system limits no processor time")
def test_of_a_visitors_pictures_the_slow_ones_are_left_out(tmp_path, monkeypatch):
    """As few scans as pass for an ordinary JPEG take long enough for the limit of this test; others are refused."""
    monkeypatch.setattr(apart, "CPU_SECONDS", 0.2)
    monkeypatch.setattr(apart, "_HELPERS", queue.LifoQueue())
    for _ in range(2):
        apart._HELPERS.put(apart._Helper())
    side, scans = 1400, 450
    assert scans < MOST_SCANS
    assert (scans + 10) * side**2 < MOST_SCANNED
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes(png(photo(40, 40, seed=k)))
    own = load_images(str(tmp_path), size=16, channels=3)
    (tmp_path / "slow.jpg").write_bytes(progressive(side, scans))
    (tmp_path / "many.jpg").write_bytes(progressive(100, MOST_SCANS))
    found = load_images(str(tmp_path), size=16, channels=3, guarded=True)
    assert torch.equal(found.images, own.images)
    assert "slow.jpg: This picture takes too long" in found.note
    assert "many.jpg: This JPEG is cut into" in found.note
    monkeypatch.setattr(folders, "MOST_SLOW", 1)
    for k in range(4):
        (tmp_path / f"slow{k}.jpg").write_bytes(progressive(side, scans))
    with pytest.raises(DataError, match=r"More than 1 of the pictures take too long.*slow"):
        load_images(str(tmp_path), size=16, channels=3, guarded=True)


def test_what_kills_its_decoder_is_refused_and_the_next_picture_is_read(helper):
    first = helper.decode(EXAMPLES[0][1].read_bytes())
    before, picture = helper.process, slow_picture(1000)  # made first, so that the signal meets its decoding
    timer = threading.Timer(0.2, before.send_signal, [getattr(signal, "SIGSEGV", signal.SIGTERM)])
    timer.start()
    with pytest.raises(ImageError, match="decoder failed"):
        helper.decode(picture)
    assert np.array_equal(helper.decode(EXAMPLES[0][1].read_bytes())[0], first[0])
    assert helper.process is not before
