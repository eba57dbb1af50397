"""Processor time of the answer of /curves for a 256x256 colour picture: moments by level, and pixel by pixel.

    python benchmarks/curves.py [--T 200]

A photograph that was shrunk to 256 pixels has as many levels as there can be (4081), one of 8 bits 256.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the app has it: threads that spin while they wait would count
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from pixelviz.process.forward import empirical_moments, noise
from pixelviz.service.forward import curves_json
from pixelviz.view import View


def milliseconds(work: Callable[[], Any], times: int = 5) -> float:
    """The least processor time of `work`, all threads together, after one run to warm up."""
    spent = []
    for _ in range(times + 1):
        began = time.process_time()
        work()
        spent.append(1000 * (time.process_time() - began))
    return min(spent[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--T", type=int, default=200)
    T = parser.parse_args().T
    rng = np.random.default_rng(0)
    pictures = {"8 bits": rng.integers(0, 256, (256, 256, 3), np.uint8), "shrunk": rng.random((256, 256, 3))}
    for name, picture in pictures.items():
        view = View.of(picture, T=T, pixels=[[128, 128, 0]])
        answer = milliseconds(lambda view=view: curves_json(view.but(seed=1)))
        print(f"{name}, {len(view.levels)} levels, T = {T}: {answer:.0f} ms")
    walked = milliseconds(
        lambda: [empirical_moments(one, view.x0, noise(1, view.x0.shape, T)) for one in view.schedules.values()], 1
    )
    print(f"every pixel of both chains walked: {walked:.0f} ms, {walked / answer:.0f} times as long")


if __name__ == "__main__":
    main()
