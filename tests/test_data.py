"""Data sets and the range: every flaw of a file by itself, and the range against one derived by hand."""

import gzip
import hashlib
import socket
import struct
import threading
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
