"""A checkpoint in three lines of Python, from a folder or from the Hugging Face Hub, and back to either."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from PIL import Image
from torch import Tensor, nn

from pixelviz.devices import choose
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.samplers import SAMPLERS, STARTS, SamplerError
from pixelviz.samplers.batches import sample_images
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import DTYPES, Checkpoint, CheckpointError
from pixelviz.store.fetch import folder_of, reaching


class Estimates(NamedTuple):
    """What both networks say: x_delta_hat (B, C, H, W), and V^1..V^T or Z^1..Z^T (B, T, C, H, W), 0 above step i."""

    x_delta: Tensor
    heads: Tensor


class PixelAware(nn.Module, PyTorchModelHubMixin):
    """A whole model with what it was trained on.

    `PixelAware.from_pretrained(folder or repository)` loads one, `save_pretrained(folder)` and
    `push_to_hub(repository)` write safetensors, config.json and a model card, as `checkpoints` defines them.
    In whatever dtype `.to` keeps the weights, the networks run on a float32 copy of them: x_delta spans e^gamma.

    Args: checkpoint, as `checkpoints.load` gives it. Its networks are `model`, its history is `record`;
    stored_as, "float32", "float16" or "bfloat16", is how weights that are float32 are written; others as they are.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model, self.record, self.stored_as = checkpoint.model, checkpoint.record, checkpoint.stored_as

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: str | torch.device = "cpu",
        torch_dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> PixelAware:
        """Load a folder of this computer (without any network), or a repository of the Hub.

        device: auto, cpu, cuda, mps, or a torch.device; torch_dtype: what the weights are kept in, float32 unless
        given; subfolder: of either; the rest is the repository's. Pickles are never read. Raises CheckpointError with
        what does not fit, ConfigError for a device that is not there.
        """
        known = {name: name for name in DTYPES.values()} | DTYPES
        if torch_dtype is not None and torch_dtype not in known:
            raise CheckpointError(f"torch_dtype is one of {', '.join(DTYPES)}; it is {torch_dtype!r}.")
        place = choose(str(device)).device
        folder = folder_of(
            pretrained_model_name_or_path,
            subfolder=subfolder,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        model = cls(checkpoints.load(folder, place))
        return model if torch_dtype is None else model.to(known[torch_dtype])

    def _save_pretrained(self, save_directory: Path) -> None:
        kept = next((name for name, dtype in DTYPES.items() if self._dtype == dtype != torch.float32), self.stored_as)
        checkpoints.save(Path(save_directory), self.model, self.record, kept)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Write the model to a repository of the Hub, which is made where there is none; raises CheckpointError."""
        with reaching(f"{repo_id} could not be written to the Hub"):
            return super().push_to_hub(repo_id, **options)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def _float32(self) -> PixelAwareModel:
        return self.model if self._dtype == torch.float32 else copy.deepcopy(self.model).float()

    def forward(self, x_i: Tensor, i: float | Tensor) -> Estimates:
        """Both networks at x_i (B, C, H, W) of step i, a number or (B,), in 1..T; raises MissingPart."""
        model = self._float32()
        model.need("scale_vae", "parallel_unet")
        x_i = x_i.to(model.device, torch.float32)
        steps = i.to(model.device) if isinstance(i, Tensor) else model.step_tensor(i, len(x_i))
        x_delta = model.scale_vae(x_i, steps)
        return Estimates(x_delta, model.parallel_unet(x_i, x_delta, steps))

    def sample(
        self,
        n: int,
        passes: int = 1,
        seed: int = 0,
        *,
        start: str = STARTS.first,
        sampler: str = SAMPLERS.first,
        classes: str | Sequence[str] | None = None,
        guidance: float = 1.0,
        precision: str = "auto",
    ) -> list[Image.Image]:
        """Draw n images (mode L or RGB), on the device where the weights are; the same seed gives the same images.

        passes: runs of the network, 1 to T; classes, of a model that has any (`model.config.classes`), one name or
        several that the images take in turns; the rest as for `samplers.draw`. Raises SamplerError or MissingPart.
        """
        if not isinstance(n, int) or n < 1:
            raise SamplerError(f"n must be at least 1; it is {n!r}.")
        model = self._float32()
        compute = choose(str(model.device), precision)
        settings = {"passes": passes, "seed": seed, "start": start, "sampler": sampler}
        settings |= {"classes": classes, "guidance": guidance}
        images = torch.cat([batch.images for batch in sample_images(model, compute, n, **settings)])
        return [Image.fromarray(image.squeeze(-1).numpy()) for image in images.permute(0, 2, 3, 1)]
