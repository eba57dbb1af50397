"""Data sets and the range: every flaw of a file by itself, and the range against one derived by hand."""

import gzip
import hashlib
import pickle
import socket
import struct
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CelebA, FashionMNIST

from pixelviz.data import sets as data_module
from pixelviz.data.assets import FASHION_10K
from pixelviz.data.idx import read_idx, read_idx_pair, write_idx
from pixelviz.data.sets import FASHION, DataError, from_unit, load_images, to_image, to_unit


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
        assert found.labels.bincount().tolist() == [each] * len(FASHION.classes)
        raw, _ = read_idx_pair(FASHION_10K, split)
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
    ids=lambda value: "bytes" if isinstance(value, bytes) else None,  # a gzip file holds the time it was made
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


# --- the sets that torchvision knows -----------------------------------------------------------------------------


def fake_cifar(folder, rng, monkeypatch):
    """CIFAR-10 in its own format, with 4 images a batch; returns the images (N, 32, 32, 3) and labels of each split."""
    base = folder / CIFAR10.base_folder
    base.mkdir(parents=True)
    images = {"train": [], "test": []}
    labels = {"train": [], "test": []}
    sums = {}
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        split = "test" if name == "test_batch" else "train"
        pixels = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
        numbers = rng.integers(0, 10, 4).tolist()
        batch = {"data": pixels.transpose(0, 3, 1, 2).reshape(4, -1), "labels": numbers}
        (base / name).write_bytes(pickle.dumps(batch))
        images[split].append(pixels)
        labels[split] += numbers
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in base.iterdir()}
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{k}", sums[f"data_batch_{k}"]] for k in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    return {split: np.concatenate(parts) for split, parts in images.items()}, labels


def test_cifar_is_found_and_read(nowhere, monkeypatch, rng):
    images, labels = fake_cifar(nowhere / "mine", rng, monkeypatch)
    monkeypatch.setenv("PIXELVIZ_DATA", str(nowhere / "mine"))
    for split in ("train", "test"):
        found = load_images("cifar10", split=split, size=32, channels=3, allow_download=False)
        assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), images[split])
        assert found.labels.tolist() == labels[split]
    assert found.name == "CIFAR-10 (4 test images)"
    gray = load_images("cifar10", split="test", size=32, channels=1).images[:, 0].numpy()
    luma = 0.299 * images["test"][..., 0] + 0.587 * images["test"][..., 1] + 0.114 * images["test"][..., 2]
    assert np.abs(gray - luma).max() <= 0.51
    assert load_images("cifar10", size=16, channels=3, limit=5).images.shape == (5, 3, 16, 16)


def test_cifar_downloads_once(nowhere, monkeypatch, rng):
    images, _ = fake_cifar(nowhere / "made", rng, monkeypatch)
    server = nowhere / "server"
    server.mkdir()
    with tarfile.open(server / CIFAR10.filename, "w:gz") as tar:
        tar.add(nowhere / "made" / CIFAR10.base_folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((server / CIFAR10.filename).read_bytes()).hexdigest())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=server)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{http.server_port}/{CIFAR10.filename}")
        found = load_images("cifar10", size=32, channels=3)
        http.shutdown()
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), images["train"])
    assert len(load_images("cifar10", split="test", size=32, channels=3, allow_download=False)) == 4


@pytest.mark.parametrize(("data", "folder"), [("cifar10", "cifar-10-batches-py"), ("celeba", "celeba")])
def test_without_the_set_the_message_says_what_to_do(data, folder, nowhere, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/none.tar.gz")
    monkeypatch.setattr(CelebA, "download", torchvision_download)
    for allowed, why in ((False, "downloading was not allowed"), (True, "the download failed: ")):
        with pytest.raises(DataError, match=why) as caught:
            load_images(data, size=32, channels=3, allow_download=allowed)
        assert f"Put its folder {folder} into a folder that the environment variable PIXELVIZ_DATA" in str(caught.value)
    monkeypatch.setenv("PIXELVIZ_DATA", str(nowhere / "part"))
    (nowhere / "part" / folder).mkdir(parents=True)
    with pytest.raises(DataError, match="is incomplete: Dataset not found or corrupted"):
        load_images(data, size=32, channels=3, allow_download=False)


def torchvision_download(dataset):
    """What torchvision's downloader does without a network."""
    raise OSError("urlopen error [Errno 111] Connection refused")


def test_celeba_is_found_cropped_and_split(nowhere, monkeypatch):
    base = nowhere / "data" / "celeba"
    (base / "img_align_celeba").mkdir(parents=True)
    names = [f"{k:06}.jpg" for k in range(1, 6)]
    for k, name in enumerate(names):
        image = np.full((218, 178, 3), 255, np.uint8)  # white outside of the crop
        image[39:179, 19:159] = (40 * k, 90, 30)
        Image.fromarray(image).save(base / "img_align_celeba" / name, quality=95)
    (base / "list_eval_partition.txt").write_text("".join(f"{n} {0 if k < 3 else 2}\n" for k, n in enumerate(names)))
    (base / "identity_CelebA.txt").write_text("".join(f"{n} 1\n" for n in names))
    for kind in ("attr_celeba", "bbox_celeba", "landmarks_align_celeba"):
        (base / f"list_{kind}.txt").write_text("5\na b\n" + "".join(f"{n} 1 -1\n" for n in names))
    sums = [(None, hashlib.md5(path.read_bytes()).hexdigest(), path.name) for path in base.glob("*.txt")]
    monkeypatch.setattr(CelebA, "file_list", sums)
    train = load_images("celeba", size=128, channels=3, allow_download=False)
    assert train.images.shape == (3, 3, 128, 128)
    assert train.name == "CelebA (3 training images)"
    middle = train.images[:, :, 4:-4, 4:-4].float()  # JPEG blurs the crop's border
    wanted = torch.tensor([[40.0 * k, 90, 30] for k in range(3)])[:, :, None, None]
    assert (middle - wanted).abs().max() < 12
    assert (train.images[:, 1, 0].float().mean() - 90).abs() < 40  # and no white row is in it
    (base / "img_align_celeba" / names[4]).write_bytes(b"")
    test = load_images("celeba", split="test", size=128, channels=3)
    assert len(test) == 1
    assert f"{names[4]}: The file is empty" in test.note


@pytest.mark.parametrize(
    "options", [{"split": "valid"}, {"limit": 0}, {"size": 2}, {"channels": 2}], ids=lambda o: next(iter(o))
)
def test_options_out_of_range(options):
    with pytest.raises(DataError, match=next(iter(options))):
        load_images("fashion-mnist-10k", **{"size": 32, "channels": 1, **options})
