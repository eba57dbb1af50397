"""A checkpoint's measured figures: SSIM of the scale from true x_i, and FID of samples. A generator, to be watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pixelviz.checks import one_of
from pixelviz.config import MAX_SEED
from pixelviz.data.image_set import spread
from pixelviz.data.sets import from_unit, to_unit
from pixelviz.declare import declared
from pixelviz.devices import Compute
from pixelviz.measure.estimate import ask, image_similarity, similarity
from pixelviz.measure.judges import Reference, quality
from pixelviz.measure.likelihood import bits_per_dimension
from pixelviz.measure.metrics import features_of, fid, frechet_distance
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.forward import closed_form
from pixelviz.progress import Progress
from pixelviz.samplers import SAMPLERS, STARTS, ImageNoise
from pixelviz.samplers.batches import BATCH, Batch, sample_images
from pixelviz.store.checkpoints import Checkpoint

PASSES = (1, 2, 5, 10, 50)
Start = Annotated[str, one_of(lambda: STARTS)]


class EvaluationError(ValueError):
    """Settings of a measurement that cannot be; the message says what would work."""


def ssim_steps(T: int) -> list[int]:
    """Where SSIM is measured: 1, T/10, T/4, T/2 and T (1, 20, 50, 100, 200 at T = 200)."""
    return sorted({1, max(T // 10, 1), max(T // 4, 1), max(T // 2, 1), T})


def scale_ssim(model: PixelAwareModel, compute: Compute, images: Tensor, i: int, seed: int = 0) -> dict[str, float]:
    """Mean SSIM over uint8 images (N, C, H, W), x_i drawn from the true forward process.

    Returns x_delta (of x_delta_hat), alpha_bar (of alpha_bar_i built from it, unless that is one for all pixels), and
    x0, Appendix F's twin against x0, where there is a twin. Every data range is the one that the quantity really has.
    """
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    totals: Counter[str] = Counter()
    for part in images.split(BATCH):
        x0 = to_unit(part, config.floor)
        x_i = closed_form(model.schedule, x0, i, torch.randn(x0.shape, generator=generator))
        point = similarity(config, x0, ask(model, compute, x_i, i), i)
        found = {"x_delta": point.ssim_x_delta}
        if point.ssim_alpha_bar is not None:
            found["alpha_bar"] = point.ssim_alpha_bar
        if "twin" in model.parts:
            found["x0"] = image_similarity(config, x0, ask(model, compute, x_i, i, "twin"))
        totals.update({key: len(x0) * value for key, value in found.items()})
    return {key: value / len(images) for key, value in totals.items()}


def decode_prior(model: PixelAwareModel, compute: Compute, n: int, *, start: str, seed: int = 0) -> Tensor:
    """-log(x_delta_hat)/gamma of n starts as uint8 images: what G_theta alone generates."""
    parts = []
    for first in range(0, n, BATCH):
        with torch.inference_mode(), compute.autocast():
            begin = STARTS[start](model, ImageNoise(seed, min(BATCH, n - first), first=first, device=model.device))
        parts.append(from_unit(model.rate_x0(begin.x_delta.float()).cpu(), model.config.floor))
    return torch.cat(parts)


def _fid(reference: Reference, images: Tensor) -> float:
    return fid(reference.statistics, images, reference.extractor)


@declared(EvaluationError)
class Evaluation:
    """What is measured of samples; raises EvaluationError."""

    samples: int = Field(2000, ge=0, description="Samples per row of the FID table; 0 for none.")
    passes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, strict=False)] = Field(
        PASSES, description="Numbers of passes; those above T are left out."
    )
    starts: Annotated[tuple[Start, ...], Field(min_length=1, strict=False)] = Field(
        tuple(STARTS), description="Starts."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of all that is drawn.")
    bits: int = Field(64, ge=0, description="Test images whose bits per dimension are bounded, at most; 0 for none.")

    @model_validator(mode="after")
    def _enough(self) -> Evaluation:
        if self.samples == 1:
            raise EvaluationError("FID needs at least 2 samples, or 0 for none.")
        return self


def evaluate(
    checkpoint: Checkpoint,
    compute: Compute,
    images: Tensor,
    *,
    reference: Reference | None = None,
    judge: Reference | None = None,
    **settings: Any,
) -> Iterator[Progress]:
    """Measure what the checkpoint's parts allow; the last Progress carries the figures.

    Args: images, uint8 test images (N, C, H, W) for SSIM; reference, the real images' features and their network (None:
    no FID); judge, another of these, or the same, by which FID, KID, precision and recall are given too; settings, see
    `Evaluation`. Raises EvaluationError.
    """
    asked = Evaluation(**settings)
    samples, starts, seed, model = asked.samples, asked.starts, asked.seed, checkpoint.model
    config = model.config
    steps = ssim_steps(config.T) if "scale_vae" in model.parts else []
    generates = samples and reference is not None and {"scale_vae", "parallel_unet"} <= set(model.parts)
    rows = [(s, k) for s in starts for k in asked.passes if k <= config.T] if generates else []
    if not SAMPLERS[SAMPLERS.first].reads(config):
        rows = []  # eps heads have no stable pass to measure
    total = len(steps) * len(images) + sum(k for _, k in rows) * samples
    done = 0
    figures: dict[str, Any] = {"ssim_images": len(images)} if steps else {}
    for i in steps:
        yield Progress(f"SSIM at i = {i}", done, total)
        for key, value in scale_ssim(model, compute, images, i, seed).items():
            figures.setdefault(f"ssim_{key}", {})[str(i)] = round(value, 4)
        done += len(images)
    if asked.bits > 1 and len(images) > 1:
        yield Progress("bits per dimension", done, total)
        some = images[torch.from_numpy(spread(len(images), asked.bits))]  # of every class, where they are sorted
        bound = bits_per_dimension(model, compute, some, seed=seed)
        if bound:
            figures["bits_per_dimension"] = {
                name: {key: round(value, 4) for key, value in parts.items()} for name, parts in bound.items()
            }
    if rows:
        figures["fid_samples"] = samples
        figures["prior_fid"] = {
            s: round(_fid(reference, decode_prior(model, compute, samples, start=s, seed=seed)), 3) for s in starts
        }
        figures["features"] = reference.name
        if judge is not None:
            figures["judge"] = judge.name
        figures["generation"] = []
    for start, k in rows:
        finished: list[Batch] = []
        for batch in sample_images(model, compute, samples, passes=k, start=start, seed=seed):
            finished.append(batch)
            done += k * len(batch.images)
            yield Progress(f"{start} start, {k} pass{'es' if k > 1 else ''}", done, total)
        images_found = torch.cat([batch.images for batch in finished])
        features = features_of(images_found, reference.extractor)
        theirs = features if judge is None or judge is reference else features_of(images_found, judge.extractor)
        other = quality(judge, theirs) if judge is not None else {}
        figures["generation"].append(
            {
                "method": SAMPLERS.first,
                "start": start,
                "passes": k,
                "fid": round(frechet_distance(reference.statistics, features), 3),
                "network_evaluations": finished[-1].network_evaluations,
                "seconds_per_image": round(sum(batch.seconds for batch in finished) / samples, 5),
                **({"judge": {key: round(value, 4) for key, value in other.items()}} if other else {}),
            }
        )
    figures["measured_on"] = compute.describe()
    yield Progress("done", total, total, figures)
