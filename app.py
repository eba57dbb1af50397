"""Hugging Face Space entry, and `python app.py` on one's own machine."""

from __future__ import annotations

import argparse
import os

# Threads that spin while they wait take the processor from a training run beside them. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from pixelviz.ui.app import build_app, launch_options

demo = build_app()


def main() -> None:
    """Parse the address and launch."""
    parser = argparse.ArgumentParser(description="PixelViz: pixel-aware diffusion in the browser.")
    parser.add_argument("--host", help="address to listen on; 0.0.0.0 for other machines, too (default: this one only)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument("--share", action="store_true", help="ask Gradio for a public link")
    arguments = parser.parse_args()
    try:
        demo.launch(server_name=arguments.host, server_port=arguments.port, share=arguments.share, **launch_options())
    except OSError as error:
        if arguments.port is None or "empty port" not in str(error):
            raise
        parser.error(f"port {arguments.port} is in use; name another one, or leave --port out.")


if __name__ == "__main__":
    main()
