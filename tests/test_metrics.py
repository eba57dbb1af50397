"""SSIM against the printed formula, the Frechet distance against SciPy, and the classifier it looks through."""

import itertools
import json
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pixelviz.data.assets import CLASSIFIER, FID_REFERENCE
from pixelviz.data.sets import load_images
from pixelviz.measure.metrics import (
    MetricError,
    features_of,
    fid,
    kid,
    load_features,
    load_statistics,
    precision_recall,
    save_statistics,
    scale_range,
    ssim,
    statistics_of,
)
from pixelviz.models.classifier import (
    Classifier,
    ClassifierError,
    FeatureExtractor,
    accuracy,
    load_classifier,
    save_classifier,
    train_classifier,
)
from pixelviz.process.schedules import PixelAware, image_scale


@pytest.fixture(scope="module")
def garments():
    return load_images("fashion-mnist-10k", split="test", size=32, channels=1)


@pytest.fixture(scope="module")
def extractor():
    return FeatureExtractor(load_classifier())


# --- SSIM ------------------------------------------------------------------------------------------------------


def ssim_by_hand(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    """Wang et al. 2004, Eq. 13 of two (H, W) images: weighted moments of every 11x11 window, one by one."""
    offsets = np.arange(-5, 6)
    bell = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    bell /= bell.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for row in range(a.shape[0] - 10):
        for column in range(a.shape[1] - 10):
            x, y = (image[row : row + 11, column : column + 11] for image in (a, b))
            mean_x, mean_y = (bell * x).sum(), (bell * y).sum()
            var_x, var_y = (bell * (x - mean_x) ** 2).sum(), (bell * (y - mean_y) ** 2).sum()
            cov = (bell * (x - mean_x) * (y - mean_y)).sum()
            value = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
            values.append(value / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("data_range", [1.0, 0.018])
def test_ssim_is_the_printed_formula(channels, data_range):
    rng = np.random.default_rng(0)
    a = rng.random((2, channels, 16, 14)) * data_range
    b = np.clip(a + 0.2 * data_range * rng.standard_normal(a.shape), 0, data_range)
    result = ssim(a, torch.from_numpy(b), data_range)
    expected = [
        np.mean([ssim_by_hand(x, y, data_range) for x, y in zip(p, q, strict=True)]) for p, q in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(result.per_image, expected, rtol=1e-9)
    assert result.mean == pytest.approx(np.mean(expected))
    assert ssim(a[0], b[0], data_range).mean == pytest.approx(expected[0])
    assert ssim(a, a, data_range).mean == pytest.approx(1)


@pytest.mark.parametrize(
    ("a", "b", "data_range", "message"),
    [
        (np.zeros((1, 1, 32, 32)), np.zeros((1, 1, 32, 31)), 1, "shapes differ"),
        (np.zeros((32, 32)), np.zeros((32, 32)), 1, "needs"),
        (np.zeros((0, 1, 32, 32)), np.zeros((0, 1, 32, 32)), 1, "needs"),
        (np.zeros((1, 1, 8, 32)), np.zeros((1, 1, 8, 32)), 1, "window"),
        (np.full((1, 1, 32, 32), np.nan), np.zeros((1, 1, 32, 32)), 1, "finite"),
        (np.zeros((1, 1, 32, 32)), np.zeros((1, 1, 32, 32)), 0, "range"),
        (np.zeros((1, 1, 32, 32)), np.zeros((1, 1, 32, 32)), math.nan, "range"),
    ],
)
def test_ssim_refuses(a, b, data_range, message):
    with pytest.raises(MetricError, match=message):
        ssim(a, b, data_range)


@pytest.mark.parametrize(("gamma", "floor"), [(20.0, 4e-3), (20.0, 0.2), (50.0, 0.2), (1e-3, 0.5)])
def test_scale_range_is_the_width_of_what_the_scale_can_be(gamma, floor):
    x0 = torch.linspace(floor, 1, 1001, dtype=torch.float64)
    scale = image_scale(x0, gamma)
    assert scale_range(gamma, floor) == pytest.approx((scale.max() - scale.min()).item(), rel=1e-9)
    for T, i in ((200, 1), (200, 77), (1, 1)):
        if gamma < T or T == 1:
            bar = PixelAware(T, gamma).alpha_bar(x0, i)
            assert scale_range(gamma * i / T, floor) == pytest.approx((bar.max() - bar.min()).item(), rel=1e-9)


def test_a_narrow_range_cannot_flatter():
    """The scales of two unrelated pictures at floor 0.2 lie within 0.018: on a range of 1 they would look equal."""
    rng = np.random.default_rng(1)
    gamma, floor = 20.0, 0.2
    a, b = (image_scale(torch.from_numpy(floor + (1 - floor) * rng.random((4, 1, 32, 32))), gamma) for _ in range(2))
    width = scale_range(gamma, floor)
    assert ssim(a, b, 1.0).mean > 0.9
    assert ssim(a, b, width).mean < 0.2
    # On its own range the value is that of the same pictures stretched to [0, 1].
    assert ssim(a, b, width).mean == pytest.approx(ssim(a / width, b / width, 1.0).mean, rel=1e-9)


# --- Frechet distance ------------------------------------------------------------------------------------------


class Pixels(nn.Module):
    """Three features in closed form: the means of the first three columns."""

    num_features = 3

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((1, 2))[:, :3]


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """|mu - nu|^2 + tr(S + R - 2 (S R)^(1/2)) of two sets of feature vectors, by SciPy's matrix root."""
    s, r = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s @ r)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + r - 2 * root.real))


