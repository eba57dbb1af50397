"""How each bundled asset was made, so that anybody can make it again: one function an asset, in BUILDERS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor
from torch.nn import functional as F

from pixelviz.data.assets import (
    CIFAR_CLASSIFIER,
    CIFAR_REFERENCE,
    CLASSIFIER,
    EXAMPLES_DIR,
    FACES_10K,
    FACES_CLASSIFIER,
    FACES_REFERENCE,
    FASHION_10K,
    FID_REFERENCE,
)
from pixelviz.data.faces import cut
from pixelviz.data.idx import write_idx
from pixelviz.data.sets import CIFAR, FACES, FASHION, FASHION_PART, DataError, DataSet, ImageSet, load_images
from pixelviz.measure.metrics import features_of, save_statistics
from pixelviz.models.classifier import (
    DESIGNS,
    FIRST_DESIGN,
    Classifier,
    FeatureExtractor,
    accuracy,
    load_classifier,
    save_classifier,
    train_classifier,
)

PER_CLASS = {"train": 1000, "test": 100}
GROUPS = 16  # of a style's faces, by color and coarse shape
PHOTO_SIDE = 256
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "hubble_deep_field")
GARMENTS = {"t-shirt": 0, "trouser": 1, "dress": 3, "sandal": 5, "bag": 8, "ankle-boot": 9}  # names: classes

EXAMPLE_FACES = {"micah": 5, "personas": 8, "pixel-art": 7, "toon-head": 24}  # styles: which of their test images


def _full(row: DataSet, split: str) -> ImageSet:
    """All images of a data set, at its own size but at least a classifier's; raises DataError where it has fewer."""
    images = load_images(row.name, split=split, size=max(row.size, FIRST_DESIGN.size), channels=row.channels)
    if len(images) < row.images[split]:
        raise DataError(images.note or f"All of {row.called} is needed here.")
    return images


def build_dataset(out: Path = FASHION_10K, seed: int = 0) -> None:
    """The bundled part of Fashion-MNIST: as many images of every class, drawn by `seed`, in the set's own order."""
    out.mkdir(parents=True, exist_ok=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        full = _full(FASHION, split)
        labels = full.labels.numpy()
        rng = np.random.default_rng(seed)
        drawn = [rng.choice(np.flatnonzero(labels == c), PER_CLASS[split], replace=False) for c in range(10)]
        keep = np.sort(np.concatenate(drawn))
        inner = full.images[keep, 0, 2:-2, 2:-2].numpy()  # without the border that loading adds
        write_idx(out / f"{prefix}-images-idx3-ubyte.gz", inner)
        write_idx(out / f"{prefix}-labels-idx1-ubyte.gz", labels[keep].astype(np.uint8))


def build_examples(out: Path = EXAMPLES_DIR) -> None:
    """Photographs that ship inside scikit-image, shrunk to 256 pixels, and test images of Fashion-MNIST and faces."""
    import skimage.data

    out.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        photo = Image.fromarray(getattr(skimage.data, name)())
        photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS)
        photo.save(out / f"{name}.jpg", quality=88, optimize=True)
    test = load_images(FASHION_PART.name, split="test", size=FIRST_DESIGN.size, channels=1)
    for name, label in GARMENTS.items():
        first = int((test.labels == label).nonzero()[0])
        Image.fromarray(test.images[first, 0].numpy()).save(out / f"{name}.png", optimize=True)
    for style, which in EXAMPLE_FACES.items():
        face = cut(FACES_10K / f"test-{style}-00.webp")[which]
        Image.fromarray(face.transpose(1, 2, 0)).save(out / f"face-{style}.png", optimize=True)


