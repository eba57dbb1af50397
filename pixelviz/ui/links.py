"""A tab's controls in the page's address: static/address.js writes what they hold, and sends back what a link says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from pixelviz.declare import quoted
from pixelviz.ui import widgets

_TELL = """(...values) => { document.dispatchEvent(new CustomEvent("pv:controls",
  { detail: { tab: %s, values: Object.fromEntries(%s.map((key, k) => [key, values[k]])) } })); }"""


def fitting(control: Component, text: str, names: Sequence[str]) -> Any:
    """What a link's text means for a control, clamped to a slider's ends; raises ValueError where it means nothing."""
    if isinstance(control, gr.Slider):
        steps = round(float(text) / control.step)
        return min(max(steps * control.step, control.minimum), control.maximum)
    if isinstance(control, gr.Number):
        return max(0, int(text))
    if isinstance(control, gr.Dropdown) and control.allow_custom_value:
        return str(max(1, int(text)))
    if text not in ([value for _, value in control.choices] if isinstance(control, gr.Radio) else names):
        raise ValueError(text)
    return text


def bring_back(tab: str, controls: Mapping[str, Component], names: Callable[[], Sequence[str]]) -> None:
    """Keep a tab's controls in the address, by their keys; names: what a dropdown of checkpoints may hold now."""
    box = gr.Textbox(label="What the link says", visible="hidden", elem_id=f"{tab}-link")

    def apply(text: str):
        given, found, wrong = json.loads(text), [], []
        for key, control in controls.items():
            try:
                found.append(fitting(control, str(given[key]), names()) if key in given else gr.skip())
            except (ValueError, OverflowError):
                found.append(gr.skip())
                wrong.append(f"{key} = {quoted(given[key])}")
        if wrong:
            widgets.warn(f"The link's {', '.join(wrong)} was not understood and is ignored.")
        return found

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    box.input(apply, box, list(controls.values()), **quiet)  # by the queue, without which nobody can be warned
    tell = _TELL % (json.dumps(tab), json.dumps(list(controls)))
    changes = [control.change for control in controls.values()]
    gr.on(changes, None, list(controls.values()), js=tell, queue=False, **quiet)
