"""Where the files that ship with the repository lie."""

from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"
FASHION_10K = ASSETS / "fashion-mnist"
EXAMPLES_DIR = ASSETS / "examples"
CLASSIFIER = ASSETS / "classifier" / "fashion-mnist.safetensors"  # its .json lies beside it
FID_REFERENCE = ASSETS / "classifier" / "fid-reference.safetensors"
