"""Uploads: every bad file by itself, and every conversion against one derived by hand."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from pixelviz.data.assets import FASHION_10K
from pixelviz.data.decode import MAX_PIXELS
from pixelviz.data.idx import read_idx_pair
from pixelviz.data.images import EXAMPLES, ImageError, Picture, fit, fit_square, read_image
from pixelviz.data.sets import load_images


@pytest.fixture
def rgb(rng):
    """A small color picture, unlike any of its own mirror images."""
    return rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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
    raw, _ = read_idx_pair(FASHION_10K, "test")
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
