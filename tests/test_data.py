"""Uploads, data sets and the range: every bad file by itself, and every conversion against one derived by hand."""

import gzip
import hashlib
import io
import socket
import struct
import threading
import warnings
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import FashionMNIST

from pixelviz import data as data_module
from pixelviz.data import (
    CLASSES,
    DataError,
    from_unit,
    load_images,
    read_idx,
    read_idx_pair,
    to_image,
    to_unit,
    write_idx,
)
from pixelviz.images import EXAMPLES, MAX_PIXELS, ImageError, Picture, fit, fit_square, read_image


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def rgb(rng):
    """A small color picture, unlike any of its own mirror images."""
    return rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def idx_bytes(values: np.ndarray) -> bytes:
    """IDX as LeCun's page describes it: two zero bytes, type 8, dimensions, big-endian sizes, values."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def fake_fashion(folder: Path, count: int, rng, prefix: str = "train") -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return images


# --- uploads that are read -------------------------------------------------------------------------------------


def test_path_bytes_pil_and_array_agree(tmp_path, rgb):
    image = Image.fromarray(rgb)
    image.save(tmp_path / "a.png")
    expected = rgb / 255.0
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), encoded(image, "PNG"), image, rgb):
        picture = read_image(source)
        assert picture.pixels.dtype == np.float64
        assert picture.notes == ()
        np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.tensor().shape == (3, 6, 9)
    np.testing.assert_array_equal(picture.tensor()[1].numpy(), expected[..., 1])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_gray_stays_gray(kind, rgb):
    gray = rgb[..., 0]
    picture = read_image(encoded(Image.fromarray(gray), kind))
    np.testing.assert_array_equal(picture.pixels[..., 0], gray / 255.0)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation(orientation, upright, rgb):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_image(encoded(Image.fromarray(rgb), "PNG", exif=exif))
    np.testing.assert_array_equal(picture.pixels, upright(rgb) / 255.0)
    assert any("upright" in note for note in picture.notes)


def test_exif_rubbish_is_no_reason_to_refuse(rgb):
    picture = read_image(encoded(Image.fromarray(rgb), "PNG", exif=b"Exif\0\0rubbish that is no TIFF header"))
    np.testing.assert_array_equal(picture.pixels, rgb / 255.0)


def test_alpha_is_laid_on_white():
    red_half = np.array([[[255, 0, 0, 128], [0, 0, 0, 0], [10, 20, 30, 255]]], np.uint8)
    share = 128 / 255
    expected = np.array([[[1, 1 - share, 1 - share], [1, 1, 1], [10 / 255, 20 / 255, 30 / 255]]])
    for source in (encoded(Image.fromarray(red_half), "PNG"), red_half):
        picture = read_image(source)
        np.testing.assert_allclose(picture.pixels, expected, atol=1 / 255)
        assert any("white" in note for note in picture.notes)
    assert read_image(np.full((2, 2, 4), 255, np.uint8)).notes == ()


def test_gray_with_alpha():
    values = np.array([[[0, 255], [0, 0], [100, 255]]], np.uint8)
    picture = read_image(encoded(Image.fromarray(values), "PNG"))
    assert picture.pixels.shape == (1, 3, 1)
    np.testing.assert_allclose(picture.pixels[0, :, 0], [0, 1, 100 / 255], atol=1e-12)


def test_palette_with_a_transparent_color():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    plain = read_image(encoded(image, "PNG"))
    np.testing.assert_array_equal(plain.pixels[0], np.eye(3))
    clear = read_image(encoded(image, "PNG", transparency=1))
    np.testing.assert_array_equal(clear.pixels[0], [[1, 0, 0], [1, 1, 1], [0, 0, 1]])


def test_one_bit():
    bits = np.array([[True, False], [False, True]])
    for source in (encoded(Image.fromarray(bits), "PNG"), bits):
        np.testing.assert_array_equal(read_image(source).pixels[..., 0], bits.astype(float))


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B")])
def test_sixteen_bit(kind, mode):
    values = np.array([[0, 1, 256], [4660, 32768, 65535]], np.uint16)
    order = ">u2" if mode == "I;16B" else "<u2"
    image = Image.frombytes(mode, (3, 2), values.astype(order).tobytes())
    picture = read_image(encoded(image, kind))
    np.testing.assert_allclose(picture.pixels[..., 0], values / 65535.0, atol=1e-12)
    assert any("16-bit" in note for note in picture.notes)
    np.testing.assert_allclose(read_image(values).pixels[..., 0], values / 65535.0, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[-50, 0, 150]], np.int32), [0, 0.25, 1]),
        (np.array([[0, 65536, 262144]], np.int32), [0, 0.25, 1]),
        (np.array([[0.0, 0.3, 1.0]], np.float32), [0, 0.3, 1]),
        (np.array([[0.0, 51.0, 255.0]], np.float32), [0, 0.2, 1]),
        (np.array([[-1.0, 1.0, 3.0]], np.float32), [0, 0.5, 1]),
        (np.array([[7.5, 7.5, 7.5]], np.float32) * 100, [0, 0, 0]),
    ],
)
def test_thirty_two_bit(values, expected):
    picture = read_image(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_allclose(picture.pixels[0, :, 0], expected, atol=1e-7)
    assert picture.notes


def test_cmyk():
    inks = np.array([[[255, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)  # all cyan, all black, no ink
    picture = read_image(encoded(Image.fromarray(inks, "CMYK"), "TIFF"))
    np.testing.assert_array_equal(picture.pixels[0], [[0, 1, 1], [0, 0, 0], [1, 1, 1]])
    assert any("CMYK" in note for note in picture.notes)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), color) for color in ("white", "black", "red")]
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    np.testing.assert_array_equal(picture.pixels, 1.0)
    assert any("first" in note for note in picture.notes)


def test_large_pictures_shrink_while_they_are_read():
    picture = read_image(Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (600, 1000))))
    assert picture.pixels.shape == (307, 1024, 1)
    assert abs(picture.pixels.mean() - 0.5) < 0.01
    assert any("2000x600" in note for note in picture.notes)


def test_arrays_of_other_types():
    np.testing.assert_array_equal(read_image(np.array([[0, 51, 255]])).pixels[0, :, 0], [0, 0.2, 1])
    np.testing.assert_array_equal(read_image(np.array([[0, 0.5, 1 + 1e-7]])).pixels[0, :, 0], [0, 0.5, 1])


# --- uploads that are refused ----------------------------------------------------------------------------------


def png_header(columns: int, rows: int) -> bytes:
    """A PNG that only declares its size: whoever decodes before checking fails in another way."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# Pillow itself only warns at the first size, and refuses the second; the app turns the warning into an error.
