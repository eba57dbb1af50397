"""Commands about what there is: `inspect`, `convert`, `assets` and `faces`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from pixelviz.commands.common import Folder, JsonFile, console, progress_bar, write_result
from pixelviz.config import PRESETS, preset
from pixelviz.data.faces import draw_faces
from pixelviz.measure import assets_build
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.paper import PARAMETERS
from pixelviz.store import checkpoints


def inspect(
    preset_name: Annotated[str | None, typer.Option("--preset", help=f"One of: {', '.join(PRESETS)}.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Folder of a checkpoint.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Show a preset's or a checkpoint's configuration and its parts."""
    if (preset_name is None) == (checkpoint is None):
        raise typer.BadParameter("give either --preset or --checkpoint.")
    if checkpoint is not None:
        loaded = checkpoints.load(checkpoint)
        model, title = loaded.model, checkpoint.name
    else:
        with torch.device("meta"):  # only to be counted
            model, title = PixelAwareModel(preset(preset_name)), preset_name
    counts = model.parameter_counts()
    parts: dict[str, dict[str, float]] = {part: {"parameters": number} for part, number in counts.items()}
    table = Table("part", "parameters", title=title)
    if paper := PARAMETERS.get(preset_name, {}):
        table.add_column("the paper's")
        table.add_column("difference")
    for part, entry in parts.items():
        cells = [part, f"{entry['parameters']:,}"]
        if part in paper:
            entry |= {"paper": paper[part], "difference_percent": 100 * (entry["parameters"] / paper[part] - 1)}
            cells += [f"{paper[part] / 1e6:.1f} M", f"{entry['difference_percent']:+.2f} %"]
        table.add_row(*cells)
    console.print(table)
    console.print_json(data=model.config.to_dict())
    if checkpoint is not None:
        console.print(
            (checkpoint / checkpoints.CARD).read_text(encoding="utf-8")
            if (checkpoint / checkpoints.CARD).is_file()
            else ""
        )
    write_result(
        json_file,
        {
            "name": title,
            "config": model.config.to_dict(),
            "parts": parts,
        },
    )


def convert(
    checkpoint: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the copy.")],
    dtype: Annotated[str, typer.Option(help=f"One of: {', '.join(checkpoints.DTYPES)}.")] = "float16",
) -> None:
    """Copy a checkpoint with its weights in half the space; they are float32 again when it is loaded."""
    if dtype not in checkpoints.DTYPES:
        raise typer.BadParameter(f"--dtype is one of {', '.join(checkpoints.DTYPES)}; not {dtype!r}.")
    loaded = checkpoints.load(checkpoint)
    checkpoints.claim(out)
    checkpoints.save(out, loaded.model, loaded.record, dtype)
    console.print(f"Saved {out}, {(out / checkpoints.WEIGHTS).stat().st_size / 2**20:.1f} MiB", soft_wrap=True)


def assets(name: Annotated[str, typer.Argument(help=f"One of: {', '.join(assets_build.BUILDERS)}.")]) -> None:
    """Rebuild a bundled asset."""
    if name not in assets_build.BUILDERS:
        raise typer.BadParameter(f"there is no asset {name!r}; there are: {', '.join(assets_build.BUILDERS)}.")
    assets_build.BUILDERS[name]()


def faces(
    out: Annotated[Path, typer.Option(help="Folder for the sheets.")] = Path("data/faces"),
    number: Annotated[int, typer.Option(help="How many, a quarter of each style; a multiple of 100.")] = 60_000,
    first: Annotated[int, typer.Option(min=0, help="The first seed; from 1,000,000 on for measuring only.")] = 0,
    packages: Annotated[Path, typer.Option(help="Folder with DiceBear's npm packages.")] = Path(),
) -> None:
    """Draw the data set `faces` anew, with Node.js, DiceBear and resvg-py: about 20 ms a face."""
    with progress_bar() as progress:
        task = progress.add_task("drawing", total=number)
        for done in draw_faces(out, number, first=first, packages=packages):
            progress.update(task, completed=done)
    console.print(f"Saved {out}", soft_wrap=True)
