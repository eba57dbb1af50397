"""The lesson beside its own instrument: predict, see, explain; a teacher's page and exercises to print."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from pixelviz.claims import Curve, Plot
from pixelviz.lesson.pages import Lesson, plan
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.service import Service, friendly
from pixelviz.ui import charts, instrument, widgets
from pixelviz.ui.markup import render
from pixelviz.ui.queue import SHORT_LANE


def with_figure(outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome with the figure of its curves, which are named by their keys: the page has the words."""
    curves = tuple(Curve(curve["key"], curve["x"], curve["y"]) for curve in outcome["curves"])
    drawn = charts.lines(Plot("", "i", "error", curves, log=True), whole_x=True, height=360)
    return {**outcome, "figure": json.loads(drawn or "null")}


def build(demo: gr.Blocks, tab: gr.Tab, service: Service, jobs: TrainingJobs) -> None:
    """The tab's components and events."""
    lesson = Lesson(service)

    def answer(event: gr.EventData):
        """What is true in the step that was asked about."""
        try:
            found = {"outcome": with_figure(lesson.outcome(event.step))}
        except Exception as error:
            found = {"error": friendly(error)}
        return json.dumps({"step": event.step, "request": event.request, **found})

    def answers(event: gr.EventData):
        """All answers, for the teacher."""
        return json.dumps({"answers": lesson.answers(), "request": event.request})

    gr.HTML(render("lesson_intro"), apply_default_css=False, elem_classes="pv-intro")
    with gr.Row(elem_classes="pv-columns", elem_id="lesson-row"):
        with gr.Column(scale=8, min_width=320, elem_classes="pv-lesson-stage"):
            gr.HTML(render("lesson_stage"), apply_default_css=False)
            viewer = widgets.instrument(elem_id="lesson-instrument")
        with gr.Column(scale=5, min_width=300):
            card = widgets.component(render("lesson"), "lesson.js", plan=plan())
    gr.HTML(render("lesson_page"), apply_default_css=False)
    instrument.connect(viewer)

    # "multiple": the next question is asked while the answer to the last one is being drawn.
    quiet = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple"}
    card.input(answer, None, card, queue=False, **quiet)
    card.submit(answer, None, card, **SHORT_LANE, **quiet)
    card.select(answers, None, card, **SHORT_LANE, **quiet)