@pytest.mark.parametrize("filters", ["error", "ignore"])
@pytest.mark.parametrize(("columns", "rows"), [(8000, 6000), (100_000, 100_000)])
def test_enormous(columns, rows, filters):
    warnings.simplefilter(filters, Image.DecompressionBombWarning)
    with pytest.raises(ImageError, match=rf"{columns * rows // 10**6:,} megapixels.*limit is 40 megapixels"):
        read_image(png_header(columns, rows))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_itself_is_allowed_and_one_row_more_is_not():
    side = 1000
    with pytest.raises(ImageError, match="damaged"):
        read_image(png_header(side, MAX_PIXELS // side))
    with pytest.raises(ImageError, match="limit"):
        read_image(png_header(side, MAX_PIXELS // side + 1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_truncated(kind, rng, tmp_path):
    whole = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    path = tmp_path / "half"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


def test_corrupt_body(rng):
    whole = bytearray(encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), "PNG"))
    whole[len(whole) // 2 : len(whole) // 2 + 200] = bytes(200)
    with pytest.raises(ImageError, match="damaged"):
        read_image(bytes(whole))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"just some words\n", "text file"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (bytes(range(256)), "not an image"),
    ],
)
def test_not_an_image(content, message, tmp_path):
    path = tmp_path / "upload.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_image(path)


def test_missing_folder_and_nothing(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="upload one"):
        read_image(None)
    with pytest.raises(ImageError, match="int"):
        read_image(0)  # `open(0)` would read the terminal


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, np.nan]]), "NaN"),
        (np.array([[0.0, np.inf]]), "infinity"),
        (np.array([[0.0, 1.5]]), "between 0 and 1"),
        (np.array([[0.0, 255.0]]), "between 0 and 1"),
        (np.array([[-0.1, 1.0]]), "between 0 and 1"),
        (np.array([[-1, 200]]), "between 0 and 255"),
        (np.array([[0, 70000]]), "between 0 and 255"),
        (np.array([["a", "b"]]), "numbers"),
        (np.zeros((2, 2), complex), "numbers"),
        (np.zeros(5), "shape"),
        (np.zeros((3, 4, 5)), "shape"),
        (np.zeros((0, 4)), "shape"),
        (np.zeros((2, 3, 4, 1)), "shape"),
        (np.broadcast_to(np.uint8(0), (7000, 7000)), "megapixels"),
    ],
)
def test_bad_arrays(values, message):
    with pytest.raises(ImageError, match=message):
        read_image(values)


