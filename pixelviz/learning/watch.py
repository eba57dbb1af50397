"""What is seen and kept of a run on its way: held-out losses, the same seeds again, snapshots, the best so far."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pixelviz.config import ConfigError, TrainConfig, Watch
from pixelviz.data.image_set import ImageSet
from pixelviz.data.pictures import tile, to_pil
from pixelviz.devices import Compute
from pixelviz.learning.held_out import BATCH, held_out_losses
from pixelviz.learning.losses import SIMILARITY
from pixelviz.learning.state import Run
from pixelviz.samplers import first_fitting
from pixelviz.samplers.batches import sample_images
from pixelviz.store import checkpoints
from pixelviz.store.files import replacing

if TYPE_CHECKING:
    from accelerate import Accelerator

KEPT, BEST, SHEETS = "kept", "best", "sheets"  # folders in the checkpoint's
SEEDS = 16  # images of a sheet


def _badness(name: str, losses: Mapping[str, float]) -> float:
    """The held-out loss of that name, of a similarity its negative: less is better. Infinite where there is none."""
    sign = -1 if name.endswith(f"/{SIMILARITY}") else 1
    return sign * losses.get(name, sign * torch.inf)


class Watcher:
    """Looks at a run every so many steps, into the checkpoint's folder.

    held_out: images that are not learnt, or None.
    """

    def __init__(
        self, watch: Watch, out: Path, training: TrainConfig, compute: Compute, held_out: ImageSet | None = None
    ) -> None:
        self.watch, self.out, self.training, self.compute, self.held_out = watch, out, training, compute, held_out

    @property
    def needs_prior(self) -> bool:
        """Whether what it keeps is drawn from, now or later."""
        return bool(self.watch.sheets or self.watch.keep or self.watch.best)

    def look(self, run: Run) -> dict[str, float]:
        """Keep what is to be kept; returns the averaged weights' held-out losses. Raises CheckpointError, OSError."""
        model, found = run.averaged.eval(), {}
        if self.held_out is not None:
            found = held_out_losses(model, self.held_out, self.training, self.compute)
        if self.watch.sheets and {"scale_vae", "parallel_unet"} <= set(model.parts):
            self._sheet(run)
        record = replace(run.record, figures={"held_out": found})
        if self.watch.keep:
            checkpoints.save(self.out / KEPT / f"step-{run.step:08}", model, record)
            for folder in sorted((self.out / KEPT).iterdir())[: -self.watch.keep]:
                shutil.rmtree(folder)
        if (best := self.watch.best) in found and _badness(best, found) < self._least(best):
            checkpoints.save(self.out / BEST, model, record)
        return found

    def check(self, run: Run) -> None:
        """Raise ConfigError where the held-out loss that is to choose is none."""
        if self.watch.best is None:
            return
        known: dict[str, float] = {}
        if self.held_out is not None:
            known = held_out_losses(run.averaged, self.held_out.first(BATCH), self.training, self.compute)
        if self.watch.best not in known:
            raise ConfigError(
                f"there is no held-out loss {self.watch.best!r} here; there are: {', '.join(known) or 'none'}."
            )

    def _least(self, name: str) -> float:
        """`_badness` of the best so far, over all runs of this checkpoint."""
        if not (self.out / BEST / checkpoints.CONFIG).is_file():
            return torch.inf
        return _badness(name, checkpoints.read_config(self.out / BEST)[2].figures.get("held_out", {}))

    def _sheet(self, run: Run) -> None:
        """The same seeds at every step, one pass each."""
        model = run.averaged
        drawn = sample_images(model, self.compute, SEEDS, sampler=first_fitting(model.config), seed=self.training.seed)
        images = torch.cat([batch.images for batch in drawn]).permute(0, 2, 3, 1).numpy()
        path = self.out / SHEETS / f"step-{run.step:08}.png"
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as partial:
            to_pil(tile(images, 4)).save(partial, "png")

    def track(self, accelerator: Accelerator) -> None:
        """Let one of accelerate's trackers have the losses as well; raises ConfigError where it is not installed."""
        from accelerate.tracking import filter_trackers, get_available_trackers

        if (name := self.watch.track) is None:
            return
        there = [str(getattr(one, "value", one)) for one in get_available_trackers()]
        if name not in there:
            raise ConfigError(f"{name} is not installed, pip install it; there is: {', '.join(there) or 'none'}.")
        accelerator.log_with = filter_trackers([name], self.out)
        accelerator.project_configuration.set_directories(str(self.out))
        accelerator.init_trackers("pixelviz", {key: str(value) for key, value in asdict(self.training).items()})
