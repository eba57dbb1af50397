"""All that the screen and the API ask for, without Gradio: a test or a script can use it as well."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pixelviz.checks import ServiceError, parse_pixels
from pixelviz.config import PAPER_FLOOR
from pixelviz.data.assets import CHECKPOINTS, default_runs
from pixelviz.data.images import Picture, read_image
from pixelviz.devices import choose
from pixelviz.measure.benchmark import Case, cases
from pixelviz.measure.estimate import ScalePoint, ScaleResult, Tiling, estimate_scale, fitted, similarities
from pixelviz.process.schedules import SCHEDULES
from pixelviz.samplers import SAMPLERS, STARTS
from pixelviz.service.catalog import Catalog, Found
from pixelviz.service.errors import friendly
from pixelviz.service.forward import Forward, build_forward, curves_json, instrument_value
from pixelviz.service.forward import check_settings as check_forward
from pixelviz.service.generation import MOST_IMAGES, Generation, check_generation, run_generation
from pixelviz.service.race import Race, run_race
from pixelviz.service.shelf import PeerShelf
from pixelviz.service.turns import ModelTurn
from pixelviz.store.checkpoints import Checkpoint

MAX_WALKS = 8  # answers of /curves kept; 1.5 MB each for the largest picture, and the moments
MODEL_QUEUE = "model"  # name of the queue for handlers that run a network

__all__ = [
    "MODEL_QUEUE",
    "MOST_IMAGES",
    "Forward",
    "Generation",
    "Service",
    "ServiceError",
    "friendly",
]


class Service:
    """Shared by all users; holds nothing of any one of them.

    Args: roots, the folder of the bundled checkpoints and that of the trained ones, which need not exist
    (None: checkpoints/ and `default_runs()`); device, "auto" or as for `devices.choose`.
    Whatever raises here raises an error that `friendly` can put into words.
    """

    def __init__(self, roots: Sequence[Path] | None = None, device: str = "auto") -> None:
        bundled, self.runs = map(Path, roots or (CHECKPOINTS, default_runs()))
        self.device = device
        self.compute = choose(device)
        self.turn = ModelTurn()
        self._catalog = Catalog([(bundled, "bundled"), (self.runs, "trained")], self.compute.device)
        self.peers = PeerShelf(self.compute.device)
        self._walks: OrderedDict[tuple, Forward] = OrderedDict()
        self._walks_lock = threading.Lock()

    # --- checkpoints

    def names(self, *parts: str) -> list[str]:
        """Checkpoints with these parts: bundled (most parts, best trained first), trained (newest last), loaded."""
        return self._catalog.names(*parts)

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
        """Add a checkpoint sent as two files, config.json and model.safetensors; returns its name."""
        return self._catalog.load_files(files)

    def describe(self, name: str) -> dict[str, Any]:
        """What is in a checkpoint: name, folder, kind (bundled, trained, loaded), parts with their numbers of
        parameters, config, the fields of `checkpoints.Record`, and card (Markdown)."""
        return self._catalog.describe(name)

    # --- pictures

    @staticmethod
    def read(source: Any) -> Picture:
        """An upload (path, bytes, PIL image or array) as a Picture; a Picture passes. Raises ImageError."""
        return source if isinstance(source, Picture) else read_image(source)

    def forward(
        self,
        source: Any,
        gamma: float,
        T: int,
        floor: float = PAPER_FLOOR,
        seed: int = 0,
        pixels: Any = (),
        ddpm_rescaled: bool = False,
        schedule: str = SCHEDULES.first,
    ) -> Forward:
        """Both trajectories of a picture, with pixels to follow, [row, column, channel] each (JSON text or a list)."""
        picture, settings = self.read(source), check_forward(gamma, T, floor, seed, ddpm_rescaled, schedule)
        pixels = parse_pixels(pixels)  # before the walk, which takes a second or two for a large picture
        content = hashlib.blake2b(picture.pixels.tobytes(), digest_size=16).digest()
        key = (content, picture.pixels.shape, picture.notes, settings)
        with self._walks_lock:
            walk = self._walks.get(key)
        if walk is None:
            walk = build_forward(picture, settings)
        with self._walks_lock:
            self._walks[key] = walk
            self._walks.move_to_end(key)
            while len(self._walks) > MAX_WALKS:
                self._walks.popitem(last=False)
        return walk.with_pixels(pixels)

    def instrument(self, source: Any, seed: int = 0, **about: Any) -> str:
        """The instrument's value for a picture: x0 and the shared noise, and what else goes along, as JSON."""
        return instrument_value(self.read(source), seed, **about)

    def curves(
        self,
        source: Any,
        gamma: float,
        T: int,
        floor: float = PAPER_FLOOR,
        pixels: Any = None,
        seed: int = 0,
        ddpm_rescaled: bool = False,
        schedule: str = SCHEDULES.first,
    ) -> dict[str, Any]:
        """The answer of /curves; pixels as for `forward`, None for the middle one. None stands for infinity in it."""
        middle = pixels is None
        found = self.forward(source, gamma, T, floor, seed, () if middle else pixels, ddpm_rescaled, schedule)
        rows, columns = found.size
        return curves_json(found.with_pixels([[rows // 2, columns // 2, 0]]) if middle else found)

    # --- models

    def scale_steps(
        self, name: str, source: Any, i: int | None = None, seed: int = 0, tiled: bool = False
    ) -> Iterator[Tiling | ScaleResult]:
        """G_theta's estimate of x_delta from x_i of a picture, and the twin's of x0; see `estimate_scale`."""
        model, picture = self.checkpoint(name).model, self.read(source)
        return estimate_scale(model, self.compute, picture, i, seed, tiled=tiled, turn=self.turn.foreground)

    def scale(self, name: str, source: Any, i: int | None = None, seed: int = 0, tiled: bool = False) -> ScaleResult:
        """The result of `scale_steps`."""
        return deque(self.scale_steps(name, source, i, seed, tiled), maxlen=1).pop()

    def scale_over_i(self, name: str, source: Any, seed: int, steps: Sequence[int]) -> list[ScalePoint]:
        """SSIM of the estimate at each step, all with one noise."""
        model = self.checkpoint(name).model
        x0, _ = fitted(model.config, self.read(source))
        return list(similarities(model, self.compute, x0, steps, seed, turn=self.turn.foreground))

    def generate(
        self,
        name: str,
        n: int,
        passes: int = 1,
        start: str = STARTS.first,
        sampler: str = SAMPLERS.first,
        seed: int = 0,
    ) -> Iterator[Generation]:
        """Draw n images. Settings are checked here, before the first step; then see `run_generation`."""
        model = self.checkpoint(name).model
        model.need("scale_vae", "parallel_unet")
        settings = check_generation(model.config, n, passes, start, sampler, seed)
        return run_generation(model, settings, self.compute, self.turn)

    def contenders(self, name: str) -> list[Case]:
        """Every method that can draw with this checkpoint's parts, or with a peer that is loaded."""
        found, shelf = self.find(name), [self.peers.get(peer) for peer in self.peers.names()]
        return cases(self.checkpoint(name), found.name, peers=shelf)

    def race(self, name: str, chosen: Sequence[str], n: int = 8, seed: int = 0) -> Iterator[Race]:
        """Race the contenders whose `Case.key` is in `chosen`; settings are checked at the first step."""
        model = self.checkpoint(name).model
        entries = [
            (case, model if case.model == name else self.peers.get(case.model))
            for case in self.contenders(name)
            if case.key in chosen
        ]
        return run_race(entries, name, n, seed, self.compute, self.turn)
