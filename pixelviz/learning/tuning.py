"""One run that gives what many give, without drawing what many give: R_phi is made consistent (Song et al. 2023).

A model that is trained already goes on with `losses.consistency_loss`: from pairs of states half of the way apart,
which is nearly what it knows, to pairs ever nearer (easy consistency tuning, Geng et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelviz.config import TrainConfig
from pixelviz.data.sets import ImageSet
from pixelviz.learning.distillation import begin_from, kept_settings
from pixelviz.learning.training import TrainingError, TrainStep, train
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import digest
from pixelviz.store.fetch import name_of

# What a model without them is given; at i = 1 and above they change R_phi by a few hundredths.
LEAST_I = 0.002  # below it x0 itself is the target: a white pixel's noise is 0.014 there, 0.3 at i = 1
SCALE_ERROR = 0.08  # with 0, R_phi's image near i = 0 would not tend to x_i


def tune(
    source: Path,
    out: Path,
    images: ImageSet,
    training: TrainConfig,
    *,
    device: str = "auto",
    precision: str = "auto",
    **options: Any,
) -> Iterator[TrainStep]:
    """Make the R_phi of the checkpoint `source` consistent on images; `out` is the new checkpoint.

    training: `least_gap`, the last pairs' gap, must be above 0; options, such as data, as for `train`. R_phi then
    knows steps down to i = 0.002, whatever it knew. Where it was interrupted, the same call goes on,
    exactly. Raises TrainingError, CheckpointError, MissingPart.
    """
    if not training.least_gap:
        raise TrainingError("least_gap, how near the last pairs are, must be above 0 to tune a model.")
    _, loaded = begin_from(source, out, "tuning", device, precision)
    note = f"R_phi was made consistent, starting from {source.name} ({digest(source)}), by {training.steps:,} steps."
    if not _is_under_way(out, note):
        checkpoints.claim(out)
        old = loaded.model
        least, error = min(old.config.i_min, LEAST_I), old.config.scale_error or SCALE_ERROR
        model = PixelAwareModel(replace(old.config, i_min=least, scale_error=error), old.parts)
        model.load_state_dict(old.state_dict())
        record = replace(loaded.record, figures={}, notes=[*loaded.record.notes, note], base=name_of(source))
        checkpoints.save(out, model, record)
    settings = replace(training, parts=("parallel_unet",), **kept_settings(loaded.record))
    options |= {"device": device, "precision": precision}
    yield from train(images, loaded.model.config, settings, out, resume=True, **options)


def _is_under_way(out: Path, note: str) -> bool:
    """Whether `out` holds this very tuning, begun before."""
    return (out / checkpoints.CONFIG).exists() and note in checkpoints.read_config(out)[2].notes[-1:]
