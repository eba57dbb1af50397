"""The command line: python -m pixelviz train | sample | evaluate | inspect | assets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

# Threads that spin while they wait slow every other process on a small machine; must precede torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pixelviz import assets_build, checkpoints, evaluation, metrics, training
from pixelviz.config import PAPER_PARTS, PRESETS, TrainConfig, preset
from pixelviz.data import load_images
from pixelviz.devices import choose
from pixelviz.models.classifier import FeatureExtractor, load_classifier
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers import SAMPLERS, STARTS

cli = typer.Typer(
    help="PixelViz: diffusion whose noise schedule depends on each pixel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Folder = Annotated[Path, typer.Option("--checkpoint", help="Folder of a checkpoint.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


def _write_json(path: Path | None, values: dict) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@cli.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    preset_name: Annotated[str, typer.Option("--preset", help=f"One of: {', '.join(PRESETS)}.")] = "compact",
    data: Annotated[
        str, typer.Option(help="fashion-mnist, fashion-mnist-10k (bundled), or a folder of images or IDX files.")
    ] = "fashion-mnist",
    steps: Annotated[int, typer.Option(help="Steps in all, a resumed run's earlier ones included.")] = 20_000,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Adam's peak learning rate.")] = 1e-3,
    parts: Annotated[str, typer.Option(help="What to train, with commas.")] = ",".join(PAPER_PARTS),
    floor: Annotated[float | None, typer.Option(help="Least pixel value; the paper's is 0.004.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Rate of the process, below T.")] = None,
    steps_of_process: Annotated[int | None, typer.Option("--T", help="Steps of the process.")] = None,
    heads: Annotated[str | None, typer.Option(help="v, or eps (Eq. 15 as printed).")] = None,
    true_scale: Annotated[bool, typer.Option(help="Train R_phi on the true x_delta, as printed.")] = False,
    scale_weight: Annotated[float, typer.Option(help="Weight of the error in x_delta.")] = TrainConfig.scale_weight,
    log_weight: Annotated[float, typer.Option(help="Weight of the error in log x_delta.")] = TrainConfig.log_weight,
    kl_weight: Annotated[float, typer.Option(help="Weight of the VAE's KL term.")] = TrainConfig.kl_weight,
    ssim_weight: Annotated[float, typer.Option(help="Weight of 1 - SSIM of the VAEs.")] = TrainConfig.ssim_weight,
    clean_share: Annotated[float, typer.Option(help="Share of the VAEs' batch at i = 0.")] = TrainConfig.clean_share,
    latent: Annotated[int | None, typer.Option(help="Size of the VAE's latent.")] = None,
    seed: int = 0,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
    device: Device = "auto",
) -> None:
    """Train a model; Ctrl-C stops and saves, --resume goes on."""
    changes = {"floor": floor, "gamma": gamma, "T": steps_of_process, "head_target": heads, "latent": latent}
    config = preset(
        preset_name, true_scale=true_scale, **{key: value for key, value in changes.items() if value is not None}
    )
    settings = TrainConfig(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        parts=tuple(part.strip() for part in parts.split(",")),
        scale_weight=scale_weight,
        log_weight=log_weight,
        kl_weight=kl_weight,
        ssim_weight=ssim_weight,
        clean_share=clean_share,
        seed=seed,
    )
    if resume:
        config = checkpoints.read_config(out)[0]
    images = load_images(data, size=config.image_size, channels=config.channels)
    console.print(f"{images.name} -> {out}")
    if images.note:
        console.print(f"[yellow]{images.note}")
    run = training.train(images, config, settings, out, resume=resume, device=device)
    with _progress() as progress:
        task = progress.add_task("training", total=steps)
        try:
            for step in run:
                shown = "  ".join(f"{key.removeprefix('parallel_')} {value:.4f}" for key, value in step.losses.items())
                progress.update(
                    task, completed=step.step, description=f"{step.images_per_second:.0f} images/s  {shown}"
                )
        except KeyboardInterrupt:
            console.print("Stopping; saving the checkpoint.")
        finally:
            run.close()
    console.print(f"Saved {out}")


@cli.command()
def sample(
    checkpoint: Folder,
    out: Annotated[Path, typer.Option(help="FILE.npz (images, network_evaluations, seconds) or FILE.png (a sheet).")],
    n: Annotated[int, typer.Option(help="Number of images.")] = 64,
    passes: Annotated[int, typer.Option(help="Runs of the network: 1 (one pass) to T (closed loop).")] = 1,
    start: Annotated[str, typer.Option(help=f"One of: {', '.join(STARTS)}.")] = "consistent",
    sampler: Annotated[str, typer.Option(help=f"One of: {', '.join(SAMPLERS)}.")] = "parallel",
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Draw images."""
    if out.suffix not in (".npz", ".png"):
        raise typer.BadParameter(f"--out must end in .npz or .png; it is {out.name}.")
    if n < 1:
        raise typer.BadParameter(f"--n must be at least 1; it is {n}.")
    compute = choose(device)
    model = checkpoints.load(checkpoint, compute.device).model
    done: list[evaluation.Batch] = []
    with _progress() as progress:
        task = progress.add_task("sampling", total=n)
        for batch in evaluation.sample_images(
            model, compute, n, passes=passes, start=start, sampler=sampler, seed=seed
        ):
            done.append(batch)
            progress.advance(task, len(batch.images))
    images = torch.cat([batch.images for batch in done]).permute(0, 2, 3, 1).numpy()
    seconds = sum(batch.seconds for batch in done)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        np.savez_compressed(
            out, images=images, network_evaluations=done[-1].network_evaluations, seconds=np.float64(seconds)
        )
    else:
        Image.fromarray(evaluation.sheet(images)).save(out)
    console.print(
        f"{n} images, {done[-1].network_evaluations} network evaluations each, "
        f"{seconds:.2f} s ({seconds / n:.4f} s per image) -> {out}",
        soft_wrap=True,
    )


