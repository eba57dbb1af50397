"""The whole model: G_theta, its Appendix F twin, R_phi and its linear-beta twin, with their process."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from pixelviz.config import PAPER_PARTS, PARTS, ModelConfig, Part
from pixelviz.models.parallel_unet import LinearTwin, ParallelUNet
from pixelviz.models.scale_vae import ScaleVAE
from pixelviz.process.schedules import image_from_scale, schedule_of


class MissingPart(AttributeError, ValueError):
    """The model lacks the network that was asked for; the message says which."""


class PixelAwareModel(nn.Module):
    """The parts that a checkpoint may hold, any of which may be absent.

    Args: config; parts, some of "scale_vae", "twin", "parallel_unet", "linear_twin". To read an absent one raises
    MissingPart.
    """

    scale_vae: ScaleVAE
    twin: ScaleVAE
    parallel_unet: ParallelUNet
    linear_twin: LinearTwin

    def __init__(self, config: ModelConfig, parts: tuple[str, ...] = PAPER_PARTS) -> None:
        super().__init__()
        self.config = config
        self.schedule = schedule_of(config)
        build = {
            "scale_vae": lambda: ScaleVAE(config),
            "twin": lambda: ScaleVAE(config, output="x0"),
            "parallel_unet": lambda: ParallelUNet(config),
            "linear_twin": lambda: LinearTwin(config),
        }
        for part in PARTS:
            if part in parts:
                self.add_module(part, build[part]())

    def __getattr__(self, name: str) -> Any:
        if name in PARTS:
            self.need(name)
        return super().__getattr__(name)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are present."""
        return tuple(part for part in PARTS if self._modules.get(part) is not None)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def need(self, *parts: str) -> None:
        """Raise MissingPart unless all of these are present."""
        if missing := [part for part in parts if part not in self.parts]:
            raise MissingPart(
                f"this checkpoint has no {' and no '.join(missing)}; it holds {', '.join(self.parts)}. "
                "Choose another checkpoint, or train the missing part."
            )

    def rate_x0(self, x_delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The x0 that a schedule built from x_delta has: -log(x_delta)/gamma."""
        return image_from_scale(x_delta, self.config.gamma)

    def scale_read(
        self, x_i: Float[Tensor, "*shape"], i: Real[Tensor, " B"], x_delta: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """The x_delta_hat that R_phi reads at x_i of steps i: x_delta, or G_theta(x_i, i) where `scale_from` says so.

        The schedule stays that of x_delta. In Algorithm 1, which starts with G_theta(x_T, T), the two are one.
        """
        return self.scale_vae(x_i, i) if self.config.scale_from == "x_i" else x_delta

    def step_tensor(self, i: float, n: int) -> Real[Tensor, " {n}"]:
        """The step i for n images, (n,): int64 for a whole one, float32 otherwise."""
        return torch.full((n,), i, device=self.device)

    def parameter_counts(self) -> dict[Part, int]:
        """Trainable numbers per part."""
        return {part: sum(p.numel() for p in getattr(self, part).parameters()) for part in self.parts}
