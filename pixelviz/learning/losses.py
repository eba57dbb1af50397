"""What training minimises: the scale VAE's loss, R_phi's loss over its heads, and a differentiable SSIM.

Every random number is drawn before the networks run, for the whole batch (`draw_step`): what is learnt does not
depend on how many processes share the batch, and the objective is one function of tensors.
"""

from __future__ import annotations

from typing import NamedTuple, TypedDict, cast

import torch
from torch import Tensor, nn

from pixelviz.config import ModelConfig, TrainConfig
from pixelviz.devices import Compute
from pixelviz.measure.metrics import SSIM_WINDOW
from pixelviz.models.parallel_unet import LinearTwin, one_hot
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.models.scale_vae import Code, ScaleVAE
from pixelviz.process.reverse import drift_coefficients, skip_posterior, x0_from_drift
from pixelviz.process.schedules import LinearBeta, Schedule, image_scale, schedule_of

EARLY = 4.0  # power of R_phi's steps for a model that goes on between whole ones: at T = 200, a quarter below i = 1
WIDE_GAP = 0.5  # share of its angle that a tuned run's first pairs are apart
NOTICEABLE = 0.01  # of the deviation: a difference of two images below which the loss is quadratic
SIMILARITY = "ssim"  # of what is reported, the one of which more is better
FROM_T = 0.5  # share of the pairs that begin at x_T; the others on the way, as the second and later passes do


class VAEDraws(NamedTuple):
    """For one step of a scale VAE: i (B,) in 0..T, the noise of x_i (B, C, H, W), and that of z (B, latent)."""

    i: Tensor
    noise: Tensor
    code: Tensor


class Pairs(NamedTuple):
    """Where the closed loop began, came through and ended: x_T, x_i, x_delta_hat and x0, each (N, C, H, W), the i of
    each x_i, (N,), and of a model of classes what it was told, (N,), -1 for nothing; see `distillation`.
    """

    x_T: Tensor
    x_i: Tensor
    i: Tensor
    x_delta: Tensor
    x0: Tensor
    labels: Tensor | None = None


class PairDraws(NamedTuple):
    """Which rows of a batch are pairs, (B,) bool, and for these x_i and x_delta_hat (B, C, H, W); 0 elsewhere."""

    given: Tensor
    x_i: Tensor
    x_delta: Tensor


class UNetDraws(NamedTuple):
    """For one step of R_phi: i (B,) in i_min..T, noise and code as for `VAEDraws`, the heads to train (B, J) in
    1..ceil(i), and for "eps" heads the noise of x_j (B, J, C, H, W), otherwise None; the batch's pairs, where it has
    any; where R_phi is tuned the i' < i at which the same x0 and noise end, (B,), see `consistency_loss`; and of
    classes what it is told of each image's, (B,), -1 for nothing, or None in a model without.
    """

    i: Tensor
    noise: Tensor
    code: Tensor
    heads: Tensor
    trajectory: Tensor | None
    pairs: PairDraws | None = None
    below: Tensor | None = None
    labels: Tensor | None = None


class TwinDraws(NamedTuple):
    """For one step of the linear-beta twin: t (B,) in 0..999, as diffusers counts, the noise (B, C, H, W), and labels
    as for `UNetDraws`.
    """

    t: Tensor
    noise: Tensor
    labels: Tensor | None = None


class Draws(TypedDict):
    """Those of each part that is trained."""

    scale_vae: VAEDraws
    twin: VAEDraws
    parallel_unet: UNetDraws
    linear_twin: TwinDraws


def draw_step(
    config: ModelConfig, train: TrainConfig, n: int, generator: torch.Generator, labels: Tensor | None = None
) -> Draws:
    """All random numbers of one step for n images, on the generator's device, per trained part.

    labels: of a model of classes the images' (n,), of which `train.class_drop` are not told.
    """

    def told() -> Tensor | None:
        if labels is None:
            return None
        return labels.masked_fill(torch.rand(n, generator=generator) < train.class_drop, -1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator)

    draws = cast(Draws, {})  # what is not trained stays out
    for part in train.parts:
        if part == "scale_vae" or part == "twin":
            i = (1 + (config.T * torch.rand(n, generator=generator) ** train.step_power).long()).clamp(max=config.T)
            i[torch.rand(n, generator=generator) < train.clean_share] = 0
            draws[part] = VAEDraws(i, normal(*config.shape), normal(config.latent))
        elif part == "parallel_unet":
            power = train.unet_step_power or (EARLY if config.i_min < 1 else 1.0)
            i = config.T * torch.rand(n, generator=generator) ** power
            # A power below 1 can round u up to 1: i is T then, and no step lies beyond it.
            i = i.clamp(min=config.i_min) if config.i_min < 1 else (1 + i.long()).clamp(max=config.T)
            i[torch.rand(n, generator=generator) < train.terminal_share] = config.T
            heads = choose_heads(i, train.heads_per_step, generator)
            later = normal(heads.shape[1], *config.shape) if config.head_target == "eps" else None
            mine = UNetDraws(i, normal(*config.shape), normal(config.latent), heads, later)
            draws[part] = mine._replace(labels=told())
        else:
            t = torch.randint(LinearTwin.STEPS, (n,), generator=generator)
            draws[part] = TwinDraws(t, normal(*config.shape), told())
    return draws


