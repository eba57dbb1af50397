"""What test_processes starts through `accelerate launch`: trains tiny models, and writes down the losses.

Arguments: a folder, the number of steps of its run, and so on. A folder that holds a checkpoint is resumed.
"""

import json
import sys
from pathlib import Path

import torch

from pixelviz.config import PARTS, TrainConfig
from pixelviz.devices import processes
from pixelviz.learning.training import train
from pixelviz.store import checkpoints
from tests.tiny import tiny_config, tiny_images


def run(folder: Path, steps: int) -> list[dict[str, float]]:
    """Train all parts in float32, in as many processes as there are; returns the losses."""
    torch.set_num_threads(1)
    resume = (folder / checkpoints.CONFIG).exists()
    settings = TrainConfig(steps=steps, batch=8, heads_per_step=3, parts=PARTS, ema=0.5)
    processes("cpu").wait_for_everyone()  # all have looked by now whether there is a checkpoint
    return [
        step.losses
        for step in train(
            tiny_images(),
            tiny_config(),
            settings,
            folder,
            resume=resume,
            device="cpu",
            precision="float32",
            preview_every=1000,
        )
    ]


if __name__ == "__main__":
    for folder, steps in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        losses = run(Path(folder), int(steps))
        if processes("cpu").is_main_process:
            Path(folder, "losses.json").write_text(json.dumps([processes("cpu").num_processes, losses]))
    processes("cpu").destroy_process_group()
