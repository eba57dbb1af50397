"""Strangers' pictures are decoded in processes apart: one that takes too long, or kills its decoder, is only refused.

All of them, and not those alone that look suspicious: what makes a decoder slow (the code blocks of JPEG 2000, the
tiles of AVIF, the strips of TIFF) or makes it crash cannot be told from a header. A warm process costs little: the
pixels go through a pipe, a millisecond for a picture of 512x512, twenty for the largest, 1024x1024.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from io import BytesIO
from typing import IO, Any

import numpy as np

from pixelviz.data.decode import ImageError, decode_stream

PROCESSES = 2  # while one is held up, the other goes on
CPU_SECONDS = 4.0  # for one picture; 40 megapixels, the most that is read, take one to three as JPEG or PNG
WALL_SECONDS = 30.0  # the same on a machine that is busy
MEMORY = 6 * 2**30  # bytes of address space; the largest picture with 16 bits a colour needs half of it
SLOW = (
    "This picture takes too long to decode: it is damaged, or made to. Save it again, as an ordinary JPEG or PNG, or "
    "make it smaller."
)
DEADLY = "This picture cannot be decoded: its decoder failed. Save it again, as an ordinary JPEG or PNG."


class SlowImageError(ImageError):
    """A picture whose decoding was stopped."""


class _Helper:
    """One such process, started when it is needed; it ends with this one, whose end of the pipe is then closed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def decode(self, data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
        """As `decode_stream`; raises ImageError."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"from pixelviz.data.apart import serve; serve({CPU_SECONDS})"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what libraries say of every damaged file
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is for the app
            )
        timer = threading.Timer(WALL_SECONDS, self.process.kill)
        timer.start()
        try:
            assert self.process.stdin is not None  # both are pipes
            assert self.process.stdout is not None
            _write(self.process.stdin, data)
            about = json.loads(_read(self.process.stdout))
            if "error" in about:
                raise ImageError(about["error"])
            pixels = np.frombuffer(_read(self.process.stdout), np.float64).reshape(about["shape"])
            return pixels, tuple(about["notes"])
        except (EOFError, OSError):
            self.process.kill()
            stopped = (-getattr(signal, name, 0) for name in ("SIGPROF", "SIGKILL"))
            raise (SlowImageError(SLOW) if self.process.wait() in stopped else ImageError(DEADLY)) from None
        finally:
            timer.cancel()


_HELPERS: queue.LifoQueue[_Helper] = queue.LifoQueue()  # the one used last is warm
for _ in range(PROCESSES):
    _HELPERS.put(_Helper())


def decode_apart(data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """The picture in a file as `decode_stream` gives it, decoded elsewhere; raises ImageError."""
    helper = _HELPERS.get()
    try:
        return helper.decode(data)
    finally:
        _HELPERS.put(helper)


# --- In the other process


def _write(stream: IO[bytes], data: Any) -> None:
    stream.write(struct.pack("<Q", memoryview(data).nbytes))
    stream.write(data)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    """The next message; raises EOFError where there is none, or half of one."""
    head = stream.read(8)
    data = stream.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else b""
    if len(head) < 8 or len(data) < struct.unpack("<Q", head)[0]:
        raise EOFError
    return data


def _budget(seconds: float) -> None:
    """Let the kernel end this process after so much processor time; 0 for no such end. Windows has none."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def serve(seconds: float) -> None:
    """Decode one picture after the other, from stdin to stdout, in so much processor time each at most."""
    with suppress(ImportError, ValueError, OSError):  # Windows, and systems with a lower limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between
    with suppress(EOFError):
        while True:
            data = _read(sys.stdin.buffer)
            _budget(seconds)
            try:
                pixels, notes = decode_stream(BytesIO(data))
            except MemoryError:
                about: dict[str, Any] = {"error": "There was not enough memory for this picture; make it smaller."}
            except ImageError as error:
                about = {"error": str(error)}
            else:
                about = {"shape": pixels.shape, "notes": notes}
            _budget(0)
            _write(out, json.dumps(about).encode())
            if "shape" in about:
                _write(out, np.ascontiguousarray(pixels))
