"""A small classifier of Fashion-MNIST, whose penultimate features the Frechet distance compares.

The Inception network of the usual FID knows photographs of 299x299 pixels, not garments of 28x28; so the
distance here is taken in features of a network that knows them. It compares models with each other, and
not with published FIDs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pixelviz.assets import CLASSIFIER

FEATURES = 128
WIDTHS = (32, 64, 128, FEATURES)
SIZE = 32


class ClassifierError(ValueError):
    """Classifier weights that cannot be loaded; the message says why."""


class Classifier(nn.Module):
    """Four 3x3 convolutions with batch norm; 242,000 parameters."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        blocks = []
        for width_in, width_out, pool in zip((1, *WIDTHS), WIDTHS, (2, 2, 2, 1), strict=False):
            blocks += [nn.Conv2d(width_in, width_out, 3, padding=1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU()]
            blocks += [nn.MaxPool2d(pool)] if pool > 1 else []
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, 1, 32, 32) in [0, 1] to the penultimate features, (N, 128), >= 0."""
        return self.body((images - 0.22) / 0.32).mean((2, 3))  # about the data's mean and deviation

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 32, 32) in [0, 1] to logits, (N, 10)."""
        return self.head(self.features(images))


class FeatureExtractor(nn.Module):
    """uint8 images (N, 1, 32, 32) to features (N, 128), as torchmetrics' Frechet distance asks for them."""

    num_features = FEATURES

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Raises ValueError unless the images are uint8, gray and 32x32."""
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != (1, SIZE, SIZE):
            raise ValueError(
                f"the features need uint8 images of shape (N, 1, {SIZE}, {SIZE}); "
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
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """Share of uint8 images (N, 1, 32, 32) whose class is named rightly, in [0, 1]."""
    right = 0
    for part, truth in zip(images.split(batch), labels.split(batch), strict=True):
        right += (classifier(part.float() / 255).argmax(1) == truth).sum().item()
    return right / len(labels)


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, and shift the batch by up to two pixels either way (within its black border)."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(-1), images)
    shifts = torch.randint(-2, 3, (2,), generator=generator).tolist()
    return images.roll(shifts, (2, 3))


def train_classifier(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int = 10,
    batch: int = 250,
    learning_rate: float = 4e-3,
    seed: int = 0,
) -> Iterator[ClassifierStep]:
    """Train in place, a record an epoch; the classifier is in eval mode once the iterator is used up.

    Args: images, uint8 (N, 1, 32, 32), N >= batch; labels, int64 (N,). AdamW, one cycle of the learning
    rate, bfloat16 autocast. The caller seeds the classifier's weights; `seed` draws the rest.
    """
    generator = torch.Generator().manual_seed(seed)
    classifier.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(classifier.parameters(), learning_rate, weight_decay=0.02)
    steps = len(images) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps * epochs)
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(images), generator=generator)[: steps * batch]
        total_loss, right = 0.0, 0
        for index in order.split(batch):
            x = _augment(images[index].float() / 255, generator).contiguous(memory_format=torch.channels_last)
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
    save_file({k: v.contiguous() for k, v in classifier.state_dict().items()}, path)
    path.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")


def load_classifier(path: Path = CLASSIFIER) -> Classifier:
    """The classifier in eval mode, without gradients; raises ClassifierError on a missing or unfit file."""
    path = Path(path)
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ClassifierError(f"{path} cannot be read ({error}); restore the file from the repository.") from None
    classifier = Classifier()
    wanted = {name: tuple(value.shape) for name, value in classifier.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if wanted != found:
        odd = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
        raise ClassifierError(f"{path} holds other weights than this classifier's: {', '.join(odd[:4])}.")
    classifier.load_state_dict(weights)
    return classifier.eval().requires_grad_(False)
