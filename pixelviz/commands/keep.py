"""Commands that keep files: `convert`, `publish`, `assets` and `faces`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from pixelviz.commands.common import Folder, console, progress_bar
from pixelviz.config import PRECISIONS
from pixelviz.data.faces import draw_faces
from pixelviz.measure import assets_build
from pixelviz.store import checkpoints
from pixelviz.store import publish as publishing


def convert(
    checkpoint: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the copy.")],
    dtype: Annotated[str, typer.Option(help=f"One of: {', '.join(PRECISIONS)}.")] = "float16",
) -> None:
    """Copy a checkpoint with its weights in half the space; they are float32 again when it is loaded."""
    if dtype not in PRECISIONS:
        raise typer.BadParameter(f"--dtype is one of {', '.join(PRECISIONS)}; not {dtype!r}.")
    loaded = checkpoints.load(checkpoint)
    checkpoints.claim(out)
    checkpoints.save(out, loaded.model, loaded.record, dtype)
    console.print(f"Saved {out}, {(out / checkpoints.WEIGHTS).stat().st_size / 2**20:.1f} MiB", soft_wrap=True)


def publish(
    checkpoint: Folder,
    repository: Annotated[str, typer.Argument(help="USER/NAME, of the model and of its Space.")],
    licence: Annotated[
        str | None, typer.Option(help="Of the weights, as the Hub writes it: mit, cc-by-4.0; asked for in a terminal.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="USER/NAME of the model that this one was made from.")] = None,
    space: Annotated[bool, typer.Option(help="Make a Space that shows it, too.")] = True,
    private: Annotated[bool, typer.Option("--private", help="Only for yourself and your organisation.")] = False,
    dry_run: Annotated[Path | None, typer.Option(help="Write all that would be sent into this folder instead.")] = None,
) -> None:
    """Put a checkpoint on the Hugging Face Hub, and a Space beside it; `hf auth login` first."""
    loaded = checkpoints.load(checkpoint)
    if licence is None and loaded.record.licence is None and console.is_terminal:
        licence = typer.prompt("Licence of the weights (mit, cc-by-4.0, ...; empty: none stated)", default="") or None
    with tempfile.TemporaryDirectory() as folder:
        sent = publishing.write(loaded, repository, dry_run or Path(folder), licence=licence, base=base, space=space)
        for what in sent if dry_run else publishing.upload(repository, sent, private=private):
            console.print(f"{'Written' if dry_run else 'Published'}: {what}", soft_wrap=True)


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
