"""The screen: a table of tabs over one shared service."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr

from pixelviz.ui import widgets
from pixelviz.ui.api import register_api
from pixelviz.ui.jobs import TrainingJobs
from pixelviz.ui.service import Service
from pixelviz.ui.tabs import checkpoints, forward, generate, scale, train
from pixelviz.ui.theme import theme

TABS = (
    ("Forward", forward.build),
    ("Scale", scale.build),
    ("Generate", generate.build),
    ("Train", train.build),
    ("Checkpoints", checkpoints.build),
)

CACHE_SWEEP = (600, 3600)  # seconds: look for, and delete, files of this age
MAX_UPLOAD = "50mb"
MAX_WAITING = 64

_HEADER = """
<header class="pv-header">
  <div>
    <h1>PixelViz</h1>
    <p>Diffusion whose noise depends on each pixel's own brightness: explore it, estimate it,
      sample from it, train it.</p>
  </div>
  <button type="button" aria-label="Switch between light and dark">◐</button>
</header>
"""
_SWITCH = "element.querySelector('button').onclick = () => document.body.classList.toggle('dark');"


def build_app(service: Service | None = None, jobs: TrainingJobs | None = None) -> gr.Blocks:
    """The app; `service` and `jobs` are made here where none are given, and are shared by all visitors."""
    # Gradio rebuilds a summary of all events after every single one unless told otherwise; it phones home, too.
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    service = service or Service()
    jobs = jobs or TrainingJobs(service)
    with gr.Blocks(title="PixelViz", analytics_enabled=False, delete_cache=CACHE_SWEEP) as demo:
        register_api(service, jobs)  # first, so that no event of the screen takes an endpoint's name
        gr.HTML(html_template=_HEADER, js_on_load=_SWITCH, apply_default_css=False)
        with gr.Tabs():
            for title, build in TABS:
                with gr.Tab(title, id=title.lower()) as tab:
                    build(demo, tab, service, jobs)
    demo.queue(max_size=MAX_WAITING)
    return demo


def launch_options() -> dict[str, Any]:
    """What `demo.launch` needs besides the address: since Gradio 6 theme and styles are passed there."""
    return {
        "theme": theme(),
        "css_paths": [widgets.STATIC / "app.css"],
        "max_file_size": MAX_UPLOAD,
        "ssr_mode": False,
        "run_history": False,
        "footer_links": ["api"],
    }
