"""A checkpoint with a picture as it takes it: what claims and figures that need a model work on."""

from __future__ import annotations

from pathlib import Path

import torch

from pixelviz.claims import Bench
from pixelviz.data.images import fit_square
from pixelviz.data.sets import to_unit
from pixelviz.devices import Compute
from pixelviz.export.figures import Candidate, PaperFigure, best_fit
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import Checkpoint, CheckpointError
from pixelviz.view import View


def bench_of(name: str, loaded: Checkpoint, view: View, compute: Compute) -> Bench:
    """A loaded checkpoint with a view's picture, fitted to its size and channels."""
    config = loaded.model.config
    pixels = fit_square(view.image, config.image_size, config.channels).tensor()
    x0, record = to_unit(pixels, config.floor, torch.float64), loaded.record
    return Bench(name, loaded.model, x0, compute, record.figures, record.images_seen, str(record.data))


def nearest_in(root: Path, view: View, figure: PaperFigure, compute: Compute) -> Bench | None:
    """The checkpoint below `root` that fits a figure of a view best; None where none has the parts.

    Folders that hold no usable checkpoint are passed over.
    """
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            config, parts, record = checkpoints.read_config(folder)
        except CheckpointError:
            continue
        found.append(Candidate(folder.name, config, parts, record.data.id))
    while name := best_fit(found, figure.needs, view, figure.data):
        try:
            return bench_of(name, checkpoints.load(root / name, compute.device), view, compute)
        except CheckpointError:  # its weights do not fit; the next nearest may
            found = [one for one in found if one.name != name]
    return None
