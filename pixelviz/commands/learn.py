"""Commands that train: `train`, `distill` and `tune`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pixelviz.commands.common import Device, Folder, Precision, console, images_of, source_of
from pixelviz.commands.follow import follow
from pixelviz.commands.options import Options, takes
from pixelviz.config import PRESETS, ConfigError, DataConfig, ModelConfig, TrainConfig, Watch, preset
from pixelviz.data.folders import HELD_OUT as LEAST_TO_SPLIT
from pixelviz.data.image_set import DataError, ImageSet
from pixelviz.data.sets import DATASETS, FASHION
from pixelviz.declare import fields_of
from pixelviz.devices import processes
from pixelviz.learning import distillation, training, tuning
from pixelviz.samplers import MOST_GUIDANCE
from pixelviz.store import checkpoints, runs
from pixelviz.store.runs import Recipe

FIRST = FASHION.name  # what a new model learns unless told otherwise
AGAIN = ("steps", "batch", "accumulate", "learning_rate", "warmup", "clip", "ema", "heads_per_step", "flips", "seed")

BY_PRESET = ("steps", "batch", "learning_rate")  # in which their training differs

DATA = Options(DataConfig, "Data", defaults={"data": f"{FIRST}, or as before"})
SOURCE = Options(DataConfig, "Data")
MODEL = Options(
    ModelConfig,
    "Model, in place of the preset's",
    names={"head_target": "--heads"},
    only=tuple(name for name in fields_of(ModelConfig) if name != "classes"),  # these are the data's
    defaults=dict.fromkeys(fields_of(ModelConfig)),
)
TRAINING = Options(TrainConfig, "Training", defaults=dict.fromkeys(BY_PRESET, "the preset's"))
WATCH = Options(Watch, "On the way")
HELD_OUT = 256  # images that are looked at on the way, at most
SaveEvery = Annotated[float, typer.Option(min=0, help="Seconds between two saves on the way.")]


def _again(**defaults: Any) -> Options:
    """The options of a command that trains R_phi further."""
    own = [name for name in defaults if name not in AGAIN]
    return Options(TrainConfig, "Training", (*own, *AGAIN), defaults=defaults)


def _say_saved(out: Path) -> None:
    there = (out / checkpoints.CONFIG).exists()
    console.print(f"Saved {out}" if there else "Stopped before the first training step: there is no checkpoint yet.")


def _same(out: Path, before: ModelConfig, asked: ModelConfig) -> None:
    """Raise ConfigError where a run that goes on was asked to be of another model."""
    for key, value in before.to_dict().items():
        if (other := getattr(asked, key)) != value:
            raise ConfigError(f"{out} has {key} = {value}; a resumed run cannot make it {other}.")


def _asked(
    out: Path,
    preset_name: str | None,
    config: Path | None,
    resume: bool,
    source: dict[str, Any],
    model: dict[str, Any],
    settings: dict[str, Any],
    watch: dict[str, Any],
) -> Recipe:
    """What `train` is to do: what is given, over the settings of --config, or of the run that goes on, or the defaults.

    Raises ConfigError where what is given contradicts the run that goes on.
    """
    if preset_name is not None and config is not None:
        raise typer.BadParameter("give --preset, or the --config of a run, whose model it is.")
    read = None if config is None else runs.read_run(config)
    if not resume:
        row = PRESETS.find(preset_name or PRESETS.first)
        base = read or Recipe(DataConfig(data=FIRST), row.config, row.training)
        if "data" in source:
            data = DataConfig(**source)
        elif base.data is not None:
            data = replace(base.data, **source)
        else:
            raise typer.BadParameter(f"{config} does not say which data were learnt; give them with --data.")
        return Recipe(
            data, replace(base.model, **model), replace(base.training, **settings), replace(base.watch, **watch)
        )
    before, _, record = checkpoints.read_config(out)
    if preset_name is not None:
        _same(out, before, preset(preset_name, **model))
    elif read is not None:
        _same(out, before, replace(read.model, **model))
    _same(out, before, replace(before, **model))
    recorded = record.training if read is None else read.training.__dict__
    if read is not None and read.data is not None and "data" not in source:
        source = {**{key: value for key, value in read.data.__dict__.items() if value is not None}, **source}
    kept = read or runs.recipe_of(out)
    looks = replace(kept.watch if kept else Watch(), **watch)
    return Recipe(source_of(out, record, source), before, TrainConfig.resumed(recorded, **settings), looks)


def _with_classes(out: Path, model: ModelConfig, images: ImageSet, wanted: bool | None, resume: bool) -> ModelConfig:
    """The model with the images' classes, where these are asked for; raises what says why they cannot be."""
    if wanted is None or wanted == bool(model.classes):
        return model
    if resume:
        there = "classes, which stay" if model.classes else "no classes; train a new one with --classes"
        raise ConfigError(f"{out} is a model with {there}.")
    return training.with_classes(model, images) if wanted else replace(model, classes=())


def _held_out(learnt: ImageSet, source: DataConfig, model: ModelConfig) -> ImageSet | None:
    """Images that are not learnt, as many as are looked at on the way; None where there are none."""
    if learnt.origin.total < LEAST_TO_SPLIT:  # of which none are held out
        return None
    try:
        return images_of(source, model, split="test", limit=HELD_OUT, allow_download=False)
    except DataError:  # of a folder with train/ alone
        return None


