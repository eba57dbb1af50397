"""`pixelviz app`, which `python app.py` is as well."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.service import Service
from pixelviz.ui.app import build_app, launch_options

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, whoever runs the server, a closed terminal
END_SECONDS = 10.0  # for a training to be saved in, before the app ends all the same
SHORTEST = 6  # characters of a room's code; shorter ones can be tried out


def _users(given: Sequence[str]) -> list[tuple[str, str]]:
    """Names and passwords from USER:PASSWORD, or from files with one of these a line; raises BadParameter."""
    lines = []
    for one in given:
        if ":" in one and not Path(one).is_file():
            lines.append(one)
            continue
        try:
            lines += filter(None, map(str.strip, Path(one).read_text(encoding="utf-8").splitlines()))
        except (OSError, ValueError):
            raise typer.BadParameter(f"--auth takes USER:PASSWORD or a file of such lines; {one} is neither.") from None
    pairs = [tuple(line.split(":", 1)) for line in lines]
    if given and not (pairs and all(len(pair) == 2 and all(pair) for pair in pairs)):
        raise typer.BadParameter("--auth takes USER:PASSWORD, or a file with one of these in each line.")
    return pairs


def _code(room: str | None) -> str | None:
    if room is not None and len(room.strip()) < SHORTEST:
        raise typer.BadParameter(f"a room's code has at least {SHORTEST} characters, so that it cannot be tried out.")
    return room


def _folder(path: Path) -> Path:
    if not path.expanduser().is_dir():
        raise typer.BadParameter(f"--allow-folder: {path} is not a folder.")
    return path


def app(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for other machines, too (default: this one only).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port (default: the first free one from 7860).")] = None,
    root_path: Annotated[
        str | None, typer.Option(help="Where a reverse proxy shows the app, as /pixelviz or https://host/pixelviz.")
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Ask Gradio for a public link.")] = False,
    auth: Annotated[
        list[str] | None, typer.Option(help="USER:PASSWORD, or a file with one of these a line; repeatable.")
    ] = None,
    room: Annotated[
        str | None, typer.Option(help="A code that everybody types once, or has in the link: ADDRESS/?room=CODE.")
    ] = None,
    allow_folder: Annotated[
        list[Path] | None, typer.Option(help="A folder that visitors may name, with all in it; repeatable.")
    ] = None,
) -> None:
    """Start the app, to be opened in a browser. Ctrl-C or SIGTERM saves a running training and ends it."""
    users, code = _users(auth or ()), _code(room)
    service = Service(allowed=[_folder(path) for path in allow_folder or ()], proxied=bool(share or root_path))
    jobs = TrainingJobs(service)
    demo = build_app(service, jobs)
    stop = threading.Event()
    heard = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    for one in heard:
        signal.signal(one, lambda *_: stop.set())
    try:
        demo.launch(
            server_name=host,
            server_port=port,
            root_path=root_path,
            share=share,
            auth=users or None,
            prevent_thread_lock=True,
            **launch_options(code),
        )
    except OSError as error:
        if port is None or "empty port" not in str(error):
            raise
        raise OSError(f"port {port} is in use; name another one, or leave --port out.") from None
    while not stop.wait(0.5):  # without a limit, Windows would not hear Ctrl-C
        pass
    for one in heard:
        signal.signal(one, signal.SIG_DFL)  # a second one ends it at once
    print("Stopping; a running training is saved.", flush=True)
    jobs.end(END_SECONDS)  # its weights are saved first; what it does besides, it ends alone
    demo.server.force_exit = True  # open pages hold their streams for ever
    demo.close(verbose=False)
    if jobs.status().running:  # Python would wait for the rest of it
        sys.stdout.flush()
        os._exit(0)