@cli.command()
def evaluate(
    checkpoint: Folder,
    json_file: JsonFile = None,
    data: Annotated[str, typer.Option(help="Data set whose test split is used.")] = "fashion-mnist",
    images: Annotated[int, typer.Option(help="Test images for SSIM.")] = 500,
    samples: Annotated[int, typer.Option(help="Samples per row of the FID table; 0 for none.")] = 2000,
    passes: Annotated[str, typer.Option(help="Numbers of passes, with commas.")] = ",".join(
        map(str, evaluation.PASSES)
    ),
    starts: Annotated[str, typer.Option(help="Starts, with commas.")] = ",".join(STARTS),
    write: Annotated[bool, typer.Option(help="Store the figures in the checkpoint and its card.")] = False,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Measure SSIM of the scale from true x_i, and FID (in our classifier's features) over passes and starts."""
    compute = choose(device)
    loaded = checkpoints.load(checkpoint, compute.device)
    config = loaded.model.config
    test = load_images(
        data, split="test", size=config.image_size, channels=config.channels, limit=images, allow_download=False
    )
    # The bundled reference is of Fashion-MNIST: FID against it means nothing for other data.
    fits = config.channels == 1 and config.image_size == 32 and "Fashion-MNIST" in loaded.record.data
    with _progress() as progress:
        task = progress.add_task("evaluating", total=None)
        for state in evaluation.evaluate(
            loaded,
            compute,
            test.images,
            samples=samples if fits else 0,
            passes=_passes(passes),
            starts=_listed("--starts", starts, STARTS),
            reference=metrics.load_statistics() if fits else None,
            extractor=FeatureExtractor(load_classifier()) if fits else None,
            seed=seed,
        ):
            progress.update(task, description=state.what, completed=state.done, total=state.total)
    figures = state.figures
    _print_figures(figures, test.name)
    if write:
        checkpoints.update_figures(loaded, figures)
    _write_json(json_file, {"checkpoint": checkpoint.name, "data": test.name, **figures})


def _passes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(k) for k in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--passes takes whole numbers with commas, such as 1,5,10; it is {text!r}.") from None


def _listed(option: str, text: str, known: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in chosen if name not in known]:
        raise typer.BadParameter(f"{option} knows {', '.join(known)}, not {unknown[0]!r}.")
    return chosen


def _print_figures(figures: dict, data: str) -> None:
    """The tables of `evaluate`."""
    if "ssim_x_delta" in figures:
        table = Table("from true x_i", *(f"i = {i}" for i in figures["ssim_x_delta"]), title=f"Mean SSIM, {data}")
        for key in ("x_delta", "alpha_bar", "x0"):
            if f"ssim_{key}" in figures:
                table.add_row(key, *(f"{value:.3f}" for value in figures[f"ssim_{key}"].values()))
        console.print(table)
    if "generation" in figures:
        table = Table("start", "passes", "FID", "network evaluations", "s per image", title="Samples")
        for row in figures["generation"]:
            table.add_row(
                row["start"],
                str(row["passes"]),
                f"{row['fid']:.2f}",
                str(row["network_evaluations"]),
                f"{row['seconds_per_image']:.4f}",
            )
        console.print(table)


@cli.command()
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
        model, title = PixelAwareModel(preset(preset_name)), preset_name
    counts = model.parameter_counts()
    table = Table("part", "parameters", title=title)
    for part, number in counts.items():
        table.add_row(part, f"{number:,}")
    console.print(table)
    console.print_json(data=model.config.to_dict())
    if checkpoint is not None:
        console.print(
            (checkpoint / checkpoints.CARD).read_text(encoding="utf-8")
            if (checkpoint / checkpoints.CARD).is_file()
            else ""
        )
    _write_json(
        json_file,
        {
            "name": title,
            "config": model.config.to_dict(),
            "parts": {part: {"parameters": number} for part, number in counts.items()},
        },
    )


@cli.command()
def assets(name: Annotated[str, typer.Argument(help=f"One of: {', '.join(assets_build.BUILDERS)}.")]) -> None:
    """Rebuild a bundled asset."""
    if name not in assets_build.BUILDERS:
        raise typer.BadParameter(f"there is no asset {name!r}; there are: {', '.join(assets_build.BUILDERS)}.")
    assets_build.BUILDERS[name]()


def main() -> None:
    """Run the command line; a wrong input is one line on stderr and exit status 1, never a traceback."""
    try:
        cli()
    except (ValueError, training.TrainingError, OSError) as error:
        Console(stderr=True).print(f"[red]Error:[/red] {error}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
