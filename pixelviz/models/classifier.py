"""Small classifiers of the bundled data sets, whose penultimate features the Frechet distance compares.

The Inception network of the usual FID knows photographs of 299x299 pixels, not images of 32x32 or 64x64; so the
distance here is taken in features of a network that knows them. It compares models with each other, and
not with published FIDs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pixelviz.config import MAX_SIZE
from pixelviz.data.assets import CLASSIFIER
from pixelviz.declare import declared

Sizes = tuple[Annotated[int, Field(ge=1, le=MAX_SIZE)], ...]


class ClassifierError(ValueError):
    """Classifier weights that cannot be loaded; the message says why."""


@declared(ClassifierError)
class Design:
    """A classifier's shape and how it is trained.

    widths: of the 3x3 convolutions, the last the number of features; pools: what each halves by; residual:
    the levels that two more convolutions with a residual connection follow (He et al. 2016); mean and
    deviation: about the data's; shift: pixels that training moves images by, at most; cycles: epochs of each cycle
    of the learning rate, one after the other; size: side of the images.
    """

    channels: Annotated[int, Field(ge=1, le=3)]
    mean: Annotated[float, Field(ge=0, le=1)]
    deviation: Annotated[float, Field(gt=0, le=1)]
    widths: Sizes
    pools: Sizes
    residual: tuple[int, ...]
    shift: Annotated[int, Field(ge=0, lt=32)]
    cycles: Sizes
    learning_rate: Annotated[float, Field(gt=0, le=0.1)]
    classes: Annotated[int, Field(ge=2)] = 10
    size: Annotated[int, Field(ge=32, le=MAX_SIZE)] = 32

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""
        return self.channels, self.size, self.size


DESIGNS = {
    "fashion-mnist": Design(1, 0.22, 0.32, (32, 64, 128, 128), (2, 2, 2, 1), (), 2, (10,), 4e-3),
    "cifar10": Design(3, 0.47, 0.25, (32, 80, 160, 256), (1, 2, 2, 2), (1, 3), 4, (8, 4, 6), 3e-3),
    "faces": Design(3, 0.7, 0.3, (32, 64, 128, 192), (2, 2, 2, 1), (), 2, (8,), 4e-3, classes=64, size=64),
}
FIRST_DESIGN = next(iter(DESIGNS.values()))


def _convolution(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]


class Residual(nn.Module):
    """x plus two convolutions of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(width, width), *_convolution(width, width))

    def forward(self, x: Float[Tensor, "N D H W"]) -> Float[Tensor, "N D H W"]:
        """(N, width, H, W) -> the same shape."""
        return x + self.body(x)


class Classifier(nn.Module):
    """3x3 convolutions with batch norm, mean over pixels, one linear layer; 242,000 parameters by default."""

    def __init__(self, design: Design = FIRST_DESIGN) -> None:
        super().__init__()
        self.design = design
        blocks: list[nn.Module] = []
        ins = (design.channels, *design.widths)
        for level, (c_in, c_out, pool) in enumerate(zip(ins, design.widths, design.pools, strict=False)):
            blocks += _convolution(c_in, c_out)
            blocks += [nn.MaxPool2d(pool)] if pool > 1 else []
            blocks += [Residual(c_out)] if level in design.residual else []
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(design.widths[-1], design.classes)

    def features(self, images: Float[Tensor, "N C H H"]) -> Float[Tensor, "N D"]:
        """(N, *design.shape) in [0, 1] to the penultimate features, (N, 128 or as designed), >= 0."""
        return self.body((images - self.design.mean) / self.design.deviation).mean((2, 3))

    def forward(self, images: Float[Tensor, "N C H H"]) -> Float[Tensor, "N classes"]:
        """(N, *design.shape) in [0, 1] to logits, (N, classes)."""
        return self.head(self.features(images))


