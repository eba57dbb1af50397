"""What a model is and how it is trained: frozen dataclasses, and every preset as a row of one table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

HeadAttention = Literal["off", "full", "pooled", "linear", "shared"]
PAPER_FLOOR = 4e-3  # Section 4: "a small epsilon = 4e-3 is added to all x_0"
MAX_T = 5000
MAX_SIZE = 1024  # of a width, a latent or an image's side
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


@dataclass(frozen=True)
class ModelConfig:
    """The process and the networks of one model; stored beside its weights.

    Widths are channels per level, finest first; each level halves the resolution.
    """

    image_size: int
    channels: int
    T: int
    gamma: float
    floor: float
    vae_widths: tuple[int, ...]
    latent: int
    prior_components: int  # Gaussians in the prior over z fitted after training; 1 of them unfitted is N(0, I)
    unet_widths: tuple[int, ...]
    patch: int  # the networks' finest level is the image unshuffled by this factor; 1 in the paper
    last_width: int  # channels of the last decoder, which the T heads read (512 in the paper)
    attention_tokens: int | None  # keys and values are pooled to at most this many; None: full attention
    head_target: Literal["v", "eps"] = "v"
    head_attention: HeadAttention = "off"  # see pixelviz.models.heads; "full" is the paper's
    true_scale: bool = False  # as printed: build R_phi's training schedule from x_delta, not x_delta_hat
    # The smallest i that R_phi is trained at. With 1 it knows whole steps only, as printed; but there a step of gamma/T
    # leaves noise of deviation 0.3 in a white pixel at i = 1, which one run must then take away in one go.
    i_min: float = 1.0
    # Deviation of x0 about -log(x_delta_hat)/gamma from which R_phi's preconditioning weighs x_i against it. With 0
    # x_i counts for nothing there: the network itself must copy all detail from x_i, also where hardly any noise is.
    scale_error: float = 0.0

    def __post_init__(self) -> None:
        self._check_sizes()
        check_process(self.gamma, self.T, self.floor)
        if self.gamma > 80:
            raise ConfigError(f"a model's gamma may be at most 80; it is {self.gamma:g}: x_delta would leave float32.")
        if self.channels not in (1, 3):
            raise ConfigError(f"channels must be 1 or 3; it is {self.channels}.")
        if self.patch < 1 or self.image_size % (self.patch * 4):
            raise ConfigError(f"image_size {self.image_size} does not divide into patches of {self.patch} and 4x4.")
        side = self.image_size // self.patch
        if not (isinstance(self.i_min, (int, float)) and 0 < self.i_min <= 1):
            raise ConfigError(f"i_min must be above 0 and at most 1; it is {self.i_min!r}.")
        if not (isinstance(self.scale_error, (int, float)) and 0 <= self.scale_error <= 1):
            raise ConfigError(f"scale_error must be from 0 to 1; it is {self.scale_error!r}.")
        if self.i_min < 1 and self.head_target != "v":
            raise ConfigError("i_min below 1 needs v heads; for those of Eq. 15 as printed (eps) set it to 1.")
        if not self.unet_widths or side % 2 ** (len(self.unet_widths) - 1):
            raise ConfigError(f"{side} pixels cannot be halved for {len(self.unet_widths)} U-Net levels.")
        if side != 4 * 2 ** (len(self.vae_widths) - 1):
            raise ConfigError(f"{len(self.vae_widths)} VAE levels do not take {side} pixels to 4x4.")

    def _check_sizes(self) -> None:
        """A configuration may come from a stranger's file: whole numbers only, and nothing absurd to build."""
        sizes = {"image_size": self.image_size, "patch": self.patch, "latent": self.latent}
        sizes |= {"prior_components": self.prior_components, "last_width": self.last_width}
        for name in ("vae_widths", "unet_widths"):
            widths = getattr(self, name)
            if not isinstance(widths, tuple) or not 1 <= len(widths) <= 8:
                raise ConfigError(f"{name} must list 1 to 8 levels; it is {widths!r}.")
            sizes |= {f"{name}[{k}]": width for k, width in enumerate(widths)}
        if self.attention_tokens is not None:
            sizes["attention_tokens"] = self.attention_tokens
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
                raise ConfigError(f"{name} must be a whole number from 1 to {MAX_SIZE}; it is {size!r}.")
        if self.prior_components * self.latent**2 > 2**26:
            raise ConfigError("the prior would hold over 67 million numbers; lower latent or prior_components.")
        for name, choices in (("head_target", ("v", "eps")), ("head_attention", get_args(HeadAttention))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}; it is {getattr(self, name)!r}.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.image_size, self.image_size

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Rebuild from JSON; raises ConfigError on a missing or unknown key."""
        names = {f.name for f in fields(cls)}
        if unknown := set(values) - names:
            raise ConfigError(f"the configuration has unknown keys: {', '.join(sorted(unknown))}.")
        try:
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        except TypeError as error:
            raise ConfigError(f"the configuration is incomplete: {error}.") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


PARTS = ("scale_vae", "twin", "parallel_unet", "linear_twin")
PAPER_PARTS = PARTS[:3]  # what a new model has; the linear-beta twin is for comparisons


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. `steps` counts optimiser steps in all, a resumed run's earlier ones included."""

    steps: int = 2000
    batch: int = 64
    learning_rate: float = 1e-3
    parts: tuple[str, ...] = PAPER_PARTS
    ema: float = 0.999
    clip: float = 1.0
    warmup: int = 200
    kl_weight: float = 0.01  # per pixel; also twice the variance that the VAE's likelihood assumes
    scale_weight: float = 1.0  # on (x_delta_hat - x_delta)^2, relative to x_delta's range
    log_weight: float = 1.0  # on (-log x_delta_hat / gamma - x0)^2
    ssim_weight: float = 0.0  # on 1 - SSIM of what a VAE outputs, over the range that it really has
    step_power: float = 1.0  # the VAE's i is T u^power, u uniform in [0, 1): below 1 it sees late steps more often
    unet_step_power: float | None = None  # R_phi's likewise; None: 4 for a model with i_min below 1, otherwise 1
    clean_share: float = 0.35  # share of the VAE's batch at i = 0, whose codes generation decodes
    # Of x0 about x_delta_hat's image, by which R_phi's errors are weighed; 0: as those of V; None: its scale_error.
    deviation: float | None = None
    terminal_share: float = 0.25  # share of R_phi's batch at i = T, which one-pass sampling uses
    pair_share: float = 0.5  # share of R_phi's batch that are pairs, where it is distilled (`distillation`)
    least_gap: float = 0.0  # of a run that makes R_phi consistent (`tuning`): its last pairs' gap; 0: no such run
    heads_per_step: int = 8  # heads trained per image and step (head i always among them)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 10_000_000:
            raise ConfigError(f"steps must be between 1 and 10,000,000; it is {self.steps}.")
        if not 1 <= self.batch <= 4096:
            raise ConfigError(f"batch must be between 1 and 4096; it is {self.batch}.")
        if not 0 < self.learning_rate <= 0.1:
            raise ConfigError(f"learning rate must be above 0 and at most 0.1; it is {self.learning_rate}.")
        for name in ("kl_weight", "scale_weight", "log_weight", "ssim_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be 0 or more; it is {getattr(self, name)}.")
        for name in ("clean_share", "terminal_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1; it is {getattr(self, name)}.")
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed must be from 0 to {MAX_SEED:,}; it is {self.seed}.")
        for name in ("step_power", "unet_step_power"):
            if (power := getattr(self, name)) is not None and not 0 < power <= 20:
                raise ConfigError(f"{name} must be above 0 and at most 20; it is {power}.")
        if self.deviation is not None and not 0 <= self.deviation <= 1:
            raise ConfigError(f"deviation must be from 0 to 1; it is {self.deviation}.")
        if not 0 < self.pair_share <= 1:
            raise ConfigError(f"pair_share must be above 0 and at most 1; it is {self.pair_share}.")
        if not 0 <= self.least_gap <= 0.5:
            raise ConfigError(f"least_gap must be from 0 to 0.5; it is {self.least_gap}.")
        if not self.parts or set(self.parts) - set(PARTS) or len(set(self.parts)) < len(self.parts):
            raise ConfigError(f"parts must be some of {', '.join(PARTS)}, each once; it is {self.parts}.")

    @classmethod
    def resumed(cls, recorded: dict[str, Any], **given: Any) -> TrainConfig:
        """The settings of a run that goes on: those recorded (a checkpoint's `training`), but for what is given.

        None among what is given leaves a setting as it was. Raises ConfigError.
        """
        known = {entry.name for entry in fields(cls)}
        kept = {key: tuple(value) if key == "parts" else value for key, value in recorded.items() if key in known}
        try:
            return cls(**kept | {key: value for key, value in given.items() if value is not None})
        except TypeError as error:
            raise ConfigError(f"the settings of the earlier training cannot be used ({error}).") from None


