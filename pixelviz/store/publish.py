"""A checkpoint as others find it: the repository of the model, and a Space that shows it in the whole app."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pixelviz.data.assets import ASSETS, CHECKPOINTS, HOME
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import CARD, Checkpoint, CheckpointError
from pixelviz.store.fetch import REPOSITORY, reaching
from pixelviz.store.files import write_text

KINDS = ("model", "space")
PACKAGE = Path(__file__).parents[1]
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")  # as the Hub writes it: mit, apache-2.0, cc-by-4.0
SPACE_CARD = """---
title: {title}
emoji: 🔆
colorFrom: yellow
colorTo: indigo
sdk: gradio
sdk_version: {gradio}
python_version: "3.12"
app_file: app.py
models: [{repository}]
---

PixelViz with the model [{repository}](https://huggingface.co/{repository}): choose {title} in its tabs.
"""


def write(
    checkpoint: Checkpoint,
    repository: str,
    into: Path,
    *,
    licence: str | None = None,
    base: str | None = None,
    space: bool = True,
) -> list[Path]:
    """Write the model's repository, and its Space, into a folder; returns `into`/model and `into`/space.

    repository: USER/NAME; licence: as the Hub writes it, None: as recorded, if it is; base: the repository of the model
    that this was made from, where the record has its folder's name only. Raises CheckpointError, OSError.
    """
    if not REPOSITORY.fullmatch(repository):
        raise CheckpointError(f"a repository is USER/NAME; this is {repository!r}.")
    if licence is not None and not LICENCE.fullmatch(licence):
        raise CheckpointError(f"a licence is written as the Hub does, such as mit or cc-by-4.0; this is {licence!r}.")
    if taken := [into / kind for kind in KINDS if (into / kind).exists()]:
        raise CheckpointError(f"{taken[0]} is there already; name another folder.")
    given = {"licence": licence, "base": base}
    record = replace(checkpoint.record, **{key: value for key, value in given.items() if value is not None})
    folders = [into / kind for kind in KINDS[: 1 + space]]
    checkpoints.save(folders[0], checkpoint.model, record, checkpoint.stored_as, repository)
    if space:
        _write_space(repository, *folders)
    return folders


def _write_space(repository: str, model: Path, space: Path) -> None:
    """The whole app, with the model among its checkpoints: it needs no network to start."""
    name = repository.split("/")[1]
    passing = shutil.ignore_patterns("__pycache__", "_bundled", ".*")
    shutil.copytree(PACKAGE, space / PACKAGE.name, ignore=passing)
    for folder in (ASSETS, CHECKPOINTS):
        shutil.copytree(folder, space / folder.name, ignore=passing)
    for file in ("app.py", "requirements.txt"):
        shutil.copyfile(HOME / file, space / file)
    shutil.copytree(model, space / CHECKPOINTS.name / name, dirs_exist_ok=True)
    write_text(space / CARD, SPACE_CARD.format(title=name, gradio=version("gradio"), repository=repository))


def upload(repository: str, folders: Sequence[Path], *, private: bool = False) -> list[str]:
    """Send what `write` wrote to the Hub, all under one name; returns the addresses.

    Raises CheckpointError, which says why the Hub or the way there would not have it.
    """
    from huggingface_hub import HfApi

    api, addresses = HfApi(), []
    with reaching(f"{repository} could not be written to the Hub"):
        for folder in folders:
            kind = folder.name
            more: dict[str, Any] = {"space_sdk": "gradio"} if kind == "space" else {}
            made = api.create_repo(repository, repo_type=kind, private=private, exist_ok=True, **more)
            api.upload_folder(repo_id=repository, folder_path=folder, repo_type=kind)
            addresses.append(str(made))
    return addresses
