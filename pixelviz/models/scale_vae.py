"""G_theta, the scale VAE (Section 3.2, Appendix C): estimates x_delta = exp(-gamma x0) from any x_i."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pixelviz.config import ModelConfig
from pixelviz.models.blocks import Images, ResidualBlock, Steps, TimeMap, group_norm, time_code
from pixelviz.process.schedules import image_scale


class Code(NamedTuple):
    """q(z | x_i, i): mean and log-variance, each (B, latent)."""

    mean: Float[Tensor, "B latent"]
    log_variance: Float[Tensor, "B latent"]

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "B latent"]:
        """One z per image, with noise drawn on the generator's device."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device).to(self.mean)
        return self.mean + torch.exp(self.log_variance / 2) * noise

    def kl(self) -> Float[Tensor, " B"]:
        """KL(q || N(0, I)) in nats, (B,)."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance).sum(1)


class ScaleVAE(nn.Module):
    """Convolutional VAE, time code at every level, 4x4 bottleneck flattened and projected to the latent.

    Args: config; output, "x_delta" for G_theta or "x0" for Appendix F's twin (the same network,
    trained to denoise directly). The decoder is told i as well: at i = T it must average over all it
    cannot see, and without i that would blur what z decodes to at i = 0.

    The prior over z is a mixture of Gaussians, N(0, I) until `pixelviz.learning.prior.fit_prior` has fitted it
    to the codes of the training images (Ghosh et al. 2020). Of a model of classes each has as many components, in their
    order, which add up to the class's share.
    """

    prior_log_weight: Tensor
    prior_mean: Tensor
    prior_factor: Tensor

    def __init__(self, config: ModelConfig, output: Literal["x_delta", "x0"] = "x_delta") -> None:
        super().__init__()
        self.config, self.output = config, output
        widths = config.vae_widths
        unshuffled = config.channels * config.patch**2
        self.inlet = nn.Sequential(nn.PixelUnshuffle(config.patch), nn.Conv2d(unshuffled, widths[0], 3, padding=1))
        self.encoder = nn.ModuleList(
            ResidualBlock(c_in, c) for c_in, c in zip(widths[:1] + widths[:-1], widths, strict=True)
        )
        self.encoder_time = nn.ModuleList(map(TimeMap, widths[:1] + widths[:-1]))
        self.bottleneck = (widths[-1], 4, 4)
        self.to_code = nn.Linear(widths[-1] * 16, 2 * config.latent)
        self.from_code = nn.Linear(config.latent, widths[-1] * 16)
        down = widths[::-1]
        self.decoder = nn.ModuleList(ResidualBlock(c_in, c) for c_in, c in zip(down, down[1:] + down[-1:], strict=True))
        self.decoder_time = nn.ModuleList(map(TimeMap, down))
        self.outlet = nn.Sequential(
            group_norm(down[-1]),
            nn.SiLU(),
            nn.Conv2d(down[-1], unshuffled, 3, padding=1),
            nn.PixelShuffle(config.patch),
        )
        m, d = config.gaussians, config.latent
        self.register_buffer("prior_log_weight", torch.zeros(m).log_softmax(0))
        self.register_buffer("prior_mean", torch.zeros(m, d))
        self.register_buffer("prior_factor", torch.eye(d).repeat(m, 1, 1))

    def encode(self, x_i: Images, i: Steps) -> Code:
        """x_i (B, C, H, W), i (B,) in 0..T -> q(z | x_i, i)."""
        code = time_code(i)
        h = self.inlet(x_i)
        for k, (block, to_level) in enumerate(zip(self.encoder, self.encoder_time, strict=True)):
            h = F.avg_pool2d(h, 2) if k else h
            h = block(h + to_level(code))
        mean, log_variance = self.to_code(h.flatten(1)).float().chunk(2, dim=1)
        return Code(mean, log_variance.clamp(-12, 4))

    def decode(self, z: Float[Tensor, "B latent"], i: Steps) -> Images:
        """z (B, latent), i (B,) -> x_delta_hat in [e^-gamma, e^(-gamma floor)], or the twin's x0_hat in [floor, 1]."""
        code = time_code(i)
        h = self.from_code(z).unflatten(1, self.bottleneck)
        for k, (block, to_level) in enumerate(zip(self.decoder, self.decoder_time, strict=True)):
            h = F.interpolate(h, scale_factor=2.0, mode="nearest") if k else h
            h = block(h + to_level(code))
        floor = self.config.floor
        # x_delta spans many decades, so the network's number is its logarithm, which is x0's scale.
        x0_hat = floor + (1 - floor) * torch.sigmoid(self.outlet(h).float())
        return x0_hat if self.output == "x0" else image_scale(x0_hat, self.config.gamma)

    def forward(self, x_i: Images, i: Steps) -> Images:
        """The estimate from q's mean, without sampling; shapes as for `encode` and `decode`."""
        return self.decode(self.encode(x_i, i).mean.to(x_i.dtype), i)

    def class_shares(self) -> Float[Tensor, " K"]:
        """How much of what was learnt is of each class, (K,); they sum to 1."""
        return self.prior_log_weight.view(len(self.config.classes), -1).logsumexp(1).softmax(0)

    def sample_prior(
        self,
        uniform: Float[Tensor, " n"],
        normal: Float[Tensor, "n latent"],
        labels: Int[Tensor, " n"] | None = None,
    ) -> Tensor:
        """Codes z from the prior: N(0, I), moved into the fitted mixture's components.

        Args: uniform (n,) in [0, 1), which picks the component; normal (n, latent); labels (n,), the classes in whose
        components they are (None: in all). Returns (n, latent).
        """
        if labels is None:
            weights = self.prior_log_weight.exp().cumsum(0)
            which = torch.searchsorted(weights, uniform).clamp(max=len(self.prior_mean) - 1)
        else:
            own = self.prior_log_weight.view(len(self.config.classes), -1).softmax(1).cumsum(1)
            within = torch.searchsorted(own[labels], uniform[:, None])[:, 0]
            which = labels * own.shape[1] + within.clamp(max=own.shape[1] - 1)
        # Every factor times every code, then one of each: gathered factors would be n matrices of latent^2.
        moved = torch.einsum("mij,nj->nmi", self.prior_factor, normal)
        return self.prior_mean[which] + moved[torch.arange(len(which), device=which.device), which]
