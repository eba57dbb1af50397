"""Pictures for the instrument: what its `input` event asks for, and uploads. Used by every tab that holds one."""

from __future__ import annotations

import json
import secrets
from typing import Any

import gradio as gr

from pixelviz.checks import ServiceError
from pixelviz.declare import quoted
from pixelviz.service import forward
from pixelviz.service.errors import friendly
from pixelviz.ui.widgets import EXAMPLE_IDS
from pixelviz.view import DEFAULTS, View, read_state

# An event's `js`: the instrument's state, which `View.from_state` reads, as JSON in the place of the first input; null
# where it is not drawn yet.
READ_STATE = """(text, ...rest) => [JSON.stringify(
  document.querySelector("#instrument .pv-instrument")?.pvInstrument?.state() ?? null), ...rest]"""


def asked(example: Any, picture: Any, seed: Any, request: Any) -> str:
    """The instrument's value for an example; for None its noise alone, for the picture that it has (its key).

    Whatever is wrong comes back as a value {"error", "request"}.
    """
    try:
        if example is None:
            return forward.instrument_value(View(picture=picture, seed=seed), known=True, request=request)
        if example not in EXAMPLE_IDS:
            raise ServiceError(f"there is no example {quoted(example)}; choose one of {', '.join(EXAMPLE_IDS)}.")
        return forward.instrument_value(View.of(EXAMPLE_IDS[example], seed=seed), example=example, request=request)
    except Exception as error:
        return json.dumps({"error": friendly(error), "request": request})


def uploaded(state: str | None, path: str) -> str:
    """As `asked`, for an uploaded file, with the noise of the instrument's seed."""
    token = secrets.token_hex(4)  # the same message twice must still reach the browser
    try:
        seed = read_state(state).get("seed", DEFAULTS["seed"])
        return forward.instrument_value(View.of(path, seed=seed), example=None, request=token)
    except Exception as error:
        return json.dumps({"error": friendly(error), "request": token})


def connect(viewer: gr.HTML, uploader: gr.UploadButton | None = None) -> None:
    """Answer an instrument's questions. Cheap, so beside the queue; uploads may be large, and wait their turn."""

    def on_input(event: gr.EventData) -> str:
        return asked(event.example, event.picture, event.seed, event.request)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    viewer.input(on_input, None, viewer, queue=False, **quiet)
    if uploader is not None:
        state = gr.Textbox(label="The instrument's settings", visible=False)
        uploader.upload(uploaded, [state, uploader], viewer, js=READ_STATE, concurrency_limit=2, **quiet)
