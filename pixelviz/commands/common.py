"""What several commands share: the console, the progress bar, common options, and JSON files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixelviz.config import MAX_SEED, PRECISIONS

if TYPE_CHECKING:
    from pixelviz.store.checkpoints import Record

Step = TypeVar("Step")
console = Console(markup=False)  # a path may hold [brackets]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda (or cuda:1 and so on) or mps.")]
Precision = Annotated[str, typer.Option(help=f"Of products: auto, {', '.join(PRECISIONS)}.")]


def found(name: Path | None) -> Path | None:
    """The folder that a checkpoint's name stands for; one of the Hub is fetched."""
    if name is None:
        return None
    from pixelviz.store.fetch import located

    return located(name)


CHECKPOINT = typer.Option("--checkpoint", help="Folder of a checkpoint, or USER/NAME of the Hub.", callback=found)
Folder = Annotated[Path, CHECKPOINT]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED)]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]


def progress_bar() -> Progress:
    """A bar with what is going on, how many of how many, and the time left."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


def watched(what: str, steps: Iterable[Step]) -> Iterator[Step]:
    """The steps of long work, with a bar that those move which say how much is done."""
    with progress_bar() as progress:
        task = progress.add_task(what, total=None)
        for step in steps:
            if (done := getattr(step, "done", None)) is not None:
                about = {"description": getattr(step, "what", what), "total": getattr(step, "total", None)}
                progress.update(task, completed=done, **about)
            yield step


def write_result(path: Path | None, values: dict) -> None:
    """Write values to the JSON file, where one was asked for; its folder is made."""
    if path is not None:
        from pixelviz.store.files import write_json

        write_json(path, values)


def data_of(record: Record, given: str | None) -> str:
    """The data set to use with a checkpoint: the one given, otherwise the one it was trained on."""
    from pixelviz.data.sets import DATASETS

    if given is not None:
        return given
    if record.data.id not in DATASETS:
        raise typer.BadParameter(
            f"the checkpoint was trained on {record.data}; give it with --data: a folder, or {', '.join(DATASETS)}."
        )
    return record.data.id
