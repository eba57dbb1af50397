"""What several commands share: the console, the progress bar, common options, and JSON files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pixelviz.config import MAX_SEED, PRECISIONS, DataConfig, ModelConfig

if TYPE_CHECKING:
    from pixelviz.data.image_set import ImageSet
    from pixelviz.progress import Progress as Measuring
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


def measured(what: str, steps: Iterable[Measuring]) -> dict[str, Any]:
    """What long work measured, watched to its end."""
    *_, last = watched(what, steps)
    return last.figures or {}


def show_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, keys: int = 1, title: str, caption: str = ""
) -> None:
    """Print a table, in parts where the screen is too narrow, each of which begins with the first `keys` columns."""
    rows = [tuple(row) for row in rows]
    table = Table(*head, title=title, caption=caption)
    for row in rows:
        table.add_row(*row)
    whole = console.measure(table, options=console.options.update(width=10_000)).maximum  # not as cut to the screen
    if whole <= console.width or len(head) <= keys + 1:
        console.print(table)
        return
    middle = keys + (len(head) - keys + 1) // 2
    show_table(head[:middle], [row[:middle] for row in rows], keys=keys, title=title)
    rest = [(*row[:keys], *row[middle:]) for row in rows]
    show_table((*head[:keys], *head[middle:]), rest, keys=keys, title="", caption=caption)


def write_result(path: Path | None, values: dict) -> None:
    """Write values to the JSON file, where one was asked for; its folder is made."""
    if path is not None:
        from pixelviz.store.files import write_json

        write_json(path, values)


def source_of(folder: Path, record: Record, given: dict[str, Any] | None = None) -> DataConfig:
    """The data of the checkpoint in `folder`: what is given, else what its run.yaml or its record says it learnt.

    All of it, or as much as it learnt. Raises typer.BadParameter where nothing says where they are.
    """
    from pixelviz.data.sets import DATASETS
    from pixelviz.store import runs

    given = given or {}
    if "data" in given:
        return DataConfig(**given)
    recipe = runs.recipe_of(folder)
    if recipe is not None and recipe.data is not None:
        return replace(recipe.data, **given)
    if record.data.id not in DATASETS:
        raise typer.BadParameter(
            f"the checkpoint was trained on {record.data}; give it with --data: a folder, or {', '.join(DATASETS)}."
        )
    number = record.data.number if record.data.number < record.data.total else None
    return DataConfig(**{"data": record.data.id, "images": number, "title": record.data.title} | given)


def images_of(source: DataConfig, config: ModelConfig, **options: Any) -> ImageSet:
    """The images of a source in a model's shape; options as for `data.sets.load_images`."""
    from pixelviz.data.sets import load_images

    names = {"limit": source.images, "title": source.title, "like": source.like} | options
    with progress_bar() as progress:
        task = progress.add_task("decoding", total=None, visible=False)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        return load_images(source.data, size=config.image_size, channels=config.channels, tell=tell, **names)
