"""The named endpoints, for scripts (gradio_client): the same service as the screen, and the same messages."""

# No `from __future__ import annotations` here: gr.api reads the return type as it stands.

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio import FileData
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder, is_in_or_equal

from pixelviz.checks import ServiceError
from pixelviz.config import PRESETS
from pixelviz.data.pictures import to_pil
from pixelviz.data.sets import DATASETS
from pixelviz.declare import quoted
from pixelviz.process.formulas import PAPERS
from pixelviz.process.schedules import RANGES, SCHEDULES, by_pixel
from pixelviz.samplers import STARTS, ours
from pixelviz.service import forward
from pixelviz.service.errors import friendly
from pixelviz.service.generation import Settings
from pixelviz.service.jobs import Asked, TrainingJobs
from pixelviz.service.service import Service
from pixelviz.ui.guard import at_home
from pixelviz.ui.queue import SHORT_LANE, generation_lane
from pixelviz.view import DEFAULTS, OWN_RATE, View

MOST_RUNS = 12_800  # images times passes of one call, which cannot be stopped: 64 images of a closed loop of 200 steps
DRAWING, TRAINING = Settings(), Asked()  # what is done unless told otherwise

NAMES = {
    "data": DATASETS,
    "presets": PRESETS,
    "schedules": by_pixel(),
    "rates": [*by_pixel(), OWN_RATE],
    "ranges": RANGES,
    "starts": STARTS,
    "samplers": ours(),
}  # what stands in the endpoints' docstrings for these


def _speaking(endpoint: Callable) -> Callable:
    """Turn whatever goes wrong into a gr.Error with a message for a person."""

    @wraps(endpoint)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint(*args, **kwargs)
        except Exception as error:
            raise gr.Error(friendly(error), print_exception=False) from None

    for table, names in NAMES.items():
        answer.__doc__ = answer.__doc__.replace(f"{{{table}}}", ", ".join(names))
    return answer


def _uploaded(image: Any) -> Path:
    """The file behind an `image` argument; raises ServiceError for anything but an upload."""
    if image is None:
        raise ServiceError("there is no image; send one as a file: image=handle_file('photo.png').")
    meta = image.get("meta") if isinstance(image, dict) else None
    path = image.get("path") if isinstance(meta, dict) and meta.get("_type") == "gradio.FileData" else None
    # Gradio has put uploads into its cache by now; nothing else of this computer's disk is read.
    if not isinstance(path, str) or not is_in_or_equal(path, get_upload_folder()):
        raise ServiceError(f"send the image as a file: image=handle_file('photo.png'); it is {quoted(image)}.")
    return Path(path)


def _files(images: Iterable[np.ndarray], name: str = "image") -> list[FileData]:
    """PNG files of uint8 images (H, W, C), in Gradio's cache, from where it sends and later deletes them."""
    cache = get_upload_folder()
    return [FileData(path=save_pil_to_cache(to_pil(image), cache, name=name, format="png")) for image in images]


def _or_first(service: Service, checkpoint: Any, *parts: str) -> str:
    """The checkpoint that was named, or the first that holds these parts."""
    if checkpoint is not None and checkpoint != "":
        return checkpoint
    names = service.names(*parts)
    if not names:
        raise ServiceError(f"there is no checkpoint with {' and '.join(parts)} yet; train one, or load a folder.")
    return names[0]


