"""The head of the page: title, light and dark, presenter mode, and the address that holds what is on the screen."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from pixelviz.lesson.pages import languages
from pixelviz.lesson.steps import STEPS
from pixelviz.process.schedules import by_pixel
from pixelviz.ui import widgets
from pixelviz.ui.markup import render
from pixelviz.view import View


def build(tabs: Sequence[str]) -> gr.HTML:
    """The header; `tabs`, the ids of the tabs, the first of which is open at the start."""
    return widgets.component(
        render("header"),
        "header.js",
        tabs=list(tabs),
        examples=list(widgets.EXAMPLE_IDS),
        steps=len(STEPS) + 1,
        languages=list(languages()),
        schedules=by_pixel(),
        view=View.declaration(),
    )
