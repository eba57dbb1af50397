"""Commands that measure: `evaluate` and `bench`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from pixelviz.commands.common import (
    CHECKPOINT,
    Device,
    Folder,
    JsonFile,
    Precision,
    console,
    images_of,
    measured,
    show_table,
    source_of,
    write_result,
)
from pixelviz.commands.options import Options, takes
from pixelviz.config import PRESETS, DataConfig, ModelConfig, TrainConfig, preset
from pixelviz.data.pictures import tile, to_pil
from pixelviz.data.sets import DATASETS, DataError, ImageSet
from pixelviz.devices import Compute, choose
from pixelviz.learning import costs
from pixelviz.learning.held_out import held_out_losses
from pixelviz.measure import benchmark, evaluation, judges, report, residuals
from pixelviz.measure.judges import ImageNetFeatures, Reference
from pixelviz.measure.nearest import MARGIN, QUANTILE, UNJUDGED, memorised
from pixelviz.samplers import compared
from pixelviz.samplers.batches import sample_images
from pixelviz.store import checkpoints, peers

JUDGED, LEAST_REAL = 10_000, 50  # real images that the judge of another kind compares with: at most, and at least
BOUND = ("code", "terminal", "steps", "levels")  # what bits per dimension are made of
SAMPLES = 256  # that are looked for among the training images
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
    nearest: Annotated[
        Path | None, typer.Option(help="FILE.png to write: the samples nearest to training images, and those.")
    ] = None,
    write: Annotated[bool, typer.Option(help="Store the figures in the checkpoint and its card.")] = False,
    judge: Judge = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Measure SSIM of the scale, held-out losses, and over passes and starts FID, KID, precision and recall."""
    asked = evaluation.Evaluation(**settings)  # refused before anything is loaded
    if nearest is not None and nearest.suffix != ".png":
        raise typer.BadParameter(f"--nearest must end in .png; it is {nearest.name}.")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
    compute = choose(device, precision)
    loaded = checkpoints.load(checkpoint, compute.device)
    config = loaded.model.config
    source = source_of(checkpoint, loaded.record, {"data": data} if data else None)
    test = images_of(source, config, split="test", limit=images, allow_download=False)
    reference, second = _judges(loaded, compute, data, judge) if asked.samples else (None, None)
    if second is None and reference is not None and isinstance(reference.extractor, ImageNetFeatures):
        second = reference  # by which all four figures are given
    # What takes a minute comes before what may take hours, which then nothing that it raises throws away.
    quick: dict[str, Any] = {"held_out": _held_out(loaded, compute, test)}
    if nearest is not None:
        quick["nearest"] = _nearest(loaded, compute, images_of(source, config, allow_download=False), test, nearest)
    steps = evaluation.evaluate(loaded, compute, test.images, reference=reference, judge=second, **settings)
    figures = {"test_images": test.name, **measured("evaluating", steps), **quick}
    _show_figures(figures, test.name)
    if write:
        checkpoints.update_figures(loaded, figures)
    write_result(json_file, {"checkpoint": checkpoint.name, "data": test.name, **figures})


def _held_out(loaded: checkpoints.Checkpoint, compute: Compute, test: ImageSet) -> dict[str, float]:
    """The losses of its last training, of all its parts, on test images."""
    training = TrainConfig.resumed(loaded.record.training, parts=loaded.model.parts)
    found = held_out_losses(loaded.model, test, training, compute)
    return {key: round(value, 6) for key, value in found.items()}


def _nearest(
    loaded: checkpoints.Checkpoint, compute: Compute, training: ImageSet, test: ImageSet, out: Path
) -> dict[str, float | None]:
    """Write what came nearest to training images; returns the figures."""
    samples = torch.cat([batch.images for batch in sample_images(loaded.model, compute, SAMPLES)])
    pictures, figures = memorised(samples, training.images, test.images)
    out.parent.mkdir(parents=True, exist_ok=True)
    to_pil(tile(pictures.flatten(0, 1).permute(0, 2, 3, 1).numpy(), pictures.shape[1])).save(out)
    found = f"Whether samples are learnt by heart {UNJUDGED}"
    if (share := figures["memorised"]) is not None:
        found = (
            f"{share:.1%} of {SAMPLES} samples are nearer to a training image than {MARGIN:g} times the distance that "
            f"all but the nearest {QUANTILE:.0%} of the test images keep"
        )
    console.print(f"{found} -> {out}, the nearest above what they are near to.", soft_wrap=True)
    return {key: value if value is None else round(value, 5) for key, value in figures.items()}


