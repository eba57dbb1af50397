"""`pixelviz app`, which `python app.py` is as well."""

from __future__ import annotations

from typing import Annotated

import typer

from pixelviz.ui.app import build_app, launch_options


def app(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for other machines, too (default: this one only).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port (default: the first free one from 7860).")] = None,
    root_path: Annotated[
        str | None, typer.Option(help="Where a reverse proxy shows the app, as /pixelviz or https://host/pixelviz.")
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Ask Gradio for a public link.")] = False,
) -> None:
    """Start the app, to be opened in a browser."""
    demo = build_app()
    try:
        demo.launch(server_name=host, server_port=port, root_path=root_path, share=share, **launch_options())
    except OSError as error:
        if port is None or "empty port" not in str(error):
            raise
        raise OSError(f"port {port} is in use; name another one, or leave --port out.") from None
