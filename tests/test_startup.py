"""What is not imported before it is needed. Seconds are for benchmarks/startup.py; these look at modules."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LATE = ("accelerate", "av", "diffusers", "matplotlib", "scipy", "skimage", "torchmetrics", "torchvision")
SEEN = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


def imported(program, *arguments):
    """Top-level names of all modules that a fresh Python has imported after a program."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{SEEN}", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*arguments):
    """What `pixelviz arguments` imports."""
    return imported(
        "import sys\nfrom pixelviz.__main__ import main\ntry:\n    main()\nexcept SystemExit as stop:\n"
        "    assert not stop.code, stop.code",
        *arguments,
    )


def test_the_app_starts_without_what_only_some_requests_need():
    found = imported("import app")
    assert {"gradio", "torch", "pixelviz"} <= found
    assert not found & set(LATE)


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "--preset", "cifar10"], ["inspect", "--help"]])
def test_to_look_around_needs_no_torch(arguments):
    found = command(*arguments)
    assert "typer" in found
    assert not found & {"torch", "gradio", "numpy", *LATE}