def _judges(
    loaded: checkpoints.Checkpoint, compute: Compute, data: str | None, wanted: bool | None
) -> tuple[Reference | None, Reference | None]:
    """The data's own classifier and the judge of another kind, which stands in for it where there is none.

    wanted: None for the second where it is installed. Raises JudgeError where it is asked for and is not.
    """
    row = DATASETS.get(loaded.record.data.id)
    try:
        own = benchmark.bundled_reference(loaded, compute)
    except benchmark.BenchmarkError as reason:  # FID against another data set would mean nothing
        own = None
        if row is not None and row.classifier is not None:
            console.print(f"No FID by a classifier of its own: {reason}", style="yellow")
    if not (judges.installed() if wanted is None else wanted):
        if own is None:
            console.print("For FID, KID, precision and recall: pip install 'pixelviz[judge]'.", style="yellow")
        return own, None
    try:
        source = source_of(loaded.home, loaded.record, {"data": data} if data else None)
    except typer.BadParameter:
        if own is None or wanted:
            raise
        return own, None
    real = _real(source, loaded.model.config)
    if len(real) < LEAST_REAL:
        console.print(f"With {len(real)} images the judge of another kind has nothing to go by.", style="yellow")
        return own, None
    judge = judges.imagenet_reference(real, compute)
    return (own, judge) if own else (judge, None)


def _unseen(loaded: checkpoints.Checkpoint, data: str | None) -> torch.Tensor | None:
    """Images that were not learnt, for the bits per dimension; None where its data is not here."""
    try:
        source = source_of(loaded.home, loaded.record, {"data": data} if data else None)
        test = images_of(source, loaded.model.config, split="test", limit=benchmark.BITS_IMAGES, allow_download=False)
    except (typer.BadParameter, DataError):
        return None
    return test.images if len(test) > 1 else None


def _real(source: DataConfig, config: ModelConfig) -> ImageSet:
    """Real images to compare with: those held out or, where they are too few, all."""
    held_out = images_of(source, config, split="test", limit=JUDGED, allow_download=False)
    if len(held_out) >= LEAST_REAL:
        return held_out
    console.print(f"{len(held_out)} held-out images are few: all that there are are compared with.", style="yellow")
    learnt = images_of(source, config, limit=JUDGED, allow_download=False)
    both = torch.cat([held_out.images, learnt.images])
    return replace(learnt, images=both, origin=replace(learnt.origin, number=len(both), total=len(both)))