# The paper's presets have its sizes, T and gamma. Their floor is not its 4e-3 but 0.2, as the compact ones': from
# there every pixel reaches noise (1 - exp(-gamma floor) > 0.98), so that N(0, I) is where the process ends. Colour's
# i_min and scale_error were found on CIFAR-10 (checkpoints/cifar10/README.md). In grey i_min and the weights did not
# help (checkpoints/fashion-mnist/README.md); the preconditioning has not been tried there.
#                            size  C    T  gamma floor  VAE widths                           z  prior
#                            U-Net widths                   patch last tokens, heads
PRESETS: dict[str, ModelConfig] = {
    "compact":     ModelConfig(32, 1, 200, 20.0, 0.2, (64, 96, 96),                        64, 64,
                               (64, 96, 96),                    2,  24, 64),
    "compact-rgb": ModelConfig(32, 3, 200, 20.0, 0.2, (64, 96, 128),                      128, 64,
                               (64, 128, 160),                  2,  32, 64, i_min=0.02, scale_error=0.08),
    "cifar10":     ModelConfig(32, 3, 200, 20.0, 0.2, (128, 512, 768, 48),               1024, 4,
                               (128, 256, 256, 384),            1, 512, None, head_attention="shared",
                               i_min=0.02, scale_error=0.08),
    "celeba":      ModelConfig(128, 3, 500, 50.0, 0.2, (64, 128, 384, 768, 992, 48),     1024, 4,
                               (64, 128, 256, 384, 448, 512),   1, 512, 256, head_attention="shared",
                               i_min=0.02, scale_error=0.08),
}  # fmt: skip

# Tables 1 and 2 of the paper: trainable parameters per part (Appendix F's twin has as many as G_theta).
PAPER_PARAMETERS: dict[str, dict[str, float]] = {
    "cifar10": {"scale_vae": 30.3e6, "twin": 30.3e6, "parallel_unet": 41.2e6},
    "celeba":  {"scale_vae": 61.3e6, "twin": 61.3e6, "parallel_unet": 84.2e6},
}  # fmt: skip


def preset(name: str, **changes: Any) -> ModelConfig:
    """The preset of that name, with fields replaced; raises ConfigError with the names there are."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; there are: {', '.join(PRESETS)}.")
    return replace(PRESETS[name], **changes)
