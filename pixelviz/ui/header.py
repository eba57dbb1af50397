"""The head of the page: title, language, light and dark, presenter mode, and the address of what is on the screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from pixelviz.lesson.pages import FIRST_LANGUAGE, Lesson, languages
from pixelviz.lesson.steps import ROUTES, STEPS
from pixelviz.process.schedules import RANGES, by_pixel
from pixelviz.service.service import Service, friendly
from pixelviz.ui import widgets
from pixelviz.ui.markup import render
from pixelviz.ui.queue import SHORT_LANE
from pixelviz.view import OWN_RATE, View

# An event's `js`: what Gradio's components show in the language of the page, for what the words' files call it; they
# take it as they would take an answer of Python's.
_SPEAK = """() => { const detail = { named: %s, said: [] };
  document.dispatchEvent(new CustomEvent("pv:labels", { detail })); return detail.said; }"""
SHOWN = ("label", "info", "placeholder", "choices")  # what of a component is words; of some its value, too


def build(tabs: Sequence[str], service: Service) -> gr.HTML:
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
        render("header", languages={code: texts["language"] for code, texts in languages().items()}),
        "header.js",
        tabs=list(tabs),
        examples=list(widgets.EXAMPLE_IDS),
        steps=len(STEPS) + 1,
        routes=list(ROUTES),
        schedules=[*by_pixel(), OWN_RATE],
        ranges=list(RANGES),
        view=View.declaration(),
    )
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    # "multiple": the next scene asks while the last one is still being computed.
    head.input(shown, None, head, trigger_mode="multiple", **SHORT_LANE, **quiet)
    return head


def english(block: Any) -> dict[str, Any]:
    """What a component of Gradio's shows that the words' files name: its properties that do, choices as pairs."""
    texts = languages()[FIRST_LANGUAGE]
    keys = {text: key for key, text in texts["about"].items()} | {name: name for name in texts["names"]}

    def known(shown: Any) -> Any:
        if isinstance(shown, list):
            return shown if any(name in keys for name, _ in shown) else None
        return keys.get(shown) if isinstance(shown, str) else None

    own = (*SHOWN, "value") if isinstance(block, gr.Button | gr.Markdown) else SHOWN
    return {name: found for name in own if (found := known(getattr(block, name, None)))}


def speak(demo: gr.Blocks, head: gr.HTML) -> None:
    """Let all of the app's components follow the page's language, once they are there."""
    found = [(block, shown) for block in demo.blocks.values() if (shown := english(block))]
    head.select(
        None,
        None,
        [block for block, _ in found],
        js=_SPEAK % json.dumps([shown for _, shown in found]),
        show_progress="hidden",
        api_visibility="private",
        queue=False,
    )
