"""Pictures for the instrument: what its `input` event asks for, and uploads. Used by every tab that holds one."""

from __future__ import annotations

import json
import secrets
from typing import Any

import gradio as gr

from pixelviz.checks import ServiceError
from pixelviz.declare import quoted
from pixelviz.service.errors import friendly
from pixelviz.service.service import Service
from pixelviz.ui.widgets import EXAMPLE_IDS

Source = dict[str, Any]  # path, example (an id or None), seed: the picture in use


def first_source() -> Source:
    """The picture that an instrument starts with."""
    example, path = next(iter(EXAMPLE_IDS.items()))
    return {"path": str(path), "example": example, "seed": 0}


def asked(service: Service, source: Source, example: Any, seed: Any, request: Any) -> tuple[Source, str]:
    """The picture in use, and the instrument's value, for an example (None: the same picture) and a seed.

    Whatever is wrong comes back as a value {"error", "request"}, and the picture in use stays.
    """
    try:
        if example is not None:
            if example not in EXAMPLE_IDS:
                raise ServiceError(f"there is no example {quoted(example)}; choose one of {', '.join(EXAMPLE_IDS)}.")
            wanted = {"path": str(EXAMPLE_IDS[example]), "example": example, "seed": seed}
        else:
            wanted = {**source, "seed": seed}
        value = service.instrument(wanted["path"], seed, example=wanted["example"], request=request)
    except Exception as error:
        return source, json.dumps({"error": friendly(error), "request": request})
    return wanted, value


def uploaded(service: Service, source: Source, path: str) -> tuple[Source, str]:
    """As `asked`, for an uploaded file."""
    token = secrets.token_hex(4)  # the same message twice must still reach the browser
    try:
        value = service.instrument(path, source["seed"], example=None, request=token)
    except Exception as error:
        return source, json.dumps({"error": friendly(error), "request": token})
    return {"path": path, "example": None, "seed": source["seed"]}, value


def connect(viewer: gr.HTML, source: gr.State, service: Service, uploader: gr.UploadButton | None = None) -> None:
    """Answer an instrument's questions. Cheap, so beside the queue; uploads may be large, and wait their turn."""

    def on_input(source: Source, event: gr.EventData) -> tuple[Source, str]:
        return asked(service, source, event.example, event.seed, event.request)

    def on_upload(source: Source, path: str) -> tuple[Source, str]:
        return uploaded(service, source, path)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    viewer.input(on_input, source, [source, viewer], queue=False, **quiet)
    if uploader is not None:
        uploader.upload(on_upload, [source, uploader], [source, viewer], concurrency_limit=2, **quiet)
