"""The checkpoints that there are: found in folders, loaded once, kept while in use."""

from __future__ import annotations

import itertools
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pixelviz.checks import ServiceError
from pixelviz.config import ModelConfig
from pixelviz.declare import quoted
from pixelviz.service.errors import friendly
from pixelviz.service.uploads import Uploads, unpack_checkpoint
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import CONFIG, PICKLES, WEIGHTS, Checkpoint, CheckpointError

MAX_LOADED = 4  # models in memory
MAX_ADDED = 16  # folders that visitors named or sent
MAX_CARD = 100_000  # characters of a model card that are shown
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


@dataclass(frozen=True)
class Found:
    """A checkpoint on disk: what its config.json says, and the state of its files (changes when they do)."""

    name: str
    folder: Path
    kind: str  # bundled, trained or loaded
    config: ModelConfig
    parts: tuple[str, ...]
    data: str  # id of what it learnt last
    size: int  # of the weights, in bytes
    stamp: tuple[int, ...]
    distilled: bool  # its R_phi has learnt from its own many passes, too


def _stamp(folder: Path) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in (folder / CONFIG, folder / WEIGHTS))


class Catalog:
    """All checkpoints by name. A folder's name is its checkpoint's name; the first root that has it keeps it.

    Args: roots, (folder, kind) each, looked through again at every call; device, where models go; uploads, for what is
    sent.
    Thread-safe; models are shared by all users and only read.
    """

    def __init__(self, roots: Sequence[tuple[Path, str]], device: Any, uploads: Uploads) -> None:
        self.roots, self.device, self._uploads = list(roots), device, uploads
        self._lock = threading.Lock()  # guards the dictionaries
        self._loading = threading.Lock()  # one load at a time
        self._read: dict[Path, tuple[tuple[int, ...], Found | str]] = {}
        self._models: OrderedDict[Path, tuple[tuple[int, ...], Checkpoint]] = OrderedDict()
        self._added: OrderedDict[str, Path] = OrderedDict()
        self._upload_number = itertools.count(1)

    # --- finding

    def _look(self, folder: Path, name: str, kind: str) -> Found | str | None:
        """What a folder holds: a checkpoint, the reason why it is none, or None where it does not look like one."""
        try:
            if not folder.is_dir():
                return None
            stamp = _stamp(folder)
            if not any(stamp) and not any(path.suffix in PICKLES for path in folder.iterdir()):
                return None
        except OSError as error:
            return f"it cannot be read ({error.strerror})."
        with self._lock:
            known = self._read.get(folder)
        if known is None or known[0] != stamp:
            try:
                config, parts, record = checkpoints.read_config(folder)
                found: Found | str = f"it has no {WEIGHTS}."
                if stamp[1]:
                    size = (folder / WEIGHTS).stat().st_size
                    distilled = record.base is not None or "before_distillation" in record.figures
                    found = Found(name, folder, kind, config, parts, record.data.id or "", size, stamp, distilled)
            except Exception as error:  # whatever is wrong with one folder must not hide the others
                found = friendly(error).replace(f"{folder}", name)
            known = (stamp, found)
            with self._lock:
                self._read[folder] = known
        return known[1]

    def _scan(self) -> tuple[dict[str, Found], list[tuple[str, str]]]:
        found: dict[str, Found] = {}
        problems: list[tuple[str, str]] = []
        for root, kind in self.roots:
            here = []
            for folder in sorted(root.iterdir()) if root.is_dir() else ():
                seen = self._look(folder, folder.name, kind)
                if isinstance(seen, str):
                    problems.append((folder.name, seen))
                elif seen and seen.name in found:
                    problems.append((folder.name, f"another checkpoint of this name hides the one in {root.name}."))
                elif seen:
                    here.append(seen)
            if kind == "trained":
                here.sort(key=lambda one: one.stamp[1])
            else:
                here.sort(key=lambda one: (-len(one.parts), one.size))  # a tab opens with the first
            found |= {one.name: one for one in here}
        with self._lock:
            added = list(self._added.items())
        for name, folder in added:
            seen = self._look(folder, name, "loaded")
            if isinstance(seen, Found):
                found.setdefault(name, seen)
            elif seen:
                problems.append((name, seen))
        return found, problems

    def names(self, *parts: str) -> list[str]:
        """Checkpoints with these parts: bundled, trained (newest last), loaded.

        Of the bundled ones those with most parts come first, and of these the smallest, which answers soonest.
        """
        return [name for name, one in self._scan()[0].items() if set(parts) <= set(one.parts)]

    def problems(self) -> list[tuple[str, str]]:
        """Folders that look like checkpoints and are none: (folder name, why)."""
        return self._scan()[1]

    def find(self, name: Any) -> Found:
        """The checkpoint of that name; raises ServiceError with the names there are. Paths are not names."""
        found = self._scan()[0]
        if not found:
            raise ServiceError("there is no checkpoint yet; train one, or load a folder.")
        if not isinstance(name, str) or name not in found:
            raise ServiceError(f"there is no checkpoint {quoted(name)}; there are: {', '.join(found)}.")
        return found[name]

    # --- loading

    def load(self, name: Any) -> Checkpoint:
        """The model of that name, from memory where it is there and its files are unchanged."""
        return self._load(self.find(name))

    def _load(self, found: Found) -> Checkpoint:
        with self._loading:
            kept = self._models.get(found.folder)
            if kept is None or kept[0] != found.stamp:
                try:
                    kept = (found.stamp, checkpoints.load(found.folder, self.device))
                except (TypeError, ValueError, ArithmeticError) as error:
                    if isinstance(error, CheckpointError):  # where a server keeps its files is nobody's business
                        raise CheckpointError(str(error).replace(f"{found.folder}", found.name)) from None
                    raise CheckpointError(f"{found.name} has a configuration no model fits: {error}.") from None
                self._models[found.folder] = kept
            self._models.move_to_end(found.folder)
            while len(self._models) > MAX_LOADED:
                self._models.popitem(last=False)
            return kept[1]

    def _add(self, name: str, folder: Path) -> str:
        """Load a folder once to see that it is sound, and keep it under a free name."""
        seen = self._look(folder, name, "loaded")
        if not isinstance(seen, Found):
            raise CheckpointError(f"{name}: {seen or f'this folder has neither {CONFIG} nor {WEIGHTS}.'}")
        self._load(seen)
        taken = self._scan()[0]
        for free in itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2))):
            if free not in taken or taken[free].folder == folder:
                break
        with self._lock:
            self._read.pop(folder, None)  # it may have been read under another name
            self._added[free] = folder
            dropped = list(self._added)[: max(0, len(self._added) - MAX_ADDED)]
            for old in dropped:
                del self._added[old]
        return free

    def load_folder(self, path: Any) -> str:
        """Add a folder of the server's disk; returns its name. Raises ServiceError or CheckpointError."""
        if not isinstance(path, str) or not path.strip() or "\0" in path or len(path) > 4096:
            raise ServiceError("name the folder that holds config.json and model.safetensors.")
        try:
            folder = Path(path.strip()).expanduser().resolve()
            if not folder.is_dir():
                checkpoints.read_config(folder)  # says why not
        except (OSError, RuntimeError) as error:
            raise ServiceError(f"the folder cannot be read ({error}).") from None
        for one in self._scan()[0].values():
            if one.folder.resolve() == folder:
                return one.name
        return self._add(re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name) or "folder", folder)

    def load_files(self, files: Sequence[Any]) -> str:
        """Add a checkpoint sent as config.json and model.safetensors, or as a zip of them; returns its name.

        The files are copied; only the last few uploads are kept. Raises ServiceError or CheckpointError.
        """
        paths = [Path(str(file)) for file in files or ()]
        kinds = {kind: [path for path in paths if path.suffix.lower() == kind] for kind in (".safetensors", ".json")}
        if pickles := [path.name for path in paths if path.suffix.lower() in PICKLES]:
            raise ServiceError(f"{pickles[0]} is a pickle, which could run code; send safetensors instead.")
        zipped = len(paths) == 1 and paths[0].suffix.lower() == ".zip"
        if not zipped and any(len(found) != 1 for found in kinds.values()):
            raise ServiceError(f"send two files of one checkpoint, {CONFIG} and {WEIGHTS}, or a zip of them.")
        name = f"uploaded-{next(self._upload_number)}"
        with self._uploads.place("checkpoints", name) as folder:
            if zipped:
                unpack_checkpoint(paths[0], folder)
            else:
                for found, to in zip(kinds.values(), (WEIGHTS, CONFIG), strict=True):
                    shutil.copyfile(found[0], folder / to)
            added = self._add(name, folder)
        gone = self._uploads.drop("checkpoints")
        with self._lock:
            self._added = OrderedDict((key, path) for key, path in self._added.items() if path not in gone)
        return added

    def describe(self, name: Any) -> dict[str, Any]:
        """What is in a checkpoint, as plain values; `card` is Markdown without its front matter."""
        found = self.find(name)
        loaded = self._load(found)
        try:
            card = (found.folder / checkpoints.CARD).read_text(encoding="utf-8")[:MAX_CARD]
        except (OSError, UnicodeDecodeError):
            card = checkpoints.model_card(found.name, loaded.model, loaded.record)
        return {
            "name": found.name,
            "folder": str(found.folder),
            "kind": found.kind,
            "parts": loaded.model.parameter_counts(),
            "config": found.config.to_dict(),
            **asdict(loaded.record),
            "data": str(loaded.record.data),
            "card": FRONT_MATTER.sub("", card, count=1).strip(),
        }
