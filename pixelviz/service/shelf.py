"""Peers that visitors load: diffusers models beside the checkpoints."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from pixelviz.checks import ServiceError
from pixelviz.declare import quoted
from pixelviz.store import peers
from pixelviz.store.peers import PeerModel

MAX_PEERS = 2  # in memory


class PeerShelf:
    """Diffusers models that visitors named, by name; the last few are kept. Thread-safe, shared by all users."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._models: OrderedDict[str, PeerModel] = OrderedDict()
        self._folders: dict[str, Path] = {}  # where each was loaded from

    def names(self) -> list[str]:
        """Those that are loaded."""
        with self._lock:
            return list(self._models)

    def get(self, name: str) -> PeerModel:
        """The model of that name; raises ServiceError."""
        with self._lock:
            if name not in self._models:
                raise ServiceError(f"the peer {quoted(name)} is not loaded any more; load its folder again.")
            return self._models[name]

    def load(self, path: Any, taken: Collection[str] = ()) -> str:
        """Load a diffusers folder of this computer; returns its name, which is none of those taken.

        Raises ServiceError or CheckpointError.
        """
        if not isinstance(path, str) or not path.strip() or "\0" in path or len(path) > 4096:
            raise ServiceError(f"name the folder that holds {peers.WEIGHTS}.")
        try:
            folder = Path(path.strip()).expanduser().resolve()
            folder.is_dir()  # a name too long cannot even be asked for
        except (OSError, RuntimeError) as error:
            raise ServiceError(f"the folder cannot be read ({error}).") from None
        model = peers.load_peer(folder, self.device)
        with self._lock:
            names = itertools.chain([model.name], (f"{model.name}-{k}" for k in itertools.count(2)))
            # The same folder again has the same name: what it holds may have changed.
            model.name = next(
                name
                for name in names
                if name not in taken and (name not in self._models or self._folders[name] == folder)
            )
            self._folders[model.name] = folder
            self._models[model.name] = model
            self._models.move_to_end(model.name)
            while len(self._models) > MAX_PEERS:
                self._models.popitem(last=False)
        return model.name
