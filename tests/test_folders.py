"""Folders of pictures as data sets: what is read, what is left out and said, and what is refused."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from pixelviz.data.folders import from_files
from pixelviz.data.image_set import Origin, Wanted
from pixelviz.data.sets import DataError, load_images


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
    # The two broken files are left out of the labels, too: cats are 0 and odd, dogs are 1 and even.
    for part in (train, test):
        assert [1 - k % 2 for k in part.images[:, 0, 0, 0].tolist()] == part.labels.tolist()


def test_labels_are_the_folders_of_the_split(tmp_path):
    for split in ("train", "test"):
        for k, name in enumerate(("ant", "bee", "cow")):
            folder = tmp_path / split / name / "more"
            folder.mkdir(parents=True)
            Image.new("L", (32, 32), 10 * k).save(folder / "a.png")
    found = load_images(str(tmp_path), split="test", size=32, channels=1, title="Animals")
    assert found.labels.dtype == torch.int64
    assert found.labels.tolist() == [0, 1, 2]
    assert (found.images[:, 0, 0, 0] // 10).tolist() == [0, 1, 2]
    assert found.name == "Animals (3 test images)"
    Image.new("L", (32, 32)).save(tmp_path / "test" / "loose.png")  # no longer one folder a class
    assert load_images(str(tmp_path), split="test", size=32, channels=1).labels is None
    assert load_images(str(tmp_path / "test" / "ant"), size=32, channels=1).labels is None


def test_many_files_keep_their_order(tmp_path):
    """However the threads finish: file k's picture is at place k."""
    for k in range(200):
        side = 4 if k % 2 else 900  # half of them take much longer
        Image.new("L", (side, side), k).save(tmp_path / f"{k:03}.png")
    found = load_images(str(tmp_path), size=4, channels=1)
    kept = [k for k in range(200) if k % 10 != 9]
    assert found.images[:, 0, 0, 0].tolist() == kept


def test_hidden_and_special_files_are_left_out(tmp_path):
    Image.new("L", (8, 8), 7).save(tmp_path / "a.png")
    (tmp_path / ".thumbnails").mkdir()
    Image.new("L", (8, 8), 9).save(tmp_path / ".thumbnails" / "b.png")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "itself.png").symlink_to("itself.png")
    found = load_images(str(tmp_path), size=8, channels=1)
    assert found.images.unique().tolist() == [7]
    assert len(found) == 1


@pytest.mark.parametrize("guarded", [False, True])
def test_files_that_go_while_the_folder_is_read_are_left_out(tmp_path, guarded):
    Image.new("L", (8, 8), 7).save(tmp_path / "a.png")
    files, wanted = [tmp_path / "a.png", tmp_path / "gone.png"], Wanted("train", 8, 1, guarded=guarded)
    found = from_files(tmp_path, Origin(title="mine"), files, wanted)
    assert found.images.unique().tolist() == [7]
    assert "gone.png: " in found.note
    assert "No such file" in found.note
    with pytest.raises(DataError, match="None of the 1 image files"):
        from_files(tmp_path, Origin(title="mine"), files[1:], wanted)


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


@pytest.mark.parametrize("name", ["", "  ", "~nobody-of-that-name/x", "x" * 5000])
def test_a_name_that_is_no_folder_is_refused(name):
    """Path("") is the working directory: a box left blank must not train on whatever lies there."""
    with pytest.raises(DataError, match="nor a folder"):
        load_images(name, size=16, channels=1)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot be read"):
        load_images(str(tmp_path), size=16, channels=1)


def test_what_is_left_out_of_a_folder_is_said_by_kind_and_number(tmp_path, rng):
    for k in range(2):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    for k in range(20):
        (tmp_path / f"raw-{k}.CR2").write_bytes(b"raw")
    (tmp_path / "notes").write_text("no ending")
    (tmp_path / ".hidden.cr2").write_bytes(b"")
    note = load_images(str(tmp_path), size=8, channels=3).note
    assert "20 .cr2, 1 without an ending" in note
    assert "With 2 images" in note
    (tmp_path / "1.png").unlink()
    assert "With 1 image, none" in load_images(str(tmp_path), size=8, channels=3).note
    (tmp_path / "0.png").unlink()
    with pytest.raises(DataError, match=r"20 \.cr2"):
        load_images(str(tmp_path), size=8, channels=3)