def register_api(service: Service, jobs: TrainingJobs) -> None:
    """Add the endpoints to the gr.Blocks in whose context this is called, before any event; they show nothing.

    Raises RuntimeError if another event has one of their names, private or not: Gradio would rename the endpoint.
    """

    def curves(
        image: FileData,
        gamma: float = DEFAULTS["gamma"],
        T: int = DEFAULTS["T"],
        floor: float = DEFAULTS["floor"],
        pixels: list[list[int]] | str | None = None,
        seed: int = DEFAULTS["seed"],
        ddpm_rescaled: bool | None = None,
        schedule: str = SCHEDULES.first,
        formula: str = PAPERS,
        ddpm: str = DEFAULTS["ddpm"],
    ) -> dict:
        """SNR of chosen pixels, and mean and variance of the whole image, over time, for both schedules.

        pixels: [[row, column, channel], ...], up to six (None: the middle one), counted in the upload itself where
        no side is over 256, otherwise in the picture shrunk to that (the notes say so). Returns t (T+1 values), x0
        (a value per pixel), and under pixel_aware and ddpm: snr (a list per pixel), mean and variance (a list per
        channel, of x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps with the seed's one eps for all t and both
        schedules, as the screen shows it). None stands for infinity. ddpm: its range, one of {ranges}: 1e-4 to
        0.02 whatever T is, or times 1000/T. schedule: ours, one of {rates}; its figures come under its name, with _
        for -. formula: where the schedule is "formula", the rate Γ of x0, t, gamma and pi, positive and rising with x0.
        ddpm_rescaled: true or false, as ddpm was told in earlier versions.
        """
        settings = {"gamma": gamma, "T": T, "floor": floor, "seed": seed}
        settings["ddpm"] = ddpm if ddpm_rescaled is None else ddpm_rescaled
        view = View.of(_uploaded(image), schedule=schedule, formula=formula, **settings)
        rows, columns = view.x0.shape[1:]
        middle = [[rows // 2, columns // 2, 0]]
        return forward.curves_json(view.but(pixels=middle if pixels is None or pixels == "" else pixels))

    def scale(
        image: FileData,
        checkpoint: str | None = None,
        i: int | None = None,
        seed: int = 0,
        crop: float = DEFAULTS["crop"],
    ) -> tuple[FileData, FileData, FileData, dict]:
        """Estimate the image scale x_delta from the noisy x_i; i from 0 to T (None: half of T).

        crop: where along the longer side the square is cut out, from 0 to 1.

        Returns three images (x0, x_delta and its estimate, each over its own range) and JSON with i, ssim_x_delta and
        ssim_alpha_bar (None at i = 0), and notes of how the image was fitted to the checkpoint.
        """
        name = _or_first(service, checkpoint, "scale_vae")
        result = service.scale(name, View.of(_uploaded(image), seed=seed, crop=crop), i)
        files = [_files([result.picture(which)], which)[0] for which in ("x0", "x_delta", "x_delta_hat")]
        answer = {"checkpoint": name, **result.figures}
        return *files, answer

    def generate(
        checkpoint: str | None = None,
        n: int = DRAWING.n,
        passes: int = DRAWING.passes,
        start: str = DRAWING.start,
        sampler: str = DRAWING.sampler,
        seed: int = DRAWING.seed,
        class_name: str | None = DRAWING.classes,
        guidance: float = DRAWING.guidance,
    ) -> tuple[list[FileData], dict]:
        """Draw n images (1 to 256), in at most 12,800 runs of the network for one image (n times passes).

        passes: from 1 to T; start: one of {starts}; sampler: one of {samplers}. Of a model of classes: class_name, the
        class of all images (None: at random); guidance, how far to follow it: 0 not at all, 1 as learnt, up to 20,
        which takes two runs where it is another than these two.
        Returns the images, and JSON with network_evaluations (runs of the network per image), seconds (for all images)
        and seconds_per_image; closed_loop_seconds is computed: 1000 times one measured run of the backbone, per image.
        """
        name = _or_first(service, checkpoint, "scale_vae", "parallel_unet")
        settings = Settings(n, passes, start, sampler, seed, class_name, guidance).fitting(service.find(name).config)
        if settings.n * settings.runs > MOST_RUNS:
            raise ServiceError(
                f"{settings.n} images in {settings.passes} passes each keep everybody waiting; ask for at most "
                f"{MOST_RUNS:,} runs of the network in one call, or use the command line."
            )
        last = deque(service.generate(name, **asdict(settings)), maxlen=1).pop()
        return _files(last.images), {
            "network_evaluations": last.network_evaluations,
            "seconds": last.seconds,
            "seconds_per_image": last.seconds_per_image,
            "closed_loop_seconds": last.closed_loop_seconds,
            "checkpoint": name,
            **asdict(settings),
            "notes": list(last.notes),
        }

    def train_start(
        data: str | None = TRAINING.data,
        preset: str = TRAINING.preset,
        steps: int | None = None,
        batch: int | None = None,
        learning_rate: float | None = None,
        name: str | None = None,
        resume: str | None = None,
        pictures: FileData | None = None,
        schedule: str = TRAINING.schedule,
        classes: bool = TRAINING.classes,
    ) -> dict:
        """Start a training in the background, and return its status at once.

        data: one of {data}, or a folder of the server where that is allowed; pictures: a zip of pictures to learn
        instead; preset: one of {presets}; steps: in all, those of a resumed run included; data, steps, batch and
        learning_rate, where they are not given, are as they were in the run that goes on, and otherwise the first
        data set, 2000, 64 and 0.001; name: of the new checkpoint; resume: the run to go on with;
        schedule: of a new model, one of {schedules}; classes: whether a new model learns the folders of its pictures
        (or the labels of a data set) as classes, of which /generate then draws one. Only one training runs at a time.
        """
        sent = None if pictures is None else _uploaded(pictures)
        if sent is None and data is not None and (not isinstance(data, str) or data not in DATASETS):
            data = str(service.folders.named(data, at_home()))
        return jobs.start(
            "api",
            sent,
            data=data,
            preset=preset,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            name=name,
            resume=resume,
            schedule=schedule,
            classes=classes,
        ).to_json()

    def train_status() -> dict:
        """State, step, steps, losses over time, images_per_second, eta_seconds, checkpoint, message and error."""
        return jobs.status().to_json()

    def train_stop() -> dict:
        """Stop the training and save it; returns the status."""
        return jobs.stop().to_json()

    generate.lane = generation_lane
    at_once = {"queue": False, "concurrency_limit": None}
    for endpoint, queue in (
        (curves, {"concurrency_limit": 2}),
        (scale, SHORT_LANE),
        (generate, SHORT_LANE),
        (train_start, at_once),
        (train_status, at_once),
        (train_stop, at_once),
    ):
        added = gr.api(_speaking(endpoint), api_name=endpoint.__name__, **queue)
        if added["api_name"] != endpoint.__name__:
            raise RuntimeError(f"/{endpoint.__name__} is taken: call register_api before any other event is added.")
