"""R_phi, the parallel U-Net (Section 3.3, Appendix C): one run yields Z^1..Z^T."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pixelviz.config import ModelConfig
from pixelviz.models.blocks import TIME_CODE, Images, ResidualBlock, Steps, TimeMap, group_norm, time_code, zeroed
from pixelviz.models.heads import Heads, ParallelHeads
from pixelviz.process.reverse import Affine, drift_preconditioning
from pixelviz.process.schedules import image_from_scale, image_scale, schedule_of

# Numbers of the heads' output that a run without gradients makes at a time: on a CPU what its cache holds, elsewhere
# what bounds the memory (500 heads at 128x128 are 98 MB for each image, and several tensors lead to them).
CHUNK = {"cpu": 2**20}
CHUNK_ELSEWHERE = 2**25
LEAST_HEADS = 40  # at a time: every chunk reads all of the features


class ScaleMap(nn.Module):
    """H_k: the image scale, at a level's resolution, through a small network.

    It reads x_delta_hat both as it is (relative to its range) and as its logarithm: bright pixels
    differ only there. `folded`: whether the level it feeds works on the unshuffled image.
    """

    def __init__(self, config: ModelConfig, channels: int, *, folded: bool = True) -> None:
        super().__init__()
        self.gamma, self.patch = config.gamma, config.patch if folded else 1
        with torch.device("cpu"):  # a number, also where the network is built on the meta device to be counted
            self.top = float(image_scale(config.floor, config.gamma))
        self.net = nn.Sequential(
            nn.Conv2d(2 * config.channels * self.patch**2, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x_delta: Images, side: int) -> Float[Tensor, "B D {side} {side}"]:
        """(B, C, H, W) -> (B, channels, side, side)."""
        both = torch.cat([x_delta / self.top, image_from_scale(x_delta, self.gamma)], dim=1)
        both = F.pixel_unshuffle(both, self.patch)
        return self.net(F.adaptive_avg_pool2d(both, side) if side != both.shape[-1] else both)


class Level(nn.Module):
    """P_k(i) and, where `scale` is set, H_k(x_delta_hat) added to the input, then two residual blocks."""

    def __init__(self, config: ModelConfig, c_in: int, c_out: int, *, scale: bool) -> None:
        super().__init__()
        self.time = TimeMap(c_in)
        self.scale = ScaleMap(config, c_in) if scale else None
        self.blocks = nn.Sequential(
            *(ResidualBlock(c, c_out, attention=True, tokens=config.attention_tokens) for c in (c_in, c_out))
        )

    def forward(
        self, h: Float[Tensor, "B c_in h w"], code: Float[Tensor, "B D"], x_delta: Images | None
    ) -> Float[Tensor, "B c_out h w"]:
        """A level's features and the time code -> the next level's features."""
        h = h + self.time(code)
        return self.blocks(h if self.scale is None else h + self.scale(x_delta, h.shape[-1]))


Classes = Float[Tensor, "B K"]  # weights of the classes, 1 for the one that an image is of; all 0: it is not told


def one_hot(labels: Int[Tensor, " B"], number: int) -> Classes:
    """Labels (B,) in 0..number-1, or -1 for none, as weights (B, number)."""
    return F.one_hot(labels.clamp(min=0), number).float() * (labels >= 0)[:, None]


class Backbone(nn.Module):
    """U-Net of `Level`s; `scale`: whether it reads x_delta_hat.

    A model of classes adds the code of an image's class to that of its step, and 0 where it is not told one.
    """

    def __init__(self, config: ModelConfig, *, scale: bool) -> None:
        super().__init__()
        self.config = config
        widths = config.unet_widths
        level = partial(Level, config, scale=scale)
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
        self.class_code = None
        if config.classes:
            self.class_code = nn.Linear(len(config.classes), TIME_CODE, bias=False)
            nn.init.normal_(self.class_code.weight, std=0.5**0.5)  # as large as the code of a step

    def backbone(
        self, x_i: Images, x_delta: Images | None, i: Steps, classes: Classes | None = None
    ) -> Float[Tensor, "B D H W"]:
        """What the heads read: (B, last_width, H, W), from x_i (B, C, H, W), x_delta alike, i (B,) and the classes."""
        code = time_code(i)
        if self.class_code is not None and classes is not None:
            code = code + self.class_code(classes)
        h = self.inlet(x_i)
        skips = []
        for k, level in enumerate(self.encoder):
            h = level(F.avg_pool2d(h, 2) if k else h, code, x_delta)
            skips.append(h)
        skips.pop()
        for k, level in enumerate(self.decoder):
            h = torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), skips.pop()], dim=1) if k else h
            h = level(h, code, x_delta)
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
        self.outlet = zeroed(nn.Conv2d(config.last_width, config.channels, 3, padding=1))

    def forward(self, x_t: Images, t: Steps, classes: Classes | None = None) -> Images:
        """x_t (B, C, H, W), t (B,) in 0..999 as diffusers counts -> the estimate of the noise, (B, C, H, W)."""
        return self.outlet(self.backbone(x_t, None, t, classes)).float()


class ParallelUNet(Backbone):
    """The backbone with the image scale at every level, and T parallel heads behind the last decoder.

    With `head_target` "v", head j's number F_j corrects what x_i and -log(x_delta_hat)/gamma alone say of
    D^j = V^j / sqrt(1-abar_j) (`drift_preconditioning`, as in EDM): what head j needs to know of x_i by algebra, it
    does not have to learn. With "eps" it is Z^j itself.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, scale=True)
        self.schedule = schedule_of(config)
        self.heads = ParallelHeads(config.T, config.last_width, config.channels, config.head_attention)

    def forward(
        self,
        x_i: Images,
        x_delta: Images,
        i: Steps,
        heads: Heads | None = None,
        *,
        drift: bool = False,
        classes: Classes | None = None,
    ) -> Float[Tensor, "B J C H W"]:
        """Z^1..Z^T of one run (Eq. 14).

        Args: x_i (B, C, H, W); x_delta, the estimate x_delta_hat, same shape, in (0, 1); i (B,), whole in
        1..T or, from i_min on, between; heads, None for all T, or the steps wanted, (J,) or (B, J); drift, for "v"
        heads, give D^j, which is what samplers and the loss need: the roots that make it V^j cost as much as all
        heads do; classes (B, K), their weights (None: it is told none).
        Returns: (B, T or J, C, H, W), 0 where j > ceil(i) (the mask M_j); V^j (or D^j) or the noise, by `head_target`.
        With `drift` there is no mask: ask for heads j <= ceil(i).
        """
        features = self.heads.layout(self.backbone(x_i, x_delta, i, classes))
        maps = self.heads.maps(features)
        affine = self._affine(x_i, x_delta, i) if self.config.head_target == "v" else None
        j = torch.arange(1, self.config.T + 1, device=i.device) if heads is None else heads

        def read(images: slice, steps: slice, into: Tensor | None = None) -> Tensor:
            j_here = j[images, steps] if j.ndim == 2 else j[steps]
            raw = self.heads(features[images], j_here, None if maps is None else [one[images] for one in maps])
            if affine is None:
                estimate = raw.float()
            else:
                raw = raw if into is None else into.copy_(raw)  # in one layout and dtype, then in place
                estimate = torch.addcmul(affine.skip[images], affine.out[images], raw, out=into)
            return estimate if drift else self._masked(estimate, x_delta[images], i[images], j_here)

        if torch.is_grad_enabled():
            return read(slice(None), slice(None))
        out = x_i.new_empty((len(x_i), j.shape[-1], *x_i.shape[1:]), dtype=torch.float32)
        most, each = CHUNK.get(x_i.device.type, CHUNK_ELSEWHERE), math.prod(x_i.shape[1:])
        by_image = max(1, most // (min(LEAST_HEADS, j.shape[-1]) * each))
        by_step = max(LEAST_HEADS, most // (min(by_image, len(x_i)) * each) // 8 * 8)  # see heads.block_size
        for image in range(0, len(x_i), by_image):
            for step in range(0, j.shape[-1], by_step):
                part = slice(image, image + by_image), slice(step, step + by_step)
                here = out[part]
                here.copy_(read(*part, into=here))  # nothing is copied where `read` wrote there
        return out

    def _affine(self, x_i: Tensor, x_delta: Tensor, i: Tensor) -> Affine:
        """D^j = skip + out F_j, for every head alike; both (B, 1, C, H, W)."""
        rate_x0 = image_from_scale(x_delta, self.config.gamma)
        steps = i.to(rate_x0.dtype)[:, None, None, None]
        skip, guess, out = drift_preconditioning(self.schedule, rate_x0, steps, self.config.scale_error)
        return Affine((skip * x_i + guess * rate_x0)[:, None], out[:, None])

    def _masked(self, estimate: Tensor, x_delta: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """V^j from D^j, or Z^j as it is, times M_j: estimate (B, J, C, H, W), i (B,), j (J,) or (B, J)."""
        j = (j if j.ndim == 2 else j[None])[:, :, None, None, None]
        i = i[:, None, None, None, None]
        if self.config.head_target == "v":
            rate_x0 = image_from_scale(x_delta, self.config.gamma)[:, None]
            estimate = self.schedule.noise_variance(rate_x0, torch.minimum(j, i).to(rate_x0.dtype)).sqrt() * estimate
        return estimate * (j <= i.ceil())  # between whole steps, head ceil(i) is that of the step i lies in
