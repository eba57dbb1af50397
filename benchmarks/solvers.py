"""Where the second-order multistep solver pays: its distance from where many steps lead, beside the rotation's.

    python benchmarks/solvers.py CHECKPOINT assets/solvers/NAME.json [--images 32]

Both solve one flow, from the same starts; where that leads is taken from the rotation with as many steps as it can.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from pixelviz.devices import Compute, choose
from pixelviz.measure import environment
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers import draw
from pixelviz.store import checkpoints
from pixelviz.store.files import write_json

PASSES = (2, 5, 10, 20, 50)
SOLVERS = ("rotation", "multistep")


def images(model: PixelAwareModel, compute: Compute, n: int, sampler: str, passes: int) -> Tensor:
    """Images 0..n-1 of seed 0, as the solver leaves them."""
    return deque(draw(model, compute, n=n, sampler=sampler, passes=passes), maxlen=1).pop().x.float()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("json", type=Path)
    parser.add_argument("--images", type=int, default=32)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    compute = choose("cpu", "float32")
    loaded = checkpoints.load(asked.checkpoint)
    model, n = loaded.model, asked.images
    many = model.config.T - 1  # with T boundaries are whole steps, with fewer they are the solvers' own
    end = images(model, compute, n, SOLVERS[0], many)
    errors = {
        solver: {str(k): (images(model, compute, n, solver, k) - end).square().mean().sqrt().item() for k in PASSES}
        for solver in SOLVERS
    }
    about = {"images": n, "reference": many, "i_min": model.config.i_min, "environment": environment.describe(compute)}
    write_json(asked.json, {"checkpoint": asked.checkpoint.name, "notes": loaded.record.notes[-1:], **about, **errors})
    for solver, found in errors.items():
        print(solver, {passes: round(error, 4) for passes, error in found.items()})


if __name__ == "__main__":
    main()
