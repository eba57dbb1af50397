"""The head of the page: title, light and dark, presenter mode, and the address that holds what is on the screen."""

from __future__ import annotations

import json
from collections.abc import Sequence

import gradio as gr

from pixelviz.lesson.pages import Lesson, languages
from pixelviz.lesson.steps import ROUTES, STEPS
from pixelviz.process.schedules import RANGES, by_pixel
from pixelviz.service.service import Service, friendly
from pixelviz.ui import widgets
from pixelviz.ui.markup import render
from pixelviz.ui.queue import SHORT_LANE
from pixelviz.view import OWN_RATE, View

TEXTS = ("show", "scenes", "glossary", "steps")  # of a language, those that the scenes and the popovers need


def build(tabs: Sequence[str], service: Service) -> None:
    """The header; `tabs`, the ids of the tabs, the first of which is open at the start."""
    lesson = Lesson(service)

    def shown(event: gr.EventData) -> str:
        """What a scene of presenter mode shows of the lesson: {scene, outcome} or {scene, error}."""
        try:
            found = {"outcome": lesson.outcome(event.scene)}
        except Exception as error:
            found = {"error": friendly(error)}
        return json.dumps({"scene": event.scene, **found})

    head = widgets.component(
        render("header"),
        "header.js",
        tabs=list(tabs),
        examples=list(widgets.EXAMPLE_IDS),
        steps=len(STEPS) + 1,
        routes=list(ROUTES),
        languages={code: {key: texts[key] for key in TEXTS} for code, texts in languages().items()},
        schedules=[*by_pixel(), OWN_RATE],
        ranges=list(RANGES),
        view=View.declaration(),
    )
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    # "multiple": the next scene asks while the last one is still being computed.
    head.input(shown, None, head, trigger_mode="multiple", **SHORT_LANE, **quiet)
