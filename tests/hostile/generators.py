"""Bad uploads, requests and checkpoints, the same for every seed."""

import io
import json
import random
import struct
import zipfile
import zlib
from copy import deepcopy
from functools import cache

import numpy as np
from PIL import Image

FORMATS = ("png", "jpeg", "gif", "webp", "tiff", "bmp", "ppm", "ico", "jpeg2000")
NAMES = (
    "photo.png", "../../../etc/passwd", "a" * 300 + ".jpg", "<img src=x onerror=alert(1)>.png", "\u202egnp.exe", "x",
    "con.png", ".png", "c:\\windows\\x.png", "%2e%2e%2fx.png", "photo.svg", "photo.html", "$(touch x).png", "a\nb.png",
)  # fmt: skip
WORDS = (
    "", " ", "\0", "../../etc/passwd", "/etc/passwd", "~root", "<script>alert(1)</script>", "${7*7}", "{{7*7}}", "%s%n",
    "' OR 1=1 --", "a" * 10_000, "\ud800", "\u202e", "1e999", "NaN", "None", "[[0,0,0]]", "[" * 2000, "file:///etc/passwd",
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**200, -(2**63), 0.5, -0.0, 1e308, 1e-308, [], {}, [[]], [None] * 9,
    {"path": "/etc/passwd"}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, {"url": "http://[::1]:1"},
    {"url": "http://169.254.169.254/", "meta": {"_type": "gradio.FileData"}}, [[0, 0, 0]] * 999,
    {"__type__": "update"},
)  # fmt: skip
METHODS = ("GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")
ROUTES = (
    "/", "/gradio_api/file=", "/gradio_api/file/", "/static/", "/assets/", "/pixelviz/", "/custom_component/",
    "/gradio_api/stream/", "/proxy=", "/gradio_api/proxy=http://127.0.0.1:1/", "/theme.css", "/gradio_api/heartbeat/",
    "/gradio_api/queue/data?session_hash=", "/gradio_api/call/curves/", "/gradio_api/upload_progress?upload_id=",
    "/config?", "/svelte/", "/gradio_api/info?", "/monitoring/",
)  # fmt: skip


def value(rng):
    """Something that fits nowhere, or nearly."""
    if rng.random() < 0.1:
        return [value(rng) for _ in range(rng.randrange(4))]
    return rng.choice(VALUES if rng.random() < 0.6 else WORDS)


def picture(rng, kind, side=40):
    """A small honest file."""
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    return bytearray(stream.getvalue())


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(columns, rows, depth=8, colour=2, text=b""):
    """A PNG that claims a size, with few bytes in it."""
    head = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0)
    body = _chunk(b"IDAT", zlib.compress(bytes(10_000)))
    more = _chunk(b"zTXt", b"k\0\0" + zlib.compress(text)) if text else b""
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + more + body + _chunk(b"IEND", b"")


def _scans(rng):
    """A progressive JPEG whose last scan is there again and again."""
    stream = io.BytesIO()
    Image.new("L", (900, 900), 99).save(stream, "jpeg", progressive=True)
    data = stream.getvalue()
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * rng.choice((400, 5000)) + data[-2:]


def _deep_tiff():
    """A TIFF whose directory points to itself."""
    entry = struct.pack("<HHIHH", 256, 3, 1, 9, 0)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8)


@cache
def _special():
    """Files that claim more than they hold."""
    huge = png_of(2**31 - 1, 2**31 - 1), png_of(50_000, 50_000), png_of(6000, 6000, 16, 6)
    return *huge, png_of(0, 5), png_of(5, 5, 3, 3), png_of(9, 9, text=bytes(60_000_000)), _deep_tiff()


