"""The lesson beside its own instrument: predict, see, explain; a teacher's page and exercises to print."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import gradio as gr
import segno

from pixelviz.claims import Curve, Plot
from pixelviz.lesson.pages import Lesson, plan
from pixelviz.lesson.steps import STEPS
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.polls import PollError, Polls
from pixelviz.service.service import Service, friendly
from pixelviz.ui import charts, instrument, widgets
from pixelviz.ui.markup import render
from pixelviz.ui.queue import SHORT_LANE


def with_figure(outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome with the figure of its curves, which are named by their keys: the page has the words."""
    curves = tuple(Curve(curve["key"], curve["x"], curve["y"]) for curve in outcome["curves"])
    drawn = charts.lines(Plot("", "i", "error", curves, log=True), whole_x=True, height=360)
    return {**outcome, "figure": json.loads(drawn or "null")}


LONGEST_LINK = 500


def qr(link: Any) -> str:
    """A link as a QR code: an SVG as a data URI. Raises PollError for what is no link."""
    if not isinstance(link, str) or len(link) > LONGEST_LINK or not link.startswith(("http://", "https://")):
        raise PollError("answer")
    return segno.make_qr(link, error="m").svg_data_uri(scale=8, border=2, light="white")


def answering(polls: Polls) -> Callable[..., Any]:
    """What the page's script asks of the polls: [what, ...], answered with a dictionary or {"error": a key of ERRORS}.

    Run on the server's own loop, so that it waits behind no computation.
    """

    def code_of(code: Any, secret: Any, link: Any) -> dict[str, str]:
        polls.check(code, secret)
        return {"qr": qr(link)}

    asks = {name: getattr(polls, name) for name in ("open", "join", "vote", "look", "reveal", "end")} | {"qr": code_of}

    async def poll(asked: Any) -> dict[str, Any]:
        try:
            what, *about = asked
            return asks[what](*about)
        except PollError as error:
            return {"error": error.key}
        except (TypeError, ValueError, KeyError):  # nothing that the page would send
            return {"error": "answer"}

    return poll


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

    polls = Polls({step.key: step.options for step in STEPS}, time.monotonic)
    gr.HTML(render("lesson_intro"), apply_default_css=False, elem_classes="pv-intro")
    with gr.Row(elem_id="lesson-row"):
        with gr.Column(min_width=0, elem_classes="pv-lesson-card"):
            card = widgets.component(render("lesson"), "lesson.js", plan=plan(), server_functions=[answering(polls)])
        with gr.Column(min_width=0, elem_classes="pv-lesson-stage"):
            gr.HTML(render("lesson_stage"), apply_default_css=False)
            viewer = widgets.instrument(elem_id="lesson-instrument")
        with gr.Column(min_width=0, elem_classes="pv-lesson-why"):
            gr.HTML(render("lesson_rest"), apply_default_css=False)
    gr.HTML(render("lesson_page"), apply_default_css=False)
    instrument.connect(viewer)

    # "multiple": the next question is asked while the answer to the last one is being drawn.
    quiet = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple"}
    card.input(answer, None, card, queue=False, **quiet)
    card.submit(answer, None, card, **SHORT_LANE, **quiet)
    card.select(answers, None, card, **SHORT_LANE, **quiet)
