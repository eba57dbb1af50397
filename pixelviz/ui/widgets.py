"""The app's own components: gr.HTML with a script from static/, and small pieces of HTML made in Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape as _escape
from typing import Any, Literal

import gradio as gr
import numpy as np

from pixelviz.data import pictures
from pixelviz.data.images import EXAMPLES, fit_square, read_image
from pixelviz.process.schedules import SCHEDULES, by_pixel
from pixelviz.ui import scripts
from pixelviz.ui.scripts import STATIC

THUMBNAIL_SIDE = 48
IMAGE_TYPES = ["image"]
EXAMPLE_IDS = {path.stem: path for _, path in EXAMPLES}  # as events and addresses name them
LATEX = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]

_PICTURE = """
<div class="pv-picture">
  <canvas role="img" aria-label="The picture" hidden></canvas>
  <p class="pv-drop-hint">Upload, drop or paste a picture, or choose an example.</p>
  <div class="pv-thumbs" role="group" aria-label="Examples"></div>
</div>
"""

_SHEET = """
<div class="pv-sheet">
  <div class="pv-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" hidden>
    <i></i>
  </div>
  <p class="pv-status" aria-live="polite"></p>
  <div class="pv-samples" role="group" aria-label="Samples"></div>
</div>
"""


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
    return tuple(
        (
            label,
            pictures.data_uri(pictures.as_bytes(fit_square(read_image(path), THUMBNAIL_SIDE, 3).pixels), lossy=True),
        )
        for label, path in EXAMPLES
    )


def picture(upload_id: str, value: str | None = None) -> gr.HTML:
    """The picture with its markers and example thumbnails; value: `payloads.picture`.

    Events: `select` with row and col of a click, `input` with the index of an example.
    """
    return component(
        _PICTURE, "picture.js", value=value, upload_id=upload_id, examples=[list(e) for e in _thumbnails()]
    )


def upload_button(elem_id: str, visible: bool | Literal["hidden"] = True) -> gr.UploadButton:
    """The button that a dropped or pasted file also goes through. It passes the file untouched.

    gr.Image would decode uploads itself: 16-bit pictures saturate, damaged ones fail without a reason.
    """
    return gr.UploadButton("Upload a picture", file_types=IMAGE_TYPES, size="sm", elem_id=elem_id, visible=visible)


def instrument(*, elem_id: str, upload_id: str | None = None) -> gr.HTML:
    """The forward process in the browser; value: `payloads.instrument`, or {"error", "request"} as JSON.

    upload_id: elem_id of the upload button that its own button, drops and pasted files go through. Event: `input`
    with example (an id of EXAMPLE_IDS, or None for the picture in use), seed and request, which wants a value that
    carries the same request. Scripts find it as `pvInstrument` of the node `.pv-instrument`.
    """
    return component(
        (STATIC / "instrument" / "template.html").read_text(encoding="utf-8"),
        "instrument/instrument.js",
        elem_id=elem_id,
        upload_id=upload_id,
        examples=[[name, *example] for name, example in zip(EXAMPLE_IDS, _thumbnails(), strict=True)],
        first=next(iter(EXAMPLE_IDS)),
        schedules=[(SCHEDULES[name].title, name) for name in by_pixel()],
        colours=list(pictures.PIXEL_COLOURS),
        channels=[list(channel) for channel in (*pictures.RGB_CHANNELS, pictures.GRAY_CHANNEL)],
    )


def chart(**settings: Any) -> gr.HTML:
    """A chart; value: a figure of `charts`."""
    return component('<div class="pv-chart" hidden></div>', "chart.js", **settings)


def sample_sheet(**settings: Any) -> gr.HTML:
    """A grid of samples with a progress bar; value: `payloads.sample_sheet`. Event: `select` with an index."""
    return component(_SHEET, "sheet.js", **settings)


# --- Pieces of HTML

# One letter of the paper's, perhaps with a hat or bar, and its index: x_T, x̂_δ, R_φ.
_INDEXED = re.compile(r"(?<!\w)([A-Za-zαγ][\u0302\u0304]?)_([A-Za-z0-9δθφ])(?!\w)")


def escape(text: str) -> str:
    """Text as HTML, with the symbols' indices lowered."""
    return _INDEXED.sub(r"\1<sub>\2</sub>", _escape(text))


def warn(message: str) -> None:
    """A message that slides in. Gradio shows it as HTML, and it may quote what a visitor sent."""
    gr.Warning(_escape(message))


def alert(message: str | None, kind: str = "error") -> str:
    """A message for a person; kind error, info or good. Empty for None."""
    role = "alert" if kind == "error" else "status"
    return f'<p class="pv-alert pv-{kind}" role="{role}">{escape(message)}</p>' if message else ""


def notes(lines: Iterable[str]) -> str:
    """What was done to a picture, as a quiet list; empty for none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="pv-notes">{items}</ul>' if items else ""


def cards(values: Iterable[tuple[str, str, str]]) -> str:
    """Numbers to read at a glance: (label, value, explanation)."""
    items = "".join(
        f'<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd><dd class="pv-why">{escape(text)}</dd></div>'
        for label, value, text in values
    )
    return f'<dl class="pv-cards">{items}</dl>'


def figure_row(items: Iterable[tuple[np.ndarray, str, str]], *, kind: str = "large") -> str:
    """Images uint8 (H, W, C) in a row, each with a title and a smaller line; kind large, wide or small."""
    cells = "".join(
        f'<figure><img src="{pictures.data_uri(image)}" alt="{_escape(title)}">'
        f"<figcaption><b>{escape(title)}</b><span>{escape(text)}</span></figcaption></figure>"
        for image, title, text in items
    )
    return f'<div class="pv-figures pv-{kind}">{cells}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A plain table; the first cell of a row is its heading."""
    columns = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    # Where it scrolls sideways, the keyboard must reach it.
    return (
        f'<div class="pv-table" tabindex="0" role="group" aria-label="Table"><table>{title}'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
