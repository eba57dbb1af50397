"""Strangers' pictures are decoded in another process, which may be slow or die without harm."""

import io
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

from pixelviz.data import apart
from pixelviz.data.images import EXAMPLES, ImageError, read_image


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


def test_what_kills_its_decoder_is_refused_and_the_next_picture_is_read(helper):
    first = helper.decode(EXAMPLES[0][1].read_bytes())
    before = helper.process
    timer = threading.Timer(0.2, before.send_signal, [getattr(signal, "SIGSEGV", signal.SIGTERM)])
    timer.start()
    with pytest.raises(ImageError, match="decoder failed"):
        helper.decode(slow_picture(1000))
    assert np.array_equal(helper.decode(EXAMPLES[0][1].read_bytes())[0], first[0])
    assert helper.process is not before
