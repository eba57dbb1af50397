"""Training as a generator of TrainStep records; it knows nothing of who is looking."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pixelviz import checkpoints
from pixelviz.checkpoints import Record
from pixelviz.config import ModelConfig, TrainConfig
from pixelviz.data import ImageSet, from_unit, to_unit
from pixelviz.devices import Compute, choose
from pixelviz.losses import forward_noise, linear_twin_loss, unet_loss, vae_loss
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.models.prior import fit_mixture
from pixelviz.models.scale_vae import ScaleVAE
from pixelviz.samplers import draw

PRIOR_IMAGES = 20_000  # codes that the prior is fitted to, at most
PREVIEW_IMAGES = 8


class TrainingError(RuntimeError):
    """Training that cannot start or go on; the message says why and what to change."""


@dataclass(frozen=True)
class TrainStep:
    """One optimiser step.

    step counts from 1, over all runs of this checkpoint; losses are per part, unweighted means;
    images_per_second and eta_seconds over the last steps; seconds of this run; preview, where one was
    drawn: uint8 (rows, n, C, H, W), see `preview`; saved, whether the checkpoint was just written.
    """

    step: int
    steps: int
    losses: dict[str, float]
    images_per_second: float
    eta_seconds: float
    seconds: float
    preview: Tensor | None = None
    saved: bool = False


def batches(n: int, batch: int, seed: int, step: int) -> Tensor:
    """Indices of step's batch (step counts from 0): every epoch is its own permutation, the same on resume."""
    positions = torch.arange(step * batch, (step + 1) * batch)
    epochs = positions // n
    order = {
        int(e): torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + int(e)))
        for e in epochs.unique()
    }
    return torch.stack([order[int(e)][p % n] for e, p in zip(epochs, positions, strict=True)])


@torch.no_grad()
def preview(model: PixelAwareModel, x0: Tensor, compute: Compute, seed: int = 0) -> Tensor:
    """Rows to look at, uint8 (rows, n, C, H, W): x0; G_theta's image of it; one-pass samples (where trained)."""
    rows = [x0]
    zero = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
    with compute.autocast():
        if model.scale_vae is not None:
            rows.append(model.rate_x0(model.scale_vae(x0, zero).float()))
        elif model.twin is not None:
            rows.append(model.twin(x0, zero).float())
    if model.scale_vae is not None and model.parallel_unet is not None:
        sampler = "parallel" if model.config.head_target == "v" else "printed"
        *_, last = draw(model, compute, n=len(x0), sampler=sampler, seed=seed)
        rows.append(last.x.float())
    return from_unit(torch.stack(rows), model.config.floor).cpu()


