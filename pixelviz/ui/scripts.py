"""The page's scripts: ES modules in static/, which a browser loads once and keeps until one of them changes."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).with_name("static")
KEEP = "public, max-age=31536000, immutable"

# Imports a module from where this page came from (a Space, a share link, a path behind a proxy), and mounts it.
_MOUNT = r"""const root = new URL(window.gradio_config?.root || "/", location.href).pathname.replace(/\/$/, "");
import(location.origin + root + "%s").then((module) => module.mount({ element, props, trigger, watch }));"""


@cache
def address() -> str:
    """Where the modules are, below the app's root: another path as soon as one of them changes."""
    found = hashlib.sha256()
    for path in sorted(STATIC.rglob("*.js")):
        found.update(path.read_bytes())
    return f"/pixelviz/{found.hexdigest()[:12]}"


def mounting(module: str) -> str:
    """A component's `js_on_load`: mounts a module of static/ on it, as static/page.js says."""
    if not (STATIC / module).is_file():
        raise FileNotFoundError(f"there is no script {module}")
    return _MOUNT % f"{address()}/{module}"


class _Kept(StaticFiles):
    """Files that never change at their address."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = KEEP
        return response


def route() -> Mount:
    """Serves the modules; goes to FastAPI beside Gradio's own routes."""
    return Mount(address(), _Kept(directory=STATIC))
