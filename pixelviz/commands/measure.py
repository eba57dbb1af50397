"""Commands that measure: `evaluate` and `bench`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from pixelviz.commands.common import (
    Device,
    Folder,
    JsonFile,
    Precision,
    console,
    data_of,
    watched,
    write_result,
)
from pixelviz.commands.options import Options, takes
from pixelviz.config import PRESETS, ModelConfig, preset
from pixelviz.data.sets import DATASETS, ImageSet, load_images
from pixelviz.devices import Compute, choose
from pixelviz.learning import costs
from pixelviz.measure import benchmark, evaluation, judges, report
from pixelviz.measure.judges import Reference
from pixelviz.samplers import compared
from pixelviz.store import checkpoints, peers

JUDGED, LEAST_REAL = 10_000, 50  # real images that the judge of another kind compares with: at most, and at least
Judge = Annotated[
    bool | None,
    typer.Option("--judge/--no-judge", help="Also by features of ImageNet (needs the extra judge, then the default)."),
]


@takes(settings=Options(evaluation.Evaluation, "Samples"))
def evaluate(
    checkpoint: Folder,
    settings: dict[str, Any],
    json_file: JsonFile = None,
    data: Annotated[
        str | None, typer.Option(help="Data set whose test split is used; by default the one it was trained on.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Test images for SSIM.")] = 500,
    write: Annotated[bool, typer.Option(help="Store the figures in the checkpoint and its card.")] = False,
    judge: Judge = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Measure SSIM of the scale from true x_i, and FID (in our classifier's features) over passes and starts."""
    asked = evaluation.Evaluation(**settings)  # refused before anything is loaded
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
    compute = choose(device, precision)
    loaded = checkpoints.load(checkpoint, compute.device)
    test = _test_images(loaded, data, images)
    reference, second = _judges(loaded, compute, data, judge) if asked.samples else (None, None)
    steps = evaluation.evaluate(loaded, compute, test.images, reference=reference, judge=second, **settings)
    *_, state = watched("evaluating", steps)
    figures = {"test_images": test.name, **state.figures}
    console.print(*_figure_tables(figures, test.name), sep="\n")
    if write:
        checkpoints.update_figures(loaded, figures)
    write_result(json_file, {"checkpoint": checkpoint.name, "data": test.name, **figures})


def _test_images(loaded: checkpoints.Checkpoint, data: str | None, limit: int) -> ImageSet:
    """At most so many images of the test split of `data`, or of what the checkpoint learnt."""
    fit = {"size": loaded.model.config.image_size, "channels": loaded.model.config.channels}
    return load_images(data_of(loaded.record, data), split="test", limit=limit, allow_download=False, **fit)


def _judges(
    loaded: checkpoints.Checkpoint, compute: Compute, data: str | None, wanted: bool | None
) -> tuple[Reference | None, Reference | None]:
    """The data's own classifier and the judge of another kind, which stands in for it where there is none.

    wanted: None for the second where it is installed. Raises JudgeError where it is asked for and is not.
    """
    try:
        own = benchmark.bundled_reference(loaded, compute)
    except benchmark.BenchmarkError as reason:  # FID against another data set would mean nothing
        own = None
        console.print(f"No FID by a classifier of its own: {reason}", style="yellow")
    if wanted is None:
        wanted = judges.installed() and (data is not None or loaded.record.data.id in DATASETS)
    if not wanted:
        return own, None
    real = _test_images(loaded, data, JUDGED)
    if len(real) < LEAST_REAL:
        console.print(f"With {len(real)} test images the judge of another kind has nothing to go by.", style="yellow")
        return own, None
    judge = judges.imagenet_reference(real, compute)
    return (own, judge) if own else (judge, None)


