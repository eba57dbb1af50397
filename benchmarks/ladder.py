"""What causes the quality: from the prior alone, one thing more a row, on small networks of one size and budget.

    python benchmarks/ladder.py WORK assets/ladder/fashion-mnist.json [--seeds 3]

WORK is a folder for checkpoints. A seed is of the weights, of the training and of the samples alike. R_phi has seen as
many images under every schedule, from the same G_theta and prior; the linear-beta twin learns for as long as G_theta
and R_phi did together, by this process's processor time. Stopped and started again, it goes on with the stage that it
was in.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait would count
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from pixelviz.config import ModelConfig, TrainConfig
from pixelviz.data.sets import FASHION, ImageSet, load_images
from pixelviz.devices import Compute, choose
from pixelviz.learning.distillation import distill
from pixelviz.learning.state import average_weights
from pixelviz.learning.training import train
from pixelviz.measure import benchmark, environment, judges
from pixelviz.measure.judges import Reference, quality
from pixelviz.measure.ladder import RUNGS, Rung, summed_up, with_table
from pixelviz.measure.metrics import features_of
from pixelviz.models.parallel_unet import LinearTwin
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.schedules import LinearBeta
from pixelviz.samplers import draw
from pixelviz.samplers.batches import sample_images
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import Checkpoint, Record
from pixelviz.store.files import write_json

CONFIG = ModelConfig(
    32, 1, 200, 20.0, 0.2, (64, 96), 32, 32, (64, 96), 4, 8, 16, i_min=0.02, scale_error=0.1
)  # fmt: skip
BATCH, RATE = 64, 2e-3
VAE_STEPS, UNET_STEPS = 800, 600
PAIRS, PAIR_PASSES, DISTILLED_STEPS = 2048, 10, 120
SAMPLES, PROBE = 1000, 10  # images of a row and seed; steps by which the twin's pace is found


def spent(work: Iterable[Any]) -> float:
    """Seconds of this process's processor time that `work` took."""
    began = time.process_time()
    for _ in work:
        pass
    return time.process_time() - began


class Stages:
    """A seed's trained models, each in a folder, and the processor time that each took, its teacher's included."""

    def __init__(self, folder: Path, seed: int, images: ImageSet, compute: Compute) -> None:
        self.folder, self.seed, self.images, self.compute = folder, seed, images, compute
        self.path = folder / "seconds.json"
        self.seconds: dict[str, float] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def stage(self, name: str, make: Callable[[Path], float]) -> None:
        """Run `make` on an empty folder, unless that is done; its seconds are kept."""
        if name in self.seconds:
            return
        out = self.folder / name
        for file in out.glob("**/*") if out.exists() else ():  # of a run that was stopped
            if file.is_file():
                file.unlink()
        self.seconds[name] = make(out)
        write_json(self.path, self.seconds)
        print(f"seed {self.seed}: {name}, {self.seconds[name]:.0f} s", flush=True)

    def settings(self, steps: int, *parts: str, **more: Any) -> TrainConfig:
        """Of a training of these parts."""
        values = {"batch": BATCH, "learning_rate": RATE, "parts": parts, "seed": self.seed, "heads_per_step": 2}
        return TrainConfig(steps=steps, **values | more)

    def run(self) -> Iterator[str]:
        """All stages, whose names are yielded as they are done."""
        makers: dict[str, Callable[[Path], float]] = {
            "scale_vae": lambda out: self.learn(out, CONFIG, self.settings(VAE_STEPS, "scale_vae")),
            "pixel-aware": lambda out: self.diffusion(out, "pixel-aware"),
            "uniform": lambda out: self.diffusion(out, "uniform"),
            "pixel-aware-distilled": self.distilled,
            "twin": self.twin,
            "twin-distilled": self.twin_distilled,
        }
        for name, make in makers.items():
            self.stage(name, make)
            yield name

    def learn(self, out: Path | None, config: ModelConfig, settings: TrainConfig, **how: Any) -> float:
        """Train into `out`; returns the seconds."""
        return spent(train(self.images, config, settings, out, preview_every=10**9, save_every_seconds=1e9, **how))

    def diffusion(self, out: Path, schedule: str) -> float:
        """R_phi under a schedule, on the one G_theta of this seed."""
        source = self.load("scale_vae")
        model = PixelAwareModel(replace(CONFIG, schedule=schedule), ("scale_vae",))
        model.load_state_dict(source.model.state_dict())
        checkpoints.save(out, model, source.record)
        took = self.learn(out, model.config, self.settings(UNET_STEPS, "parallel_unet"), resume=True)
        return self.seconds["scale_vae"] + took

    def distilled(self, out: Path) -> float:
        """The pixel-aware R_phi, distilled from itself."""
        settings = self.settings(DISTILLED_STEPS, "parallel_unet", learning_rate=5e-4)
        how = {"pairs": PAIRS, "passes": PAIR_PASSES, "preview_every": 10**9, "save_every_seconds": 1e9}
        took = spent(distill(self.folder / "pixel-aware", out, self.images, settings, **how))
        return self.seconds["pixel-aware"] + took

    def twin(self, out: Path) -> float:
        """The linear-beta twin, for about as long as G_theta and R_phi have learnt."""
        pace = self.learn(None, CONFIG, self.settings(PROBE, "linear_twin")) / PROBE
        return self.learn(out, CONFIG, self.settings(round(self.seconds["pixel-aware"] / pace), "linear_twin"))

    def twin_distilled(self, out: Path) -> float:
        """The twin's one run learns where DDIM leads from x_T; its number is read as v, of which x_T says nothing.

        (As noise it would: x0_hat is x_T minus nearly the same, times 1 / sqrt(abar_T) = 157.)
        """
        teacher = self.load("twin")
        began = time.process_time()
        x_T, x0 = self.twin_pairs(teacher.model)
        student = copy.deepcopy(teacher.model.linear_twin).train().requires_grad_(True)
        torch.nn.init.zeros_(student.outlet.weight)
        average = torch.optim.swa_utils.AveragedModel(student, multi_avg_fn=average_weights(0.999))
        optimiser = torch.optim.Adam(student.parameters(), 5e-4)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(DISTILLED_STEPS):
            rows = torch.randint(len(x_T), (BATCH,), generator=generator)
            optimiser.zero_grad()
            with self.compute.autocast():
                loss = (one_run(student, x_T[rows], CONFIG.floor) - x0[rows]).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimiser.step()
            average.update_parameters(student)
        model = PixelAwareModel(CONFIG, ("linear_twin",))
        model.linear_twin.load_state_dict(average.module.state_dict())
        seen = {"linear_twin": teacher.record.images_seen["linear_twin"] + DISTILLED_STEPS * BATCH}
        checkpoints.save(out, model, Record(data=self.images.origin, images_seen=seen))
        return self.seconds["twin"] + time.process_time() - began

    def twin_pairs(self, model: PixelAwareModel) -> tuple[Tensor, Tensor]:
        """x_T, N(0, I), and the image in [floor, 1] that DDIM draws from it."""
        ends: list[tuple[Tensor, Tensor]] = []
        for first in range(0, PAIRS, 128):
            way = list(
                draw(model, self.compute, n=128, passes=PAIR_PASSES, sampler="ddim", seed=self.seed, first=first)
            )
            ends.append((signed(way[0].x, CONFIG.floor), way[-1].x.clamp(CONFIG.floor, 1)))
        x_T, x0 = (torch.cat(parts).clone() for parts in zip(*ends, strict=True))
        return x_T, x0

    def load(self, name: str) -> Checkpoint:
        """A finished stage."""
        return checkpoints.load(self.folder / name, self.compute.device)

    def images_of(self, row: Rung) -> Tensor:
        """A row's samples, uint8, seeds apart from those of the distilled pairs."""
        model, seed = self.load(row.stage).model, self.seed + 1000
        if row.sampler is not None:
            batches = sample_images(model, self.compute, SAMPLES, sampler=row.sampler, passes=row.passes, seed=seed)
            return torch.cat([batch.images for batch in batches])
        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode(), self.compute.autocast():
            x_T = torch.randn(SAMPLES, *CONFIG.shape, generator=generator)
            drawn = [one_run(model.linear_twin, part, CONFIG.floor).float() for part in x_T.split(100)]
        shown = (torch.cat(drawn) - CONFIG.floor) / (1 - CONFIG.floor)
        return (255 * shown.clamp(0, 1)).round().to(torch.uint8)


