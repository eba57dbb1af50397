"""What a model is and how it is trained: declarations, and every preset as a row of one table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pixelviz.declare import checked, declared, fields_of
from pixelviz.tables import Table

HeadAttention = Literal["off", "full", "pooled", "linear", "shared"]
PAPER_FLOOR = 4e-3  # Section 4: "a small epsilon = 4e-3 is added to all x_0"
MAX_T = 5000
MAX_SIZE = 1024  # of a width, a latent or an image's side
BUDGET_GB = 4  # what one image may take in a model's networks, about, and their weights
PRECISIONS = ("float32", "float16", "bfloat16")  # of products, and of stored weights
MAX_CLASSES = 1000
MAX_SEED = 2**32 - 1  # torch's generator on a CPU looks at 32 bits


class ConfigError(ValueError):
    """A setting that cannot work; the message says which, and what would."""


def check_process(gamma: float, T: int, floor: float = PAPER_FLOOR) -> None:
    """Raise ConfigError unless 0 < gamma < T (Section 3.2.1), T is a whole number >= 1 and 0 < floor < 1.

    T = 1 is allowed with any gamma > 0: there the paper's gamma < T would leave nothing to choose.
    """
    # Written as `not (a < b)`, the comparisons also refuse NaN.
    if isinstance(T, bool) or not isinstance(T, int) or not 1 <= T <= MAX_T:
        raise ConfigError(f"T must be a whole number from 1 to {MAX_T}; it is {T!r}.")
    if not all(isinstance(value, (int, float)) for value in (gamma, floor)):
        raise ConfigError(f"gamma and floor must be numbers; they are {gamma!r} and {floor!r}.")
    if not 0 < gamma < float("inf"):
        raise ConfigError(f"gamma must be greater than 0; it is {gamma}. At 0 no noise is added at all.")
    if T > 1 and not gamma < T:
        raise ConfigError(f"gamma must stay below T (the paper's Section 3.2.1); gamma is {gamma:g}, T is {T}.")
    if gamma > 500:
        raise ConfigError(
            f"gamma may be at most 500; it is {gamma:g}. Beyond that x_delta = exp(-gamma) is below 1e-217."
        )
    if not 0 < floor < 1:
        raise ConfigError(f"floor must lie strictly between 0 and 1; it is {floor}. The paper's value is 4e-3.")


def _no_truth(value: Any) -> Any:
    """True equals 1, and would pass as one of Literal[1, 3]."""
    if isinstance(value, bool):
        raise PydanticCustomError("literal_error", "no number")
    return value


Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Widths = Annotated[tuple[Size, ...], Field(min_length=1, max_length=8, strict=False)]  # JSON has lists
# Folders name classes: no control or invisible characters, and none that HTML or a card's Markdown gives a meaning.
ClassName = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\p{C}<>`]+$")]
ClassNames = Annotated[tuple[ClassName, ...], Field(max_length=MAX_CLASSES, strict=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Power = Annotated[float, Field(gt=0, le=20)]


@declared(ConfigError)
class ModelConfig:
    """The process and the networks of one model; stored beside its weights.

    Widths are channels per level, finest first; each level halves the resolution. Raises ConfigError.
    """

    image_size: Size = Field(description="Side of an image, in pixels.")
    channels: Annotated[Literal[1, 3], BeforeValidator(_no_truth)] = Field(description="1: grey, 3: color.")
    T: int = Field(ge=1, le=MAX_T, description="Steps of the process.")
    # Above 80, x_delta = exp(-gamma x0) would leave float32.
    gamma: float = Field(gt=0, le=80, description="Rate of the process, below T.")
    floor: float = Field(gt=0, lt=1, description="Least pixel value; the paper's is 0.004.")
    vae_widths: Widths = Field(description="Channels of the VAE's levels, finest first.")
    latent: Size = Field(description="Size of the VAE's latent.")
    prior_components: Size = Field(description="Gaussians in the prior over z, fitted after training.")
    unet_widths: Widths = Field(description="Channels of the U-Net's levels, finest first.")
    patch: Size = Field(description="The networks' finest level is the image unshuffled by this; 1 in the paper.")
    last_width: Size = Field(description="Channels of the last decoder, which the T heads read; 512 in the paper.")
    attention_tokens: Size | None = Field(description="Keys and values are pooled to at most so many; else all.")
    head_target: Literal["v", "eps"] = Field("v", description="What heads predict: v, or eps (Eq. 15 as printed).")
    head_attention: HeadAttention = Field("off", description="Of the heads; full is the paper's.")
    true_scale: bool = Field(
        False, description="As printed: R_phi learns from x_i of the true schedule; it reads the estimate all the same."
    )
    scale_from: Literal["code", "x_i"] = Field(
        "code", description="The x_delta_hat that R_phi reads: its start's, or as printed G_theta(x_i, i) at every run."
    )
    # With 1 it knows whole steps only, as printed; but there a step of gamma/T leaves noise of deviation 0.3 in a
    # white pixel at i = 1, which one run must then take away in one go.
    i_min: float = Field(1.0, gt=0, le=1, description="Least i that R_phi is trained at; below 1, between steps.")
    # With 0 x_i counts for nothing: the network must copy all detail from x_i, also where hardly any noise is.
    scale_error: Share = Field(
        0.0, description="Deviation of x0 about x_delta_hat's image, from which R_phi weighs x_i against it."
    )
    schedule: str = Field("pixel-aware", description="Of the noise: pixel-aware, generalised, or uniform, the control.")
    classes: ClassNames = Field((), description="Classes that it can be told to draw: the data's folders, or labels.")

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        check_process(self.gamma, self.T, self.floor)
        if self.image_size % (self.patch * 4):
            raise ConfigError(f"image_size {self.image_size} does not divide into patches of {self.patch} and 4x4.")
        side = self.image_size // self.patch
        if self.i_min < 1 and self.head_target != "v":
            raise ConfigError("i_min below 1 needs v heads; for those of Eq. 15 as printed (eps) set it to 1.")
        if side % 2 ** (len(self.unet_widths) - 1):
            raise ConfigError(f"{side} pixels cannot be halved for {len(self.unet_widths)} U-Net levels.")
        if side != 4 * 2 ** (len(self.vae_widths) - 1):
            raise ConfigError(f"{len(self.vae_widths)} VAE levels do not take {side} pixels to 4x4.")
        if len(set(self.classes)) < len(self.classes):
            raise ConfigError("classes must have different names.")
        self._check_budget(side)
        return self

    def _check_budget(self, side: int) -> None:
        """A stranger's configuration is judged before anything is built: one image must fit `BUDGET_GB`."""
        if self.gaussians * self.latent**2 > 2**26:
            raise ConfigError(
                "the prior would hold over 67 million numbers; lower latent or prior_components, or have fewer classes."
            )
        pixels, levels = side**2, (*self.vae_widths, *self.unet_widths)
        largest = {
            "the T heads (T, channels, image_size)": self.T * self.channels * self.image_size**2,
            "the levels' features (widths, image_size)": max(levels[0], self.last_width) * pixels * 8,
            "the levels' weights (widths)": 9 * 8 * sum(a * b for a, b in pairwise((levels[-1], *levels))),
            # Every pixel of a head looks at every other.
            "the heads' attention (head_attention)": self.image_size**4 if self.head_attention == "full" else 0,
        }
        need = 4e-9 * sum(largest.values())
        if need > BUDGET_GB:
            what = max(largest, key=lambda name: largest[name])
            raise ConfigError(
                f"a single image would take about {need:,.0f} GB, most of it {what}; the budget is {BUDGET_GB} GB."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.image_size, self.image_size

    @property
    def gaussians(self) -> int:
        """Components of the prior over z: `prior_components`, or their even share for each class, class by class."""
        each = self.prior_components // max(1, len(self.classes))
        return max(1, each) * max(1, len(self.classes))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Rebuild from JSON; raises ConfigError."""
        return checked(cls, values, ConfigError)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


Part = Literal["scale_vae", "twin", "parallel_unet", "linear_twin"]
Parts = Annotated[tuple[Part, ...], Field(min_length=1, max_length=4, strict=False)]
PARTS: tuple[Part, ...] = get_args(Part)
PAPER_PARTS = PARTS[:3]  # what a new model has; the linear-beta twin is for comparisons


@declared(ConfigError)
class DataConfig:
    """What a model learns from, as one would ask for it; raises ConfigError."""

    data: str = Field(description="Name of a data set, or a folder of images or IDX files.")
    images: int | None = Field(None, ge=1, description="At most so many images of it, evenly spread.")
    title: str | None = Field(None, description="What the model card calls it.")
    like: str | None = Field(None, description="Of the data sets that have a name, which one a folder holds.")


@declared(ConfigError)
class TrainConfig:
    """How a model is trained; raises ConfigError."""

    steps: int = Field(
        2000, ge=1, le=10_000_000, description="Optimiser steps in all, a resumed run's earlier ones included."
    )
    batch: int = Field(64, ge=1, le=4096, description="Images per step, of all processes together.")
    learning_rate: float = Field(1e-3, gt=0, le=0.1, description="Adam's peak learning rate.")
    parts: Parts = Field(PAPER_PARTS, description="What to train.")
    ema: float = Field(0.999, ge=0, lt=1, description="Decay of the averaged weights, which are what is saved.")
    clip: float = Field(1.0, gt=0, description="The gradient's norm is clipped to this.")
    warmup: int = Field(200, ge=0, le=10_000_000, description="Steps of linear warm-up, at most a tenth of all.")
    kl_weight: Weight = Field(
        0.01, description="Weight of the VAE's KL term per pixel; also twice the variance that its likelihood assumes."
    )
    scale_weight: Weight = Field(1.0, description="Weight of the error in x_delta, relative to x_delta's range.")
    log_weight: Weight = Field(1.0, description="Weight of the error in -log x_delta / gamma.")
    ssim_weight: Weight = Field(0.0, description="Weight of 1 - SSIM of what a VAE outputs, over its own range.")
    step_power: Power = Field(
        1.0, description="The VAEs' i is T u^power, u uniform in [0, 1): below 1, late steps more often."
    )
    unet_step_power: Power | None = Field(
        None, description="R_phi's likewise; else 4 for a model with i_min below 1, otherwise 1."
    )
    clean_share: Share = Field(0.35, description="Share of the VAEs' batch at i = 0, whose codes generation decodes.")
    deviation: Share | None = Field(
        None, description="Weigh R_phi's errors for an x0 so far from x_delta_hat's image; 0: as V; else scale_error."
    )
    terminal_share: Share = Field(0.25, description="Share of R_phi's batch at i = T, which one-pass sampling uses.")
    class_drop: Share = Field(
        0.1,
        description="Share of the batch whose class R_phi is not told, which guidance needs; of a model of classes.",
    )
    pair_share: float = Field(
        0.5, gt=0, le=1, description="Share of R_phi's batch that are pairs, where it is distilled."
    )
    least_gap: float = Field(
        0.0, ge=0, le=0.5, description="How near the last pairs are where R_phi is tuned, as a share of the way to 0."
    )
    heads_per_step: int = Field(
        8, ge=1, le=MAX_T, description="Heads trained per image and step, head i always among them."
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=4096,
        description="Parts that a batch is computed in, one by one: same result, less memory.",
    )
    flips: bool = Field(False, description="Mirror half of the images, left to right, at random.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of the first weights and of all that is drawn.")

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        if len(set(self.parts)) < len(self.parts):
            raise ConfigError(f"parts must be some of {', '.join(PARTS)}, each once; it is {self.parts}.")
        return self

    @classmethod
    def resumed(cls, recorded: dict[str, Any], **given: Any) -> TrainConfig:
        """The settings of a run that goes on: those recorded (a checkpoint's `training`), but for what is given.

        None among what is given leaves a setting as it was. Raises ConfigError.
        """
        known = {key: value for key, value in recorded.items() if key in fields_of(cls)}
        try:
            kept = cls(**known)
        except ConfigError as error:
            raise ConfigError(f"the settings of the earlier training cannot be used ({error}).") from None
        return replace(kept, **{key: value for key, value in given.items() if value is not None})


@declared(ConfigError)
class Watch:
    """What is looked at and kept of a run on its way, and at its end; it changes nothing of what is learnt."""

    every: int = Field(1000, ge=1, le=10_000_000, description="Steps between two looks at held-out losses.")
    sheets: bool = Field(False, description="Draw the same seeds at every look, into sheets/.")
    keep: int = Field(0, ge=0, le=10_000, description="Snapshots of the looks that are kept in kept/, the last ones.")
    best: str | None = Field(
        None,
        description="Held-out loss, such as parallel_unet/head_i, whose least (of ssim, greatest) is kept in best/.",
    )
    track: str | None = Field(None, description="Where losses go as well: tensorboard, trackio or wandb, if installed.")


NEW_MODEL = TrainConfig(steps=20_000)


@dataclass(frozen=True)
class Preset:
    """A row: a model to begin with.

    counts: trainable numbers of G_theta and of R_phi, so that showing it needs no network to be built (None: nobody
    has counted them yet). paper: the data set for which the paper's model has these sizes (None: none has), and a
    processor would take weeks. training: how it is trained unless told otherwise; the paper's by Appendix C.
    """

    name: str
    title: str
    config: ModelConfig
    counts: tuple[int, int] | None = None
    paper: str | None = None
    training: TrainConfig = NEW_MODEL

    @property
    def parameters(self) -> dict[str, int] | None:
        """`counts` by part; the twin has as many as G_theta."""
        return self.counts and dict(zip(PAPER_PARTS, (self.counts[0], *self.counts), strict=True))


# The paper's presets have its sizes, T and gamma. Their floor is not its 4e-3 but 0.2, as the compact ones': from
# there every pixel reaches noise (1 - exp(-gamma floor) > 0.98), so that N(0, I) is where the process ends. Colour's
# i_min and scale_error were found on CIFAR-10 (checkpoints/cifar10/README.md). In grey i_min and the weights did not
# help (checkpoints/fashion-mnist/README.md); the preconditioning has not been tried there.
# Each: size, C, T, gamma, floor, VAE widths, z, prior;
# U-Net widths, patch, last width, tokens, and others by name; parameters of G_theta and of R_phi.
PRESETS: Table[Preset] = Table(
    "preset",
    (
        Preset("compact", "Compact, gray 32x32", ModelConfig(
            32, 1, 200, 20.0, 0.2, (64, 96, 96),                 64, 64,
            (64, 96, 96),                    2,  24, 64), (1_128_676, 2_703_144)),
        Preset("compact-rgb", "Compact, color 32x32", ModelConfig(
            32, 3, 200, 20.0, 0.2, (64, 96, 128),               128, 64,
            (64, 128, 160),                  2,  32, 64,
            i_min=0.02, scale_error=0.08), (1_786_188, 5_563_208)),
        Preset("faces", "Faces, color 64x64", ModelConfig(
            64, 3, 200, 20.0, 0.2, (96, 128, 192),              160, 64,
            (64, 128, 160),                  4,   8, 64,
            i_min=0.02, scale_error=0.08), (3_537_840, 6_143_048)),
        Preset("cifar10", "CIFAR-10 as in the paper", ModelConfig(
            32, 3, 200, 20.0, 0.2, (128, 512, 768, 48),        1024, 4,
            (128, 256, 256, 384),            1, 512, None, head_attention="shared",
            i_min=0.02, scale_error=0.08), (30_540_211, 41_470_840), paper="CIFAR-10",
            training=TrainConfig(steps=1_500_000, batch=128, learning_rate=1e-4)),
        Preset("celeba", "CelebA as in the paper", ModelConfig(
            128, 3, 500, 50.0, 0.2, (64, 128, 384, 768, 992, 48), 1024, 4,
            (64, 128, 256, 384, 448, 512),   1, 512, 256, head_attention="shared",
            i_min=0.02, scale_error=0.08), (61_229_811, 84_636_012), paper="CelebA",
            training=TrainConfig(steps=1_500_000, batch=16, learning_rate=2e-4)),
    ),
    ConfigError,
)  # fmt: skip


def preset(name: str, **changes: Any) -> ModelConfig:
    """The model of a preset, with fields replaced; raises ConfigError with the names there are."""
    return replace(PRESETS.find(name).config, **changes)