class FeatureExtractor(nn.Module):
    """uint8 images (N, *design.shape) to features, as torchmetrics' Frechet distance asks for them."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.num_features = classifier.design.widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Raises ValueError unless the images are uint8 and of the classifier's shape."""
        shape = self.classifier.design.shape
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != shape:
            raise ValueError(
                f"the features need uint8 images of shape (N, {', '.join(map(str, shape))}); "
                f"these are {images.dtype} of shape {tuple(images.shape)}."
            )
        return self.classifier.features(images.float() / 255)


@dataclass(frozen=True)
class ClassifierStep:
    """One epoch's record: mean training loss, share of training images named rightly, in [0, 1]."""

    epoch: int
    loss: float
    accuracy: float


@torch.no_grad()
def accuracy(
    classifier: Classifier, images: UInt8[Tensor, "N C H H"], labels: Int[Tensor, " N"], batch: int = 500
) -> float:
    """Share of uint8 images (N, C, H, H) whose class is named rightly, in [0, 1]."""
    right = 0
    for part, truth in zip(images.split(batch), labels.split(batch), strict=True):
        right += (classifier(part.float() / 255).argmax(1) == truth).sum().item()
    return right / len(labels)


def _augment(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, and shift each by up to `shift` pixels either way, its border mirrored."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    size = images.shape[-1]
    images = F.pad(torch.where(mirrored, images.flip(-1), images), (shift,) * 4, mode="reflect")
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # (N, C, shifts, shifts, size, size), a view
    row, column = torch.randint(0, 2 * shift + 1, (2, len(images)), generator=generator)
    return windows[torch.arange(len(images)), :, row, column]


def train_classifier(
    classifier: Classifier,
    images: UInt8[Tensor, "N C H H"],
    labels: Int[Tensor, " N"],
    *,
    epochs: int,
    batch: int = 250,
    seed: int = 0,
) -> Iterator[ClassifierStep]:
    """Train in place, a record an epoch; the classifier is in eval mode once the iterator is used up.

    Args: images, uint8 (N, *design.shape), N >= batch; labels, int64 (N,); epochs, those of one
    cycle of the learning rate. AdamW, bfloat16 autocast. The caller seeds the classifier's weights; `seed` draws the
    rest.
    """
    generator = torch.Generator().manual_seed(seed)
    classifier.train().to(memory_format=torch.channels_last)
    design = classifier.design
    optimiser = torch.optim.AdamW(classifier.parameters(), design.learning_rate, weight_decay=0.02)
    steps = len(images) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, design.learning_rate, total_steps=steps * epochs)
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(images), generator=generator)[: steps * batch]
        total_loss, right = 0.0, 0
        for index in order.split(batch):
            x = _augment(images[index].float() / 255, design.shift, generator).contiguous(
                memory_format=torch.channels_last
            )
            with torch.autocast("cpu", torch.bfloat16):
                logits = classifier(x)
            loss = F.cross_entropy(logits.float(), labels[index], label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total_loss += loss.item()
            right += (logits.argmax(1) == labels[index]).sum().item()
        yield ClassifierStep(epoch, total_loss / steps, right / len(order))
    classifier.eval()


def save_classifier(classifier: Classifier, figures: dict, path: Path = CLASSIFIER) -> None:
    """Weights as safetensors, and `figures` (accuracy, training settings) as JSON beside them."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In half precision: the accuracy stays, and the file is half as large. Trained weights are channels_last.
    weights = {k: v.half() if v.is_floating_point() else v for k, v in classifier.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    path.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")


def load_classifier(path: Path = CLASSIFIER) -> Classifier:
    """The classifier in eval mode, without gradients, of the design that the file is named for (else the first).

    Raises ClassifierError on a missing or unfit file.
    """
    path = Path(path)
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ClassifierError(f"{path} cannot be read ({error}); restore the file from the repository.") from None
    classifier = Classifier(DESIGNS.get(path.stem, FIRST_DESIGN))
    wanted = {name: tuple(value.shape) for name, value in classifier.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if wanted != found:
        odd = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
        raise ClassifierError(f"{path} holds other weights than this classifier's: {', '.join(odd[:4])}.")
    classifier.load_state_dict(weights)
    return classifier.eval().requires_grad_(False)
