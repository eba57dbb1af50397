"""The service's checkpoints as benches for claims and figures. Knows no Gradio."""

from __future__ import annotations

from pixelviz.claims import Bench
from pixelviz.export.benches import bench_of
from pixelviz.export.figures import best_fit
from pixelviz.service.service import Service
from pixelviz.view import View


def bench_for(service: Service, name: str, view: View) -> Bench:
    """The checkpoint of that name with a view's picture; raises ServiceError or CheckpointError."""
    return bench_of(name, service.checkpoint(name), view, service.compute)


def nearest(service: Service, view: View, needs: tuple[str, ...]) -> Bench | None:
    """The checkpoint with these parts that fits a view best; None where there is none."""
    found = [service.find(name) for name in service.names(*needs)]
    name = best_fit([(one.name, one.config, one.parts) for one in found], needs, view)
    return bench_for(service, name, view) if name else None