@takes(source=DATA, model=MODEL, settings=TRAINING, watch=WATCH)
def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    source: dict[str, Any],
    model: dict[str, Any],
    settings: dict[str, Any],
    watch: dict[str, Any],
    preset_name: Annotated[
        str | None, typer.Option("--preset", help=f"One of: {', '.join(PRESETS)}.", show_default=PRESETS.first)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="run.yaml of a checkpoint, whose settings are used.")] = None,
    classes: Annotated[
        bool | None,
        typer.Option(
            help=fields_of(ModelConfig)["classes"].description, show_default="no", rich_help_panel=MODEL.panel
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out; what is not given stays as it was.")
    ] = False,
    save_every: SaveEvery = 300.0,
    device: Device = "auto",
    precision: Precision = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Let torch.compile build the step; CUDA only.")] = False,
) -> None:
    """Train a model; Ctrl-C stops and saves, --resume goes on. `accelerate launch` shares it between processes."""
    if (folder := source.get("data")) and folder not in DATASETS:  # the record's is found again from anywhere
        source["data"] = str(Path(folder).expanduser().resolve())
    recipe = _asked(out, preset_name, config, resume, source, model, settings, watch)
    assert recipe.data is not None  # `_asked` sees to it
    if resume:
        recorded = checkpoints.read_config(out)[2].training
        if recorded and set(recorded.get("parts", ())) != set(recipe.training.parts):
            console.print("Other parts than its last run's: --steps counts from here.", style="yellow")
    team = processes(device)
    if not team.is_main_process:
        console.quiet = True
        logging.getLogger("pixelviz").setLevel(logging.ERROR)
    with team.main_process_first():  # which may download
        images = images_of(recipe.data, recipe.model)
    learnt = _with_classes(out, recipe.model, images, classes, resume)
    console.print(f"{images.name} -> {out}", soft_wrap=True)
    if learnt.classes:
        console.print(f"Classes: {', '.join(learnt.classes)}.", soft_wrap=True)
    if "ACCELERATE_MIXED_PRECISION" in os.environ or team.num_processes > 1:
        alone = "; on processors several are started by: torchrun --nproc_per_node 2 -m pixelviz train ..."
        count = team.num_processes
        console.print(f"Processes: {count}{alone if count == 1 else ', which share every batch'}.", soft_wrap=True)
    if images.note:
        console.print(images.note, style="yellow")
    follow(
        training.train(
            images,
            learnt,
            recipe.training,
            out,
            resume=resume,
            device=device,
            precision=precision,
            compiled=compiled,
            data=recipe.data,
            watch=recipe.watch,
            held_out=_held_out(images, recipe.data, learnt) if team.is_main_process else None,
            save_every_seconds=save_every,
        )
    )
    _say_saved(out)
    team.destroy_process_group()


def _train_again(
    make: Callable[..., Any], folder: Path, out: Path, source: dict[str, Any], watch: dict[str, Any], **settings: Any
) -> None:
    """Train the R_phi of the checkpoint in `folder` further, by `distill` or `tune`, into `out`."""
    config, _, record = checkpoints.read_config(folder)
    data = source_of(folder, record, source)
    images = images_of(data, config)
    looks = {"watch": Watch(**watch), "held_out": _held_out(images, data, config)}
    follow(make(folder, out, images, data=data, **looks, **settings))
    _say_saved(out)


@takes(source=SOURCE, settings=_again(pair_share=0.5, steps=2_000, learning_rate=5e-4), watch=WATCH)
def distill(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the distilled checkpoint.")],
    source: dict[str, Any],
    settings: dict[str, Any],
    watch: dict[str, Any],
    pairs: Annotated[int, typer.Option(help="Images that the closed loop draws to learn from.")] = 20_000,
    passes: Annotated[int, typer.Option(help="Runs of the network for each of them.")] = 10,
    guidance: Annotated[
        float, typer.Option(min=0, max=MOST_GUIDANCE, help="Of a model of classes, how far these images follow theirs.")
    ] = 1.0,
    save_every: SaveEvery = 300.0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Teach one run of R_phi what its closed loop draws; Ctrl-C stops and saves, the same command goes on."""
    wanted = TrainConfig(**{"learning_rate": 5e-4, **settings}, parts=("parallel_unet",))
    given = {"pairs": pairs, "passes": passes, "guidance": guidance, "save_every_seconds": save_every}
    _train_again(
        distillation.distill, folder, out, source, watch, training=wanted, device=device, precision=precision, **given
    )


@takes(source=SOURCE, settings=_again(least_gap=1 / 128, steps=2_000, learning_rate=3e-4), watch=WATCH)
def tune(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the tuned checkpoint.")],
    source: dict[str, Any],
    settings: dict[str, Any],
    watch: dict[str, Any],
    save_every: SaveEvery = 300.0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Make R_phi consistent: one run ends where many do. Ctrl-C stops and saves, the same command goes on."""
    wanted = TrainConfig(**{"least_gap": 1 / 128, "learning_rate": 3e-4, **settings}, parts=("parallel_unet",))
    given = {"save_every_seconds": save_every}
    _train_again(tuning.tune, folder, out, source, watch, training=wanted, device=device, precision=precision, **given)
