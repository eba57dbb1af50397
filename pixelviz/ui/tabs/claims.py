"""Every claim of the paper that can be checked here, judged for what the Forward tab shows."""

from __future__ import annotations

import gradio as gr

from pixelviz.claims import Context
from pixelviz.service import claims
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.kept import Kept
from pixelviz.service.service import Service, friendly
from pixelviz.ui import claims_page, links, widgets
from pixelviz.ui.instrument import READ_STATE
from pixelviz.ui.queue import LONG_LANE

MOST_PAGES = 4096  # whose settings are remembered
NO_CHECKPOINT = "No checkpoint here has the networks for these. Train one, or load a folder in Checkpoints."


def build(demo: gr.Blocks, tab: gr.Tab, service: Service, jobs: TrainingJobs) -> None:
    """The tab's components and events."""
    widgets.about("claims")
    message = gr.HTML(apply_default_css=False, elem_id="claims-message")
    with gr.Row(elem_classes="pv-claim-models"):
        name = gr.Dropdown(
            [],
            label="Checkpoint for the claims that need a model",
            info="where it lacks a part, another one is taken",
            min_width=260,
            elem_id="claims-checkpoint",
        )
        run = gr.Button("Check these too", min_width=150, elem_id="claims-run")
    view = widgets.component("${value}", "claims.js", elem_id="claims")
    state = gr.Textbox(label="The instrument's settings", visible=False)
    judged: Kept[str | None] = Kept(MOST_PAGES)  # the settings that a page's verdicts are for

    def refresh(chosen):
        return gr.Dropdown(choices=service.names("scale_vae"), value=service.chosen(chosen, "scale_vae"))

    def judge(text, request: gr.Request):
        """All claims for the present settings; the old page stays where nothing has changed, or on an error."""
        if judged.get(request.session_hash) == text:
            return gr.skip(), ""
        try:
            context = Context.from_state(text)
            verdicts = claims.judge(context)
        except Exception as error:
            return gr.skip(), widgets.alert(friendly(error))
        judged.put(request.session_hash, text, 1)
        return claims_page.page(context, verdicts), ""

    def check_models(text, chosen, request: gr.Request):
        """The claims that need a model, one after the other, then the page with all of them."""
        off = gr.Button(interactive=False)
        try:
            context = Context.from_state(text)
            verdicts = claims.judge(context)
            found = 0
            for found, (id, verdict) in enumerate(claims.judge_with_models(service, context, chosen), 1):
                verdicts[id] = verdict
                yield gr.skip(), widgets.alert(f"Checked {found} claims with a model …", "info"), off
            said = widgets.alert(None if found else NO_CHECKPOINT, "info")
            judged.put(request.session_hash, text, 1)
            yield claims_page.page(context, verdicts), said, gr.Button(interactive=True)
        except Exception as error:
            yield gr.skip(), widgets.alert(friendly(error)), gr.Button(interactive=True)

    quiet = {"show_progress": "minimal", "show_progress_on": view, "api_visibility": "private"}
    tab.select(judge, state, [view, message], js=READ_STATE, concurrency_limit=2, **quiet)
    there = {"checkpoint": lambda _: service.names("scale_vae")}
    links.bring_back(tab.select(refresh, name, name, queue=False, **quiet), tab, {"checkpoint": name}, there)
    run.click(
        check_models,
        [state, name],
        [view, message, run],
        js=READ_STATE,
        **LONG_LANE,
        **quiet,
    )
