"""G_1..G_T, the parallel sub-networks behind the last decoder (Section 3.3), and forms of their self-attention.

| form   | who attends to whom                                                        | T heads, N pixels  |
|--------|----------------------------------------------------------------------------|--------------------|
| off    | no attention: two residual blocks only                                     |                    |
| full   | each head over its own pixels (the paper's Appendix C)                     | T N^2 exponentials |
| pooled | each head, keys and values pooled to P = 64 tokens (Wang et al. 2021)      | T N P exponentials |
| linear | each head, with a kernel for the exponential (Katharopoulos et al. 2020)   | T N                |
| shared | one map per block, from the decoder's features, mixes all heads' P tokens  | N P exponentials   |
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Heads = Int[Tensor, "*each J"]  # whole steps, of all images alike or of each
BLOCKS = 2  # residual blocks per head (Appendix C)
TOKENS = 64  # of "pooled" and "shared": 8x8, enough to name the parts of an image
SHARED_WIDTH = 64  # of the queries and keys of "shared"


def pool_tokens(x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D h w"]:
    """(B, D, H, W) average-pooled to at most `TOKENS` pixels."""
    side = math.isqrt(TOKENS)
    return F.adaptive_avg_pool2d(x, side) if x.shape[-1] > side else x


def linear_attention(
    q: Float[Tensor, "*b C N"], k: Float[Tensor, "*b C N"], v: Float[Tensor, "*b C N"]
) -> Float[Tensor, "*b C N"]:
    """Attention with weights phi(q).phi(k) / sum, phi = elu + 1 > 0: all (..., C, N), cost N C^2."""
    q, k = F.elu(q) + 1, F.elu(k) + 1
    share = q / (k.sum(-1, keepdim=True) * q).sum(-2, keepdim=True)
    return (v @ k.mT) @ share


def in_blocks(weight: Tensor, size: int) -> Tensor:
    """Grouped weights (G*C, C, *), G a multiple of size, as G/size groups of `size` blocks with zeros between them.

    More products, and yet faster on a CPU, whose kernels are not made for groups of 3 channels.
    """
    _, c, *window = weight.shape
    blocks = weight.unflatten(0, (-1, size, c))  # (G/size, size, C, C, *)
    wide = blocks.new_zeros(*blocks.shape[:3], size, c, *window)
    wide.diagonal(dim1=1, dim2=3).copy_(blocks.movedim(1, -1))
    return wide.reshape(-1, size * c, *window)


def block_size(groups: int, dtype: torch.dtype) -> int:
    """Of `in_blocks`, the fastest that divides the number of groups: in bfloat16 products cost hardly anything."""
    return next(size for size in ((8, 4, 2, 1) if dtype == torch.bfloat16 else (2, 1)) if groups % size == 0)


class ParallelHeads(nn.Module):
    """All heads as a few batched operations.

    Head j maps the last decoder's features to C channels (1x1), then adds two residual 3x3 blocks of its own, each
    followed by self-attention of the form `attention`. Per-head weights are stacked along dimension 0, so all
    heads are one matrix product and two grouped convolutions. Every attention starts as the identity.
    """

    def __init__(self, T: int, width: int, channels: int, attention: str = "off") -> None:
        super().__init__()
        self.T, self.channels, self.form = T, channels, attention
        self.project = nn.Parameter(torch.zeros(T, channels, width))
        self.bias = nn.Parameter(torch.zeros(T, channels))
        self.local = nn.ParameterList(nn.Parameter(torch.zeros(T, channels, channels * 9)) for _ in range(BLOCKS))
        nn.init.normal_(self.project, std=0.02 * width**-0.5)
        nn.init.normal_(self.local[0], std=0.1)
        self.attention = self.query = self.key = None
        if attention == "shared":
            # Values and outputs are both linear and the map is the same for all channels: one matrix is both.
            self.attention = nn.ParameterList(nn.Parameter(torch.zeros(T, channels, channels)) for _ in range(BLOCKS))
            self.query, self.key = (
                nn.ModuleList(nn.Conv2d(width, SHARED_WIDTH, 1) for _ in range(BLOCKS)) for _ in range(2)
            )
        elif attention != "off":
            self.attention = nn.ParameterList(
                nn.Parameter(torch.randn(T, 4, channels, channels) * channels**-0.5) for _ in range(BLOCKS)
            )
            with torch.no_grad():
                for weight in self.attention:
                    weight[:, 3] = 0

    def maps(self, features: Float[Tensor, "B D H W"]) -> list[Float[Tensor, "B P N"]] | None:
        """Each block's attention over tokens, (B, P, N), columns summing to 1, for the form "shared"; else None.

        Apart from `forward`, so that a run in chunks of heads computes it once.
        """
        if self.query is None or self.key is None:
            return None
        pooled = pool_tokens(features)
        pairs = zip(self.query, self.key, strict=True)
        return [
            (key(pooled).flatten(2).mT @ query(features).flatten(2) / SHARED_WIDTH**0.5).softmax(1)
            for query, key in pairs
        ]

    def layout(self, features: Tensor) -> Tensor:
        """features as `forward` reads them fastest; apart from it, so that a run in chunks of heads turns them once."""
        last = self._pixels_first(features) and not torch.is_grad_enabled()
        return features.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    def _pixels_first(self, features: Tensor) -> bool:
        """Whether pixels before channels is the faster layout: for colour, on a CPU, where no attention turns it."""
        return self.channels > 1 and self.form == "off" and features.device.type == "cpu"

    def forward(
        self,
        features: Float[Tensor, "B D H W"],
        heads: Heads | None = None,
        maps: list[Float[Tensor, "B P N"]] | None = None,
    ) -> Float[Tensor, "B J C H W"]:
        """features (B, width, H, W) -> (B, T, C, H, W), or the steps in heads, (J,) or (B, J).

        `maps`: what `maps(features)` gave, where it was computed before.
        """
        b, _, height, width = features.shape
        maps = self.maps(features) if maps is None else maps
        each = heads is not None and heads.ndim == 2  # every image has its own heads
        last = not each and self._pixels_first(features)

        def pick(weight: Tensor) -> Tensor:  # (T, ...) -> (B, J, ...), or (1, J, ...) for every image alike
            chosen = weight if heads is None else weight[heads - 1]
            return chosen if each else chosen[None]

        project = pick(self.project).flatten(1, 2).to(features.dtype)
        bias = pick(self.bias).flatten(1)[:, :, None].to(features.dtype)
        if last:
            pixels = features.contiguous(memory_format=torch.channels_last)
            out = F.conv2d(pixels, project[0, :, :, None, None], bias[0, :, 0])  # (B, J*C, H, W)
        else:
            out = torch.baddbmm(bias, project.expand(b, -1, -1), features.flatten(2)).unflatten(2, (height, width))
        n = out.shape[1] // self.channels
        for k, local in enumerate(self.local):
            weight = pick(local).reshape(-1, self.channels, 3, 3).to(out.dtype)  # (B*J*C or J*C, C, 3, 3)
            inner = F.silu(out)
            if each:  # a group for every head of every image; otherwise a reshape would lose track of the layout
                inner = inner.reshape(1, -1, height, width)
            if last and (size := block_size(n, weight.dtype)) > 1:
                weight = in_blocks(weight, size)
            # The gradient of a convolution with weights of each image, in bfloat16, takes a CPU twenty times as long.
            exact = each and weight.device.type == "cpu"
            with torch.autocast("cpu", enabled=False) if exact else nullcontext():
                inner, weight = (inner.float(), weight.float()) if exact else (inner, weight)
                inner = F.conv2d(inner, weight, padding=1, groups=weight.shape[0] // weight.shape[1])
            inner = (inner.reshape(out.shape) if each else inner).to(out.dtype)
            out = out + inner if torch.is_grad_enabled() else out.add_(inner)
            if self.attention is not None:
                weight = pick(self.attention[k]).to(out.dtype)
                out = out + (self._own(out, weight) if maps is None else self._shared(out, weight, maps[k]))
        return out.reshape(b, n, self.channels, height, width)

    def _own(self, out: Tensor, weight: Tensor) -> Tensor:
        """Each head's attention over its own pixels: out (B, J*C, H, W), weight (1 or B, J, 4, C, C)."""
        by_head = (-1, self.channels)
        x = out.flatten(2).unflatten(1, by_head)
        seen = pool_tokens(out).flatten(2).unflatten(1, by_head) if self.form == "pooled" else x
        q, k, v = (torch.matmul(weight[:, :, m], part) for m, part in enumerate((x, seen, seen)))
        if self.form == "linear":
            mixed = linear_attention(q, k, v)
        else:
            mixed = F.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT
        return torch.matmul(weight[:, :, 3], mixed.to(x.dtype)).reshape(out.shape)

    def _shared(self, out: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
        """out (B, J*C, H, W) through each head's matrix (1 or B, J, C, C), mixed by one map (B, P, HW) for all."""
        tokens = pool_tokens(out).flatten(2).unflatten(1, (-1, self.channels))  # (B, J, C, P)
        values = torch.matmul(weight, tokens).flatten(1, 2)
        return torch.matmul(values, attention.to(values.dtype)).reshape(out.shape)
