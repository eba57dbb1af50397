"""R_phi, the parallel U-Net (Section 3.3, Appendix C): one run yields Z^1..Z^T."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelviz.config import ModelConfig
from pixelviz.models.blocks import ResidualBlock, TimeMap, group_norm, time_code
from pixelviz.process.reverse import head_coefficients
from pixelviz.process.schedules import PixelAware, image_from_scale, image_scale


class ScaleMap(nn.Module):
    """H_k: the image scale, at a level's resolution, through a small network.

    It reads x_delta_hat both as it is (relative to its range) and as its logarithm: bright pixels
    differ only there. `folded`: whether the level it feeds works on the unshuffled image.
    """

    def __init__(self, config: ModelConfig, channels: int, *, folded: bool = True) -> None:
        super().__init__()
        self.gamma, self.patch = config.gamma, config.patch if folded else 1
        self.top = float(image_scale(config.floor, config.gamma))
        self.net = nn.Sequential(
            nn.Conv2d(2 * config.channels * self.patch**2, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x_delta: Tensor, side: int) -> Tensor:
        """(B, C, H, W) -> (B, channels, side, side)."""
        both = torch.cat([x_delta / self.top, image_from_scale(x_delta, self.gamma)], dim=1)
        both = F.pixel_unshuffle(both, self.patch)
        return self.net(F.adaptive_avg_pool2d(both, side) if side != both.shape[-1] else both)


class ParallelHeads(nn.Module):
    """G_1..G_T, each two residual blocks that end in the image's channels, as a few batched operations.

    Head j maps the last decoder's features to C channels (1x1), then adds two residual 3x3 blocks of its
    own, each followed by its own self-attention if `attention` is "full". Per-head weights are stacked
    along dimension 0, so all heads are one convolution and two grouped ones.
    """

    def __init__(self, T: int, width: int, channels: int, attention: str = "off") -> None:
        super().__init__()
        self.T, self.channels = T, channels
        self.project = nn.Parameter(torch.zeros(T, channels, width))
        self.bias = nn.Parameter(torch.zeros(T, channels))
        self.local = nn.ParameterList(nn.Parameter(torch.zeros(T, channels, channels * 9)) for _ in range(2))
        nn.init.normal_(self.project, std=0.02 * width**-0.5)
        nn.init.normal_(self.local[0], std=0.1)
        self.attention = None
        if attention == "full":
            self.attention = nn.ParameterList(
                nn.Parameter(torch.randn(T, 4, channels, channels) * channels**-0.5) for _ in range(2)
            )
            with torch.no_grad():
                for weight in self.attention:
                    weight[:, 3] = 0  # each attention starts as the identity

    def forward(self, features: Tensor, heads: Tensor | None = None) -> Tensor:
        """features (B, width, H, W) -> (B, T, C, H, W), or the steps in heads, (J,) or (B, J)."""
        b, _, height, width = features.shape
        flat = features.flatten(2)

        def pick(weight: Tensor) -> Tensor:  # (T, ...) -> (B, J, ...), or (1, J, ...) for every image alike
            chosen = weight if heads is None else weight[heads - 1]
            return chosen if heads is not None and heads.ndim == 2 else chosen[None]

        project = pick(self.project)
        out = torch.matmul(project.flatten(1, 2).to(flat.dtype), flat)  # (B, J*C, HW)
        out = out + pick(self.bias).flatten(1)[:, :, None].to(out.dtype)
        n = project.shape[1]
        for k, local in enumerate(self.local):
            weight = pick(local).reshape(-1, self.channels, 3, 3).to(out.dtype)  # (B*J*C or T*C, C, 3, 3)
            shape = (-1, weight.shape[0], height, width)
            out = out + F.conv2d(
                F.silu(out).reshape(shape), weight, padding=1, groups=weight.shape[0] // self.channels
            ).reshape(out.shape)
            if self.attention is not None:
                out = out + self._attend(out.unflatten(1, (n, self.channels)), pick(self.attention[k])).flatten(1, 2)
        return out.reshape(b, n, self.channels, height, width)

    @staticmethod
    def _attend(x: Tensor, weight: Tensor) -> Tensor:
        """Self-attention of each head over its own pixels: x (B, J, C, HW), weight (1 or B, J, 4, C, C)."""
        q, k, v = (torch.matmul(weight[:, :, m].to(x.dtype), x).mT for m in range(3))
        return torch.matmul(weight[:, :, 3].to(x.dtype), F.scaled_dot_product_attention(q, k, v).mT)


class Backbone(nn.Module):
    """U-Net whose every level is two residual blocks with self-attention, with P_k(i) and, where `scale` is set,
    H_k(x_delta_hat) added at the input of every level.
    """

    def __init__(self, config: ModelConfig, *, scale: bool) -> None:
        super().__init__()
        self.config = config
        widths = config.unet_widths

        def block(c_in: int, c_out: int) -> ResidualBlock:
            return ResidualBlock(c_in, c_out, attention=True, tokens=config.attention_tokens)

        def level(c_in: int, c_out: int) -> nn.ModuleDict:
            maps = {"time": TimeMap(c_in)} | ({"scale": ScaleMap(config, c_in)} if scale else {})
            return nn.ModuleDict({**maps, "blocks": nn.Sequential(block(c_in, c_out), block(c_out, c_out))})

        unshuffled = config.channels * config.patch**2
        self.inlet = nn.Sequential(nn.PixelUnshuffle(config.patch), nn.Conv2d(unshuffled, widths[0], 3, padding=1))
        self.encoder = nn.ModuleList(level(c_in, c) for c_in, c in zip(widths[:1] + widths[:-1], widths, strict=True))
        outs = (config.last_width * config.patch**2, *widths[1:])
        below = widths[-1]
        decoder = []
        for k in reversed(range(len(widths))):  # deepest first; each reads what comes from below and its encoder's skip
            decoder.append(level(below + (widths[k] if k < len(widths) - 1 else 0), outs[k]))
            below = outs[k]
        self.decoder = nn.ModuleList(decoder)
        self.head_time = TimeMap(config.last_width)
        self.head_scale = ScaleMap(config, config.last_width, folded=False) if scale else None
        self.head_inlet = nn.Conv2d(config.channels, config.last_width, 3, padding=1)
        self.head_norm = group_norm(config.last_width)

    def backbone(self, x_i: Tensor, x_delta: Tensor | None, i: Tensor) -> Tensor:
        """What the heads read: (B, last_width, H, W), from x_i (B, C, H, W), x_delta alike, and i (B,)."""
        code = time_code(i)

        def run(level: nn.ModuleDict, h: Tensor) -> Tensor:
            h = h + level["time"](code)
            return level["blocks"](h + level["scale"](x_delta, h.shape[-1]) if "scale" in level else h)

        h = self.inlet(x_i)
        skips = []
        for k, level in enumerate(self.encoder):
            h = F.avg_pool2d(h, 2) if k else h
            h = run(level, h)
            skips.append(h)
        skips.pop()
        for k, level in enumerate(self.decoder):
            h = torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), skips.pop()], dim=1) if k else h
            h = run(level, h)
        # Back at full resolution, where x_i and x_delta_hat are read once more, pixel by pixel.
        h = F.pixel_shuffle(h, self.config.patch) + self.head_inlet(x_i) + self.head_time(code)
        if self.head_scale is not None:
            h = h + self.head_scale(x_delta, h.shape[-1])
        return F.silu(self.head_norm(h))


class LinearTwin(Backbone):
    """The control for all comparisons: R_phi's backbone with one head, as an ordinary DDPM (Ho et al. 2020).

    Linear beta from 1e-4 to 0.02 over 1000 steps, images in [-1, 1], noise prediction.
    """

    STEPS = 1000

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, scale=False)
        self.outlet = nn.Conv2d(config.last_width, config.channels, 3, padding=1)
        nn.init.zeros_(self.outlet.weight)
        nn.init.zeros_(self.outlet.bias)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (B, C, H, W), t (B,) in 0..999 as diffusers counts -> the estimate of the noise, (B, C, H, W)."""
        return self.outlet(self.backbone(x_t, None, t)).float()


