"""The command line: python -m pixelviz COMMAND, and every command there is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

# Threads that spin while they wait slow every other process on a small machine; must precede torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pixelviz import (
    assets_build,
    benchmark,
    checkpoints,
    compare,
    distillation,
    evaluation,
    peers,
    report,
    training,
)
from pixelviz.assets import ASSETS
from pixelviz.benches import nearest_in
from pixelviz.config import (
    PAPER_FLOOR,
    PAPER_PARAMETERS,
    PAPER_PARTS,
    PRESETS,
    ConfigError,
    ModelConfig,
    TrainConfig,
    preset,
)
from pixelviz.data import NAMED, load_images
from pixelviz.devices import PRECISIONS, choose, out_of_memory, processes
from pixelviz.export import EXTRAS, FORMATS, Request
from pixelviz.export import export as export_zip
from pixelviz.export_figures import FIGURES
from pixelviz.export_view import View, read_settings
from pixelviz.images import read_image
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers import SAMPLERS, STARTS
from pixelviz.tables import cost_table, figure_tables

cli = typer.Typer(
    help="PixelViz: diffusion whose noise schedule depends on each pixel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(markup=False)  # a path may hold [brackets]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda (or cuda:1 and so on) or mps.")]
Precision = Annotated[str, typer.Option(help=f"Of products: auto, {', '.join(PRECISIONS)}.")]
Folder = Annotated[Path, typer.Option("--checkpoint", help="Folder of a checkpoint.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


def _say_saved(out: Path) -> None:
    there = (out / checkpoints.CONFIG).exists()
    console.print(f"Saved {out}" if there else "Stopped before the first training step: there is no checkpoint yet.")


def _write_json(path: Path | None, values: dict) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@cli.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    preset_name: Annotated[str, typer.Option("--preset", help=f"One of: {', '.join(PRESETS)}.")] = "compact",
    data: Annotated[
        str, typer.Option(help=f"{', '.join(NAMED)}, or a folder of images or IDX files.")
    ] = "fashion-mnist",
    limit: Annotated[int | None, typer.Option("--images", help="At most so many images of the data set.")] = None,
    title: Annotated[str | None, typer.Option(help="What the model card calls the data set.")] = None,
    steps: Annotated[int, typer.Option(help="Steps in all, a resumed run's earlier ones included.")] = 20_000,
    batch: Annotated[int, typer.Option(help="Images per step, of all processes together.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Adam's peak learning rate.")] = 1e-3,
    parts: Annotated[str, typer.Option(help="What to train, with commas.")] = ",".join(PAPER_PARTS),
    floor: Annotated[float | None, typer.Option(help="Least pixel value; the paper's is 0.004.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Rate of the process, below T.")] = None,
    steps_of_process: Annotated[int | None, typer.Option("--T", help="Steps of the process.")] = None,
    heads: Annotated[str | None, typer.Option(help="v, or eps (Eq. 15 as printed).")] = None,
    true_scale: Annotated[bool, typer.Option(help="Train R_phi on the true x_delta, as printed.")] = False,
    i_min: Annotated[float | None, typer.Option(help="Least i that R_phi learns; below 1, between steps.")] = None,
    unet_step_power: Annotated[
        float | None, typer.Option(help="R_phi's i is T u^power, u uniform: above 1, early steps more often.")
    ] = None,
    deviation: Annotated[
        float | None, typer.Option(help="Weigh R_phi's errors for an x0 so far from x_delta_hat's image; 0: as V.")
    ] = None,
    scale_weight: Annotated[float, typer.Option(help="Weight of the error in x_delta.")] = TrainConfig.scale_weight,
    log_weight: Annotated[float, typer.Option(help="Weight of the error in log x_delta.")] = TrainConfig.log_weight,
    kl_weight: Annotated[float, typer.Option(help="Weight of the VAE's KL term.")] = TrainConfig.kl_weight,
    ssim_weight: Annotated[float, typer.Option(help="Weight of 1 - SSIM of the VAEs.")] = TrainConfig.ssim_weight,
    clean_share: Annotated[float, typer.Option(help="Share of the VAEs' batch at i = 0.")] = TrainConfig.clean_share,
    latent: Annotated[int | None, typer.Option(help="Size of the VAE's latent.")] = None,
    seed: int = 0,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Let torch.compile build the step; CUDA only.")] = False,
) -> None:
    """Train a model; Ctrl-C stops and saves, --resume goes on. `accelerate launch` shares it between processes."""
    changes = {"floor": floor, "gamma": gamma, "T": steps_of_process, "head_target": heads}
    changes |= {"latent": latent, "i_min": i_min}
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
        unet_step_power=unet_step_power,
        deviation=deviation,
        seed=seed,
    )
    if resume:
        config, _, record = checkpoints.read_config(out)
        for key, value in {**changes, "true_scale": true_scale or None}.items():
            if value not in (None, getattr(config, key)):
                raise ConfigError(f"{out} has {key} = {getattr(config, key)}; a resumed run cannot make it {value}.")
        if record.training and set(record.training.get("parts", ())) != set(settings.parts):
            console.print("Other parts than its last run's: --steps counts from here.", style="yellow")
    team = processes(device)
    if not team.is_main_process:
        console.quiet = True
    with team.main_process_first():  # which may download
        images = load_images(data, size=config.image_size, channels=config.channels, limit=limit, title=title)
    console.print(f"{images.name} -> {out}")
    if images.note:
        console.print(images.note, style="yellow")
    run = training.train(
        images, config, settings, out, resume=resume, device=device, precision=precision, compiled=compiled
    )
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
    _say_saved(out)
    team.destroy_process_group()


@cli.command()
def distill(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the distilled checkpoint.")],
    data: Annotated[str, typer.Option(help="The data set it was trained on, as for train.")] = "fashion-mnist",
    pairs: Annotated[int, typer.Option(help="Images that the closed loop draws to learn from.")] = 20_000,
    passes: Annotated[int, typer.Option(help="Runs of the network for each of them.")] = 10,
    pair_share: Annotated[float, typer.Option(help="Share of every batch that are such pairs.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2_000,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Adam's peak learning rate.")] = 5e-4,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Teach one run of R_phi what its closed loop draws; Ctrl-C stops and saves, the same command goes on."""
    config = checkpoints.read_config(folder)[0]
    images = load_images(data, size=config.image_size, channels=config.channels)
    settings = TrainConfig(steps, batch, learning_rate, ("parallel_unet",), pair_share=pair_share, seed=seed)
    run = distillation.distill(
        folder, out, images, settings, pairs=pairs, passes=passes, device=device, precision=precision
    )
    with _progress() as progress:
        tasks = {}
        try:
            for state in run:
                drawing = isinstance(state, evaluation.Progress)
                what, done, total = ("pairs", state.done, state.total) if drawing else ("training", state.step, steps)
                tasks[what] = tasks.get(what) or progress.add_task(what, total=total)
                progress.update(tasks[what], completed=done)
        except KeyboardInterrupt:
            console.print("Stopping; saving what there is.")
        finally:
            run.close()
    _say_saved(out)


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
    precision: Precision = "auto",
) -> None:
    """Draw images."""
    if out.suffix not in (".npz", ".png"):
        raise typer.BadParameter(f"--out must end in .npz or .png; it is {out.name}.")
    if n < 1:
        raise typer.BadParameter(f"--n must be at least 1; it is {n}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    compute = choose(device, precision)
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
    passes: Annotated[str, typer.Option(help="Numbers of passes, with commas; those above T are left out.")] = ",".join(
        map(str, evaluation.PASSES)
    ),
    starts: Annotated[str, typer.Option(help="Starts, with commas.")] = ",".join(STARTS),
    write: Annotated[bool, typer.Option(help="Store the figures in the checkpoint and its card.")] = False,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Measure SSIM of the scale from true x_i, and FID (in our classifier's features) over passes and starts."""
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
    compute = choose(device, precision)
    loaded = checkpoints.load(checkpoint, compute.device)
    config = loaded.model.config
    test = load_images(
        data, split="test", size=config.image_size, channels=config.channels, limit=images, allow_download=False
    )
    try:
        reference = compare.bundled_reference(loaded, compute)
    except compare.CompareError as reason:  # FID against another data set would mean nothing
        reference = None
        console.print(f"No FID: {reason}", style="yellow")
    with _progress() as progress:
        task = progress.add_task("evaluating", total=None)
        for state in evaluation.evaluate(
            loaded,
            compute,
            test.images,
            samples=samples,
            passes=_passes(passes),
            starts=_listed("--starts", starts, STARTS),
            reference=reference.statistics if reference else None,
            extractor=reference.extractor if reference else None,
            seed=seed,
        ):
            progress.update(task, description=state.what, completed=state.done, total=state.total)
    figures = state.figures
    console.print(*figure_tables(figures, test.name), sep="\n")
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


@cli.command()
def bench(
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of a checkpoint: measure it against its peers.")
    ] = None,
    preset_name: Annotated[
        str | None, typer.Option("--preset", help=f"Measure what a model costs; one of: {', '.join(PRESETS)}.")
    ] = None,
    json_file: JsonFile = None,
    samples: Annotated[int, typer.Option(help="Images per row and seed.")] = 10_000,
    seeds: Annotated[int, typer.Option(help="Seeds per row; their spread is given.")] = 3,
    methods: Annotated[
        str, typer.Option(help=f"With commas, of {', '.join(compare.COMPARED)}; with passes as in ddim:10.")
    ] = ",".join(compare.COMPARED),
    peer: Annotated[
        list[Path] | None, typer.Option(help="Folder of a diffusers UNet2DModel to compare with, too.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="A small setting: under five minutes on two cores.")] = False,
    batch: Annotated[int, typer.Option(help="With --preset: images per run.")] = 4,
    repeats: Annotated[int, typer.Option(help="With --preset: runs per figure.")] = 5,
    head_attention: Annotated[str | None, typer.Option(help="With --preset: the heads' attention.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on a CPU.")] = None,
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
        samples, seeds, methods = compare.QUICK_SAMPLES, 1, ",".join(compare.QUICK_METHODS)
    compute = choose(device)
    loaded = checkpoints.load(checkpoint, compute.device)
    run = compare.bench(
        loaded,
        compute,
        json_file,
        compare.bundled_reference(loaded, compute),
        samples=samples,
        seeds=seeds,
        methods=methods.split(","),
        peers=[peers.load(folder, compute.device) for folder in peer or ()],
    )
    with _progress() as progress:
        task = progress.add_task("measuring", total=None)
        for state in run:
            progress.update(task, description=state.what, completed=state.done, total=state.total)
    table = Table(*report.HEAD, title=f"{checkpoint.name} and its peers", caption=report.conditions(state.results))
    for cells in report.table_rows(state.results):
        table.add_row(*cells)
    console.print(table)
    for one in report.verdicts(state.results):
        console.print(one.text)


def _bench_cost(name: str, config: ModelConfig, json_file: Path | None, device: str, batch: int, repeats: int) -> None:
    """What a preset costs, as a table and as JSON."""
    with _progress() as progress:
        task = progress.add_task("building", total=None)
        for state in benchmark.measure(config, device=device, batch=batch, repeats=repeats):
            progress.update(task, description=state.what, completed=state.done, total=state.total)
    figures = state.figures
    console.print(cost_table(name, batch, figures))
    _write_json(json_file, {"preset": name, **figures})


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
        with torch.device("meta"):  # only to be counted
            model, title = PixelAwareModel(preset(preset_name)), preset_name
    counts = model.parameter_counts()
    parts: dict[str, dict[str, float]] = {part: {"parameters": number} for part, number in counts.items()}
    table = Table("part", "parameters", title=title)
    if paper := PAPER_PARAMETERS.get(preset_name, {}):
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
    _write_json(
        json_file,
        {
            "name": title,
            "config": model.config.to_dict(),
            "parts": parts,
        },
    )


def _pixels(text: str) -> list[list[int]]:
    try:
        pixels = json.loads(text)
    except (ValueError, RecursionError):
        pixels = None
    if not isinstance(pixels, list) or not all(isinstance(pixel, list) for pixel in pixels):
        raise typer.BadParameter(f"--pixels takes JSON like [[12, 20, 0]], one [row, column, channel] each: {text!r}.")
    return pixels


@cli.command()
def export(
    out: Annotated[Path, typer.Option(help="FILE.zip to write.")],
    image: Annotated[Path | None, typer.Option(help="The picture; not needed with --settings of an export.")] = None,
    settings: Annotated[Path | None, typer.Option(help="settings.json of an earlier export, to make it again.")] = None,
    gamma: Annotated[float, typer.Option(help="Rate of the process, below T.")] = 20.0,
    steps_of_process: Annotated[int, typer.Option("--T", help="Steps of the process.")] = 200,
    floor: Annotated[float, typer.Option(help="Least pixel value; the paper's is 0.004.")] = PAPER_FLOOR,
    seed: int = 0,
    t: Annotated[float, typer.Option(help="The time on the screen, 0 to 1.")] = 0.16,
    pixels: Annotated[str, typer.Option(help="Pixels, as JSON [[row, column, channel], ...]; else suggested.")] = "[]",
    ddpm_rescaled: Annotated[bool, typer.Option(help="Multiply DDPM's range by 1000/T.")] = False,
    figures: Annotated[str, typer.Option(help="Figures, with commas.")] = ",".join(FIGURES),
    formats: Annotated[str, typer.Option(help="Formats of the figures, with commas.")] = ",".join(FORMATS),
    extras: Annotated[str, typer.Option(help="Other files, with commas.")] = ",".join(EXTRAS),
    checkpoints_folder: Annotated[
        Path, typer.Option("--checkpoints", help="Where the figures that need a model look for one.")
    ] = ASSETS.parent / "checkpoints",
    device: Device = "auto",
) -> None:
    """The paper's figures, the film, the curves and the settings of a picture, as one zip."""
    if out.suffix != ".zip":
        raise typer.BadParameter(f"--out must end in .zip; it is {out.name}.")
    if settings is not None:
        view = read_settings(settings, image)
    elif image is None:
        raise typer.BadParameter("give --image, or --settings of an earlier export.")
    else:
        places = tuple(tuple(pixel) for pixel in _pixels(pixels))
        view = View(read_image(image), image.stem, gamma, steps_of_process, floor, seed, places, t, ddpm_rescaled)
    wanted = Request(*(tuple(filter(None, text.split(","))) for text in (figures, formats, extras)))
    compute = choose(device)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _progress() as progress:
        task = progress.add_task("export", total=None)
        for step in export_zip(view, wanted, out, lambda needs: nearest_in(checkpoints_folder, view, needs, compute)):
            progress.update(task, description=step.what, completed=step.done, total=step.total)
    console.print(f"Saved {out}")


@cli.command()
def convert(
    checkpoint: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the copy.")],
    dtype: Annotated[str, typer.Option(help=f"One of: {', '.join(checkpoints.DTYPES)}.")] = "float16",
) -> None:
    """Copy a checkpoint with its weights in half the space; they are float32 again when it is loaded."""
    loaded = checkpoints.load(checkpoint)
    checkpoints.claim(out)
    checkpoints.save(out, loaded.model, loaded.record, dtype)
    console.print(f"Saved {out}, {(out / checkpoints.WEIGHTS).stat().st_size / 2**20:.1f} MiB", soft_wrap=True)


@cli.command()
def assets(name: Annotated[str, typer.Argument(help=f"One of: {', '.join(assets_build.BUILDERS)}.")]) -> None:
    """Rebuild a bundled asset."""
    if name not in assets_build.BUILDERS:
        raise typer.BadParameter(f"there is no asset {name!r}; there are: {', '.join(assets_build.BUILDERS)}.")
    assets_build.BUILDERS[name]()


def _fail(text: str) -> NoReturn:
    Console(stderr=True).print(Text.assemble(("Error:", "red"), " ", text), soft_wrap=True)
    raise SystemExit(1) from None


def main() -> None:
    """Run the command line; a wrong input is one line on stderr and exit status 1, never a traceback."""
    try:
        cli()
    except (ValueError, training.TrainingError, OSError) as error:
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        _fail("there was not enough memory; ask for fewer images at a time, or choose a smaller preset.")


if __name__ == "__main__":
    main()
