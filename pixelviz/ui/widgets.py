"""The app's own components: gr.HTML with a script from static/, and small pieces of HTML made in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Literal

import gradio as gr
import numpy as np
from markupsafe import escape

from pixelviz.config import PAPER_FLOOR
from pixelviz.data import pictures
from pixelviz.data.images import EXAMPLES, fit_square
from pixelviz.data.picture_store import PICTURES
from pixelviz.lesson.pages import FIRST_LANGUAGE, languages
from pixelviz.process.formulas import LONGEST, PAPERS
from pixelviz.process.schedules import RANGES, SCHEDULES, by_pixel
from pixelviz.process.theory import LEAST_GAMMA_FOR_FLOOR
from pixelviz.ui import scripts
from pixelviz.ui.markup import render
from pixelviz.view import OWN_RATE, View

THUMBNAIL_SIDE = 48
IMAGE_TYPES = ["image"]
EXAMPLE_IDS = {path.stem: path for _, path in EXAMPLES}  # as events and addresses name them
LATEX = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]


def component(template: str, module: str, value: str | None = None, **settings: Any) -> gr.HTML:
    """A gr.HTML on which a module of static/ is mounted; `settings` are its props, or what gr.HTML takes."""
    return gr.HTML(
        value,
        html_template=template,
        js_on_load=scripts.mounting(module),
        apply_default_css=False,
        container=False,
        **settings,
    )


@cache
def _thumbnails() -> tuple[tuple[str, str], ...]:
    """(label, data URI) of every bundled example."""
    kept = ((label, PICTURES[PICTURES.keep(path)]) for label, path in EXAMPLES)
    small = ((label, fit_square(picture, THUMBNAIL_SIDE, 3).pixels) for label, picture in kept)
    return tuple((label, pictures.data_uri(pictures.as_bytes(pixels), lossy=True)) for label, pixels in small)


def _examples() -> list[list[str]]:
    """[id, label, data URI] of every bundled example."""
    return [[name, *example] for name, example in zip(EXAMPLE_IDS, _thumbnails(), strict=True)]


def picture(upload_id: str, value: str | None = None) -> gr.HTML:
    """The picture with its markers and example thumbnails; value: `payloads.picture`.

    Events: `select` with row and col of a click, `input` with the id of an example.
    """
    return component(render("picture"), "picture.js", value=value, upload_id=upload_id, examples=_examples())


def upload_button(elem_id: str, visible: bool | Literal["hidden"] = True) -> gr.UploadButton:
    """The button that a dropped or pasted file also goes through. It passes the file untouched.

    gr.Image would decode uploads itself: 16-bit pictures saturate, damaged ones fail without a reason.
    """
    return gr.UploadButton("Upload a picture", file_types=IMAGE_TYPES, size="sm", elem_id=elem_id, visible=visible)


def instrument(*, elem_id: str, upload_id: str | None = None) -> gr.HTML:
    """The forward process in the browser; value: `payloads.instrument`, or {"error", "request"} as JSON.

    upload_id: elem_id of the upload button that its own button, drops and pasted files go through. Event: `input`
    with example (an id of EXAMPLE_IDS, or None for other noise), picture (the key of the one in use), seed and request,
    which wants a value that carries the same request. Scripts find it as `pvInstrument` of the node `.pv-instrument`.
    """
    return component(
        render("instrument", ranges={name: row.title for name, row in RANGES.items()}),
        "instrument/instrument.js",
        elem_id=elem_id,
        upload_id=upload_id,
        examples=_examples(),
        first=next(iter(EXAMPLE_IDS)),
        schedules=[*((SCHEDULES[name].title, name) for name in by_pixel()), ("Your own rate Γ(x₀, t)", OWN_RATE)],
        ranges={name: row.about for name, row in RANGES.items()},
        formula={"default": PAPERS, "longest": LONGEST},
        view=View.declaration(),
        adviser={"least": PAPER_FLOOR, "leastGamma": LEAST_GAMMA_FOR_FLOOR},
        colours=list(pictures.PIXEL_COLOURS),
        channels=[list(channel) for channel in (*pictures.RGB_CHANNELS, pictures.GRAY_CHANNEL)],
    )


def chart(**settings: Any) -> gr.HTML:
    """A chart; value: a figure of `charts`."""
    return component(render("chart"), "chart.js", **settings)


def sample_sheet(**settings: Any) -> gr.HTML:
    """A grid of samples with a progress bar; value: `payloads.sample_sheet`. Event: `select` with an index."""
    return component(render("sheet"), "sheet.js", **settings)


def sides(**settings: Any) -> gr.HTML:
    """A and B with a divider to drag, and their difference; value: `payloads.a_and_b`."""
    return component(render("sides"), "sides.js", **settings)


def code(elem_id: str, label: str = "The same from the command line") -> gr.Textbox:
    """What makes the same as is shown, to copy."""
    return gr.Textbox(label=label, interactive=False, buttons=["copy"], elem_id=elem_id)


def triangle(ask: Callable[..., Any]) -> gr.HTML:
    """A triangle of samples to drag in; value: `payloads.corners`.

    `ask`, a function named between, takes [checkpoint, seed, corners, weights, class, guidance].

    Latest wins: while an answer is under way, only the hand's last place waits. Where the answer is that the server is
    busy, it is asked for that place again.
    """
    return component(render("between"), "between.js", server_functions=[ask], elem_id="between")


def about(key: str, **settings: Any) -> gr.Markdown:
    """A paragraph that says what something is for: `about` in the words' files, by its key."""
    text = languages()[FIRST_LANGUAGE]["about"][key]
    return gr.Markdown(text, elem_classes="pv-intro", latex_delimiters=LATEX, **settings)


def heading(title: str) -> gr.HTML:
    """A heading between a tab's components."""
    return gr.HTML(render("titled", title=title, parts=()), apply_default_css=False, elem_classes="pv-heading")


# --- Pieces of HTML


def warn(message: str) -> None:
    """A message that slides in. Gradio shows it as HTML, and it may quote what a visitor sent."""
    gr.Warning(str(escape(message)))


def alert(message: str | None, kind: str = "error") -> str:
    """A message for a person; kind error, info or good. Empty for None."""
    return render("alert", message=message, kind=kind) if message else ""


def notes(lines: Sequence[str]) -> str:
    """What was done to a picture, as a quiet list; empty for none."""
    return render("notes", lines=lines) if lines else ""


def share_bar(label: str, share: float, text: str = "") -> str:
    """How far something is, from 0 to 1, as a bar with a line of text."""
    return render("progress", label=label, share=share, text=text)


def cards(values: Iterable[tuple[str, str, str]]) -> str:
    """Numbers to read at a glance: (label, value, explanation)."""
    return render("cards", values=values)


def figure_row(items: Iterable[tuple[np.ndarray, str, str]], *, kind: str = "large") -> str:
    """Images uint8 (H, W, C) in a row, each with a title and a smaller line; kind large, wide, strips or small."""
    return render("figures", kind=kind, items=((pictures.data_uri(image), *words) for image, *words in items))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A plain table; the first cell of a row is its heading."""
    return render("table", head=head, rows=rows, caption=caption)
