"""The page's scripts: ES modules in static/, Plotly's, and the words; a browser loads each once, until one changes."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from pixelviz.lesson.pages import languages

STATIC = Path(__file__).with_name("static")
KEEP = "public, max-age=31536000, immutable"

# From where this page came from (a Space, a share link, a path behind a proxy), mounts a module on a component.
_MOUNT = r"""const root = new URL(window.gradio_config?.root || "/", location.href).pathname.replace(/\/$/, "");
import(location.origin + root + "%s/language.js").then((it) => it.mount("%s", { element, props, trigger, watch,
  server: typeof server === "undefined" ? {} : server }));"""


def _words() -> bytes:
    return json.dumps(languages(), ensure_ascii=False).encode()


@cache
def address() -> str:
    """Where the modules are, below the app's root: another path as soon as one of them changes."""
    found = hashlib.sha256(version("plotly").encode() + _words())
    for path in sorted(STATIC.rglob("*.js")):
        found.update(path.read_bytes())
    return f"/pixelviz/{found.hexdigest()[:12]}"


def mounting(module: str) -> str:
    """A component's `js_on_load`: mounts a module of static/ on it, as static/page.js says."""
    if not (STATIC / module).is_file():
        raise FileNotFoundError(f"there is no script {module}")
    return _MOUNT % (address(), module)


class _Kept(StaticFiles):
    """Files that never change at their address."""

    def get_path(self, scope: Scope) -> str:
        """What is asked for below `address`; Starlette's own way fails where a proxy took --root-path off the path."""
        return os.path.normpath(scope["path"].rpartition(address())[2].lstrip("/"))

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = KEEP
        return response


def _plotly(request: Request) -> FileResponse:
    """The script that plotly brings; static/plot_widget.js asks for it at the first chart."""
    path = Path(find_spec("plotly").submodule_search_locations[0], "package_data", "plotly.min.js")
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": KEEP})


def _languages(request: Request) -> Response:
    """All words of the page, by language; static/language.js asks for them."""
    return Response(_words(), media_type="application/json", headers={"Cache-Control": KEEP})


def routes() -> list[BaseRoute]:
    """Serve the scripts; they go to FastAPI beside Gradio's own routes."""
    made = {"plotly.min.js": _plotly, "languages.json": _languages}
    return [
        *(Route(f"{address()}/{name}", answer) for name, answer in made.items()),
        Mount(address(), _Kept(directory=STATIC)),
    ]