def _build_classifier(train: ImageSet, test: ImageSet, out: Path, reference: Path, seed: int = 0) -> None:
    """Train the design that `out` is named for, save it with its figures, and the test images' statistics."""
    torch.manual_seed(seed)
    classifier = Classifier(DESIGNS[out.stem])
    start, history = time.perf_counter(), []
    for cycle, epochs in enumerate(classifier.design.cycles):
        for step in train_classifier(classifier, train.images, train.labels, epochs=epochs, seed=seed + cycle):
            epoch = len(history) + 1
            history.append({"epoch": epoch, "loss": round(step.loss, 4), "accuracy": round(step.accuracy, 4)})
            print(f"epoch {epoch}: loss {step.loss:.3f}, accuracy {step.accuracy:.1%}", flush=True)
    save_classifier(classifier, {}, out)
    classifier = load_classifier(out)  # as stored, so in half precision
    figures = {
        "data": train.name,
        "parameters": sum(p.numel() for p in classifier.parameters()),
        "test_images": len(test),
        "test_accuracy": accuracy(classifier, test.images, test.labels),
        "epochs": len(history),
        "seed": seed,
        "seconds": round(time.perf_counter() - start),
        "history": history,
    }
    save_classifier(classifier, figures, out)
    _save_reference(test, out, reference)


def _save_reference(test: ImageSet, classifier: Path, reference: Path) -> None:
    """The test images' features, and their statistics."""
    save_statistics(features_of(test.images, FeatureExtractor(load_classifier(classifier))), reference)


def build_references() -> None:
    """The references of FID, KID, precision and recall alone, from the classifiers there are."""
    _save_reference(_full(FASHION, "test"), CLASSIFIER, FID_REFERENCE)
    if CIFAR_CLASSIFIER.is_file():
        data = os.environ.get("PIXELVIZ_CIFAR", CIFAR.name)
        _save_reference(
            load_images(data, split="test", size=FIRST_DESIGN.size, channels=3), CIFAR_CLASSIFIER, CIFAR_REFERENCE
        )


def build_classifier() -> None:
    """The Fashion-MNIST classifier, from all 60,000 images (a few minutes of two cores), and its FID reference."""
    _build_classifier(_full(FASHION, "train"), _full(FASHION, "test"), CLASSIFIER, FID_REFERENCE)


def build_cifar_classifier() -> None:
    """The CIFAR-10 classifier (an hour and a half of one core) and its FID reference.

    From the folder in the environment variable PIXELVIZ_CIFAR, with train/ and test/ in class folders, else
    as `load_images("cifar10")` finds it.
    """
    data = os.environ.get("PIXELVIZ_CIFAR", CIFAR.name)
    train, test = (load_images(data, split=split, size=FIRST_DESIGN.size, channels=3) for split in ("train", "test"))
    _build_classifier(train, test, CIFAR_CLASSIFIER, CIFAR_REFERENCE)


def groups(train: ImageSet, *others: ImageSet, number: int = GROUPS) -> list[ImageSet]:
    """The same images with a label for the group that each is in, among those of its own label.

    Four styles alone are told apart too easily for features to be worth anything. The groups are k-means' (DeepCluster,
    Caron et al. 2018) of the training images' 8x8 pixels, an image and its mirror image being one.
    """

    def coarse(images: Tensor) -> np.ndarray:
        small = F.adaptive_avg_pool2d(images.float(), 8)
        return (small + small.flip(-1)).flatten(1).numpy()

    found = [torch.zeros_like(one.labels) for one in (train, *others)]
    for label in train.labels.unique().tolist():
        where = [one.labels == label for one in (train, *others)]
        parts = [coarse(one.images[mask]) for one, mask in zip((train, *others), where, strict=True)]
        centres, _ = kmeans2(parts[0], number, minit="++", seed=0)
        for labels, mask, part in zip(found, where, parts, strict=True):
            labels[mask] = label * number + torch.from_numpy(vq(part, centres)[0]).to(labels.dtype)
    return [replace(one, labels=labels, classes=()) for one, labels in zip((train, *others), found, strict=True)]


def build_faces_classifier() -> None:
    """The classifier of the drawn faces' styles and groups, from all 50,000 (some minutes), and its reference.

    Of PIXELVIZ_DATA, or drawn by `pixelviz faces`.
    """
    train, test = groups(_full(FACES, "train"), _full(FACES, "test"))
    _build_classifier(train, test, FACES_CLASSIFIER, FACES_REFERENCE)


# In the order in which they need each other.
BUILDERS: dict[str, Callable[[], None]] = {
    "dataset": build_dataset,
    "examples": build_examples,
    "classifier": build_classifier,
    "cifar-classifier": build_cifar_classifier,
    "faces-classifier": build_faces_classifier,
    "references": build_references,
}