@takes(settings=Options(benchmark.Comparison, "Comparison", defaults={"methods": tuple(compared())}))
def bench(
    settings: dict[str, Any],
    checkpoint: Annotated[Path | None, CHECKPOINT] = None,
    preset_name: Annotated[
        str | None, typer.Option("--preset", help=f"Measure what a model costs; one of: {', '.join(PRESETS)}.")
    ] = None,
    json_file: JsonFile = None,
    data: Annotated[
        str | None, typer.Option(help="Data set for the judge; by default the one it was trained on.")
    ] = None,
    peer: Annotated[
        list[Path] | None, typer.Option(help="Compare with this diffusers UNet2DModel, too: its folder, or USER/NAME.")
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
    others = [peers.load_peer(folder, compute.device) for folder in peer or ()]
    for one in others:
        for method, reason in one.refused.items():
            console.print(f"{one.name} as it is configured cannot run {method}: {reason}.", style="yellow")
    unseen = _unseen(loaded, data)
    run = benchmark.bench(
        loaded, compute, json_file, reference, judge=second, held_out=unseen, **settings, peers=others
    )
    figures = measured("measuring", run)
    title, caption = f"{checkpoint.name} and its peers", report.conditions(figures)
    show_table(report.head(figures), report.table_rows(figures), keys=2, title=title, caption=caption)
    for one in report.verdicts(figures):
        console.print(one.text)


def energy(
    checkpoint: Folder,
    json_file: JsonFile = None,
    data: Annotated[str | None, typer.Option(help="Data set whose test images are used; by default its own.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Test images.")] = 300,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Measure R_phi's error by brightness and gamma t, and the gamma at which the bound made of it is least."""
    compute = choose(device, precision)
    loaded = checkpoints.load(checkpoint, compute.device)
    source = source_of(checkpoint, loaded.record, {"data": data} if data else None)
    test = images_of(source, loaded.model.config, split="test", limit=images, allow_download=False)
    figures = measured("measuring", residuals.residual_errors(loaded.model, compute, test.images))
    least = figures["least"]
    console.print(
        f"Least energy at gamma {least['gamma']:g} for T = {least['T']}: {least['nats_per_value']:.4f} nats per value."
    )
    about = {"checkpoint": checkpoint.name, "weights": checkpoints.digest(checkpoint), "data": test.name}
    write_result(json_file, about | figures)


def _bench_cost(name: str, config: ModelConfig, json_file: Path | None, device: str, batch: int, repeats: int) -> None:
    """What a preset costs, as a table and as JSON."""
    figures = measured("building", costs.measure(config, device=device, batch=batch, repeats=repeats))
    console.print(_cost_table(name, batch, figures))
    write_result(json_file, {"preset": name, **figures})


def _show_figures(figures: dict[str, Any], data: str) -> None:
    """What `evaluation.evaluate` measured: SSIM over i, held-out losses, and samples over starts and passes."""
    if "ssim_x_delta" in figures:
        head = ("from true x_i", *(f"i = {i}" for i in figures["ssim_x_delta"]))
        there = [key for key in ("x_delta", "alpha_bar", "x0") if f"ssim_{key}" in figures]
        rows = [(key, *(f"{value:.3f}" for value in figures[f"ssim_{key}"].values())) for key in there]
        show_table(head, rows, title=f"Mean SSIM, {data}")
    rows = [(*key.split("/"), f"{value:.4f}") for key, value in figures["held_out"].items()]
    show_table(("part", "loss", "held out"), rows, keys=2, title=f"Losses, {data}")
    if "bits_per_dimension" in figures:
        rows = [
            (name, f"{parts['all']:.3f}", *(f"{parts[key]:.3f}" if key in parts else "–" for key in BOUND))
            for name, parts in figures["bits_per_dimension"].items()
        ]
        show_table(("model", "bits per dimension", *BOUND), rows, title=f"Bits per dimension at most, {data}")
    if "generation" in figures:
        # By one judge alone its FID stands there already.
        first = int(figures.get("judge") == figures["features"])
        of = "" if first else ", other judge"
        other = [f"{name}{of}" for name in report.QUALITY[first:]] if "judge" in figures else []
        rows = [
            (
                row["start"],
                str(row["passes"]),
                f"{row['fid']:.2f}",
                str(row["network_evaluations"]),
                f"{row['seconds_per_image']:.4f}",
                *(report.quality_cells(row["judge"])[first:] if other else ()),
            )
            for row in figures["generation"]
        ]
        head = ("start", "passes", "FID", "network evaluations", "s per image", *other)
        show_table(head, rows, keys=2, title="Samples")


def _cost_table(name: str, batch: int, figures: dict[str, Any]) -> Table:
    """What `costs.measure` measured of a preset."""
    here = figures["environment"]
    conditions = f"{here['machine']}; {here['device']}, {here['threads']} threads"
    table = Table("what", "", title=f"{name}, batch {batch}", caption=conditions)
    table.add_row("all T heads / one head", f"{figures['head_cost_ratio']:.3f}")
    table.add_row("one pass, s per image", f"{figures['seconds_per_image']:.4f}")
    table.add_row("one pass / DDIM with 10 steps", f"{figures['one_pass_ratio']:.3f}")
    table.add_row("one pass, few heads / DDIM with 10 steps", f"{figures['few_heads_ratio']:.3f}")
    table.add_row("training, images/s", f"{figures['images_per_second']:.2f}")
    table.add_row("bare forward and backward, images/s", f"{figures['bare_images_per_second']:.2f}")
    table.add_row("training / bare", f"{figures['training_ratio']:.3f}")
    for what, peak in figures["peak_memory"].items():
        table.add_row(f"peak memory, {what.replace('_', ' ')}", "unknown" if peak is None else f"{peak:,.0f} MiB")
    return table
