"""What every sampler takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pixelviz.models.blocks import Images


class SamplerError(ValueError):
    """Settings that a sampler cannot run with; the message says what would work."""


class Start(NamedTuple):
    """Where the reverse process starts: x_T and the estimate x_delta_hat, both (B, C, H, W)."""

    x_T: Images
    x_delta: Images


class PeerStart(NamedTuple):
    """Where a peer starts, whose schedule is the same for all pixels: x_T alone."""

    x_T: Images


@dataclass(frozen=True)
class SampleStep:
    """One state of the reverse process.

    i: the step it belongs to, T..0 (1000..0 for the peers), not always a whole one. x: x_i, (B, C, H, W), an image in
    [floor, 1] at i = 0. network_evaluations: runs of R_phi, or of the peers' network, so far.
    """

    i: float
    x: Images
    network_evaluations: int


def _stream(seed: int, k: int) -> torch.Generator:
    # Drawn on the CPU on every machine: a CUDA generator would give other pictures for the same seed.
    return torch.Generator().manual_seed((seed * 0x9E3779B1 + k) % 2**63)


class ImageNoise:
    """Random numbers for images first..first+n-1 of a seed, a stream per image.

    Image k's numbers depend on (seed, k) alone, so a batch of another size gives the same pictures.
    """

    def __init__(self, seed: int, n: int, *, first: int = 0, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.streams = [_stream(seed, k) for k in range(first, first + n)]

    @classmethod
    def of(cls, images: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> ImageNoise:
        """The noise of images of several seeds, (seed, k) each."""
        noise = cls(0, 0, device=device)
        noise.streams = [_stream(seed, k) for seed, k in images]
        return noise

    def __len__(self) -> int:
        return len(self.streams)

    def normal(self, *shape: int) -> Float[Tensor, "n ..."]:
        """N(0, 1), (n, *shape)."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.streams]).to(self.device)

    def uniform(self) -> Float[Tensor, " n"]:
        """Uniform in [0, 1), (n,)."""
        return torch.cat([torch.rand(1, generator=g) for g in self.streams]).to(self.device)