class ParallelUNet(Backbone):
    """The backbone with the image scale at every level, and T parallel heads behind the last decoder.

    With `head_target` "v", head j's number F_j is an estimate of x0, which starts at -log(x_delta_hat)/gamma
    and is turned into V^j by the known coefficients of E[V^j | x_i, x0] (a preconditioning, as in EDM):
    what head j needs to know of x_i by algebra, it does not have to learn. With "eps" it is Z^j itself.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, scale=True)
        self.schedule = PixelAware(config.T, config.gamma)
        self.heads = ParallelHeads(config.T, config.last_width, config.channels, config.head_attention)

    def forward(self, x_i: Tensor, x_delta: Tensor, i: Tensor, heads: Tensor | None = None) -> Tensor:
        """Z^1..Z^T of one run (Eq. 14).

        Args: x_i (B, C, H, W); x_delta, the estimate x_delta_hat, same shape, in (0, 1); i (B,) whole in
        1..T; heads, None for all T, or the steps wanted, (J,) or (B, J).
        Returns: (B, T or J, C, H, W), 0 where j > i (the mask M_j); V^j or the noise, by `head_target`.
        """
        raw = self.heads(self.backbone(x_i, x_delta, i), heads).float()
        j = torch.arange(1, self.config.T + 1, device=i.device) if heads is None else heads
        j = j if j.ndim == 2 else j[None]
        mask = (j <= i[:, None])[:, :, None, None, None]
        if self.config.head_target == "v":
            rate_x0 = image_from_scale(x_delta, self.config.gamma)[:, None]
            steps = i.to(rate_x0.dtype)[:, None, None, None, None]
            skip, out = head_coefficients(
                self.schedule, rate_x0, steps, torch.minimum(j.to(steps.dtype)[:, :, None, None, None], steps)
            )
            raw = skip * x_i[:, None] + out * (rate_x0 + raw)
        return raw * mask
