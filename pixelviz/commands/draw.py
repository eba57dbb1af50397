"""Commands that draw: `sample`, `scale` and `export`."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from pixelviz.commands.common import (
    Device,
    Folder,
    JsonFile,
    Precision,
    Seed,
    console,
    progress_bar,
    watched,
    write_result,
)
from pixelviz.commands.options import Options, takes
from pixelviz.data.assets import CHECKPOINTS
from pixelviz.data.images import MIDDLE, read_image
from pixelviz.data.pictures import tile, to_pil
from pixelviz.devices import choose
from pixelviz.export.archive import EXTRAS, FORMATS, Request, read_settings
from pixelviz.export.archive import export as export_zip
from pixelviz.export.benches import nearest_in
from pixelviz.export.figures import FIGURES
from pixelviz.measure.estimate import MOST_SIDE, ScaleResult, estimate_scale
from pixelviz.samplers import MOST_GUIDANCE, SAMPLERS, STARTS
from pixelviz.samplers.batches import Batch, sample_images
from pixelviz.store import checkpoints
from pixelviz.view import View

VIEWED = ("gamma", "T", "floor", "seed", "t", "crop", "ddpm")
# A backslash: typer would take brackets for markup.
PIXELS_HELP = "Pixels, as JSON [\\[row, column, channel], ...]; else suggested."


def sample(
    checkpoint: Folder,
    out: Annotated[Path, typer.Option(help="FILE.npz (images, network_evaluations, seconds) or FILE.png (a sheet).")],
    n: Annotated[int, typer.Option(help="Number of images.")] = 64,
    passes: Annotated[int, typer.Option(help="Runs of the network: 1 (one pass) to T (closed loop).")] = 1,
    start: Annotated[str, typer.Option(help=f"One of: {', '.join(STARTS)}.")] = STARTS.first,
    sampler: Annotated[str, typer.Option(help=f"One of: {', '.join(SAMPLERS)}.")] = SAMPLERS.first,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Of a model of classes, the images' class; several are taken in turns."),
    ] = None,
    guidance: Annotated[
        float, typer.Option(min=0, max=MOST_GUIDANCE, help="How far to follow the class: 0 not at all, 1 as learnt.")
    ] = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Draw images."""
    if out.suffix not in (".npz", ".png"):
        raise typer.BadParameter(f"--out must end in .npz or .png; it is {out.name}.")
    if out.is_dir():
        raise typer.BadParameter(f"--out is the file to write; {out.name} is a folder.")
    if n < 1:
        raise typer.BadParameter(f"--n must be at least 1; it is {n}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    compute = choose(device, precision)
    model = checkpoints.load(checkpoint, compute.device).model
    done: list[Batch] = []
    with progress_bar() as progress:
        task = progress.add_task("sampling", total=n)
        how = {"passes": passes, "start": start, "sampler": sampler, "seed": seed}
        for batch in sample_images(model, compute, n, **how, classes=classes, guidance=guidance):
            done.append(batch)
            progress.advance(task, len(batch.images))
    images = torch.cat([batch.images for batch in done]).permute(0, 2, 3, 1).numpy()
    seconds = sum(batch.seconds for batch in done)
    if out.suffix == ".npz":
        np.savez_compressed(
            out, images=images, network_evaluations=done[-1].network_evaluations, seconds=np.float64(seconds)
        )
    else:
        to_pil(tile(images, math.ceil(math.sqrt(n)))).save(out)
    console.print(
        f"{n} images, {done[-1].network_evaluations} network evaluations each, "
        f"{seconds:.2f} s ({seconds / n:.4f} s per image) -> {out}",
        soft_wrap=True,
    )


def scale(
    checkpoint: Folder,
    image: Annotated[Path, typer.Option(help="The picture.")],
    out: Annotated[Path, typer.Option(help="FILE.png to write: what was compared, side by side.")],
    i: Annotated[int | None, typer.Option("--i", help="The step that x_i is of, 0 to T; by default half of T.")] = None,
    tiled: Annotated[
        bool, typer.Option(help=f"At the picture's own size, up to {MOST_SIDE} pixels, in blended tiles.")
    ] = False,
    crop: Annotated[float, typer.Option(min=0, max=1, help="Where along its longer side a square is cut.")] = MIDDLE,
    json_file: JsonFile = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Estimate the scale x_delta of a picture from its noised x_i, and say how near it comes."""
    if out.suffix != ".png":
        raise typer.BadParameter(f"--out must end in .png; it is {out.name}.")
    compute = choose(device, precision)
    model = checkpoints.load(checkpoint, compute.device).model
    steps = estimate_scale(model, compute, replace(read_image(image), crop=crop), i, seed, tiled=tiled)
    *_, result = watched("estimating", steps)
    assert isinstance(result, ScaleResult)  # the last of them
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet = np.stack([result.picture(which) for which in result.shown])
    to_pil(tile(sheet, len(sheet))).save(out)
    bar = "" if result.ssim_alpha_bar is None else f", of alpha_bar_i {result.ssim_alpha_bar:.3f}"
    said = f"i = {result.i}: SSIM of x_delta_hat {result.ssim_x_delta:.3f}{bar}, {result.seconds:.2f} s -> {out}"
    shown = f"From left to right: {', '.join(result.shown)}."
    console.print(said, shown, *result.notes, sep="\n", soft_wrap=True)
    write_result(json_file, {"checkpoint": checkpoint.name, "image": image.name, **result.figures})


@takes(process=Options(View, "View", VIEWED))
def export(
    out: Annotated[Path, typer.Option(help="FILE.zip to write.")],
    process: dict[str, Any],
    image: Annotated[Path | None, typer.Option(help="The picture; not needed with --settings of an export.")] = None,
    settings: Annotated[Path | None, typer.Option(help="settings.json of an earlier export, to make it again.")] = None,
    pixels: Annotated[str, typer.Option(help=PIXELS_HELP)] = "[]",
    figures: Annotated[str | None, typer.Option(help=f"Figures, of {','.join(FIGURES)}.")] = None,
    formats: Annotated[str | None, typer.Option(help=f"Formats of the figures, of {','.join(FORMATS)}.")] = None,
    extras: Annotated[str | None, typer.Option(help=f"Other files, of {','.join(EXTRAS)}.")] = None,
    checkpoints_folder: Annotated[
        Path, typer.Option("--checkpoints", help="Where the figures that need a model look for one.")
    ] = CHECKPOINTS,
    device: Device = "auto",
) -> None:
    """The paper's figures, the film, the curves and the settings of a picture, as one zip."""
    if out.suffix != ".zip":
        raise typer.BadParameter(f"--out must end in .zip; it is {out.name}.")
    if settings is not None:
        view, chosen = read_settings(settings, image)
    elif image is None:
        raise typer.BadParameter("give --image, or --settings of an earlier export.")
    else:
        view = View.of(image, name=image.stem, pixels=pixels, **process)
        chosen = Request()
    given = {"figures": figures, "formats": formats, "extras": extras}
    wanted = replace(chosen, **{k: tuple(filter(None, v.split(","))) for k, v in given.items() if v is not None})
    compute = choose(device)
    out.parent.mkdir(parents=True, exist_ok=True)
    steps = export_zip(view, wanted, out, lambda figure: nearest_in(checkpoints_folder, view, figure, compute))
    deque(watched("export", steps), maxlen=0)
    console.print(f"Saved {out}")