def upload(rng):
    """Name and content of a bad upload."""
    kind, name = rng.choice(FORMATS), rng.choice(NAMES)
    how = rng.randrange(9)
    if how == 0:
        return name, rng.randbytes(rng.randrange(5000))
    if how == 1:
        return name, rng.choice(_special())
    if how == 2:
        texts = (b"<svg onload=alert(1)>", b"<html><script>1</script>", b"%PDF-1.4", b"PK\x03\x04", b"", b"GIF89a")
        return name, rng.choice(texts)
    data = picture(rng, kind)
    if how == 3:
        return name, bytes(data[: rng.randrange(len(data))])
    if how == 4 and rng.random() < 0.1:
        return name, _scans(rng)
    if how == 5:  # the head of one, the rest of another
        other = picture(rng, rng.choice(FORMATS))
        return name, bytes(data[: rng.randrange(200)] + other[rng.randrange(200) :])
    for _ in range(rng.choice((1, 5, 50))):  # most of them in the head, where the sizes are
        at = rng.randrange(min(len(data), 200) if rng.random() < 0.7 else len(data))
        data[at] = rng.choice((0, 255, rng.randrange(256)))
    return name, bytes(data)


def path(rng):
    """Method and address of a request that asks for what is not there to be had."""
    up = rng.choice(("../", "..%2f", "%2e%2e/", "..\\", "....//", "/", "")) * rng.randrange(1, 8)
    secret = rng.choice(("etc/passwd", "proc/self/environ", "app.py", "pixelviz/ui/app.py", "runs", "root/.ssh/id_rsa"))
    return rng.choice(METHODS), rng.choice(ROUTES) + up + secret


def body(rng):
    """A body that is no proper event."""
    if rng.random() < 0.4:
        return rng.choice((b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"data":', b"[" * 5000, b'{"data": NaN}'))
    keys = ("data", "fn_index", "session_hash", "event_data", "trigger_id", "simple_format", "batched", "event_id")
    return json.dumps({key: value(rng) for key in keys if rng.random() < 0.6}).encode("utf-8", "surrogatepass")


def config(rng, good):
    """A config.json with something wrong in it."""
    made = deepcopy(good)
    for _ in range(rng.randrange(1, 4)):
        at = made
        while True:
            key = rng.choice(list(at))
            if isinstance(at[key], dict) and at[key] and rng.random() < 0.8:
                at = at[key]
                continue
            break
        change = rng.random()
        if change < 0.2:
            del at[key]
        elif change < 0.3:
            at[rng.choice(WORDS)] = value(rng)
        elif isinstance(at[key], int | float) and change < 0.7:
            at[key] = rng.choice((0, -1, 1, 2, 3, 7, 10**4, 10**6, 2**40, 2**70, 0.5, 1e-9, 1e300))
        else:
            at[key] = value(rng)
        if not made:
            break
    return json.dumps(made).encode("utf-8", "surrogatepass")


def weights(rng, good):
    """A safetensors file with something wrong in it."""
    size = struct.unpack("<Q", good[:8])[0]
    head = json.loads(good[8 : 8 + size])
    how = rng.randrange(6)
    if how == 0:
        return good[: rng.randrange(len(good))]
    if how == 1:
        return struct.pack("<Q", rng.choice((0, 1, 2**20, 2**40, 2**63, size - 1, size + 1))) + good[8:]
    if how == 2:
        return rng.randbytes(rng.randrange(2000))
    key = rng.choice([key for key in head if key != "__metadata__"])
    if how == 3:
        head[key]["shape"] = rng.choice(([], [0], [2**40], [2**32, 2**32], [-1], [1] * 30, "x"))
    elif how == 4:
        head[key]["dtype"] = rng.choice(("I64", "F64", "BOOL", "U8", "X", "F8_E4M3"))
    else:
        head[key]["data_offsets"] = rng.choice(([0, 2**60], [5, 1], [-1, 4], [0, 0], [0]))
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + good[8 + size :]


def archive(rng, files):
    """A zip of these files with something wrong in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(rng.choice((name, name, name, f"../{name}", f"/{name}", f"a/{name}", name.upper())), data)
        for _ in range(rng.randrange(3)):
            file.writestr(rng.choice(("x.pkl", "../../x.png", "y/config.json", "z" * 200, "bomb.png")), bytes(10**6))
    data = bytearray(stream.getvalue())
    for _ in range(rng.choice((0, 1, 20))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(len(data))]) if rng.random() < 0.2 else bytes(data)


def seeded(seed):
    """The source of all of it."""
    return random.Random(seed)
