"""What lies beside a trained checkpoint: run.yaml, which says all that made it and can be asked for again, and
losses.jsonl, a line a step.

Neither is loaded with the checkpoint or published with it: a path of this computer may stand in run.yaml.
"""

from __future__ import annotations

import json
import platform
import re
from contextlib import suppress
from dataclasses import asdict, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import torch

from pixelviz.config import ConfigError, DataConfig, ModelConfig, TrainConfig, Watch
from pixelviz.declare import checked, declared
from pixelviz.store.checkpoints import Record
from pixelviz.store.files import write_text

RUN, LOSSES = "run.yaml", "losses.jsonl"
HEAD = "# All that made this checkpoint; `python -m pixelviz train --config run.yaml --out FOLDER` asks for it again.\n"
FLOAT = re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$")


@declared(ConfigError)
class Recipe:
    """What a run was asked for: the data (None: not known), the model, the training and the looks at it, resolved."""

    data: DataConfig | None
    model: ModelConfig
    training: TrainConfig
    watch: Watch = field(default_factory=Watch)


def versions() -> dict[str, str]:
    """Of Python, torch and PixelViz, where that is installed as a package."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    try:
        return found | {"pixelviz": version("pixelviz")}
    except PackageNotFoundError:
        return found


def write_run(folder: Path, recipe: Recipe, record: Record, **about: Any) -> None:
    """Write run.yaml: the recipe, and what is only to be known (`about` it, versions, and what was learnt so far)."""
    import yaml

    made = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "device": record.device}
    made |= {**about, "versions": versions(), "images_seen": record.images_seen, "history": record.history}
    content = {"made": made, **asdict(recipe)}
    write_text(folder / RUN, HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_run(path: Path) -> Recipe:
    """The recipe in a run.yaml; settings that it leaves out are the defaults. Raises ConfigError."""
    import yaml

    class Loader(yaml.SafeLoader):
        """With YAML 1.2's numbers: in 1.1, 5e-4 is text."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} cannot be read as the settings of a run ({reason}).") from None
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise ConfigError(f"{path} has no settings of a run: data, model and training.")
    try:
        if unknown := set(map(str, values)) - {"made", "data", "model", "training", "watch"}:
            raise ConfigError(f"the configuration has unknown keys: {', '.join(sorted(unknown))}.")
        data = values.get("data")
        return Recipe(
            None if data is None else checked(DataConfig, data, ConfigError),
            ModelConfig.from_dict(values["model"]),
            checked(TrainConfig, values.get("training", {}), ConfigError),
            checked(Watch, values.get("watch", {}), ConfigError),
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def recipe_of(folder: Path) -> Recipe | None:
    """What the checkpoint in a folder was asked for; None where no run.yaml says so: an older one.

    Raises ConfigError.
    """
    return read_run(folder / RUN) if (folder / RUN).is_file() else None


class LossLog:
    """losses.jsonl: one object a step, which resuming goes on with from the step that was saved."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path, self.step = folder / LOSSES, step
        self._file: IO[str] | None = None

    def add(
        self, step: int, losses: dict[str, float], images_per_second: float, held_out: dict[str, float] | None = None
    ) -> None:
        """The next step's, and held-out losses where they were looked at; the file is opened at the first.

        A disk that is full or gone must not end a training; what could not be written is written with the next lines.
        """
        line: dict[str, Any] = {"step": step, "images_per_second": round(images_per_second, 2), **losses}
        if held_out:
            line["held_out"] = held_out
        with suppress(OSError):
            if self._file is None:
                kept = _until(self.path, self.step)
                self._file = self.path.open("w", encoding="utf-8")
                self._file.writelines(kept)
            self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Let others read what there is."""
        if self._file is not None:
            with suppress(OSError):
                self._file.flush()

    def close(self) -> None:
        """Write out the last lines."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


def _until(path: Path, step: int) -> list[str]:
    """The lines of an earlier run up to a step: what was computed after the last save is computed again."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else ():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):  # half a line, of a run that was killed
            continue
    return kept
