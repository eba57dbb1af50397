"""`inspect`, which imports no torch for a preset: it is how one looks around before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pixelviz.commands.common import CHECKPOINT, JsonFile, console, write_result
from pixelviz.config import PRESETS, Preset
from pixelviz.paper import PARAMETERS


def _counts(row: Preset) -> dict[str, int]:
    """A preset's parameters per part; built to be counted where nobody has written them down yet."""
    if row.parameters:
        return row.parameters
    import torch

    from pixelviz.models.pixel_aware import PixelAwareModel

    with torch.device("meta"):
        return {**PixelAwareModel(row.config).parameter_counts()}


def inspect(
    preset_name: Annotated[str | None, typer.Option("--preset", help=f"One of: {', '.join(PRESETS)}.")] = None,
    checkpoint: Annotated[Path | None, CHECKPOINT] = None,
    json_file: JsonFile = None,
) -> None:
    """Show a preset's or a checkpoint's configuration and its parts."""
    if (preset_name is None) == (checkpoint is None):
        raise typer.BadParameter("give either --preset or --checkpoint.")
    paper: dict[str, float] = {}
    if checkpoint is not None:
        from pixelviz.store import checkpoints

        model, title = checkpoints.load(checkpoint).model, checkpoint.name
        config, counts, card = model.config, model.parameter_counts(), checkpoint / checkpoints.CARD
    else:
        row = PRESETS.find(str(preset_name))
        config, counts, card, title = row.config, _counts(row), None, row.name
        paper = PARAMETERS.get(row.paper or "", {})
    parts: dict[str, dict[str, float]] = {part: {"parameters": number} for part, number in counts.items()}
    table = Table("part", "parameters", title=title)
    if paper:
        table.add_column("the paper's")
        table.add_column("difference")
    for part, entry in parts.items():
        cells = [part, f"{entry['parameters']:,}"]
        if part in paper:
            entry |= {"paper": paper[part], "difference_percent": 100 * (entry["parameters"] / paper[part] - 1)}
            cells += [f"{paper[part] / 1e6:.1f} M", f"{entry['difference_percent']:+.2f} %"]
        table.add_row(*cells)
    console.print(table)
    console.print_json(data=config.to_dict())
    if card is not None and card.is_file():
        console.print(card.read_text(encoding="utf-8"))
    write_result(json_file, {"name": title, "config": config.to_dict(), "parts": parts})