def signed(x: Tensor, floor: float) -> Tensor:
    """From [floor, 1] to [-1, 1], in which the twin works."""
    return 2 * (x - floor) / (1 - floor) - 1


def one_run(twin: LinearTwin, x_T: Tensor, floor: float) -> Tensor:
    """x0_hat = sqrt(abar_T) x_T - sqrt(1 - abar_T) v in [floor, 1]'s scale, v the network's number at t = T."""
    abar = LinearBeta(LinearTwin.STEPS).alpha_bar(1.0, LinearTwin.STEPS).item()
    v = twin(x_T, torch.full((len(x_T),), LinearTwin.STEPS - 1))
    x0 = math.sqrt(abar) * x_T - math.sqrt(1 - abar) * v
    return floor + (1 - floor) * (x0 + 1) / 2


def measured(stages: Stages, row: Rung, every_judge: list[Reference]) -> dict[str, Any]:
    """What both judges say of a row's samples, and what it cost to train."""
    images = stages.images_of(row)
    first, second = (quality(one, features_of(images, one.extractor)) for one in every_judge)
    learnt = row.learnt or row.stage
    return {
        "seed": stages.seed,
        **first,
        "judge": second,
        "training_seconds": stages.seconds[learnt],
        "images_seen": stages.load(learnt).record.images_seen,
    }


def main() -> None:
    """Train and measure what is missing, a seed at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("json", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", type=Path, help="RESULTS.md, whose table is renewed in the end")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    compute = choose("cpu")
    images, test = (
        load_images(FASHION.name, split=split, size=CONFIG.image_size, channels=CONFIG.channels)
        for split in ("train", "test")
    )
    every_judge: list[Reference] = []
    found: dict[str, list[dict[str, Any]]] = {}
    if asked.json.exists():
        found = {row["name"]: row["seeds"] for row in json.loads(asked.json.read_text())["rows"]}
    for seed in range(asked.seeds):
        stages = Stages(asked.work / f"seed-{seed}", seed, images, compute)
        for row in (row for stage in stages.run() for row in RUNGS.values() if row.stage == stage):
            known = found.setdefault(row.name, [])
            if any(one["seed"] == seed for one in known):
                continue
            if not every_judge:
                own = benchmark.bundled_reference(stages.load("pixel-aware"), compute)
                every_judge = [own, judges.imagenet_reference(test, compute)]
            known.append(measured(stages, row, every_judge))
            print(f"seed {seed}: {row.name}, FID {known[-1]['fid']:.2f}, {known[-1]['judge']['fid']:.1f}", flush=True)
            about = {
                "data": str(images.origin),
                "features": every_judge[0].name,
                "judge": every_judge[1].name,
                "samples": SAMPLES,
                "environment": environment.describe(compute),
                "config": CONFIG.to_dict(),
            }
            write_json(asked.json, about | {"rows": summed_up(found)}, indent=1)
    if asked.page is not None:
        results = json.loads(asked.json.read_text())
        asked.page.write_text(with_table(asked.page.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