def test_fid_is_the_closed_form(garments, extractor):
    images = garments.images
    real, other = images[:400], 255 - images[300:700]
    reference = statistics_of(features_of(real, extractor))
    with torch.no_grad():
        x, y = (extractor(part).double().numpy() for part in (real, other))
    assert fid(reference, other, extractor) == pytest.approx(frechet(x, y), rel=1e-5)
    assert fid(reference, other, extractor, batch=64) == pytest.approx(frechet(x, y), rel=1e-5)
    assert fid(reference, real, extractor) == pytest.approx(0, abs=1e-5)


def test_fid_of_shifted_features_is_the_squared_shift():
    images = torch.randint(0, 200, (300, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    reference = statistics_of(features_of(images, Pixels()))
    assert reference.number == 300
    assert fid(reference, images + 10, Pixels()) == pytest.approx(3 * 10**2, rel=1e-6)
    spread = torch.stack([images, images], 1).flatten(0, 1)
    assert fid(reference, spread, Pixels()) < 1e-2  # the same set twice: only the 1/(N-1) differs


def test_fid_refuses(extractor):
    reference = load_statistics()
    with pytest.raises(MetricError, match="at least 2"):
        fid(reference, torch.zeros(1, 1, 32, 32, dtype=torch.uint8), extractor)
    with pytest.raises(MetricError, match="128 features"):
        fid(reference, torch.zeros(4, 1, 8, 8, dtype=torch.uint8), Pixels())
    for images in (torch.zeros(2, 1, 32, 32), torch.zeros(2, 3, 32, 32, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="uint8 images"):
            fid(reference, images, extractor)


def test_the_bundled_reference_is_the_test_set(garments, extractor):
    """The bundled 1,000 images are a tenth of the reference's 10,000: every mean agrees within its error."""
    reference = load_statistics()
    assert reference.number == 10_000
    with torch.no_grad():
        features = torch.cat([extractor(part) for part in garments.images.split(250)]).double()
    mean = reference.sum / reference.number
    variance = reference.cov_sum.diagonal() / reference.number - mean**2
    error = (features.mean(0) - mean).abs() / (variance / 1000).sqrt().clamp_min(1e-9)
    assert error.max() < 5
    real = fid(reference, garments.images, extractor)
    blurred = nn.functional.avg_pool2d(garments.images.float(), 3, 1, 1).round().byte()
    noise = torch.randint(0, 256, blurred.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert real < 0.5 < fid(reference, blurred, extractor) < fid(reference, noise, extractor)


def test_statistics_files(tmp_path):
    features = torch.rand(7, 3)
    save_statistics(features, tmp_path / "a.safetensors")
    found = load_statistics(tmp_path / "a.safetensors")
    torch.testing.assert_close(found.sum, features.double().sum(0))
    torch.testing.assert_close(found.cov_sum, sum(torch.outer(f, f) for f in features.double()))
    assert found.number == 7
    torch.testing.assert_close(load_features(tmp_path / "a.safetensors"), features, rtol=1e-3, atol=1e-3)
    (tmp_path / "cut.safetensors").write_bytes(FID_REFERENCE.read_bytes()[:1000])
    save_file({"sum": torch.zeros(3)}, tmp_path / "part.safetensors")
    save_file(
        {"sum": torch.zeros(3), "cov_sum": torch.zeros(2, 2), "number": torch.tensor(5)}, tmp_path / "odd.safetensors"
    )
    for name in ("cut", "part", "odd", "absent"):
        with pytest.raises(MetricError, match=name):
            load_statistics(tmp_path / f"{name}.safetensors")
        with pytest.raises(MetricError, match=name):
            load_features(tmp_path / f"{name}.safetensors")


# --- kernel distance, precision and recall -----------------------------------------------------------------------


def test_kid_is_the_unbiased_estimate():
    """Against the definition, term by term, on sets small enough to be one subset."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 5, generator=rng), torch.randn(12, 5, generator=rng) + 0.5

    def k(a, b):
        return ((a.double() @ b.double()).item() / 5 + 1) ** 3

    pairs = [(i, j) for i in range(12) for j in range(12)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / (12 * 11)
    across = sum(k(x[i], y[j]) for i, j in pairs) / 12**2
    assert kid(x, y, subsets=3) == pytest.approx(within - 2 * across, rel=1e-9)


def test_kid_of_one_distribution_is_zero_on_average_and_rises_with_distance():
    rng = torch.Generator().manual_seed(1)
    sets = [torch.randn(400, 8, generator=rng) for _ in range(8)]
    same = [kid(a, b, subsets=1, seed=k) for k, (a, b) in enumerate(itertools.combinations(sets, 2))]
    assert abs(np.mean(same)) < 4 * np.std(same) / math.sqrt(len(sets))
    assert min(same) < 0 < max(same)  # unbiased, so it falls on both sides
    assert 10 * max(same) < kid(sets[0], sets[1] + 0.5) < kid(sets[0], sets[1] + 1)
    assert kid(sets[0], sets[1], subsets=4, size=50) == kid(sets[0], sets[1], subsets=4, size=50)


def covered_by_hand(points, members, k):
    inside = 0
    for point in points:
        for index, member in enumerate(members):
            others = sorted(math.dist(member, other) for j, other in enumerate(members) if j != index)
            if math.dist(point, member) <= others[k - 1]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_by_hand(k):
    rng = torch.Generator().manual_seed(2)
    real, fake = torch.randn(40, 3, generator=rng), 0.4 * torch.randn(30, 3, generator=rng)
    found = precision_recall(real, fake, k)
    assert found.precision == pytest.approx(covered_by_hand(fake.tolist(), real.tolist(), k))
    assert found.recall == pytest.approx(covered_by_hand(real.tolist(), fake.tolist(), k))
    assert found.recall < found.precision  # narrow samples look real, and miss much
    assert precision_recall(real, real, k) == (1, 1)
    assert precision_recall(real, real + 100, k) == (0, 0)


def test_distances_of_features_refuse():
    x = torch.zeros(3, 4)
    for call in (lambda: kid(x, torch.zeros(3, 5)), lambda: precision_recall(x, torch.zeros(4))):
        with pytest.raises(MetricError, match="equal D"):
            call()
    with pytest.raises(MetricError, match="at least 2"):
        kid(x, x[:1])
    with pytest.raises(MetricError, match="at least 4"):
        precision_recall(x, x)


def test_the_bundled_reference_s_features_are_those_of_its_statistics(garments, extractor):
    features, statistics = load_features(), load_statistics()
    assert features.shape == (statistics.number, statistics.sum.numel())
    torch.testing.assert_close(features.double().sum(0), statistics.sum, rtol=1e-4, atol=1e-2)
    # The bundled 1,000 test images are among the 10,000.
    sample = features_of(garments.images[:20], extractor)
    assert torch.cdist(sample, features).min(1).values.max() < 0.02


# --- classifier ------------------------------------------------------------------------------------------------


def test_classifier_names_the_bundled_test_images(garments):
    classifier = load_classifier()
    assert sum(p.numel() for p in classifier.parameters()) <= 300_000
    right = accuracy(classifier, garments.images, garments.labels)
    assert right >= 0.90
    figures = json.loads(CLASSIFIER.with_suffix(".json").read_text())
    assert figures["test_accuracy"] >= 0.91
    # 1,000 of the 10,000 images that the figure is from: within four standard errors of it.
    assert abs(right - figures["test_accuracy"]) < 4 * math.sqrt(0.08 * 0.92 / 1000)
    assert accuracy(classifier, garments.images[:300], (garments.labels[:300] + 1) % 10) < 0.2


def test_training_learns_and_is_reproducible():
    data = load_images("fashion-mnist-10k", size=32, channels=1, limit=600)
    trained = []
    for _ in range(2):
        torch.manual_seed(3)
        classifier = Classifier()
        steps = list(train_classifier(classifier, data.images, data.labels, epochs=3, batch=50, seed=1))
        assert [step.epoch for step in steps] == [1, 2, 3]
        assert steps[-1].loss < steps[0].loss
        assert not classifier.training
        trained.append(classifier)
    test = load_images("fashion-mnist-10k", split="test", size=32, channels=1, limit=200)
    assert accuracy(trained[0], test.images, test.labels) > 0.4
    torch.testing.assert_close(trained[0](test.images[:4].float() / 255), trained[1](test.images[:4].float() / 255))


def test_classifier_files(tmp_path):
    path = tmp_path / "sub" / "own.safetensors"
    torch.manual_seed(0)
    # In the layout that training leaves weights in, which safetensors refuses.
    classifier = Classifier().eval().to(memory_format=torch.channels_last)
    save_classifier(classifier, {"test_accuracy": 0.1}, path)
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(load_classifier(path)(images), classifier(images), rtol=1e-2, atol=1e-2)
    assert json.loads(path.with_suffix(".json").read_text()) == {"test_accuracy": 0.1}
    assert not any(p.requires_grad for p in load_classifier(path).parameters())

    weights = load_file(path)
    weights["head.weight"] = torch.zeros(11, 128)
    save_file(weights, tmp_path / "shape.safetensors")
    del weights["head.weight"]
    save_file(weights, tmp_path / "missing.safetensors")
    for name in ("shape", "missing"):
        with pytest.raises(ClassifierError, match=r"head\.weight"):
            load_classifier(tmp_path / f"{name}.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:5000])
    for name in ("cut", "absent"):
        with pytest.raises(ClassifierError, match="cannot be read"):
            load_classifier(tmp_path / f"{name}.safetensors")