def test_float_image_with_nan():
    with pytest.raises(ImageError, match="NaN"):
        read_image(encoded(Image.fromarray(np.array([[0.0, np.nan]], np.float32)), "TIFF"))


# --- fitting ---------------------------------------------------------------------------------------------------


def test_fit_keeps_the_aspect_ratio_and_never_enlarges(rng):
    picture = Picture(rng.random((100, 300, 3)), ("before",))
    small = fit(picture, 256)
    assert small.pixels.shape == (85, 256, 3)
    assert small.notes[0] == "before"
    assert "300x100" in small.notes[1]
    assert fit(picture, 300) is picture
    assert fit(Picture(np.ones((1, 2000, 1))), 256).pixels.shape == (1, 256, 1)


@pytest.mark.parametrize("function", [lambda p: fit(p, 32), lambda p: fit_square(p, 32, 1)])
def test_shrinking_is_antialiased(function):
    """A checkerboard of one pixel is gray at an eighth of its size; picking every eighth pixel gives one color."""
    board = (np.indices((256, 256)).sum(0) % 2).astype(float)[..., None]
    np.testing.assert_allclose(function(Picture(board)).pixels, 0.5, atol=0.02)


def test_fit_square_cuts_the_middle():
    pixels = np.zeros((32, 96, 1))
    pixels[:, 32:64] = 1
    fitted = fit_square(Picture(pixels), 32, 1)
    np.testing.assert_array_equal(fitted.pixels, 1)
    assert "middle 32x32 of 96x32" in fitted.notes[0]
    np.testing.assert_array_equal(fit_square(Picture(pixels.transpose(1, 0, 2)), 32, 1).pixels, 1)


def test_luma_and_repetition():
    colors = np.broadcast_to(np.array([1.0, 0.5, 0.25]), (32, 32, 3))
    gray = fit_square(Picture(colors), 32, 1)
    np.testing.assert_allclose(gray.pixels, 0.299 + 0.587 / 2 + 0.114 / 4, atol=1e-12)
    assert any("601" in note for note in gray.notes)
    back = fit_square(gray, 32, 3)
    assert back.pixels.shape == (32, 32, 3)
    np.testing.assert_array_equal(back.pixels, gray.pixels.repeat(3, 2))


def test_garment_sized_uploads_are_bordered_as_the_data_set_is():
    raw, _ = read_idx_pair(data_module.FASHION_10K, "test")
    loaded = load_images("fashion-mnist-10k", split="test", size=32, channels=1, limit=1).images[0]
    for upload in (raw[0], np.repeat(raw[0][..., None], 3, 2)):
        fitted = fit_square(read_image(upload), 32, 1)
        np.testing.assert_array_equal(np.round(fitted.tensor().numpy() * 255), loaded.numpy())
    bordered = fit_square(read_image(loaded[0].numpy()), 32, 1)
    assert bordered.notes == ()


def test_every_example_can_be_used():
    assert len({label for label, _ in EXAMPLES}) == len(EXAMPLES)
    for _, path in EXAMPLES:
        picture = read_image(path)
        assert picture.notes == ()
        assert max(picture.pixels.shape[:2]) <= 256
        assert fit_square(picture, 32, 1).pixels.shape == (32, 32, 1)


# --- the range -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("floor", [4e-3, 0.2, 0.9])
def test_range_round_trip(floor):
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x0 = to_unit(every, floor)
    assert x0.dtype == torch.float32
    assert x0.min().item() == pytest.approx(floor)
    assert x0.max().item() == 1
    assert x0.flatten()[51].item() == pytest.approx(floor + (1 - floor) / 5)
    assert torch.equal(from_unit(x0, floor), every)
    p = torch.linspace(0, 1, 7, dtype=torch.float64)
    torch.testing.assert_close(to_image(to_unit(p, floor, torch.float64), floor), p)


def test_range_clips_and_survives_divergence():
    x0 = torch.tensor([-1e30, 0.1, 0.6, 1.5, float("inf"), float("-inf"), float("nan")])
    assert from_unit(x0, 0.2).tolist() == [0, 0, 128, 255, 255, 0, 0]


# --- data sets -------------------------------------------------------------------------------------------------


