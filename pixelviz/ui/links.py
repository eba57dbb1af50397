"""A tab's controls in the page's address: static/address.js writes what they hold, and hands over what a link says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from pixelviz.checks import choice
from pixelviz.data.picture_store import PICTURES
from pixelviz.declare import checked, quoted, read_object
from pixelviz.ui import widgets

# What a control offers now, by the values found so far; for those whose choices are not always the same. None: all.
Choices = Callable[[Mapping[str, Any]], Sequence[Any] | None]

# Events' `js`. The address takes what the controls hold; and it gives what a link says of them, once.
_TELL = """(...values) => { document.dispatchEvent(new CustomEvent("pv:controls",
  { detail: { tab: %s, values: Object.fromEntries(%s.map((key, k) => [key, values[k]])) } })); return []; }"""
_TAKE = """(said, ...values) => { const detail = { tab: %s, said: {} };
  document.dispatchEvent(new CustomEvent("pv:arrived", { detail }));
  return [JSON.stringify(detail.said), ...values]; }"""
# Opens Generate with a checkpoint.
GO_TO_GENERATE = """(name) => { if (name)
  location.hash = `#tab=generate&generate.checkpoint=${encodeURIComponent(name)}`; return []; }"""


def source(example: str) -> dict[str, Any]:
    """What a page holds of its picture: its key in the store, and the id of its example; raises ServiceError."""
    return {
        "picture": PICTURES.keep(widgets.EXAMPLE_IDS[choice("example", example, widgets.EXAMPLE_IDS)]),
        "example": example,
    }


def among(value: Any, offered: Sequence[Any] | None) -> Any:
    """The value; raises LookupError where it is not offered. None: all are."""
    if offered is not None and value not in offered:
        raise LookupError(value)
    return value


def fitting(control: Component, text: str, offered: Sequence[Any] | None = None) -> Any:
    """What a link's text means for a control, clamped to its range; raises LookupError or ValueError for nothing.

    offered: what it offers now, where that is not always the same.
    """
    choices = offered if offered is not None else [value for _, value in getattr(control, "choices", None) or ()]
    match control:
        case gr.Slider() | gr.Number():
            value = float(text)
            if not math.isfinite(value):
                raise ValueError(text)
            low, high = control.minimum, control.maximum
            value = min(max(value, -math.inf if low is None else low), math.inf if high is None else high)
            whole = control.step == 1 if isinstance(control, gr.Slider) else control.precision == 0
            return among(round(value) if whole else value, offered)
        case gr.CheckboxGroup():
            return [choices[choices.index(one)] for one in text.split(",") if one]
        case gr.Checkbox():
            return among({"true": True, "false": False}[text], offered)
        case gr.JSON():
            return source(text)
        case gr.Dropdown(allow_custom_value=True):
            return str(int(text))
    return dict(zip(map(str, choices), choices, strict=True))[text]


def understood(
    text: str, controls: Mapping[str, Component], choices: Mapping[str, Choices], now: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What a link says, as JSON {key: text}: values of controls by their keys, and sentences on what did not fit."""
    found: dict[str, Any] = {}
    wrong = []
    try:
        said = checked(dict[str, str], read_object(text or "{}"), ValueError)
    except ValueError:  # no page has sent this
        return {}, ["The link was not understood and is ignored."]
    for key in [*filter(said.get, controls), *(key for key in said if key not in controls)]:
        try:
            offered = choices[key]({**now, **found}) if key in choices else None
            found[key] = fitting(controls[key], said[key], offered)
        except (LookupError, ValueError):
            wrong.append(
                f"The link asks for {key} = {quoted(said[key])}, which is not to be had here; the rest is kept."
            )
        else:
            if isinstance(found[key], int | float) and said[key] not in ("true", "false"):
                fits = found[key] == float(said[key])
                wrong += [] if fits else [f"The link's {key} = {said[key]} does not fit; it became {found[key]:g}."]
    return found, wrong


def bring_back(
    ready: Dependency, tab: gr.Tab, controls: Mapping[str, Component], choices: Mapping[str, Choices] | None = None
) -> Dependency:
    """Keep a tab's controls in the address, under their keys, and set them from a link after the event `ready`.

    ready: comes whenever the tab is opened, and has filled the lists of what can be chosen. Returns the event that the
    tab's first work waits for.
    """
    keys, given, offers = list(controls), list(controls.values()), choices or {}

    def arrive(text: str, *now: Any) -> list[Any]:
        held = dict(zip(keys, now, strict=True))
        found, wrong = understood(text, controls, offers, held)
        if wrong:
            widgets.warn(" ".join(wrong))
        # A value is checked against its control's choices, which the tab fills later.
        lists = {
            key: type(control)(offer(held | found), value=found[key])
            for key, offer in offers.items()
            if key in found and isinstance(control := controls[key], gr.Dropdown | gr.CheckboxGroup)
        }
        answer = [{**found, **lists}.get(key, gr.skip()) for key in keys]
        return answer if len(keys) > 1 else answer[0]

    quiet = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    said = gr.Textbox(label="What the link says", visible=False)
    tell = {"fn": None, "inputs": given, "js": _TELL % (json.dumps(tab.id), json.dumps(keys)), **quiet}
    taken = {"js": _TAKE % json.dumps(tab.id), **quiet, "queue": True, "concurrency_limit": None}  # a warning needs one
    arrived = ready.then(arrive, [said, *given], given, **taken)
    arrived.then(**tell)
    gr.on([control.change for control in given], **tell)
    return arrived
