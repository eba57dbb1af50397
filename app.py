"""Hugging Face Space entry, and `python app.py` on one's own machine: the same as `pixelviz app`."""

from __future__ import annotations

import sys
from contextlib import suppress

with suppress(ImportError):
    import spaces  # noqa: F401  before torch: on ZeroGPU it stands between the two

from pixelviz import __main__ as cli


def main() -> None:
    """Start the app; options as for `pixelviz app`."""
    sys.argv.insert(1, "app")
    cli.main()


if __name__ == "__main__":
    main()
elif __name__ != "__mp_main__":  # for whoever imports it, as `gradio app.py` does, but a training's process
    from pixelviz.ui.app import build_app

    demo = build_app()
