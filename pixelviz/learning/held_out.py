"""The losses of a training on images that it does not learn, with the same random numbers every time."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from pixelviz.config import TrainConfig
from pixelviz.data.sets import ImageSet, to_unit
from pixelviz.devices import Compute
from pixelviz.learning.losses import Draws, TrainingObjective, draw_step, with_ends
from pixelviz.models.pixel_aware import PixelAwareModel

BATCH, SEED = 64, 1_000_003


@torch.no_grad()
def held_out_losses(
    model: PixelAwareModel, images: ImageSet, training: TrainConfig, compute: Compute
) -> dict[str, float]:
    """Unweighted means of the losses of `training.parts`, as those of a training step, by "part/name".

    images: at least one; of a class that it does not know the model is told nothing. Raises MissingPart.
    """
    from accelerate.utils import send_to_device

    objective, generator = TrainingObjective(model, training, compute), torch.Generator().manual_seed(SEED)
    tallies: dict[str, Tensor] = {}
    labels = images.labels_among(model.config.classes)
    for part, theirs in zip(images.images.split(BATCH), labels.split(BATCH), strict=True):
        told = theirs if model.config.classes else None
        draws = draw_step(model.config, training, len(part), generator, told)
        if training.least_gap and "parallel_unet" in draws:
            draws["parallel_unet"] = with_ends(model.config, training, draws["parallel_unet"], training.steps)
        x0 = compute.images(to_unit(part, model.config.floor))
        found = objective(x0, cast(Draws, send_to_device(draws, compute.device)))[1]
        tallies = {key: tallies.get(key, 0) + value for key, value in found.items()}
    sums = {key: value.tolist() for key, value in tallies.items()}
    return {key: total / number for key, (total, number) in sums.items() if number}
