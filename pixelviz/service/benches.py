"""The service's checkpoints as benches for claims and figures. Knows no Gradio."""

from __future__ import annotations

from pixelviz.claims import Bench
from pixelviz.export.benches import bench_of
from pixelviz.export.figures import Candidate, PaperFigure, best_fit
from pixelviz.service.service import Service
from pixelviz.view import View


def bench_for(service: Service, name: str, view: View) -> Bench:
    """The checkpoint of that name with a view's picture; raises ServiceError or CheckpointError."""
    return bench_of(name, service.checkpoint(name), view, service.compute)


def nearest(service: Service, view: View, figure: PaperFigure) -> Bench | None:
    """The checkpoint that fits a figure of a view best; None where none has the parts."""
    found = [service.find(name) for name in service.names(*figure.needs)]
    candidates = [Candidate(one.name, one.config, one.parts, one.data) for one in found]
    name = best_fit(candidates, figure.needs, view, figure.data)
    return bench_for(service, name, view) if name else None
