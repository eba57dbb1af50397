"""The command `check`: one or two checkpoints looked at from all sides."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pixelviz.commands.common import Device, Precision, Seed, console, found, source_of, watched, write_result
from pixelviz.devices import choose
from pixelviz.export.check_page import check_page
from pixelviz.measure import check as checking
from pixelviz.measure.check import Findings
from pixelviz.store import checkpoints


def _names(folders: list[Path]) -> list[str]:
    """What tells these apart: their names, with as much of the way to them as two of one name need."""
    ways = [folder.resolve().parts for folder in folders]
    for k in range(1, max(map(len, ways)) + 1):
        names = ["/".join(way[-k:]) for way in ways]
        if len(set(names)) == len(set(ways)):
            break
    return names


def check(
    folder: Annotated[Path, typer.Argument(help="Folder of a checkpoint, or USER/NAME of the Hub.", callback=found)],
    other: Annotated[Path | None, typer.Argument(help="Another, to be shown beside it.", callback=found)] = None,
    out: Annotated[Path, typer.Option(help="The HTML file; its figures go into a JSON file of the same name.")] = Path(
        "check.html"
    ),
    data: Annotated[str | None, typer.Option(help="By default the data set it was trained on.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Look at a checkpoint in a minute: sheets, reconstructions, nearest training images, figures, red flags."""
    if out.suffix != ".html":
        raise typer.BadParameter(f"--out must end in .html; it is {out.name}.")
    compute, findings = choose(device, precision), []
    began = time.monotonic()
    folders = [one for one in (folder, other) if one is not None]
    for one, name in zip(folders, _names(folders), strict=True):
        loaded = checkpoints.load(one, compute.device)
        steps = checking.check_against(
            loaded, compute, source_of(one, loaded.record, {"data": data} if data else None).data, seed
        )
        findings += [replace(state, name=name) for state in watched(name, steps) if isinstance(state, Findings)]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(check_page(findings), encoding="utf-8")
    figures = {one.name: {**one.figures, "flags": [flag._asdict() for flag in one.flags]} for one in findings}
    write_result(out.with_suffix(".json"), {**figures, "seconds": round(time.monotonic() - began, 1)})
    for one in findings:
        for flag in one.flags:
            console.print(f"{one.name}, {flag.name}: {flag.text}", style="yellow")
        if not one.flags:
            console.print(f"{one.name}: no red flag was raised.")
        for note in one.notes:
            console.print(f"{one.name}: {note}", soft_wrap=True)
    console.print(f"Saved {out}", soft_wrap=True)
