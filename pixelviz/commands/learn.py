"""Commands that train: `train` and `distill`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pixelviz.commands.common import Device, Folder, Precision, Seed, console, data_of, progress_bar
from pixelviz.config import MAX_SEED, PRESETS, ConfigError, TrainConfig, preset
from pixelviz.data.sets import DATASETS, FASHION, load_images
from pixelviz.devices import processes
from pixelviz.learning import distillation, training, tuning
from pixelviz.learning.training import TrainStep
from pixelviz.process.schedules import by_pixel
from pixelviz.progress import Progress
from pixelviz.store import checkpoints

FIRST = FASHION.name  # what a new model learns unless told otherwise


def _say_saved(out: Path) -> None:
    there = (out / checkpoints.CONFIG).exists()
    console.print(f"Saved {out}" if there else "Stopped before the first training step: there is no checkpoint yet.")


def _follow(run: Iterator[Progress | TrainStep], steps: int) -> None:
    """Show a run's progress, the drawing of pairs apart from the training, to its end or to Ctrl-C."""
    with progress_bar() as progress:
        tasks = {}
        try:
            for state in run:
                drawing = isinstance(state, Progress)
                what, done, total = ("pairs", state.done, state.total) if drawing else ("training", state.step, steps)
                tasks[what] = tasks.get(what) or progress.add_task(what, total=total)
                progress.update(tasks[what], completed=done)
        except KeyboardInterrupt:
            console.print("Stopping; saving what there is.")
        finally:
            run.close()


def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    preset_name: Annotated[str, typer.Option("--preset", help=f"One of: {', '.join(PRESETS)}.")] = "compact",
    data: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(DATASETS)}, or a folder (images or IDX); by default {FIRST}, or as before."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--images", help="At most so many images of the data set.")] = None,
    title: Annotated[str | None, typer.Option(help="What the model card calls the data set.")] = None,
    like: Annotated[str | None, typer.Option(help="Of these data sets, which one a folder holds.")] = None,
    steps: Annotated[int, typer.Option(help="Steps in all, a resumed run's earlier ones included.")] = 20_000,
    batch: Annotated[int | None, typer.Option(help="Images per step, of all processes together.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's peak learning rate.")] = None,
    parts: Annotated[str | None, typer.Option(help="What to train, with commas.")] = None,
    floor: Annotated[float | None, typer.Option(help="Least pixel value; the paper's is 0.004.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Rate of the process, below T.")] = None,
    steps_of_process: Annotated[int | None, typer.Option("--T", help="Steps of the process.")] = None,
    schedule: Annotated[str | None, typer.Option(help=f"Of the noise: {' or '.join(by_pixel())}.")] = None,
    heads: Annotated[str | None, typer.Option(help="v, or eps (Eq. 15 as printed).")] = None,
    true_scale: Annotated[bool, typer.Option(help="Train R_phi on the true x_delta, as printed.")] = False,
    i_min: Annotated[float | None, typer.Option(help="Least i that R_phi learns; below 1, between steps.")] = None,
    unet_step_power: Annotated[
        float | None, typer.Option(help="R_phi's i is T u^power, u uniform: above 1, early steps more often.")
    ] = None,
    deviation: Annotated[
        float | None, typer.Option(help="Weigh R_phi's errors for an x0 so far from x_delta_hat's image; 0: as V.")
    ] = None,
    scale_weight: Annotated[float | None, typer.Option(help="Weight of the error in x_delta.")] = None,
    log_weight: Annotated[float | None, typer.Option(help="Weight of the error in log x_delta.")] = None,
    kl_weight: Annotated[float | None, typer.Option(help="Weight of the VAE's KL term.")] = None,
    ssim_weight: Annotated[float | None, typer.Option(help="Weight of 1 - SSIM of the VAEs.")] = None,
    clean_share: Annotated[float | None, typer.Option(help="Share of the VAEs' batch at i = 0.")] = None,
    step_power: Annotated[
        float | None, typer.Option(help="The VAEs' i is T u^power, u uniform: below 1, late steps more often.")
    ] = None,
    latent: Annotated[int | None, typer.Option(help="Size of the VAE's latent.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED)] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint in --out; what is not given stays as it was.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Let torch.compile build the step; CUDA only.")] = False,
) -> None:
    """Train a model; Ctrl-C stops and saves, --resume goes on. `accelerate launch` shares it between processes."""
    changes = {"floor": floor, "gamma": gamma, "T": steps_of_process, "head_target": heads}
    changes |= {"latent": latent, "i_min": i_min, "schedule": schedule}
    config = preset(
        preset_name, true_scale=true_scale, **{key: value for key, value in changes.items() if value is not None}
    )
    recorded = {}
    if resume:
        config, _, record = checkpoints.read_config(out)
        for key, value in {**changes, "true_scale": true_scale or None}.items():
            if value not in (None, getattr(config, key)):
                raise ConfigError(f"{out} has {key} = {getattr(config, key)}; a resumed run cannot make it {value}.")
        data, recorded = data_of(record, data), record.training
    settings = TrainConfig.resumed(
        recorded,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        parts=tuple(part.strip() for part in parts.split(",")) if parts else None,
        scale_weight=scale_weight,
        log_weight=log_weight,
        kl_weight=kl_weight,
        ssim_weight=ssim_weight,
        clean_share=clean_share,
        step_power=step_power,
        unet_step_power=unet_step_power,
        deviation=deviation,
        seed=seed,
    )
    if recorded and set(recorded.get("parts", ())) != set(settings.parts):
        console.print("Other parts than its last run's: --steps counts from here.", style="yellow")
    team = processes(device)
    if not team.is_main_process:
        console.quiet = True
    with team.main_process_first():  # which may download
        shape = {"size": config.image_size, "channels": config.channels}
        images = load_images(data or FIRST, **shape, limit=limit, title=title, like=like)
    console.print(f"{images.name} -> {out}")
    if images.note:
        console.print(images.note, style="yellow")
    run = training.train(
        images, config, settings, out, resume=resume, device=device, precision=precision, compiled=compiled
    )
    with progress_bar() as progress:
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