@takes(settings=Options(benchmark.Comparison, "Comparison", defaults={"methods": tuple(compared())}))
def bench(
    settings: dict[str, Any],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of a checkpoint: measure it against its peers.")
    ] = None,
    preset_name: Annotated[
        str | None, typer.Option("--preset", help=f"Measure what a model costs; one of: {', '.join(PRESETS)}.")
    ] = None,
    json_file: JsonFile = None,
    data: Annotated[
        str | None, typer.Option(help="Data set for the judge; by default the one it was trained on.")
    ] = None,
    peer: Annotated[
        list[Path] | None, typer.Option(help="Folder of a diffusers UNet2DModel to compare with, too.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="A small setting: under five minutes on two cores.")] = False,
    batch: Annotated[int, typer.Option(help="With --preset: images per run.")] = 4,
    repeats: Annotated[int, typer.Option(help="With --preset: runs per figure.")] = 5,
    head_attention: Annotated[str | None, typer.Option(help="With --preset: the heads' attention.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on a CPU.")] = None,
    judge: Judge = None,
    device: Device = "auto",
) -> None:
    """Compare a checkpoint with its peers (stopped and started again, it goes on), or measure a preset's cost."""
    if threads is not None:
        torch.set_num_threads(threads)
    if preset_name is not None and checkpoint is None:
        changes = {} if head_attention is None else {"head_attention": head_attention}
        _bench_cost(preset_name, preset(preset_name, **changes), json_file, device, batch, repeats)
        return
    if preset_name is not None or checkpoint is None or json_file is None:
        raise typer.BadParameter("give --checkpoint DIR and --json FILE, which is written row by row, or --preset.")
    if quick:
        settings = {"samples": benchmark.QUICK_SAMPLES, "seeds": 1, "methods": tuple(benchmark.quick_methods())}
    compute = choose(device)
    loaded = checkpoints.load(checkpoint, compute.device)
    if judge is None and json_file.exists():  # a file that goes on keeps its judges
        judge = bool(benchmark.read_results(json_file).get("judge"))
    reference, second = _judges(loaded, compute, data, judge)
    if reference is None:
        raise benchmark.BenchmarkError(
            "there is nothing to measure with: install the extra judge, or train on known data."
        )
    run = benchmark.bench(
        loaded,
        compute,
        json_file,
        reference,
        judge=second,
        **settings,
        peers=[peers.load_peer(folder, compute.device) for folder in peer or ()],
    )
    *_, state = watched("measuring", run)
    table = Table(
        *report.head(state.figures), title=f"{checkpoint.name} and its peers", caption=report.conditions(state.figures)
    )
    for cells in report.table_rows(state.figures):
        table.add_row(*cells)
    console.print(table)
    for one in report.verdicts(state.figures):
        console.print(one.text)


def _bench_cost(name: str, config: ModelConfig, json_file: Path | None, device: str, batch: int, repeats: int) -> None:
    """What a preset costs, as a table and as JSON."""
    *_, state = watched("building", costs.measure(config, device=device, batch=batch, repeats=repeats))
    figures = state.figures
    console.print(_cost_table(name, batch, figures))
    write_result(json_file, {"preset": name, **figures})


def _figure_tables(figures: dict[str, Any], data: str) -> Iterator[Table]:
    """What `evaluation.evaluate` measured: SSIM over i, and samples over starts and passes."""
    if "ssim_x_delta" in figures:
        table = Table("from true x_i", *(f"i = {i}" for i in figures["ssim_x_delta"]), title=f"Mean SSIM, {data}")
        for key in ("x_delta", "alpha_bar", "x0"):
            if f"ssim_{key}" in figures:
                table.add_row(key, *(f"{value:.3f}" for value in figures[f"ssim_{key}"].values()))
        yield table
    if "generation" in figures:
        other = [f"{name}, other judge" for name in report.QUALITY] if "judge" in figures else []
        table = Table("start", "passes", "FID", "network evaluations", "s per image", *other, title="Samples")
        for row in figures["generation"]:
            table.add_row(
                row["start"],
                str(row["passes"]),
                f"{row['fid']:.2f}",
                str(row["network_evaluations"]),
                f"{row['seconds_per_image']:.4f}",
                *(report.quality_cells(row["judge"]) if other else ()),
            )
        yield table


def _cost_table(name: str, batch: int, figures: dict[str, Any]) -> Table:
    """What `costs.measure` measured of a preset."""
    here = figures["environment"]
    conditions = f"{here['machine']}; {here['device']}, {here['threads']} threads"
    table = Table("what", "", title=f"{name}, batch {batch}", caption=conditions)
    table.add_row("all T heads / one head", f"{figures['head_cost_ratio']:.3f}")
    table.add_row("one pass, s per image", f"{figures['seconds_per_image']:.4f}")
    table.add_row("training, images/s", f"{figures['images_per_second']:.2f}")
    table.add_row("bare forward and backward, images/s", f"{figures['bare_images_per_second']:.2f}")
    table.add_row("training / bare", f"{figures['training_ratio']:.3f}")
    for what, peak in figures["peak_memory"].items():
        table.add_row(f"peak memory, {what.replace('_', ' ')}", "unknown" if peak is None else f"{peak:,.0f} MiB")
    return table
