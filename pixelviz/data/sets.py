"""The table of data sets, and the range [floor, 1] that the process needs: its only conversions are here.

A new set is a loader and a row of DATASETS (CONTRIBUTING.md shows one).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pixelviz.data.assets import (
    CIFAR_CLASSIFIER,
    CIFAR_REFERENCE,
    CLASSIFIER,
    FACES_10K,
    FACES_CLASSIFIER,
    FACES_REFERENCE,
    FASHION_10K,
    FID_REFERENCE,
)
from pixelviz.data.downloads import (
    DOWNLOAD_ERRORS,
    TIMEOUT,
    download_folder,
    first_line,
    of_torchvision,
    roots,
    socket_timeout,
)
from pixelviz.data.faces import SIDE, STYLES, from_sheets, holds_sheets
from pixelviz.data.folders import SPLITS, from_files, from_folder
from pixelviz.data.idx import from_idx, idx_file
from pixelviz.data.image_set import DataError, ImageSet, Origin, Split, Wanted, fit_batch, spread
from pixelviz.declare import checked
from pixelviz.process.forward import raise_to_floor
from pixelviz.tables import Table

__all__ = [
    "DATASETS",
    "DataError",
    "DataSet",
    "ImageSet",
    "Origin",
    "Split",
    "Wanted",
    "from_unit",
    "load_images",
    "origin_of",
    "to_image",
    "to_unit",
]

SYSTEM_FOLDERS = (Path("/usr/share/datasets/fashion-mnist"),)  # Debian's package dataset-fashion-mnist
CELEBA_CROP = 140  # the middle of its 178x218 pixels, as in Song et al. 2021 (score_sde, datasets.py)


def to_unit(images, floor: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """x0 = floor + (1 - floor) p, in [floor, 1] (Section 4's epsilon), the shape kept.

    `images`: integers 0..255, where p = value/255, or floats p in [0, 1]; arrays or tensors.
    """
    images = torch.as_tensor(images)
    p = images.to(dtype) if images.is_floating_point() else images.to(dtype) / 255
    return raise_to_floor(p, floor)


def to_image(x0: Tensor, floor: float) -> Tensor:
    """p = (x0 - floor) / (1 - floor), clipped to [0, 1]; dtype and shape kept. Not-a-number becomes 0."""
    return ((x0 - floor) / (1 - floor)).nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)


def from_unit(x0: Tensor, floor: float) -> Tensor:
    """uint8 0..255 of x0 in [floor, 1], rounded; values outside are clipped."""
    return (to_image(x0, floor) * 255).round().to(torch.uint8)


# --- Loaders


def _fashion_part(wanted: Wanted) -> ImageSet:
    """The bundled part of Fashion-MNIST."""
    return from_idx(FASHION_10K, FASHION_PART.origin, wanted, FASHION.images[wanted.split])


def _fashion_folders() -> Iterator[Path]:
    """The folders where the full Fashion-MNIST may lie."""
    for root in roots():
        yield from (root, root / "fashion-mnist", root / "FashionMNIST" / "raw")
    yield from SYSTEM_FOLDERS


def _download_fashion() -> None:
    """Let torchvision fetch the four files, checksums included; raises RuntimeError or OSError."""
    from torchvision.datasets import FashionMNIST

    with socket_timeout(TIMEOUT):
        FashionMNIST(str(download_folder()), download=True)


def _fashion(wanted: Wanted) -> ImageSet:
    """The full set where it can be had, otherwise the bundled part with a note that says so."""

    def found() -> Path | None:
        return next((f for f in _fashion_folders() if idx_file(f, wanted.split, "images-idx3")), None)

    folder, why = found(), "downloading was not allowed"
    if folder is None and wanted.allow_download:
        try:
            _download_fashion()
            folder = found()
        except DOWNLOAD_ERRORS as error:
            why = f"the download failed: {first_line(error)}"
    if folder is not None:
        return from_idx(folder, FASHION.origin, wanted)
    bundled = _fashion_part(wanted)
    note = (
        f"The full {FASHION.called} is not on this computer ({why}), so {len(bundled):,} bundled images are used. "
        "Put its four .gz files in a folder and name that folder in the environment variable PIXELVIZ_DATA."
    )
    return replace(bundled, note=note)


def _faces_part(wanted: Wanted) -> ImageSet:
    """The bundled part of the drawn faces."""
    return from_sheets(FACES_10K, FACES_PART.origin, wanted, FACES.images[wanted.split])


def _faces(wanted: Wanted) -> ImageSet:
    """All faces where they lie, otherwise the bundled part with a note that says so; there is nothing to download."""
    for root in roots():
        for folder in (root / "faces", root):
            if holds_sheets(folder, wanted.split):
                return from_sheets(folder, FACES.origin, wanted)
    bundled, number = _faces_part(wanted), sum(FACES.images.values())
    note = (
        f"The {number:,} faces are not on this computer, so {len(bundled):,} bundled ones are used. "
        f"Draw them with `python -m pixelviz faces --out data/faces --number {number}`."
    )
    return replace(bundled, note=note)


def _cifar(wanted: Wanted) -> ImageSet:
    from torchvision.datasets import CIFAR10

    found = of_torchvision(
        CIFAR.called,
        CIFAR10.base_folder,
        lambda root, download: CIFAR10(str(root), train=wanted.split == "train", download=download),
        wanted.allow_download,
    )
    keep = spread(len(found), wanted.limit)
    images = fit_batch(torch.from_numpy(found.data[keep]).permute(0, 3, 1, 2), wanted.size, wanted.channels)
    origin = replace(CIFAR.origin, number=len(keep), total=len(found), split=wanted.split)
    return ImageSet(images, origin, None, torch.tensor(found.targets)[torch.from_numpy(keep)])


def _celeba(wanted: Wanted) -> ImageSet:
    from torchvision.datasets import CelebA

    found = of_torchvision(
        CELEBA.called,
        CelebA.base_folder,
        lambda root, download: CelebA(str(root), split=wanted.split, target_type=[], download=download),
        wanted.allow_download,
    )
    folder = Path(found.root) / found.base_folder / "img_align_celeba"
    return from_files(folder, CELEBA.origin, [folder / name for name in found.filename], wanted, crop=CELEBA_CROP)


# --- The table


@dataclass(frozen=True)
class DataSet:
    """A row: a data set that is known by its name.

    title: as a list to choose from shows it; called: what a card says (several rows may be parts of one set, which all
    have the same classes, classifier and reference). load: its images as asked for; raises DataError. channels, size:
    its own. classes: what its labels mean. classifier, reference: files of the network in whose features FID and KID
    are measured, and of its test images' features (None: there is none). images: how many a split has. bundled:
    whether it is here always; light: whether a visitor's click may fetch it. hub: its name on the Hugging Face Hub.
    """

    name: str
    title: str
    called: str
    load: Callable[[Wanted], ImageSet]
    channels: int
    size: int
    images: Mapping[Split, int]
    citation: str
    licence: str
    classes: tuple[str, ...] = ()
    classifier: Path | None = None
    reference: Path | None = None
    bundled: bool = False
    light: bool = False
    hub: str | None = None

    @property
    def origin(self) -> Origin:
        """Which set it is, of no images yet."""
        return Origin(self.name, self.called)


GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION = DataSet(
    "fashion-mnist", "Fashion-MNIST, all 60,000", "Fashion-MNIST", _fashion, 1, 28, {"train": 60_000, "test": 10_000},
    "Xiao, Rasul & Vollgraf 2017", "MIT", GARMENTS, CLASSIFIER, FID_REFERENCE, light=True,
    hub="zalando-datasets/fashion_mnist",
)  # fmt: skip
FASHION_PART = replace(
    FASHION, name="fashion-mnist-10k", title="Fashion-MNIST, 10,000 images (bundled)", load=_fashion_part,
    images={"train": 10_000, "test": 1_000}, bundled=True,
)  # fmt: skip
FACES = DataSet(
    "faces", "Drawn faces, all 50,000", "Drawn faces", _faces, 3, SIDE, {"train": 50_000, "test": 10_000},
    "DiceBear 9.4.3; designs by M. Lanier, Draftbit, DiceBear and J. Melin", "CC BY 4.0, CC0 1.0", tuple(STYLES),
    FACES_CLASSIFIER, FACES_REFERENCE, light=True,
)  # fmt: skip
FACES_PART = replace(
    FACES, name="faces-10k", title="Drawn faces, 10,000 in color (bundled)", load=_faces_part,
    images={"train": 10_000, "test": 2_000}, bundled=True,
)  # fmt: skip
CIFAR = DataSet(
    "cifar10", "CIFAR-10, 50,000 in color", "CIFAR-10", _cifar, 3, 32, {"train": 50_000, "test": 10_000},
    "Krizhevsky 2009", "none stated", THINGS, CIFAR_CLASSIFIER, CIFAR_REFERENCE,
    hub="uoft-cs/cifar10",
)  # fmt: skip
CELEBA = DataSet(
    "celeba", "CelebA, 162,770 faces", "CelebA", _celeba, 3, 128, {"train": 162_770, "test": 19_962},
    "Liu et al. 2015", "non-commercial research only",
)  # fmt: skip
DATASETS: Table[DataSet] = Table("data set", (FASHION_PART, FASHION, FACES_PART, FACES, CIFAR, CELEBA), DataError)


def origin_of(recorded: object) -> Origin:
    """Which images a checkpoint's config.json says it learnt; raises DataError.

    Checkpoints of before had a sentence, such as "CIFAR-10 (JPEG) (50,000 training images)": of the sets whose name it
    begins with it is the one that has as many images as were used, or else as there were in all.
    """
    if isinstance(recorded, str):
        origin = Origin.of_sentence(recorded)
        rows = [row for row in DATASETS.values() if origin.number and f"{origin.title} ".startswith(f"{row.called} ")]
        rows.sort(key=lambda row: [row.images[origin.split] != n for n in (origin.number, origin.total)])
        return replace(origin, id=rows[0].name) if rows else origin
    return checked(Origin, recorded, DataError, "it")


def load_images(
    data: str,
    *,
    split: Split = "train",
    size: int,
    channels: int,
    limit: int | None = None,
    allow_download: bool = True,
    title: str | None = None,
    like: str | None = None,
    tell: Callable[[int, int], None] | None = None,
    guarded: bool = False,
) -> ImageSet:
    """Load a data set as uint8 images (N, channels, size, size).

    Args: data, a name of DATASETS (what is not bundled is looked for in PIXELVIZ_DATA, ./data, the cache and the
    system's data sets, else downloaded by torchvision), or a folder of IDX files, of sheets of faces, or of images. The
    last is read below train/ or test/ where it has these, otherwise one file in ten is the test split; folders in it
    are classes. limit, at most so many, evenly spaced. title, what a card calls the set; like, the name of the data set
    that a folder holds in another form; tell and guarded, as of `Wanted`. Raises DataError.
    """
    if split not in SPLITS:
        raise DataError(f"split must be train or test; it is {split!r}.")
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1; it is {limit}.")
    if size < 4 or channels not in (1, 3):
        raise DataError(f"size must be at least 4 and channels 1 or 3; they are {size} and {channels}.")
    wanted = Wanted(split, size, channels, limit, allow_download, tell, guarded)
    found = DATASETS[data].load(wanted) if data in DATASETS else _of_folder(data, wanted)
    known = found.origin if like is None else replace(DATASETS.find(like).origin, **_counts(found.origin))
    classes = found.classes
    if found.labels is not None and not classes:
        row = DATASETS.get(known.id)
        classes = row.classes if row else tuple(map(str, range(int(found.labels.max()) + 1)))
    return replace(found, origin=known if title is None else replace(known, title=title), classes=classes)


def _counts(origin: Origin) -> dict:
    return {"number": origin.number, "total": origin.total, "split": origin.split}


def _of_folder(data: str, wanted: Wanted) -> ImageSet:
    """The images of a folder; one of IDX files that has a data set's name is that set."""
    try:
        folder = Path(data).expanduser()
        found = bool(data.strip()) and folder.is_dir()
    except (OSError, RuntimeError, ValueError):  # an unknown ~user, a name too long, a NUL inside
        found = False
    if not found:
        raise DataError(f"{data!r} is neither {', '.join(DATASETS)} nor a folder; check the path.")
    folder = folder.resolve()
    origin = Origin(None, folder.name)
    if any(idx_file(folder, s, "images-idx3") for s in SPLITS):
        named = DATASETS.get(re.sub(r"[ _]", "-", folder.name.lower()))
        return from_idx(folder, named.origin if named else origin, wanted)
    if holds_sheets(folder, wanted.split) and not wanted.guarded:
        return from_sheets(folder, FACES.origin, wanted)
    return from_folder(folder, origin, wanted)