def distill(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the distilled checkpoint.")],
    data: Annotated[str | None, typer.Option(help="By default the data set it was trained on.")] = None,
    pairs: Annotated[int, typer.Option(help="Images that the closed loop draws to learn from.")] = 20_000,
    passes: Annotated[int, typer.Option(help="Runs of the network for each of them.")] = 10,
    pair_share: Annotated[float, typer.Option(help="Share of every batch that are such pairs.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2_000,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Adam's peak learning rate.")] = 5e-4,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Teach one run of R_phi what its closed loop draws; Ctrl-C stops and saves, the same command goes on."""
    config, _, record = checkpoints.read_config(folder)
    images = load_images(data_of(record, data), size=config.image_size, channels=config.channels)
    settings = TrainConfig(steps, batch, learning_rate, ("parallel_unet",), pair_share=pair_share, seed=seed)
    run = distillation.distill(
        folder, out, images, settings, pairs=pairs, passes=passes, device=device, precision=precision
    )
    _follow(run, steps)
    _say_saved(out)


def tune(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the tuned checkpoint.")],
    data: Annotated[str | None, typer.Option(help="By default the data set it was trained on.")] = None,
    least_gap: Annotated[
        float, typer.Option(help="How near the last pairs are, as a share of the way to i = 0; they begin half apart.")
    ] = 1 / 128,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2_000,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Adam's peak learning rate.")] = 3e-4,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Make R_phi consistent: one run ends where many do. Ctrl-C stops and saves, the same command goes on."""
    config, _, record = checkpoints.read_config(folder)
    images = load_images(data_of(record, data), size=config.image_size, channels=config.channels)
    settings = TrainConfig(steps, batch, learning_rate, ("parallel_unet",), least_gap=least_gap, seed=seed)
    _follow(tuning.tune(folder, out, images, settings, device=device, precision=precision), steps)
    _say_saved(out)
