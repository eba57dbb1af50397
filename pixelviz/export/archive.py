"""Take it with you: one zip with the paper's figures, the film, the curves and the settings of a view."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import torch
from PIL import Image
from pydantic import Field, model_validator

from pixelviz.data.pictures import as_bytes, frame_steps, to_pil
from pixelviz.declare import declared, fields_of, read_object
from pixelviz.export import film, paper_figures
from pixelviz.export.figures import FIGURES, BenchFor
from pixelviz.process.forward import expected_moments
from pixelviz.progress import Progress
from pixelviz.store.files import replacing
from pixelviz.view import GIF_FRAMES, IMAGE_FILE, METHODS, MP4_FRAMES, NAMES, ExportError, View

FORMATS = ("png", "svg", "pdf")
Names = Annotated[tuple[str, ...], Field(strict=False)]  # JSON has lists
EXTRAS = ("gif", "mp4", "csv", "json")
GIF_SIDE, MP4_SIDE = 176, 320

README = """PixelViz: {name}, gamma {gamma:g}, T {T}, floor {floor:g}, seed {seed}.

{image_file:<22} the picture, as the process took it
settings.json          all settings; `python -m pixelviz export --settings settings.json --out again.zip`
curves.csv             SNR of the pixels, mean and variance of the channels, over i
trajectory.gif / .mp4  the exact chain x_i = sqrt(alpha) x_(i-1) + sqrt(1 - alpha) xi_i, both methods with one noise
figures/               in the layouts of the paper's figures
{files}
"""


@declared(ExportError)
class Request:
    """What to put into the zip: figures (keys of FIGURES) in formats (FORMATS), and EXTRAS. Raises ExportError."""

    figures: Names = tuple(FIGURES)
    formats: Names = FORMATS
    extras: Names = EXTRAS

    @model_validator(mode="after")
    def _known(self) -> Request:
        for what, chosen, known in (
            ("figure", self.figures, FIGURES),
            ("format", self.formats, FORMATS),
            ("file", self.extras, EXTRAS),
        ):
            if unknown := [name for name in chosen if name not in known]:
                raise ExportError(f"there is no {what} {unknown[0]!r}; there are: {', '.join(known)}.")
        if self.figures and not self.formats:
            raise ExportError("choose at least one format for the figures: PNG, SVG or PDF.")
        if not self.figures and not self.extras:
            raise ExportError("choose at least one figure or file to export.")
        return self


def read_settings(path: Path, image: Path | None = None) -> tuple[View, Request]:
    """What settings.json of an export asks for; the picture lies beside it unless another one is named.

    Raises ExportError, ImageError or ConfigError.
    """
    try:
        settings = read_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read as settings ({error}); use settings.json of an export.") from None
    view = View.from_settings(settings, image or path.with_name(IMAGE_FILE))
    return view, Request(**{key: settings[key] for key in fields_of(Request) if key in settings})


def curves_csv(view: View) -> str:
    """CSV with one row a step: i, t, then SNR of each pixel, and mean and variance of each channel, both methods.

    `mean` and `variance` are measured on the walk, `expected_...` are the law they tend to. SNR is `inf` at i = 0.
    """
    i = torch.arange(view.T + 1)
    columns: dict[str, Sequence[float]] = {"i": i.tolist(), "t": (i.double() / view.T).tolist()}
    for method, schedule in view.schedules.items():
        snr = schedule.snr(view.x0_at_pixels[:, None], i)
        for k, (row, column, channel) in enumerate(view.pixels):
            columns[f"{method}_snr_pixel{k + 1}_r{row}_c{column}_{view.channels[channel]}"] = snr[k].tolist()
    measured = view.walk.moments
    for method, schedule in view.schedules.items():
        expected = expected_moments(schedule, view.x0)
        for k, name in enumerate(view.channels):
            columns[f"{method}_mean_{name}"] = measured[method][0][k].tolist()
            columns[f"{method}_variance_{name}"] = measured[method][1][k].tolist()
            columns[f"{method}_expected_mean_{name}"] = expected.mean[:, k].tolist()
            columns[f"{method}_expected_variance_{name}"] = expected.variance[:, k].tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def film_frames(view: View, count: int, side: int) -> list[Image.Image]:
    """At most `count` frames of the walk from i = 0 to T, evenly spread, both methods side by side."""
    ours, theirs = (view.walk.frames[method] for method in METHODS)
    return [film.compose(ours[i], theirs[i], NAMES, i, view.T, side) for i in frame_steps(view.T, count)]


def _tasks(
    view: View, request: Request, bench_for: BenchFor, turn: Callable[[], AbstractContextManager]
) -> Iterator[tuple[str, Callable[[], dict[str, bytes]]]]:
    """(what is made, a function that makes it: files of the zip by their names)."""

    def figure(key: str) -> dict[str, bytes]:
        found = bench_for(FIGURES[key]) if FIGURES[key].needs else None
        if FIGURES[key].needs and found is None:
            text = f"Figure {key} needs a checkpoint with {' and '.join(FIGURES[key].needs)}; there is none here.\n"
            return {f"figures/figure-{key}-missing.txt": text.encode()}
        with turn() if found else nullcontext():
            drawn = FIGURES[key].draw(view, found)
        files = {}
        for kind in request.formats:
            stream = io.BytesIO()
            paper_figures.save_figure(drawn, stream, kind)
            files[f"figures/figure-{key}.{kind}"] = stream.getvalue()
        return files

    def movie(kind: str, write: Callable, frames: int, side: int) -> dict[str, bytes]:
        stream = io.BytesIO()
        write(stream, film_frames(view, frames, side))
        return {f"trajectory.{kind}": stream.getvalue()}

    for key in request.figures:
        yield f"Figure {key}: {FIGURES[key].title}", lambda key=key: figure(key)
    if "gif" in request.extras:
        yield "the film as GIF", lambda: movie("gif", film.write_gif, GIF_FRAMES, GIF_SIDE)
    if "mp4" in request.extras:
        yield "the film as MP4", lambda: movie("mp4", film.write_mp4, MP4_FRAMES, MP4_SIDE)
    if "csv" in request.extras:
        yield "the curves", lambda: {"curves.csv": curves_csv(view).encode()}
    if "json" in request.extras:
        settings = {**view.settings(), "figures": list(request.figures), "formats": list(request.formats)}
        settings["extras"] = list(request.extras)
        yield "the settings", lambda: {"settings.json": (json.dumps(settings, indent=2) + "\n").encode()}


def export(
    view: View,
    request: Request,
    path: Path,
    bench_for: BenchFor,
    turn: Callable[[], AbstractContextManager] = nullcontext,
) -> Iterator[Progress]:
    """Write the zip at `path`, a step at a time; yields before each step and once at the end.

    bench_for(figure) gives the checkpoint for a figure that needs one, or None; turn() is entered while a network
    runs. A zip that is not finished (an error, or a generator closed early) is removed; an earlier one then stays.
    """
    view = view.pointed()
    tasks = list(_tasks(view, request, bench_for, turn))
    made: list[str] = []
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        picture = io.BytesIO()
        to_pil(as_bytes(view.image.pixels)).save(picture, "png")
        archive.writestr(IMAGE_FILE, picture.getvalue())
        for k, (what, make) in enumerate(tasks):
            yield Progress(what, k, len(tasks))
            for name, content in make().items():
                archive.writestr(name, content)
                made.append(name)
        about = view.settings() | {"name": view.name, "image_file": IMAGE_FILE}
        archive.writestr("README.txt", README.format(**about, files="\n".join(f"  {name}" for name in made)))
    yield Progress("done", len(tasks), len(tasks))
