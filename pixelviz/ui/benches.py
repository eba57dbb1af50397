"""A checkpoint with a picture as it takes it: what claims and figures that need a model work on. Knows no Gradio."""

from __future__ import annotations

import torch

from pixelviz.claims import Bench
from pixelviz.data import to_unit
from pixelviz.export_figures import best_fit
from pixelviz.export_view import View
from pixelviz.images import Picture, fit_square
from pixelviz.ui.service import Service


def load(service: Service, name: str, picture: Picture) -> Bench:
    """The checkpoint of that name with the picture; raises ServiceError or CheckpointError."""
    loaded = service.checkpoint(name)
    config = loaded.model.config
    pixels = fit_square(picture, config.image_size, config.channels).tensor()
    x0 = to_unit(pixels, config.floor, torch.float64)
    return Bench(name, loaded.model, x0, service.compute, loaded.record.figures)


def nearest(service: Service, view: View, needs: tuple[str, ...]) -> Bench | None:
    """The checkpoint with these parts that fits a view best; None where there is none."""
    found = [service.find(name) for name in service.names(*needs)]
    name = best_fit([(one.name, one.config, one.parts) for one in found], needs, view)
    return load(service, name, view.picture) if name else None