def with_pairs(
    config: ModelConfig, train: TrainConfig, x0: Tensor, draws: UNetDraws, pairs: Pairs, generator: torch.Generator
) -> tuple[Tensor, UNetDraws]:
    """A batch x0 (B, C, H, W) and its draws, the first `pair_share` of its rows random pairs, half of them at i = T."""
    n = round(train.pair_share * len(x0))
    index = torch.randint(len(pairs.x0), (n,), generator=generator)
    from_T = torch.rand(n, generator=generator) < FROM_T
    given = torch.arange(len(x0)) < n
    x0, i, heads = x0.clone(), draws.i.clone(), draws.heads.clone()
    x0[:n] = pairs.x0[index].to(x0)
    i[:n] = torch.where(from_T, config.T, pairs.i[index]).to(i)
    heads[:n] = choose_heads(i[:n], train.heads_per_step, generator)
    x_i, x_delta = torch.zeros_like(x0), torch.zeros_like(x0)
    x_i[:n] = torch.where(from_T[:, None, None, None], pairs.x_T[index], pairs.x_i[index]).to(x0)
    x_delta[:n] = pairs.x_delta[index].to(x0)
    labels = draws.labels
    if labels is not None and pairs.labels is not None:
        labels = torch.cat([pairs.labels[index], labels[n:]])
    return x0, draws._replace(i=i, heads=heads, labels=labels, pairs=PairDraws(given, x_i, x_delta))


def with_ends(config: ModelConfig, train: TrainConfig, draws: UNetDraws, step: int) -> UNetDraws:
    """Draws of a run that is tuned: where i' lies below each i, (B,), by a share of the angle; 0 below i_min.

    The share falls from `WIDE_GAP` to `train.least_gap`, by the same factor at every step (Geng et al. 2024). The
    angle is atan(sigma / s) of the darkest pixel, sigma^2 = (1-abar_i)/abar_i and s the deviation of x0 about
    x_delta_hat's image: steps in it are steps in what x_i says of x0, from 0 to pi/2 (as in TrigFlow, whose s is that
    of all images).
    """
    gap = WIDE_GAP * (train.least_gap / WIDE_GAP) ** (step / train.steps)
    s = known_deviation(config, train)
    schedule, darkest = schedule_of(config), torch.tensor(config.floor)
    angle = _angle(schedule, darkest, draws.i, s) * (1 - gap)
    share = torch.log1p((s * torch.tan(angle)).square()) / -schedule.log_alpha_bar(darkest, config.T)
    below = schedule.step_at(share * schedule.clock(torch.tensor(float(config.T))))
    return draws._replace(below=torch.where(below < config.i_min, 0.0, below))


def _angle(schedule: Schedule, x0: Tensor, i: Tensor, s: float) -> Tensor:
    """atan(sigma / s), sigma^2 = (1-abar_i)/abar_i: how far x_i is from saying x0 to saying nothing, 0..pi/2."""
    return torch.atan(torch.expm1(-schedule.log_alpha_bar(x0, i)).sqrt() / s)


def known_deviation(config: ModelConfig, train: TrainConfig) -> float:
    """Deviation of x0 about x_delta_hat's image: the run's, or the model's, above 0 where R_phi is tuned."""
    return train.deviation or config.scale_error


def choose_heads(i: Tensor, per_image: int, generator: torch.Generator) -> Tensor:
    """Which heads to train, (B, J) in 1..ceil(i): that of the step which i lies in, and others uniformly below it."""
    last = i.ceil().long()[:, None]
    others = torch.rand(len(i), per_image - 1, generator=generator)
    return torch.cat([last, 1 + (others * last).long()], dim=1)