@torch.no_grad()
def fit_prior(vae: ScaleVAE, images: Tensor, compute: Compute, *, limit: int = PRIOR_IMAGES, seed: int = 0) -> None:
    """Fit the mixture over z to codes drawn from q(z | x0, i = 0) of at most `limit` uint8 training images.

    Fewer components are used where there are fewer than 4 codes per latent dimension for each.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = images[torch.randperm(len(images), generator=generator)[:limit]]
    codes = []
    for part in chosen.split(256):
        x0 = to_unit(part, vae.config.floor).to(compute.device)
        with compute.autocast():
            codes.append(vae.encode(x0, torch.zeros(len(x0), dtype=torch.int64, device=x0.device)).sample().float())
    fitted = fit_mixture(torch.cat(codes).cpu(), vae.config.prior_components, generator)
    for name, value in zip(("prior_log_weight", "prior_mean", "prior_factor"), fitted, strict=True):
        getattr(vae, name).copy_(value)


@dataclass
class Run:
    """A training run in memory: raw and averaged weights, optimiser and counters."""

    model: PixelAwareModel
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    record: Record
    step: int = 0

    @property
    def averaged(self) -> PixelAwareModel:
        """The EMA weights as a model."""
        return self.average.module


def _average(decay: float):
    def blend(average: Tensor, value: Tensor, count: Tensor) -> Tensor:
        # Until `decay` is reached the average spans the whole run so far, not the random start.
        if not average.is_floating_point():
            return value
        rate = min(decay, (1 + int(count)) / (10 + int(count)))
        return torch.lerp(value, average, rate)

    return blend


def _new_run(config: ModelConfig, train: TrainConfig, compute: Compute, record: Record, source=None) -> Run:
    """Networks with fresh weights, or with those of a model that `source` holds."""
    present = tuple(dict.fromkeys((*(source.parts if source else ()), *train.parts)))
    torch.manual_seed(train.seed)
    model = PixelAwareModel(config, present)
    if source is not None:
        model.load_state_dict(source.state_dict(), strict=False)
    model.to(device=compute.device, memory_format=torch.channels_last)
    average = AveragedModel(model, avg_fn=_average(train.ema), use_buffers=False)
    for part in set(present) - set(train.parts):
        getattr(model, part).requires_grad_(False)
    trained = [p for part in train.parts for p in getattr(model, part).parameters()]
    return Run(model, average, torch.optim.Adam(trained, lr=train.learning_rate), record)


def save_run(run: Run, folder: Path) -> None:
    """Write the checkpoint and, in one atomic file, all that resuming needs."""
    checkpoints.save(folder, run.averaged, run.record)
    tensors = {f"model.{k}": v for k, v in run.model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in run.averaged.state_dict().items()}
    for index, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    metadata = {
        "step": str(run.step),
        "n_averaged": str(int(run.average.n_averaged)),
        "record": json.dumps(asdict(run.record)),
    }
    checkpoints.save_tensors(folder / checkpoints.STATE, tensors, metadata)


def _resume(folder: Path, train: TrainConfig, compute: Compute) -> Run:
    """Go on from a folder: exactly, where its training state is there and trains the same parts."""
    loaded = checkpoints.load(folder)
    path = folder / checkpoints.STATE
    run = _new_run(loaded.model.config, train, compute, loaded.record, loaded.model)
    if not path.is_file():
        return run
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    record = Record(**json.loads(metadata["record"]))
    if set(record.training.get("parts", ())) != set(train.parts):
        return run
    tensors = load_file(path)

    def group(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    run.model.load_state_dict(group("model."))
    run.averaged.load_state_dict(group("average."))
    run.average.n_averaged.fill_(int(metadata["n_averaged"]))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in group("optimiser.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    whole = run.optimiser.state_dict()
    run.optimiser.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
    run.record, run.step = record, int(metadata["step"])
    return run


def learning_rate(train: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth at the last step; step counts from 0."""
    warm = min(train.warmup, max(train.steps // 10, 1))
    if step < warm:
        return train.learning_rate * (step + 1) / warm
    share = (step - warm) / max(train.steps - warm, 1)
    return train.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def _one_step(run: Run, x0: Tensor, train: TrainConfig, compute: Compute, generator: torch.Generator) -> dict:
    """Forward, backward and update of every trained part; returns the losses."""
    model, config = run.model, run.model.config
    n = len(x0)
    losses: dict[str, Tensor] = {}
    total = x0.new_zeros(())
    with compute.autocast():
        for part in ("scale_vae", "twin"):
            if part in train.parts:
                i = torch.randint(1, config.T + 1, (n,), generator=generator)
                i[torch.rand(n, generator=generator) < train.clean_share] = 0
                i = i.to(x0.device)
                x_i = forward_noise(model, x0, x0, i, torch.randn(x0.shape, generator=generator).to(x0))
                loss, parts = vae_loss(getattr(model, part), x0, x_i, i, train)
                total = total + loss
                losses |= {f"{part}/{k}": v for k, v in parts.items()}
        if "parallel_unet" in train.parts:
            i = torch.randint(1, config.T + 1, (n,), generator=generator)
            i[torch.rand(n, generator=generator) < train.terminal_share] = config.T
            loss, parts = unet_loss(model, x0, i.to(x0.device), train, generator)
            total = total + loss
            losses |= {f"parallel_unet/{k}": v for k, v in parts.items()}
        if "linear_twin" in train.parts:
            loss = linear_twin_loss(model.linear_twin, x0, config.floor, generator)
            total = total + loss
            losses["linear_twin/eps"] = loss.detach()
    run.optimiser.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_([p for group in run.optimiser.param_groups for p in group["params"]], train.clip)
    values = {k: float(v) for k, v in losses.items()}
    # Checked before the update: weights that are not finite must never replace a good checkpoint.
    if not all(map(math.isfinite, (*values.values(), float(norm)))):
        raise TrainingError(
            f"the loss or its gradient is no longer a finite number at step {run.step + 1}; lower the learning "
            f"rate (it is {train.learning_rate:g}) and resume from the last checkpoint."
        )
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(train, run.step)
    run.optimiser.step()
    run.average.update_parameters(model)
    return values


def train(
    images: ImageSet,
    config: ModelConfig,
    training: TrainConfig,
    out: Path | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    preview_every: int = 200,
    save_every_seconds: float = 300.0,
) -> Iterator[TrainStep]:
    """Train until `training.steps`, yielding a TrainStep after every step.

    Args: images, uint8 (N, C, size, size); config, the model to build (on resume the checkpoint's own
    configuration is used); out, the checkpoint folder, None to keep nothing; resume, go on from `out`.
    Closing the generator (or any error in the caller) stops training and saves what there is.
    Raises TrainingError, CheckpointError, or ConfigError.
    """
    compute = choose(device)
    if out is not None and not resume and (out / checkpoints.CONFIG).exists():
        raise TrainingError(f"{out} already holds a checkpoint; resume it, or choose another folder.")
    if resume and out is None:
        raise TrainingError("resuming needs the folder of the checkpoint to go on from.")
    run = _resume(out, training, compute) if resume else _new_run(config, training, compute, Record())
    config = run.model.config
    if tuple(images.images.shape[1:]) != config.shape:
        raise TrainingError(f"the images are {tuple(images.images.shape[1:])}, but the model takes {config.shape}.")
    if "parallel_unet" in training.parts and run.model.scale_vae is None:
        raise TrainingError("R_phi learns from G_theta's estimate: train the part scale_vae too, or first.")
    if run.step >= training.steps:
        raise TrainingError(f"this checkpoint has made {run.step:,} steps already; ask for more than that in all.")
    record = run.record
    record.data, record.device, record.training = images.name, compute.describe(), asdict(training)
    fixed = to_unit(images.images[:PREVIEW_IMAGES], config.floor).to(compute.device)
    began = last_save = time.monotonic()
    before, window = record.seconds, []
    run.model.train()
    start = run.step

    def save(final: bool) -> bool:
        record.seconds = before + time.monotonic() - began
        if out is None:
            return False
        if final and "scale_vae" in training.parts:
            # A run that has seen few images is not worth a long fit.
            limit = min(PRIOR_IMAGES, record.images_seen["scale_vae"])
            fit_prior(run.averaged.scale_vae, images.images, compute, limit=limit, seed=training.seed)
            run.model.scale_vae.load_state_dict(
                {k: v for k, v in run.averaged.scale_vae.state_dict().items() if k.startswith("prior_")}, strict=False
            )
        save_run(run, out)
        return True

    try:
        while run.step < training.steps:
            generator = torch.Generator().manual_seed(training.seed * 7_919 + run.step)
            torch.manual_seed(training.seed * 104_729 + run.step)  # the VAE's draws of z
            index = batches(len(images), training.batch, training.seed, run.step)
            x0 = to_unit(images.images[index], config.floor).to(compute.device)
            losses = _one_step(run, x0.contiguous(memory_format=torch.channels_last), training, compute, generator)
            run.step += 1
            for part in training.parts:
                record.steps[part] = record.steps.get(part, 0) + 1
                record.images_seen[part] = record.images_seen.get(part, 0) + len(x0)
            now = time.monotonic()
            window = [*window[-50:], now]
            pace = (len(window) - 1) / (now - window[0]) if len(window) > 1 else 1 / (now - began)
            done = run.step == training.steps
            look = run.step % preview_every == 0 or done or run.step - start == 1
            saved = not done and now - last_save > save_every_seconds and save(final=False)
            last_save = time.monotonic() if saved else last_save
            yield TrainStep(
                step=run.step,
                steps=training.steps,
                losses=losses,
                images_per_second=pace * training.batch,
                eta_seconds=(training.steps - run.step) / pace,
                seconds=now - began,
                preview=preview(run.averaged.eval(), fixed, compute) if look else None,
                saved=saved,
            )
    finally:
        if run.step > start:
            run.averaged.eval()
            save(final=True)
