"""What both networks are built from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor, nn

Images = Float[Tensor, "B C H W"]
Steps = Real[Tensor, " B"]
TIME_CODE = 128  # Appendix C
FEW_KEYS = 64  # 8x8, to which compact networks pool


def time_code(i: Steps, size: int = TIME_CODE) -> Float[Tensor, "B {size}"]:
    """Sinusoidal code of the step (Vaswani et al. 2017): i of shape (B,) -> (B, size)."""
    frequencies = torch.exp(
        -math.log(10_000) * torch.arange(size // 2, device=i.device, dtype=torch.float32) / (size // 2)
    )
    angles = i.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with up to 8 groups of at least 4 channels."""
    groups = max(g for g in (1, 2, 4, 8) if channels % g == 0 and channels // g >= min(4, channels))
    return nn.GroupNorm(groups, channels)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all its numbers 0, so that at first it says nothing."""
    for number in layer.parameters():
        nn.init.zeros_(number)
    return layer


class TimeMap(nn.Module):
    """P_k: the sinusoidal code of i through a small network, added to every pixel of a level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(TIME_CODE, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, code: Float[Tensor, "B D"]) -> Float[Tensor, "B C 1 1"]:
        """(B, 128) -> (B, channels, 1, 1)."""
        return self.net(code)[:, :, None, None]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v: queries (..., N, D), keys and values (..., P, D) -> (..., N, D).

    PyTorch's kernel is made for long sequences: to few keys, in bfloat16 on a CPU, plain products take a quarter of
    its time in training.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[-2] <= FEW_KEYS:
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class SelfAttention(nn.Module):
    """Single-head self-attention over pixels, with a residual connection.

    Above `tokens` pixels, keys and values are average-pooled to that many (as in PVT, Wang et al. 2021):
    full attention over 1,024 pixels would cost more than all convolutions of a compact network.
    """

    def __init__(self, channels: int, tokens: int | None = None) -> None:
        super().__init__()
        self.side = None if tokens is None else math.isqrt(tokens)
        self.norm = group_norm(channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Images) -> Images:
        """(B, C, H, W) -> the same shape."""
        h = self.norm(x)
        pooled = F.adaptive_avg_pool2d(h, self.side) if self.side and h.shape[-1] > self.side else h
        q = self.query(h).flatten(2).mT[:, None]
        k, v = (part.flatten(2).mT[:, None] for part in self.key_value(pooled).chunk(2, dim=1))
        mixed = attend(q, k, v)[:, 0].mT.reshape(x.shape)
        return x + self.out(mixed)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, group norm before each, a residual connection, then self-attention if asked for."""

    def __init__(self, c_in: int, c_out: int, *, attention: bool = False, tokens: int | None = None) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = group_norm(c_out), zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.attention = SelfAttention(c_out, tokens) if attention else nn.Identity()

    def forward(self, x: Float[Tensor, "B c_in H W"]) -> Float[Tensor, "B c_out H W"]:
        """(B, c_in, H, W) -> (B, c_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.attention(self.skip(x) + h)