def _window_matrix(n: int) -> Tensor:
    """(n - 10, n): takes a line of n pixels to the Gaussian means of the 11-pixel windows inside it."""
    offsets = torch.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = torch.exp(-offsets.float().square() / (2 * 1.5**2))
    inside = n - SSIM_WINDOW + 1
    matrix = torch.zeros(inside, n)
    for k in range(inside):
        matrix[k, k : k + SSIM_WINDOW] = weights / weights.sum()
    return matrix


def structural_similarity(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """Mean SSIM of a and b (B, C, H, W), differentiable, and the same number as `metrics.ssim`.

    torchmetrics' keeps the windows that overhang the border, which flatters (0.88 for 0.83 on x_delta_hat), and
    takes half of a training step on a CPU; means over windows inside the image are two matrix products.
    """
    # In float32: SSIM's variances are differences of squares, which bfloat16 would wipe out.
    with torch.autocast(a.device.type, enabled=False):
        rows, columns = (_window_matrix(n).to(a.device) for n in a.shape[-2:])
        stack = torch.stack([a, b, a * a, b * b, a * b]).float()
        mean_a, mean_b, aa, bb, ab = rows @ stack @ columns.T
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        contrast = (2 * (ab - mean_a * mean_b) + c2) / (aa - mean_a**2 + bb - mean_b**2 + c2)
        return (luminance * contrast).mean()


def forward_noise(model: PixelAwareModel, rate_x0: Tensor, x0: Tensor, i: Tensor, noise: Tensor) -> Tensor:
    """x_i of Eq. 9 for a batch: i (B,), the schedule built from rate_x0."""
    i = i[:, None, None, None].to(x0.dtype)
    schedule = model.schedule
    return schedule.alpha_bar(rate_x0, i).sqrt() * x0 + schedule.noise_variance(rate_x0, i).sqrt() * noise


def _code(code: Code, noise: Tensor) -> Tensor:
    """z = mean + standard deviation times noise."""
    return code.mean + torch.exp(code.log_variance / 2) * noise


def tally(mean: Tensor, images: Tensor | int) -> Tensor:
    """(2,): a mean over images as their sum and their number, which several processes can add up."""
    images = torch.as_tensor(images, device=mean.device)
    return torch.stack([mean.detach().float() * images, images.float()])


def vae_loss(
    vae: ScaleVAE, x0: Tensor, x_i: Tensor, draws: VAEDraws, config: TrainConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction of x_delta (of x0 for the twin) from x_i, plus the KL term; and what it is made of, as tallies.

    x_delta is compared both relative to its range and by its logarithm: the first alone says nothing of
    bright pixels, where exp(-gamma x0) is flat, and the schedule needs exactly log x_delta_hat.
    """
    code = vae.encode(x_i, draws.i)
    estimate = vae.decode(_code(code, draws.code), draws.i).float()
    gamma, floor = vae.config.gamma, vae.config.floor
    if vae.output == "x0":
        wanted, span = x0, 1 - floor
        loss = (estimate - x0).square().mean()
        parts = {"x0": loss}
    else:
        wanted, span = image_scale(x0, gamma), float(image_scale(floor, gamma) - image_scale(1.0, gamma))
        scale_error = ((estimate - wanted) / span).square().mean()
        log_error = (-torch.log(estimate) / gamma - x0).square().mean()
        loss = config.scale_weight * scale_error + config.log_weight * log_error
        parts = {"x_delta": scale_error, "log_x_delta": log_error}
    if config.ssim_weight:
        parts[SIMILARITY] = structural_similarity(estimate, wanted, span)
        loss = loss + config.ssim_weight * (1 - parts[SIMILARITY])
    parts["kl"] = code.kl().mean() / x0[0].numel()
    return loss + config.kl_weight * parts["kl"], {key: tally(part, len(x0)) for key, part in parts.items()}


def head_weight(schedule: Schedule, rate_x0: Tensor, i: Tensor, deviation: float) -> Tensor:
    """The weight of D^j's square error, relative to V^j's: per pixel, shapes broadcast.

    1-abar_i makes it the error of V^i. But V^i varies by 1 at little noise and, where x_delta_hat tells x0 up to
    `deviation`, by its square alone at much noise: the steps between, at which an image takes shape, then count for
    little. EDM's weight (Karras et al. 2022, Section 5) divides by the variance that is there.
    """
    noise = schedule.noise_variance(rate_x0, i)
    if not deviation:
        return noise
    return noise * (schedule.alpha_bar(rate_x0, i) + noise / deviation**2)


@torch.no_grad()
def estimated_scale(model: PixelAwareModel, x0: Tensor, draws: UNetDraws) -> Tensor:
    """x_delta_hat, as x0 (B, C, H, W), as generation has it: decoded from a code drawn from q(z | x0, i = 0)."""
    vae, clean = model.scale_vae, torch.zeros_like(draws.i)
    return vae.decode(_code(vae.encode(x0, clean), draws.code), clean).float()


def _told(config: ModelConfig, draws: UNetDraws | TwinDraws) -> Tensor | None:
    """What a network is told of the classes, (B, K); None of a model that has none."""
    return None if draws.labels is None else one_hot(draws.labels, len(config.classes))


def unet_loss(
    model: PixelAwareModel, x0: Tensor, draws: UNetDraws, deviation: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 15 over the chosen heads; and the errors of head i, of all heads, and of head i where i = T, as tallies.

    "v" heads: the target is E[D^j | x_i, x0], the same for all j, which has the minimiser of V^j itself and less
    variance. Its square error times 1-abar_i is that of V^j times (1-abar_i)/(1-abar_j), the factor by which
    head j's V is smaller than head i's, so all heads count alike. `deviation`: see `head_weight`. "eps" heads: eps_j
    of a simulated trajectory, and Eq. 15's sum over all j <= i (`even_weights`). The schedule is that of
    x_delta_hat or, with `true_scale`, of x0, which R_phi itself never reads.
    """
    i, trajectory = draws.i, draws.trajectory
    with torch.no_grad():
        x_delta = estimated_scale(model, x0, draws)
        if draws.pairs is not None:
            given = draws.pairs.given[:, None, None, None]
            x_delta = torch.where(given, draws.pairs.x_delta, x_delta)
        rate_x0 = model.rate_x0(x_delta)
        if model.config.true_scale:
            rate_x0 = x0 if draws.pairs is None else torch.where(given, rate_x0, x0)
        x_i = forward_noise(model, rate_x0, x0, i, draws.noise)
        if draws.pairs is not None:
            x_i = torch.where(given, draws.pairs.x_i, x_i)
        x_delta = model.scale_read(x_i, i, x_delta)
    z = model.parallel_unet(x_i, x_delta, i, draws.heads, drift=trajectory is None, classes=_told(model.config, draws))
    with torch.no_grad():
        first = i[:, None, None, None].float()
        if trajectory is None:  # "v"
            skip, out = drift_coefficients(model.schedule, rate_x0, first)
            wanted = (skip * x_i + out * x0)[:, None]
            weight, share = head_weight(model.schedule, rate_x0, first, deviation)[:, None], None
        else:
            rate, wide = rate_x0[:, None], x_i[:, None]
            j = draws.heads[:, :, None, None, None].float()
            mean, variance = skip_posterior(model.schedule, rate, first[:, None], j, wide, x0[:, None])
            x_j = mean + variance.clamp(min=0).sqrt() * trajectory
            wanted = (x_j - model.schedule.alpha_bar(rate, j).sqrt() * x0[:, None]) / model.schedule.noise_variance(
                rate, j
            ).sqrt()
            weight, share = torch.ones(()), even_weights(i, draws.heads, model.config.T)
    return _over_heads((weight * (z - wanted).square()).mean(dim=(2, 3, 4)), i == model.config.T, share)


def even_weights(i: Tensor, heads: Tensor, T: int) -> Tensor:
    """(B, J): with them the mean over chosen heads estimates 1/T times Eq. 15's sum over j <= i, without bias.

    `choose_heads` draws head i for certain and J - 1 uniformly of 1..i, so head j is expected (J - 1)/i times, and
    head i once more. With J = 1 no head but i is ever drawn.
    """
    J = heads.shape[1]
    expected = (J - 1) / i[:, None] + (heads == i[:, None])
    return J / (T * expected)


def _over_heads(error: Tensor, at_end: Tensor, weight: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean of errors (B, J), head i first, by weights (B, J); and tallies of head i, of all heads, and of head i
    where i = T, (B,).
    """
    ends = at_end.float().sum()
    head_T = (error[:, 0] * at_end).sum() / ends.clamp(min=1)
    return (error if weight is None else weight * error).mean(), {
        "head_i": tally(error[:, 0].mean(), len(error)),
        "all_heads": tally(error.mean(), len(error)),
        "head_T": tally(head_T, ends),
    }


def consistency_loss(
    model: PixelAwareModel, x0: Tensor, x_delta: Tensor, draws: UNetDraws, s: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """How far the images f are apart that R_phi sees at the two ends i' < i of one x0 and one noise; as `unet_loss`.

    Given x_delta_hat (as x0) every pixel turns by its own angle, cos(theta_i) = sqrt(abar_i): x_i = cos x0 + sin eps
    and f(x_i) = cos x_i - sin V^i, which at i = 0 is x_i whatever a network of scale_error above 0 says (Song et al.
    2023; Lu & Song 2024). f at i, of every chosen head, follows f at i', of head ceil(i'), or x0 where i' = 0. As the
    ends near, the best f is where the flow of Eq. 15's best V leads from x_i: one sharp image, not the mean of many.
    The distance is Huber's, smooth below `NOTICEABLE` of the deviation s, divided by the angle between (`with_ends`).
    """
    schedule, rate_x0, i, below = model.schedule, model.rate_x0(x_delta), draws.i, draws.below
    classes = _told(model.config, draws)
    if below is None:
        raise ValueError("these draws have one end only; `with_ends` gives them the other.")

    def image(i: Tensor, heads: Tensor) -> Tensor:
        x_i = forward_noise(model, rate_x0, x0, i, draws.noise)
        x_delta_read = model.scale_read(x_i, i, x_delta)
        drift = model.parallel_unet(x_i, x_delta_read, i, heads, drift=True, classes=classes)
        return x0_from_drift(schedule, rate_x0[:, None], i[:, None, None, None, None], x_i[:, None], drift)

    with torch.no_grad():
        earlier = image(below.clamp(min=model.config.i_min), below.ceil().clamp(min=1).long()[:, None])
        wanted = torch.where((below > 0)[:, None, None, None, None], earlier, x0[:, None])
    squares = (image(i, draws.heads) - wanted).square().mean(dim=(2, 3, 4)) / s**2
    huber = (squares + NOTICEABLE**2).sqrt() - NOTICEABLE
    darkest = torch.tensor(model.config.floor, device=i.device)
    angle, angle_below = (_angle(schedule, darkest, k, s) for k in (i, below))
    return _over_heads(huber / (angle - angle_below)[:, None], i == model.config.T)


def linear_twin_loss(twin: LinearTwin, x0: Tensor, floor: float, draws: TwinDraws) -> Tensor:
    """Mean square error of the noise at uniform t (Ho et al. 2020, Eq. 14); x0 in [floor, 1] is put in [-1, 1]."""
    schedule = LinearBeta(twin.STEPS)
    # diffusers counts steps from 0: its t is the paper's i - 1.
    steps = torch.arange(1, twin.STEPS + 1, dtype=torch.float64)  # not on the device: MPS has no float64
    alpha_bar = schedule.alpha_bar(torch.ones((), dtype=torch.float64), steps).to(x0)[draws.t, None, None, None]
    x_t = alpha_bar.sqrt() * (2 * (x0 - floor) / (1 - floor) - 1) + (1 - alpha_bar).sqrt() * draws.noise
    return (twin(x_t, draws.t, _told(twin.config, draws)) - draws.noise).square().mean()


class TrainingObjective(nn.Module):
    """The losses of all trained parts as one forward, the unit that processes share and torch.compile takes."""

    def __init__(self, model: PixelAwareModel, train: TrainConfig, compute: Compute) -> None:
        super().__init__()
        self.model, self.train_config, self.compute = model, train, compute

    def forward(self, x0: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, (), and the reported losses, "part/name", as tallies; x0 (B, C, H, W)."""
        model, train = self.model, self.train_config
        total, reported = x0.new_zeros(()), {}
        with self.compute.autocast():
            for part in train.parts:
                if part == "scale_vae" or part == "twin":
                    mine = draws[part]
                    x_i = forward_noise(model, x0, x0, mine.i, mine.noise)
                    loss, parts = vae_loss(getattr(model, part), x0, x_i, mine, train)
                elif part == "linear_twin":
                    loss = linear_twin_loss(model.linear_twin, x0, model.config.floor, draws[part])
                    parts = {"eps": tally(loss, len(x0))}
                elif (mine := draws[part]).below is not None:
                    x_delta, s = estimated_scale(model, x0, mine), known_deviation(model.config, train)
                    loss, parts = consistency_loss(model, x0, x_delta, mine, s)
                else:
                    deviation = model.config.scale_error if train.deviation is None else train.deviation
                    loss, parts = unet_loss(model, x0, mine, deviation)
                total = total + loss
                reported |= {f"{part}/{key}": value for key, value in parts.items()}
        return total, reported
