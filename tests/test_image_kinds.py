"""The kinds of files that people bring: profiles, depths, color spaces, cameras' containers, and decoders' traps."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelviz.data import decode, jxl
from pixelviz.data.decode import ImageError
from pixelviz.data.images import read_image

# Bradford-adapted to D50, columns red, green, blue, as profiles hold them (ICC.1:2001; Lindbloom).
P3_TO_XYZ = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
SRGB_TO_XYZ = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
D50 = np.array([0.9642, 1.0, 0.8249])


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def linear(values):
    """sRGB's curve undone; Display P3 has the same one."""
    values = np.asarray(values, float)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def curved(values):
    values = np.clip(values, 0, 1)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def profile(matrix=None, *, name="Display P3", curve=None) -> bytes:
    """An ICC profile of version 2 with a matrix (RGB) or without (gray), and a curve of 1,024 points or a gamma."""
    curve = linear(np.linspace(0, 1, 1024)) if curve is None else curve

    def fixed(value):
        return struct.pack(">i", round(float(value) * 65536))

    table = np.rint(np.asarray(curve) * 65535).astype(">u2").tobytes()
    tone = b"curv" + bytes(4) + struct.pack(">I", len(curve)) + table
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": b"XYZ " + bytes(4) + b"".join(map(fixed, D50)),
    }
    if matrix is None:
        tags[b"kTRC"] = tone
    else:
        for letter, column in zip((b"r", b"g", b"b"), np.asarray(matrix).T, strict=True):
            tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + b"".join(map(fixed, column))
            tags[letter + b"TRC"] = tone
    body, index = b"", b""
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        index += tag + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data
    space = b"GRAY" if matrix is None else b"RGB "
    head = bytes(4) + bytes(4) + b"\x02\x10\0\0" + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += b"".join(map(fixed, D50)) + bytes(48)
    whole = head + struct.pack(">I", len(tags)) + index + body
    return struct.pack(">I", len(whole)) + whole[4:]


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, (H, W, 3 or 4), every row unfiltered."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows, columns, channels = values.shape
    head = struct.pack(">IIBBBBB", columns, rows, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


# --- Profiles


def test_display_p3_becomes_srgb():
    """What a phone writes: the bytes (211, 51, 39) of Display P3 are sRGB's (230, 20, 20)."""
    stored = np.array([[[211, 51, 39], [128, 128, 128], [255, 255, 255], [90, 140, 60]]], np.uint8)
    expected = curved(linear(stored / 255) @ (np.linalg.inv(SRGB_TO_XYZ) @ P3_TO_XYZ).T)
    assert np.abs(expected[0, 0] * 255 - [230, 20, 20]).max() < 2
    found = read_image(encoded(Image.fromarray(stored), "PNG", icc_profile=profile(P3_TO_XYZ)))
    np.testing.assert_allclose(found.pixels, expected, atol=1.6 / 255)
    assert found.notes == ("Converted from the color profile Display P3 to sRGB.",)


def test_alpha_and_palettes_have_profiles_too():
    stored = np.array([[[211, 51, 39, 255], [211, 51, 39, 0]]], np.uint8)
    found = read_image(encoded(Image.fromarray(stored), "PNG", icc_profile=profile(P3_TO_XYZ)))
    np.testing.assert_allclose(found.pixels[0] * 255, [[230, 20, 20], [255, 255, 255]], atol=2)
    palette = Image.new("P", (1, 1))
    palette.putpalette([211, 51, 39])
    found = read_image(encoded(palette, "PNG", icc_profile=profile(P3_TO_XYZ)))
    np.testing.assert_allclose(found.pixels[0, 0] * 255, [230, 20, 20], atol=2)


@pytest.mark.parametrize("name", ["sRGB IEC61966-2.1", "a camera's own name for it"])
def test_srgb_is_left_as_it_is_whatever_its_name(name, rng):
    stored = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    found = read_image(encoded(Image.fromarray(stored), "PNG", icc_profile=profile(SRGB_TO_XYZ, name=name)))
    np.testing.assert_array_equal(found.pixels, stored / 255)
    assert found.notes == ()


def test_a_gray_profile_of_another_gamma():
    stored = np.arange(0, 256, 51, dtype=np.uint8)[None]
    data = profile(curve=np.linspace(0, 1, 1024) ** 1.0, name="Linear gray")
    found = read_image(encoded(Image.fromarray(stored), "PNG", icc_profile=data))
    assert found.pixels.shape == (1, 6, 1)
    np.testing.assert_allclose(found.pixels[0, :, 0], curved(stored[0] / 255), atol=2 / 255)
    assert any("Linear gray" in note for note in found.notes)


@pytest.mark.parametrize("damaged", [b"no profile at all", profile(P3_TO_XYZ)[:200]])
def test_a_damaged_profile_is_said_and_left_out(damaged, rng):
    stored = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    found = read_image(encoded(Image.fromarray(stored), "PNG", icc_profile=damaged))
    np.testing.assert_array_equal(found.pixels, stored / 255)
    assert any("damaged" in note for note in found.notes)


def test_a_profile_s_name_is_no_markup():
    data = profile(P3_TO_XYZ, name="<script>alert(1)</script>")
    found = read_image(encoded(Image.new("RGB", (2, 2), (211, 51, 39)), "PNG", icc_profile=data))
    assert not set("<>/") & set("".join(found.notes))


# --- Depth


@pytest.mark.parametrize(
    ("highest", "full"), [(65535, 65535), (40_000, 65535), (4095, 4095), (3000, 4095), (900, 1023)]
)
def test_the_bits_that_16_bit_files_really_use(highest, full):
    values = np.array([[0, highest // 3, highest]], np.uint16)
    found = read_image(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_allclose(found.pixels[0, :, 0], values[0] / full, atol=1e-12)
    assert f"0 to {full} became" in found.notes[0]


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_per_colour(kind, rng):
    values = rng.integers(0, 65536, (5, 4, 3), dtype=np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb")
    found = read_image(deep_png(values) if kind == "png" else buffer.getvalue())
    np.testing.assert_allclose(found.pixels, values / 65535, atol=1e-12)
    assert any("16-bit color" in note for note in found.notes)


def test_sixteen_bits_with_alpha():
    values = np.array([[[40_000, 0, 65535, 65535], [1, 2, 3, 0], [65535, 0, 0, 32768]]], np.uint16)
    found = read_image(deep_png(values))
    share = 32768 / 65535
    expected = [[40_000 / 65535, 0, 1], [1, 1, 1], [1, 1 - share, 1 - share]]
    np.testing.assert_allclose(found.pixels[0], expected, atol=1e-4)
    assert any("white" in note for note in found.notes)


def test_sixteen_bits_that_cannot_be_kept_are_said(rng):
    values = rng.integers(0, 65536, (5, 4, 3), dtype=np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", iccprofile=profile(P3_TO_XYZ))
    found = read_image(buffer.getvalue())
    assert any("read as 8" in note for note in found.notes)
    assert any("Display P3" in note for note in found.notes)


# --- Color spaces


def test_lab():
    """CIE Lab at D50, by its own definition: L = 50 is a gray, and a reddish color."""
    lab = np.array([[[50.0, 0, 0], [60.0, 40, 20]]])
    stored = np.stack([lab[..., 0] * 255 / 100, lab[..., 1] + 128, lab[..., 2] + 128], -1).round().astype(np.uint8)
    f = (lab[..., :1] + 16) / 116 + np.stack([lab[..., 1] / 500, lab[..., 0] * 0, -lab[..., 2] / 200], -1)
    xyz = D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    expected = curved(xyz @ np.linalg.inv(SRGB_TO_XYZ).T)
    image = Image.merge("LAB", [Image.fromarray(plane) for plane in np.moveaxis(stored, -1, 0)])
    np.testing.assert_allclose(read_image(image).pixels, expected, atol=3 / 255)
    found = read_image(encoded(image, "TIFF"))
    np.testing.assert_allclose(found.pixels, expected, atol=3 / 255)
    assert any("Lab" in note for note in found.notes)


def test_ycbcr():
    stored = np.array([[[76, 85, 255], [150, 128, 128]]], np.uint8)  # red, by ITU-R BT.601, and a gray
    image = Image.fromarray(stored, "YCbCr")
    found = read_image(image)
    np.testing.assert_allclose(found.pixels[0] * 255, [[255, 0, 0], [150, 150, 150]], atol=2)
    np.testing.assert_allclose(read_image(encoded(image, "TIFF")).pixels, found.pixels, atol=1e-12)
    coarse = encoded(image, "TIFF").replace(struct.pack("<HHIHH", decode.SUBSAMPLING, 3, 2, 1, 1), bytes(12))
    with pytest.raises(ImageError, match="save it as RGB"):
        read_image(coarse)


# --- Containers


def test_a_camera_s_second_picture_is_named():
    main, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (4, 4), "blue")
    found = read_image(encoded(main, "MPO", save_all=True, append_images=[second], quality=95))
    np.testing.assert_allclose(found.pixels[4, 4], [1, 0, 0], atol=0.03)
    assert found.notes == ("The file also holds further pictures; its main picture is used.",)


@pytest.mark.parametrize(
    "mark",
    [
        b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>',
        b"urn:iso:std:iso:ts:21496:-1\0",
    ],
)
def test_a_gain_map_is_named_and_left_out(mark):
    """An Ultra HDR photograph: a JPEG, then its gain map, and a mark in the first one's metadata."""
    main, gains = Image.new("RGB", (8, 8), "red"), Image.new("L", (4, 4), 200)
    found = read_image(encoded(main, "MPO", save_all=True, append_images=[gains], quality=95, xmp=mark))
    np.testing.assert_allclose(found.pixels[4, 4], [1, 0, 0], atol=0.03)
    assert found.pixels.shape == (8, 8, 3)
    assert found.notes == ("The file also holds an HDR gain map; its main picture, of standard range, is used.",)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
def test_every_brand_of_heic_is_named(brand):
    with pytest.raises(ImageError, match="HEIC"):
        read_image(b"\0\0\0\x18ftyp" + brand + bytes(12))


@pytest.mark.parametrize("head", [b"\xff\x0a\xff", b"\0\0\0\x0cJXL \r\n\x87\n"])
def test_jpeg_xl_is_named(head):
    with pytest.raises(ImageError, match="JPEG XL"):
        read_image(head)


def test_jpeg_xl_is_read(rng):
    pytest.importorskip("pillow_jxl")
    stored = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    found = read_image(encoded(Image.fromarray(stored), "JXL", lossless=True))
    np.testing.assert_array_equal(found.pixels, stored / 255)
    assert found.notes == ()


@pytest.mark.parametrize("shape", [(9, 7), (256, 256), (240, 320), (700, 500), (90, 160), (8, 12000), (20, 10)])
@pytest.mark.parametrize("boxed", [False, True])
def test_jpeg_xl_s_size_is_known_before_it_is_decoded(shape, boxed):
    pytest.importorskip("pillow_jxl")
    content = encoded(Image.new("L", shape[::-1], 90), "JXL", **({"exif": Image.Exif()} if boxed else {}))
    if boxed and content.startswith(jxl.BARE):
        box = struct.pack(">I", len(content) + 8) + b"jxlc" + content
        content = jxl.BOXED + struct.pack(">I", 20) + b"ftypjxl \0\0\0\0jxl " + box
    assert jxl.declared_size(content) == shape[::-1]
    assert read_image(content).pixels.shape[:2] == tuple(round(n * min(1, 1024 / max(shape))) for n in shape)


def test_a_jpeg_xl_that_declares_too_much_is_refused_unopened(monkeypatch):
    """A size header of 60000 x 60000, and nothing behind it: 18 bits a side, selector 2."""
    bits = (59_999 << 3 | 2 << 1) | (59_999 << 2 | 2) << (3 + 18 + 3)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(ImageError, match="3,600 megapixels"):
        read_image(b"\xff\x0a" + bits.to_bytes(16, "little"))


@pytest.mark.parametrize("brand", [b"heic", b"heim", b"hevx", b"msf1"])
def test_heic_is_read_where_its_package_is(brand):
    heif = pytest.importorskip("pillow_heif")
    decode.formats()
    if not heif.libheif_info()["encoders"]:
        pytest.skip("this libheif cannot write a picture to read")
    stored = np.full((64, 64, 3), (200, 60, 30), np.uint8)
    content = encoded(Image.fromarray(stored), "HEIF", quality=95)
    found = read_image(content[:8] + brand + content[12:])
    np.testing.assert_allclose(found.pixels.mean((0, 1)) * 255, [200, 60, 30], atol=4)


# --- Traps


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once():
    whole = encoded(Image.new("RGB", (1200, 1200), "gray"), "JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    trap = whole[:-2] + whole[last:-2] * 20_000 + whole[-2:]
    with pytest.raises(ImageError, match="ordinary JPEG"):
        read_image(trap)
    assert read_image(whole).pixels.shape == (1024, 1024, 3)
