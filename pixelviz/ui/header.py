"""The head of the page: title, light and dark, presenter mode, and the address that holds what is on the screen."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from pixelviz.lesson.pages import languages
from pixelviz.lesson.steps import STEPS
from pixelviz.process.schedules import by_pixel
from pixelviz.ui import widgets

_HEADER = """
<header class="pv-header">
  <div>
    <h1>PixelViz</h1>
    <p>Diffusion whose noise depends on each pixel's own brightness: explore it, estimate it,
      sample from it, train it.</p>
  </div>
  <div class="pv-tools">
    <button type="button" class="pv-copy" title="Copy a link to what is on the screen" aria-label="Copy link">
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d="M10 14a4.5 4.5 0 0 0 6.4 0l3.2-3.2a4.5 4.5 0 0 0-6.4-6.4L12 5.6"/>
        <path d="M14 10a4.5 4.5 0 0 0-6.4 0l-3.2 3.2a4.5 4.5 0 0 0 6.4 6.4l1.2-1.2"/></svg> <b>Copy link</b></button>
    <button type="button" class="pv-present" aria-pressed="false" aria-label="Presenter mode"
      title="Presenter mode: large type, no controls (P)"><svg viewBox="0 0 24 24"
      aria-hidden="true"><path d="M3 4h18v12H3zM12 16v4M8 20h8"/></svg> <b>Present</b></button>
    <button type="button" class="pv-dark" aria-label="Switch between light and dark"
      title="Light and dark"><svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="8"/><path
        d="M12 4a8 8 0 0 1 0 16z" fill="currentColor"/></svg></button>
  </div>
</header>
<p class="pv-toast pv-address-note" role="status" hidden></p>
<p class="pv-toast pv-keys" role="status" hidden><kbd>←</kbd> <kbd>→</kbd> time <kbd>space</kbd> play
  <kbd>N</kbd> <kbd>B</kbd> lesson step <kbd>Esc</kbd> leave</p>
"""


def build(tabs: Sequence[str]) -> gr.HTML:
    """The header; `tabs`, the ids of the tabs, the first of which is open at the start."""
    return widgets.component(
        _HEADER,
        "header.js",
        tabs=list(tabs),
        examples=list(widgets.EXAMPLE_IDS),
        steps=len(STEPS) + 1,
        languages=list(languages()),
        schedules=by_pixel(),
    )
