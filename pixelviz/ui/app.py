"""The screen: a table of tabs over one shared service."""

from __future__ import annotations

import os
from collections.abc import Callable
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.middleware import Middleware

from pixelviz.service.errors import friendly
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.service import Service
from pixelviz.service.turns import AT_ONCE
from pixelviz.ui import header, scripts
from pixelviz.ui.api import register_api
from pixelviz.ui.guard import Guard
from pixelviz.ui.markup import render
from pixelviz.ui.queue import client_is_there, take_turns
from pixelviz.ui.sessions import LightSessions
from pixelviz.ui.tabs import checkpoints, claims, compare, forward, generate, lesson, scale, train
from pixelviz.ui.theme import theme

if TYPE_CHECKING:
    from fastapi import FastAPI

TABS = (
    ("Forward", forward.build),
    ("Lesson", lesson.build),
    ("Scale", scale.build),
    ("Generate", generate.build),
    ("Compare", compare.build),
    ("Claims", claims.build),
    ("Train", train.build),
    ("Checkpoints", checkpoints.build),
)

STYLES = ("app.css", "instrument/instrument.css", "lesson.css", "claims.css", "compare.css")
CACHE_SWEEP = (600, 3600)  # seconds: look for, and delete, files of this age
MAX_UPLOAD = "50mb"
# Gradio phones home, and after every event looks through a record of the last 10,000, unless told otherwise.
ANALYTICS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**12),
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
}
GPU_SECONDS = 120  # that an event may hold a GPU of a Space which lends them
MOST_SESSIONS = 1000  # whose components' changes are remembered
UNFIT = "This request does not fit what the app takes. Reload the page; scripts: see the page of the API."


class _Blocks(gr.Blocks):
    """The app's blocks: what goes wrong in an event is a sentence, and a traceback in the log only where it is ours."""

    @property
    def state_holder(self) -> LightSessions:
        """The sessions."""
        return self._sessions

    @state_holder.setter
    def state_holder(self, found: LightSessions) -> None:
        found.__class__ = LightSessions  # every launch makes one
        self._sessions = found

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Answer an event. Gradio would print a traceback for every request that does not fit."""
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error as error:
            # The page shows it as HTML, and it may quote the request.
            raise gr.Error(error.message.replace("<", "‹"), error.duration, print_exception=False) from None
        except Exception as error:
            frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)][1:]
            ours = any(name.startswith("pixelviz.") for name in frames)
            raise gr.Error(friendly(error) if ours else UNFIT, print_exception=False) from None


def on_gpu(handler: Callable) -> Callable:
    """A handler that gets a GPU while it runs, on a Space with ZeroGPU; elsewhere the handler itself."""
    try:
        from spaces import GPU
    except ImportError:
        return handler
    return GPU(duration=GPU_SECONDS)(handler)


def build_app(service: Service | None = None, jobs: TrainingJobs | None = None) -> gr.Blocks:
    """The app; `service` and `jobs` are made here where none are given, and are shared by all visitors."""
    for name, value in ANALYTICS.items():
        os.environ.setdefault(name, value)
    service = service or Service()
    jobs = jobs or TrainingJobs(service)
    with _Blocks(title="PixelViz", analytics_enabled=False, delete_cache=CACHE_SWEEP) as demo:
        register_api(service, jobs)  # first, so that no event of the screen takes an endpoint's name
        head = header.build([title.lower() for title, _ in TABS], service)
        with gr.Tabs(overflow_behavior="wrap"):
            for title, build in TABS:
                with gr.Tab(title, id=title.lower()) as tab:
                    build(demo, tab, service, jobs)
        header.speak(demo, head)
    for event in demo.fns.values():
        if event.fn and event.concurrency_id in AT_ONCE:  # the handlers that run networks, and no others
            event.fn = on_gpu(event.fn)
    take_turns(demo)
    service.turn.wanted = client_is_there  # a client that goes away frees its place
    return demo


def mount(app: FastAPI, path: str, service: Service | None = None, jobs: TrainingJobs | None = None) -> FastAPI:
    """Show PixelViz below `path` of a FastAPI app, such as /pixelviz; returns that app. Otherwise as `build_app`.

    Where no service is given, nobody is told to sit at this computer: nothing says what stands before that app.
    """
    demo, options = build_app(service or Service(proxied=True), jobs), launch_options()
    demo.state_session_capacity = options.pop("state_session_capacity")  # of `launch` alone
    return gr.mount_gradio_app(app, demo, path=path, **options)


def launch_options(room: str | None = None) -> dict[str, Any]:
    """What `demo.launch` needs besides the address: since Gradio 6 theme and styles are passed there.

    room: the code that everybody must know to come in, None for no code.
    """
    return {
        "theme": theme(),
        "css_paths": [scripts.STATIC / name for name in STYLES],
        # Rules about the whole page; Gradio would put its own prefix before them.
        "head": str(render("page_style")),
        "max_file_size": MAX_UPLOAD,
        "ssr_mode": False,
        "state_session_capacity": MOST_SESSIONS,
        "run_history": False,
        "footer_links": ["api"],
        "app_kwargs": {"routes": scripts.routes(), "middleware": [Middleware(Guard, room=room)]},
    }