def test_bundled_set_is_balanced_and_bordered():
    for split, each in (("train", 1000), ("test", 100)):
        found = load_images("fashion-mnist-10k", split=split, size=32, channels=1)
        assert found.images.shape == (10 * each, 1, 32, 32)
        assert found.images.dtype == torch.uint8
        assert found.labels.bincount().tolist() == [each] * len(CLASSES)
        raw, _ = read_idx_pair(data_module.FASHION_10K, split)
        assert np.array_equal(found.images[:, 0, 2:30, 2:30].numpy(), raw)
        border = found.images.clone()
        border[:, :, 2:30, 2:30] = 0
        assert border.max() == 0
    assert found.name == "Fashion-MNIST (1,000 of the 10,000 test images)"
    assert found.note is None


def test_limit_size_and_channels():
    found = load_images("fashion-mnist-10k", size=16, channels=3, limit=50)
    assert found.images.shape == (50, 3, 16, 16)
    assert torch.equal(found.images[:, 0], found.images[:, 2])
    assert len(found) == len(found.labels) == 50
    whole = load_images("fashion-mnist-10k", size=32, channels=1, limit=50).images.float()
    small = found.images[:, :1].float()
    assert (torch.nn.functional.avg_pool2d(whole, 2) - small).abs().mean() < 8  # same pictures, halved
    assert found.name == "Fashion-MNIST (50 of the 60,000 training images)"


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A computer without the full Fashion-MNIST."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data_module, "SYSTEM_FOLDERS", ())
    monkeypatch.delenv("PIXELVIZ_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def test_without_the_full_set_the_bundled_one_serves_and_says_so(nowhere, monkeypatch):
    found = load_images("fashion-mnist", size=32, channels=1, limit=20, allow_download=False)
    assert len(found) == 20
    assert "PIXELVIZ_DATA" in found.note
    monkeypatch.setattr(FashionMNIST, "mirrors", [(nowhere / "no-server").as_uri() + "/"])
    found = load_images("fashion-mnist", size=32, channels=1, limit=20)
    assert "download failed: Error downloading train-images" in found.note
    assert "of the 60,000" in found.name


@pytest.mark.parametrize("folder", ["mine", "mine/FashionMNIST/raw", "data/FashionMNIST/raw", "cache/pixelviz"])
def test_the_full_set_is_found(folder, nowhere, monkeypatch, rng):
    images = fake_fashion(nowhere / folder, 30, rng)
    if folder.startswith("mine"):
        monkeypatch.setenv("PIXELVIZ_DATA", str(nowhere / "mine"))
    found = load_images("fashion-mnist", size=32, channels=1, allow_download=False)
    assert np.array_equal(found.images[:, 0, 2:30, 2:30].numpy(), images)
    assert found.labels.tolist() == [k % 10 for k in range(30)]
    assert found.note is None


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """No lines among the test's own."""


def test_torchvision_downloads_once(nowhere, monkeypatch, rng):
    server = nowhere / "server"
    images = fake_fashion(server, 12, rng)
    fake_fashion(server, 5, rng, "t10k")
    sums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(server.iterdir())]
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    timeout = socket.getdefaulttimeout()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=server)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{http.server_port}/"])
        found = load_images("fashion-mnist", size=32, channels=1)
        http.shutdown()
    assert found.note is None
    assert np.array_equal(found.images[:, 0, 2:30, 2:30].numpy(), images)
    assert socket.getdefaulttimeout() == timeout
    # The server is gone: this split comes from the folder that was downloaded to.
    assert len(load_images("fashion-mnist", split="test", size=32, channels=1)) == 5


def test_idx_round_trip_is_reproducible(tmp_path, rng):
    values = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    write_idx(tmp_path / "a.gz", values)
    write_idx(tmp_path / "b.gz", values)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == idx_bytes(values)
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), values)
    (tmp_path / "plain").write_bytes(idx_bytes(values))
    np.testing.assert_array_equal(read_idx(tmp_path / "plain"), values)


GOOD = idx_bytes(np.arange(60, dtype=np.uint8).reshape(5, 4, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "nothing"),
        (gzip.compress(b""), "nothing"),
        (b"not gzip at all", "cannot be read"),
        (gzip.compress(GOOD)[:-20], "cannot be read"),
        (gzip.compress(GOOD)[:30] + b"\xff\xff\xff" + gzip.compress(GOOD)[33:], "cannot be read"),
        (gzip.compress(b"\x89PNG" + GOOD[4:]), "not an IDX"),
        (gzip.compress(b"\0\0\x0d" + GOOD[3:]), "not an IDX"),
        (gzip.compress(b"\0\0\x08\0"), "not an IDX"),
        (gzip.compress(GOOD[:10]), "header"),
        (gzip.compress(GOOD[:-1]), "only 59"),
        (gzip.compress(GOOD + b"x"), "holds more"),
        (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "GiB"),
    ],
)
def test_idx_corruption(content, message, tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_images(str(tmp_path), size=32, channels=1)
    assert "train-images" in str(caught.value)


def test_idx_pairs_must_match(tmp_path, rng):
    fake_fashion(tmp_path, 6, rng)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(5, np.uint8))
    with pytest.raises(DataError, match="6 images"):
        load_images(str(tmp_path), size=32, channels=1)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((6, 784), np.uint8))
    with pytest.raises(DataError, match="rows"):
        load_images(str(tmp_path), size=32, channels=1)
    with pytest.raises(DataError, match="t10k"):
        load_images(str(tmp_path), split="test", size=32, channels=1)


