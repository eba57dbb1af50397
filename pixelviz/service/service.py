"""All that the screen and the API ask for, without Gradio: a test or a script can use it as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pixelviz.checks import ServiceError
from pixelviz.data.assets import CHECKPOINTS, default_runs
from pixelviz.data.sets import DATASETS
from pixelviz.devices import choose, half_the_cores, share_heaps
from pixelviz.export.check_page import check_page
from pixelviz.measure.benchmark import Case, cases
from pixelviz.measure.check import Findings, check_against
from pixelviz.measure.estimate import ScalePoint, ScaleResult, Tiling, estimate_scale, fitted, similarities
from pixelviz.progress import Progress
from pixelviz.service.between import Between, between_samples, check_corners
from pixelviz.service.catalog import Catalog, Found
from pixelviz.service.errors import friendly
from pixelviz.service.generation import MOST_IMAGES, Generation, Settings, run_generation
from pixelviz.service.race import Race, run_race
from pixelviz.service.shelf import PeerShelf
from pixelviz.service.together import Answers, Pool
from pixelviz.service.turns import ModelTurn
from pixelviz.service.uploads import Folders, Uploads
from pixelviz.store.checkpoints import Checkpoint
from pixelviz.view import View

__all__ = [
    "MOST_IMAGES",
    "SHOWN_FIRST",
    "Generation",
    "Service",
    "ServiceError",
    "friendly",
]

SHOWN_FIRST = "faces"  # what anybody recognises


class Service:
    """Shared by all users; holds nothing of any one of them.

    Args: roots, the folder of the bundled checkpoints and that of the trained ones, which need not exist
    (None: checkpoints/ and `default_runs()`); device, "auto" or as for `devices.choose`; allowed, folders that visitors
    may name; proxied, whether the app is shown by another server, so that nobody can be told to sit at this computer.
    Whatever raises here raises an error that `friendly` can put into words.
    """

    def __init__(
        self,
        roots: Sequence[Path] | None = None,
        device: str = "auto",
        allowed: Sequence[Path] = (),
        proxied: bool = False,
    ) -> None:
        bundled, self.runs = map(Path, roots or (CHECKPOINTS, default_runs()))
        self.device = device
        self.compute = choose(device)
        half_the_cores()  # the others are a training's
        share_heaps()
        self.turn = ModelTurn()
        self.pool = Pool(self.compute, self.turn)
        self.generations: Answers[Generation] = Answers(lambda: self.turn.wanted())
        self.folders, self.uploads = Folders(allowed, proxied), Uploads()
        self._catalog = Catalog([(bundled, "bundled"), (self.runs, "trained")], self.compute.device, self.uploads)
        self.peers = PeerShelf(self.compute.device)

    # --- checkpoints

    def names(self, *parts: str) -> list[str]:
        """Checkpoints with these parts: bundled (most parts, best trained first), trained (newest last), loaded."""
        return self._catalog.names(*parts)

    def chosen(self, name: str | None, *parts: str, first: str | None = None) -> str | None:
        """`name` where it is among names(*parts), else `first`, else the first of them; None where there is none."""
        names = self.names(*parts)
        return next((one for one in (name, first, *names) if one in names), None)

    def problems(self) -> list[tuple[str, str]]:
        """Folders that look like checkpoints and are none: (folder name, why)."""
        return self._catalog.problems()

    def find(self, name: str) -> Found:
        """Where a checkpoint is, and its configuration, without loading it; raises ServiceError."""
        return self._catalog.find(name)

    def checkpoint(self, name: str) -> Checkpoint:
        """The loaded checkpoint of that name; raises ServiceError or CheckpointError."""
        return self._catalog.load(name)

    def load_folder(self, path: str) -> str:
        """Add a folder of this computer to the checkpoints; returns its name."""
        return self._catalog.load_folder(path)

    def load_files(self, files: Sequence[Path]) -> str:
        """Add a checkpoint sent as config.json and model.safetensors, or as a zip of them; returns its name."""
        return self._catalog.load_files(files)

    def describe(self, name: str) -> dict[str, Any]:
        """What is in a checkpoint: name, folder, kind (bundled, trained, loaded), parts with their numbers of
        parameters, config, the fields of `checkpoints.Record`, and card (Markdown)."""
        return self._catalog.describe(name)

    def check(self, name: str) -> Iterator[Progress | str]:
        """Look at a checkpoint from all sides (`measure.check`): progress, and last the page that says what was found.

        Raises ServiceError where the data that it learnt are no data set of the app.
        """
        loaded = self.checkpoint(name)
        if (learnt := DATASETS.get(loaded.record.data.id)) is None:
            raise ServiceError(
                f"{name} learnt {loaded.record.data}, which the app cannot load; run `pixelviz check` with --data."
            )
        steps = check_against(loaded, self.compute, learnt.name)
        while True:
            with self.turn.long():
                step = next(steps)
            if isinstance(step, Findings):
                yield check_page([step])
                return
            yield step

    # --- models

    def scale_steps(
        self, name: str, view: View, i: int | None = None, tiled: bool = False
    ) -> Iterator[Tiling | ScaleResult]:
        """G_theta's estimate of x_delta from x_i of a view's picture, and the twin's of x0; see `estimate_scale`.

        Of the view picture and seed count; gamma, T and floor are the checkpoint's.
        """
        model, turn = self.checkpoint(name).model, self.turn.long if tiled else self.turn.short
        return estimate_scale(model, self.compute, view.original, i, view.seed, tiled=tiled, turn=turn)

    def scale(self, name: str, view: View, i: int | None = None, tiled: bool = False) -> ScaleResult:
        """The result of `scale_steps`."""
        *_, last = self.scale_steps(name, view, i, tiled)
        assert isinstance(last, ScaleResult)
        return last

    def scale_over_i(self, name: str, view: View, steps: Sequence[int]) -> list[ScalePoint]:
        """SSIM of the estimate at each step, all with one noise."""
        model = self.checkpoint(name).model
        x0, _ = fitted(model.config, view.original)
        return list(similarities(model, self.compute, x0, steps, view.seed, turn=self.turn.short))

    def generate(self, name: str, *asked: Any, **settings: Any) -> Iterator[Generation]:
        """Draw images by `generation.Settings`, or watch the same ones being drawn for another, or get them again.

        Settings are checked here, before the first step; then see `run_generation`.
        """
        found, model = self.find(name), self.checkpoint(name).model
        model.need("scale_vae", "parallel_unet")
        drawing = Settings(*asked, **settings).fitting(model.config)
        key = found.folder, found.stamp, drawing
        return self.generations.ask(key, lambda: run_generation(model, drawing, self.pool))

    def between(
        self, name: str, seed: Any, corners: Any, weights: Any, classes: Any = None, guidance: Any = 1.0
    ) -> Between:
        """The image of one run between two or three images of a seed; see `between_samples`."""
        seed, corners, weights = check_corners(seed, corners, weights)
        model = self.checkpoint(name).model
        asked = Settings(seed=seed, classes=classes, guidance=guidance).fitting(model.config)
        of_class = {"classes": asked.classes, "guidance": asked.guidance}
        return between_samples(model, self.compute, self.turn, seed, corners, weights, **of_class)

    def contenders(self, name: str, methods: Sequence[str] | None = None) -> list[Case]:
        """Every method that can draw with this checkpoint's parts, or with a peer that is loaded.

        methods: as `parse_methods` reads them; None: with all the passes that comparisons show.
        """
        found, shelf = self.find(name), [self.peers.get(peer) for peer in self.peers.names()]
        return cases(self.checkpoint(name), found.name, methods, shelf)

    def race(self, name: str, chosen: Sequence[str], n: int = 8, seed: int = 0) -> Iterator[Race]:
        """Race the contenders whose `Case.key` is in `chosen`; settings are checked at the first step."""
        model, there = self.checkpoint(name).model, self.contenders(name)
        others = [key.partition("@")[0] for key in chosen if key not in {case.key for case in there}]
        if others:  # with other passes than comparisons show
            there += self.contenders(name, others)
        entries = [
            (case, model if case.model == name else self.peers.get(case.model)) for case in there if case.key in chosen
        ]
        return run_race(entries, name, n, seed, self.compute, self.turn)
