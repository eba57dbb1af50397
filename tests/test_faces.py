"""The drawn faces: bundled, from a folder, and drawn anew where Node.js and DiceBear's packages are."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelviz.config import PRESETS
from pixelviz.data import faces
from pixelviz.data.assets import FACES_10K, FACES_CLASSIFIER, FACES_REFERENCE
from pixelviz.data.images import ImageError
from pixelviz.data.sets import DataError, load_images
from pixelviz.measure.assets_build import groups
from pixelviz.measure.metrics import features_of, fid, load_statistics
from pixelviz.models.classifier import FeatureExtractor, load_classifier

PACKAGES = Path(os.environ.get("PIXELVIZ_DICEBEAR", "."))


def _numbered(rng, count):
    """Faces whose top left pixel is their number."""
    images = rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return images


@pytest.fixture
def folder(tmp_path, rng):
    """50 faces to train and 25 to test of each style, in two sheets and one."""
    root = tmp_path / "faces"
    root.mkdir()
    for style in faces.STYLES:
        for sheet in range(2):
            faces.paste(_numbered(rng, 25)).save(root / f"train-{style}-{sheet:02d}.webp", lossless=True)
        faces.paste(_numbered(rng, 25)).save(root / f"test-{style}-00.webp", lossless=True)
    return root


def test_the_bundled_faces_are_as_many_of_every_style():
    for split, count, each in (
        ("train", "10,000 of the 50,000 training", 2500),
        ("test", "2,000 of the 10,000 test", 500),
    ):
        found = load_images("faces-10k", split=split, size=64, channels=3)
        assert found.name == f"Drawn faces ({count} images)"
        assert found.images.shape == (4 * each, 3, 64, 64)
        assert found.labels.bincount().tolist() == [each] * 4
    assert sum(path.stat().st_size for path in FACES_10K.iterdir()) < 12e6
    credits = (FACES_10K / "CREDITS.md").read_text(encoding="utf-8")
    assert all(f"`{style}`" in credits for style in faces.STYLES)


def test_a_sheet_is_cut_row_by_row(folder, rng):
    first = faces.cut(folder / "train-micah-00.webp")
    assert first[:, 0, 0, 0].tolist() == list(range(25))
    # Against the picture itself: face 3 begins 192 pixels from the left.
    picture = np.asarray(Image.open(folder / "train-micah-00.webp"))
    np.testing.assert_array_equal(first[3].transpose(1, 2, 0), picture[:64, 192:256])
    tall = _numbered(rng, 50)
    np.testing.assert_array_equal(np.asarray(faces.paste(tall))[64:128, 64:128], tall[26])


def test_a_folder_of_sheets_is_a_data_set(folder, monkeypatch):
    found = load_images(str(folder), size=64, channels=3)
    assert found.name == "Drawn faces (200 training images)"
    assert found.origin.id == "faces"
    assert found.labels.tolist() == [0] * 50 + [1] * 50 + [2] * 50 + [3] * 50
    some = load_images(str(folder), size=64, channels=3, limit=8)
    assert torch.equal(some.images, found.images[::25])
    assert torch.equal(some.labels, found.labels[::25])
    small = load_images(str(folder), split="test", size=32, channels=1)
    assert small.images.shape == (100, 1, 32, 32)
    monkeypatch.setenv("PIXELVIZ_DATA", str(folder.parent))
    assert load_images("faces", split="test", size=64, channels=3).name == "Drawn faces (100 test images)"


def test_without_the_folder_the_bundled_faces_stand_in(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXELVIZ_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    found = load_images("faces", split="test", size=64, channels=3, limit=4)
    assert "python -m pixelviz faces" in found.note
    assert load_images("faces-10k", split="train", size=64, channels=3).origin.id == "faces-10k"


def test_what_is_no_sheet_is_refused_by_name(folder):
    Image.new("RGB", (100, 64)).save(folder / "train-micah-00.webp")
    with pytest.raises(DataError, match=r"train-micah-00.webp is 100x64 pixels"):
        load_images(str(folder), size=64, channels=3)
    (folder / "train-micah-00.webp").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"train-micah-00.webp cannot be read"):
        load_images(str(folder), size=64, channels=3)


def test_the_preset_takes_them():
    assert PRESETS["faces"].config.shape == (3, 64, 64)


def test_what_drawing_needs_is_said(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="multiple of 100"):
        next(faces.draw_faces(tmp_path / "out", 30))
    if shutil.which("node"):
        with pytest.raises(ImageError, match=r"npm install @dicebear/core@9\.4\.3"):
            next(faces.draw_faces(tmp_path / "out", 100, packages=tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ImageError, match=r"needs Node\.js"):
        next(faces.draw_faces(tmp_path / "out", 100, packages=tmp_path))


@pytest.mark.skipif(
    not (shutil.which("node") and (PACKAGES / "node_modules" / "@dicebear").is_dir()),
    reason="needs Node.js and DiceBear's packages in the folder that PIXELVIZ_DICEBEAR names",
)
def test_the_same_faces_are_drawn_again(tmp_path):
    pytest.importorskip("resvg_py")
    assert list(faces.draw_faces(tmp_path, 100, packages=PACKAGES)) == [25, 50, 75, 100]
    for style in faces.STYLES:
        drawn = faces.cut(tmp_path / f"train-{style}-00.webp")
        np.testing.assert_array_equal(drawn, faces.cut(FACES_10K / f"train-{style}-00.webp")[:25])


# --- The judge -------------------------------------------------------------------------------------------------


def test_groups_are_within_a_style_and_a_mirror_image_is_in_its_own():
    part = load_images("faces-10k", split="test", size=64, channels=3, limit=400)
    mirrored = replace(part, images=part.images.flip(-1))
    train, other = groups(part, mirrored, number=4)
    torch.testing.assert_close(train.labels, other.labels)
    torch.testing.assert_close(train.labels // 4, part.labels)
    # Faces of a group are nearer to their mean than to that of another group of their style.
    pixels = part.images.float().flatten(1)
    spread = [pixels[mask].var(0).mean() for mask in map(train.labels.eq, train.labels.unique()) if mask.sum() > 1]
    styles = [pixels[part.labels == style].var(0).mean() for style in part.labels.unique()]
    assert len(train.labels.unique()) == 16
    assert torch.stack(spread).mean() < 0.9 * torch.stack(styles).mean()


def test_the_bundled_reference_of_the_faces_is_their_test_set():
    """The bundled 2,000 are a fifth of its 10,000: means agree within their errors, what is worse is seen."""
    test, reference = load_images("faces-10k", split="test", size=64, channels=3), load_statistics(FACES_REFERENCE)
    extractor = FeatureExtractor(load_classifier(FACES_CLASSIFIER))
    features = features_of(test.images, extractor).double()
    mean = reference.sum / reference.number
    variance = reference.cov_sum.diagonal() / reference.number - mean**2
    assert reference.number == 10_000
    assert ((features.mean(0) - mean).abs() / (variance / 2000).sqrt().clamp_min(1e-9)).max() < 5
    blurred = torch.nn.functional.avg_pool2d(test.images.float(), 3, 1, 1).round().byte()
    one_style = test.images[test.labels == 0]
    real, blurred, one_style = (fid(reference, images, extractor) for images in (test.images, blurred, one_style))
    assert 5 * real < min(blurred, one_style)
    # Figures of its training: 64 groups, of which chance names one in 64.
    figures = json.loads(FACES_CLASSIFIER.with_suffix(".json").read_text())
    assert figures["test_images"] == 10_000
    assert figures["test_accuracy"] > 0.7
