"""The download at the bottom of the Forward tab: choose, prepare with progress, take the zip."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from pixelviz.export.archive import EXTRAS, FORMATS, Request, export
from pixelviz.export.figures import FIGURES
from pixelviz.progress import Progress
from pixelviz.service import benches
from pixelviz.service.downloads import Downloads, file_name
from pixelviz.service.errors import friendly
from pixelviz.service.service import Service
from pixelviz.ui import widgets
from pixelviz.ui.instrument import READ_STATE
from pixelviz.ui.queue import LONG_LANE
from pixelviz.view import View

EXTRA_NAMES = {
    "gif": "Film, GIF",
    "mp4": "Film, MP4",
    "csv": "Curves, CSV",
    "json": "Settings, JSON",
}


def bar(progress: Progress) -> str:
    """How far the zip is, as HTML."""
    return widgets.share_bar("Preparing the download", progress.done / max(1, progress.total), f"{progress.what} …")


def build(demo: gr.Blocks, service: Service) -> None:
    """The panel's components and events."""
    downloads = Downloads()

    def prepare(
        text: str | None,
        figures: Sequence[str],
        formats: Sequence[str],
        extras: Sequence[str],
        request: gr.Request,
    ):
        """Progress, then the button that gives the zip; a message and the old button where it cannot be made."""
        wait, ready = gr.Button(interactive=False), gr.Button(interactive=True)
        session = request.session_hash or "nobody"
        try:
            wanted = Request(tuple(figures or ()), tuple(formats or ()), tuple(extras or ()))
            view = View.from_state(text)
            path = downloads.place(session, file_name(view))
            steps = export(view, wanted, path, lambda figure: benches.nearest(service, view, figure), service.turn.long)
            for progress in steps:
                if progress.done < progress.total:
                    yield bar(progress), wait, gr.DownloadButton(visible=False)
            size = path.stat().st_size / 2**20
            said = widgets.alert(f"Ready: {path.name}, {size:.1f} MB.", "good")
            yield said, ready, gr.DownloadButton(value=str(path), visible=True)
        except Exception as error:
            yield widgets.alert(friendly(error)), ready, gr.skip()

    with gr.Accordion("Take it with you", open=False, elem_id="export"):
        widgets.about("export")
        with gr.Row():
            figures = gr.CheckboxGroup(
                [(f"Fig. {key}: {figure.title}", key) for key, figure in FIGURES.items()],
                value=list(FIGURES),
                label="Figures",
                min_width=300,
                elem_classes="pv-list",
            )
            with gr.Column(min_width=220):
                formats = gr.CheckboxGroup(
                    [(kind.upper(), kind) for kind in FORMATS], value=list(FORMATS), label="Formats of the figures"
                )
                extras = gr.CheckboxGroup(
                    [(EXTRA_NAMES[kind], kind) for kind in EXTRAS], value=list(EXTRAS), label="Also"
                )
        with gr.Row():
            go = gr.Button("Prepare download", variant="primary", elem_id="export-prepare")
            take = gr.DownloadButton("Download the zip", visible=False, elem_id="export-take")
        status = gr.HTML(apply_default_css=False, elem_id="export-status")
    state = gr.Textbox(label="The instrument's settings", visible=False)
    go.click(
        prepare,
        [state, figures, formats, extras],
        [status, go, take],
        js=READ_STATE,
        **LONG_LANE,
        show_progress="hidden",
        api_visibility="private",
    )
