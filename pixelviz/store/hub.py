"""A checkpoint in three lines of Python, from a folder or from the Hugging Face Hub, and back to either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from PIL import Image
from torch import nn

from pixelviz.devices import choose
from pixelviz.samplers import SAMPLERS, STARTS, SamplerError
from pixelviz.samplers.batches import sample_images
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import Checkpoint, CheckpointError

FILES = (checkpoints.WEIGHTS, checkpoints.CONFIG, checkpoints.CARD)


class PixelAware(nn.Module, PyTorchModelHubMixin):
    """A whole model with what it was trained on.

    `PixelAware.from_pretrained(folder or repository)` loads one, `save_pretrained(folder)` and
    `push_to_hub(repository)` write safetensors, config.json and a model card, as `checkpoints` defines them.

    Args: checkpoint, as `checkpoints.load` gives it. Its networks are `model`, its history is `record`;
    stored_as, "float32", "float16" or "bfloat16", is how the weights are written.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model, self.record, self.stored_as = checkpoint.model, checkpoint.record, checkpoint.stored_as

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> PixelAware:
        """Load a folder of this computer (without any network), or a repository of the Hub.

        Options: map_location (cpu); for a repository also revision, token, cache_dir, local_files_only and
        force_download. Pickles are never read. Raises CheckpointError with what does not fit.
        """
        name, device = pretrained_model_name_or_path, options.pop("map_location", "cpu")
        if Path(name).exists():
            return cls(checkpoints.load(name, device))
        try:
            folder = snapshot_download(str(name), allow_patterns=list(FILES), **options)
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"{name} is neither a folder here nor a repository of the Hub that can be had ({reason})"
            ) from None
        return cls(checkpoints.load(folder, device))

    def _save_pretrained(self, save_directory: Path) -> None:
        checkpoints.save(Path(save_directory), self.model, self.record, self.stored_as)

    def sample(
        self,
        n: int,
        passes: int = 1,
        seed: int = 0,
        *,
        start: str = STARTS.first,
        sampler: str = SAMPLERS.first,
        precision: str = "auto",
    ) -> list[Image.Image]:
        """Draw n images (mode L or RGB), on the device where the weights are; the same seed gives the same images.

        passes: runs of the network, 1 to T; the rest as for `samplers.draw`. Raises SamplerError or MissingPart.
        """
        if not isinstance(n, int) or n < 1:
            raise SamplerError(f"n must be at least 1; it is {n!r}.")
        compute = choose(str(self.model.device), precision)
        settings = {"passes": passes, "seed": seed, "start": start, "sampler": sampler}
        images = torch.cat([batch.images for batch in sample_images(self.model, compute, n, **settings)])
        return [Image.fromarray(image.squeeze(-1).numpy()) for image in images.permute(0, 2, 3, 1)]
