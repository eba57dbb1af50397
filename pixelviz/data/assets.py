"""Where the files lie that ship with PixelViz: at the top of a checkout, or inside the installed package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = (_PACKAGE / "_bundled").is_dir()
HOME = _PACKAGE / "_bundled" if INSTALLED else _PACKAGE.parent
ASSETS, CHECKPOINTS = HOME / "assets", HOME / "checkpoints"
FASHION_10K = ASSETS / "fashion-mnist"
FACES_10K = ASSETS / "faces"
EXAMPLES_DIR = ASSETS / "examples"
CLASSIFIER = ASSETS / "classifier" / "fashion-mnist.safetensors"  # its .json lies beside it
FID_REFERENCE = ASSETS / "classifier" / "fid-reference.safetensors"
CIFAR_CLASSIFIER = ASSETS / "classifier" / "cifar10.safetensors"
CIFAR_REFERENCE = ASSETS / "classifier" / "fid-reference-cifar10.safetensors"
FACES_CLASSIFIER = ASSETS / "classifier" / "faces.safetensors"
FACES_REFERENCE = ASSETS / "classifier" / "fid-reference-faces.safetensors"


def default_runs() -> Path:
    """Where trainings are saved: the environment variable PIXELVIZ_RUNS; runs/ of a checkout; or the user's data."""
    if given := os.environ.get("PIXELVIZ_RUNS"):
        return Path(given)
    if not INSTALLED:
        return HOME / "runs"
    home = Path.home()
    variable, usual = {
        "win32": ("LOCALAPPDATA", home / "AppData" / "Local"),
        "darwin": ("", home / "Library" / "Application Support"),
    }.get(sys.platform, ("XDG_DATA_HOME", home / ".local" / "share"))
    return Path(os.environ.get(variable) or usual) / "pixelviz" / "runs"
