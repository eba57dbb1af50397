"""Where the files that ship with the repository lie."""

from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "assets"
FASHION_10K = ASSETS / "fashion-mnist"
FACES_10K = ASSETS / "faces"
EXAMPLES_DIR = ASSETS / "examples"
CLASSIFIER = ASSETS / "classifier" / "fashion-mnist.safetensors"  # its .json lies beside it
FID_REFERENCE = ASSETS / "classifier" / "fid-reference.safetensors"
CIFAR_CLASSIFIER = ASSETS / "classifier" / "cifar10.safetensors"
CIFAR_REFERENCE = ASSETS / "classifier" / "fid-reference-cifar10.safetensors"
