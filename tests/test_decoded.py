"""A folder is decoded once, and pictures over the limit of uploads are shrunk as they are read."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pixelviz.data import decoded, folders
from pixelviz.data.sets import load_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """300 small pictures, one of them damaged, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "p").mkdir()
    for k in range(300):
        Image.new("L", (16, 16), k % 256).save(tmp_path / "p" / f"{k:03}.png")
    (tmp_path / "p" / "000.png").write_bytes(b"\x89PNG")
    return tmp_path / "p"


def read(folder, size=16, **options):
    return load_images(str(folder), size=size, channels=1, **options)


def test_the_second_reading_decodes_nothing_and_gives_the_same(folder, monkeypatch):
    told = []
    first = read(folder, tell=lambda *counts: told.append(counts))
    assert told == [(k, 270) for k in range(1, 271)]  # nine of ten are the training split
    assert "1 of 270 files were skipped. 000.png" in first.note
    monkeypatch.setattr(folders, "read_image", lambda path: pytest.fail(f"{path} is decoded again"))
    second = read(folder)
    assert torch.equal(first.images, second.images)
    assert (first.note, first.origin) == (second.note, second.origin)
    second.images[0] = 9  # in this process alone
    assert not torch.equal(read(folder).images, second.images)


@pytest.mark.parametrize("change", ["time", "content", "name", "size", "crop", "version"])
def test_what_changed_is_decoded_anew(folder, monkeypatch, change):
    read(folder)
    first, size = folder / "001.png", 16
    if change == "time":
        os.utime(first, ns=(1, 1))
    elif change == "content":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)).save(first)
    elif change == "name":
        first.rename(folder / "001b.png")
    elif change == "size":
        size = 8
    elif change == "version":
        monkeypatch.setattr(decoded, "VERSION", 99)
    seen, real = [], folders.read_image
    monkeypatch.setattr(folders, "read_image", lambda path: seen.append(path) or real(path))
    if change == "crop":
        files = sorted(folder.iterdir())
        folders.from_files(folder, read(folder).origin, files, folders.Wanted("train", 16, 1), crop=8)
    else:
        read(folder, size)
    assert len(seen) >= 270


def test_few_files_a_damaged_copy_and_a_full_disk_are_no_matter(folder, tmp_path, monkeypatch):
    first = read(folder)
    (kept,) = (tmp_path / "cache" / "pixelviz" / "decoded").glob("*.npy")
    kept.write_bytes(b"\x93NUMPY")
    assert torch.equal(read(folder).images, first.images)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    assert torch.equal(read(folder).images, first.images)
    assert not list((tmp_path / "cache").rglob("*.npy"))
    shutil.rmtree(tmp_path / "cache")
    read(folder, limit=20)
    assert not (tmp_path / "cache").exists()


def test_the_oldest_goes_first(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(decoded, "MOST_BYTES", 100_000)
    for size in (16, 12, 8):
        read(folder, size)
    sizes = [len(np.load(path)[0, 0]) for path in (tmp_path / "cache" / "pixelviz" / "decoded").glob("*.npy")]
    assert sorted(sizes) == [8, 12]


def test_pictures_over_40_megapixels_are_shrunk_and_not_skipped(tmp_path):
    """Dark above and bright below, 42 megapixels: turned upright by EXIF as well, the same small picture comes out."""
    pixels = np.full((6000, 7000), 40, np.uint8)
    pixels[3000:] = 200
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown a quarter to the right
    for name, options in (("a.png", {"compress_level": 1}), ("b.jpg", {}), ("c.jpg", {"exif": exif})):
        image.save(tmp_path / name, **options)
    found = load_images(str(tmp_path), size=16, channels=1)
    assert len(found) == 3
    assert "skipped" not in (found.note or "")
    upright, same, turned = found.images[:, 0].float()
    wanted = torch.cat([torch.full((6, 16), 40.0), torch.full((6, 16), 200.0)])
    torch.testing.assert_close(torch.cat([upright[:6], upright[10:]]), wanted, atol=2, rtol=0)
    torch.testing.assert_close(same, upright, atol=3, rtol=0)
    torch.testing.assert_close(turned, upright.flip(0).T, atol=3, rtol=0)
