"""The whole model: G_theta, its Appendix F twin, R_phi and its linear-beta twin, with their process."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from pixelviz.config import PAPER_PARTS, PARTS, ModelConfig, Part
from pixelviz.models.parallel_unet import Classes, LinearTwin, ParallelUNet, one_hot
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

    def class_shares(self) -> Float[Tensor, " K"]:
        """How often each class is drawn where none is asked for, (K,): as it was learnt, where that is known."""
        if "scale_vae" in self.parts:
            return self.scale_vae.class_shares()
        return torch.full((len(self.config.classes),), 1 / len(self.config.classes), device=self.device)

    def parameter_counts(self) -> dict[Part, int]:
        """Trainable numbers per part."""
        return {part: sum(p.numel() for p in getattr(self, part).parameters()) for part in self.parts}


def runs_of(guidance: float) -> int:
    """Runs of a network for one that is asked for: with and without the class, or one of these."""
    return 1 if guidance in (0, 1) else 2


class Told:
    """A model that is told the class of each image, and how far to follow it: what samplers run in its place.

    With guidance w the networks say F + w (F_c - F), of which F_c is told the class and F is not (Ho & Salimans 2022):
    w = 1 is the model of the class, 0 the one of all, beyond 1 it goes further. Between lie two runs, as one batch.

    Args: model, of classes; labels (B,), in whose part of the prior z is; classes (B, K), what the networks are told
    (None: the labels).
    """

    def __init__(
        self,
        model: PixelAwareModel,
        labels: Int[Tensor, " B"],
        guidance: float = 1.0,
        classes: Classes | None = None,
    ) -> None:
        self.model, self.labels, self.guidance = model, labels, guidance
        self.classes = one_hot(labels, len(model.config.classes)) if classes is None else classes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    @property
    def runs(self) -> int:
        """Runs of a network for one that is asked for."""
        return runs_of(self.guidance)

    def parallel_unet(self, x_i: Tensor, x_delta: Tensor, i: Tensor, heads: Tensor | None = None, **options) -> Tensor:
        """As R_phi's; heads are those of all images alike."""
        return self._guided(self.model.parallel_unet, x_i, x_delta, i, heads=heads, **options)

    def linear_twin(self, x_t: Tensor, t: Tensor) -> Tensor:
        """As the linear-beta twin's."""
        return self._guided(self.model.linear_twin, x_t, t)

    def _guided(self, network: nn.Module, *inputs: Tensor, **options: Any) -> Tensor:
        if self.runs == 1:
            return network(*inputs, classes=self.classes if self.guidance else None, **options)
        both = torch.cat([self.classes, torch.zeros_like(self.classes)])
        told, not_told = network(*(torch.cat([x, x]) for x in inputs), classes=both, **options).chunk(2)
        return torch.lerp(not_told, told, self.guidance)
