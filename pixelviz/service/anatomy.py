"""Fig. 4 for the screen: a checkpoint's networks as one run on a view's picture lights them. Knows no Gradio."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import NamedTuple

import numpy as np

from pixelviz.checks import ServiceError
from pixelviz.export import architecture
from pixelviz.export.architecture import Panel
from pixelviz.export.paper_figures import save_figure
from pixelviz.service.benches import bench_for
from pixelviz.service.service import Service
from pixelviz.view import View


class Lit(NamedTuple):
    """The figure as a data URI (SVG), what it shows in words, and its blocks: as a table's rows, and by name."""

    picture: str
    words: str
    rows: list[tuple[str, ...]]
    names: list[str]


def _run(service: Service, name: str, view: View, share: float) -> tuple[list[Panel], dict[str, architecture.Block]]:
    """The networks that ran on x_i, i the share of T, and their blocks by the names that the screen gives them."""
    found = bench_for(service, name, view)
    T = found.model.config.T
    with service.turn.short():
        panels = architecture.run(found, view.seed, min(max(1, round(share * T)), T))
    if not panels:
        raise ServiceError("this checkpoint has neither a scale VAE nor a parallel U-Net; choose another one.")
    blocks = {f"{panel.network} {block.name}": block for panel in panels for block in panel.blocks}
    return panels, blocks


def light(service: Service, name: str, view: View, share: float) -> Lit:
    """The figure of a checkpoint; raises ServiceError or CheckpointError."""
    panels, blocks = _run(service, name, view, share)
    stream = BytesIO()
    save_figure(architecture.draw_networks(panels, f"checkpoint {name}"), stream, "svg")
    rows = [
        (label, architecture.what(block), architecture.shape(block), f"{block.parameters:,}", ", ".join(block.sources))
        for label, block in blocks.items()
    ]
    picture = "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    words = f"The networks of {name} as {len(rows)} blocks; the table below names them all."
    return Lit(picture, words, rows, list(blocks))


def feature_maps(service: Service, name: str, view: View, share: float, block: str) -> tuple[np.ndarray, str]:
    """The channels of one block, uint8 (h, w, 1), at most `architecture.SHOWN` of them, and how many that are."""
    blocks = _run(service, name, view, share)[1]
    if block not in blocks:
        raise ServiceError(f"there is no such block; choose one of {', '.join(blocks)}.")
    output = blocks[block].output
    shown = min(len(output), architecture.SHOWN) if output.ndim > 2 and output.shape[-1] > 1 else len(output)
    words = f"{shown} of {len(output)} channels, those that vary most, each over its own range"
    return architecture.channels(blocks[block], architecture.SHOWN)[..., None], words