def test_idx_folder_of_other_sizes_without_labels(tmp_path, rng):
    images = np.zeros((3, 40, 64), np.uint8)
    images[:, :, 12:52] = 200
    folder = tmp_path / "letters"
    folder.mkdir()
    write_idx(folder / "train-images-idx3-ubyte.gz", images)
    found = load_images(str(folder), size=32, channels=1)
    assert found.labels is None
    assert found.name == "letters (3 training images)"
    assert (found.images == 200).all()
    stripes = np.zeros((1, 256, 256), np.uint8)
    stripes[:, :, 3::8] = 240  # one column in eight; interpolating between two neighbours would give 135
    write_idx(folder / "train-images-idx3-ubyte.gz", stripes)
    shrunk = load_images(str(folder), size=32, channels=1).images
    assert (shrunk.float() - 240 / 8).abs().max() < 8


def test_folder_of_images_with_broken_ones(tmp_path, rng):
    for k in range(11):
        sub = tmp_path / "photos" / ("cats" if k % 2 else "dogs")
        sub.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 40), (k, 2 * k, 3 * k)).save(sub / f"{k:02}.png")
    (tmp_path / "photos" / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (tmp_path / "photos" / "dogs" / "empty.png").write_bytes(b"")
    (tmp_path / "photos" / "notes.txt").write_text("not an image, and not named as one")
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"")
    train = load_images(str(tmp_path / "photos"), size=32, channels=3)
    test = load_images(str(tmp_path / "photos"), split="test", size=32, channels=3)
    assert train.images.shape[1:] == (3, 32, 32)
    assert "2 of 12 files were skipped" in train.note
    assert "broken.jpg" in train.note
    assert "empty.png: The file is empty" in train.note
    assert train.name == "photos (10 of the 12 training images)"
    colors = [image[:, 0, 0].tolist() for image in torch.cat([train.images, test.images])]
    assert sorted(colors) == [[k, 2 * k, 3 * k] for k in range(11)]  # every image in one split, and in one only
    assert train.labels is None


def test_folder_with_its_own_splits_and_small_folders(tmp_path):
    for split, value in (("train", 10), ("test", 20)):
        (tmp_path / split).mkdir()
        Image.new("L", (32, 32), value).save(tmp_path / split / "a.png")
    for split, value in (("train", 10), ("test", 20)):
        assert (load_images(str(tmp_path), split=split, size=32, channels=1).images == value).all()
        alone = load_images(str(tmp_path / "test"), split=split, size=32, channels=1)
        assert (alone.images == 20).all()
        assert "none are held out" in alone.note


def test_folder_limit_reaches_every_class(tmp_path):
    for k, name in enumerate("abcd"):
        (tmp_path / name).mkdir()
        for n in range(10):
            Image.new("L", (32, 32), 50 * k + n).save(tmp_path / name / f"{n}.png")
    found = load_images(str(tmp_path), size=32, channels=1, limit=4)
    assert sorted((found.images[:, 0, 0, 0] // 50).tolist()) == [0, 1, 2, 3]


def test_folders_that_hold_nothing_readable(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        load_images(str(tmp_path), size=32, channels=1)
    (tmp_path / "a.png").write_bytes(b"words")
    with pytest.raises(DataError, match=r"None of the 1.*text file"):
        load_images(str(tmp_path), size=32, channels=1)
    with pytest.raises(DataError, match="neither"):
        load_images(str(tmp_path / "absent"), size=32, channels=1)
    with pytest.raises(DataError, match="neither"):
        load_images("cifar", size=32, channels=1)


@pytest.mark.parametrize(
    "options", [{"split": "valid"}, {"limit": 0}, {"size": 2}, {"channels": 2}], ids=lambda o: next(iter(o))
)
def test_options_out_of_range(options):
    with pytest.raises(DataError, match=next(iter(options))):
        load_images("fashion-mnist-10k", **{"size": 32, "channels": 1, **options})
