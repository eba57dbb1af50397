"""Noise an image with the pixel-aware process and with DDPM, side by side, in the browser."""

from __future__ import annotations

import gradio as gr

from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.service import Service
from pixelviz.ui import export_panel, instrument, widgets


def build(demo: gr.Blocks, tab: gr.Tab, service: Service, jobs: TrainingJobs) -> None:
    """The tab's components and events."""
    widgets.about("forward")
    viewer = widgets.instrument(elem_id="instrument", upload_id="forward-upload")
    uploader = widgets.upload_button("forward-upload", visible="hidden")
    instrument.connect(viewer, uploader)
    export_panel.build(demo, service)
