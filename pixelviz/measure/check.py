"""A checkpoint looked at from all sides in a minute: pictures, a few figures, and red flags in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pixelviz.data import image_set
from pixelviz.data.sets import DATASETS, ImageSet, from_unit, load_images, to_unit
from pixelviz.devices import Compute
from pixelviz.measure import judges
from pixelviz.measure.evaluation import scale_ssim, ssim_steps
from pixelviz.measure.judges import Reference
from pixelviz.measure.metrics import features_of, kid
from pixelviz.measure.nearest import UNJUDGED, Nearest, nearest_by_features, nearest_by_pixels, too_near
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.forward import closed_form
from pixelviz.progress import Progress
from pixelviz.samplers import SAMPLERS, ImageNoise, Start, draw
from pixelviz.samplers.starts import Beginning, beginning, start_from
from pixelviz.store.checkpoints import Checkpoint

PASSES = (1, 2, 5, 10)
SHEET, ROW = 36, 8  # images of a sheet and of a row
QUICK, BATCH = 256, 64  # one-pass samples that the figures are of
REAL = 1000  # images of each split that they are compared with
RESAMPLES = 100  # of the bootstrap
INTERVAL = (0.025, 0.975)

# Where a red flag is raised; each limit lies well outside what trained checkpoints and real images give.
MOST_OUTSIDE = 0.01  # share of values half a range outside [floor, 1], or no numbers at all
MOST_SHIFT = 0.15  # of the mean brightness, black to white being 1
CONTRAST = (0.5, 1.6)  # of samples relative to images
MOST_GRAIN = 0.03  # how much more neighbours differ, in half of the image, than in real images
LEAST_SPREAD = 0.6  # mean distance of two samples relative to that of two images
MOST_ONE_CLASS = 0.8  # share of one class, among four or more
MOST_MEMORISED = 0.05  # share of samples that are too near to a training image, by pixels and by features


class Flag(NamedTuple):
    """A red flag: its name, and what was seen, as a sentence."""

    name: str
    text: str


@dataclass
class Findings:
    """What `examine` found; pictures are uint8 (N, C, H, W), missing where the parts to draw them are.

    sheets: by passes, the same seeds; rows: by title, as many images each; nearest: samples, the nearest training
    images by pixels and, with a judge, by features; figures: as JSON; classes: share of the samples by name; notes: of
    what could not be judged.
    """

    name: str
    data: str
    sheets: dict[int, Tensor] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    nearest: dict[str, Tensor] = field(default_factory=dict)
    interpolation: Tensor | None = None
    classes: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    flags: list[Flag] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance of features (N, D) and (M, D), by singular values: quick where N and M are small.

    tr (S_a S_b)^(1/2) is the sum of the singular values of A B^T, S_a = A^T A being the covariance of a.
    """
    a, b = a.double(), b.double()
    A, B = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    cross = torch.linalg.svdvals(A @ B.T).sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + A.square().sum() + B.square().sum() - 2 * cross)


def frechet_interval(a: Tensor, b: Tensor, *, seed: int = 0) -> tuple[float, float]:
    """Where 95 % of `frechet` lie when the samples a are drawn anew from themselves (bootstrap).

    About the distance's own bias: resampling repeats samples, which raises the distance by as much again as the finite
    number of them does; that rise is taken off.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = [frechet(a[torch.randint(len(a), (len(a),), generator=generator)], b) for _ in range(RESAMPLES)]
    found = torch.tensor(draws)
    low, high = torch.quantile(found + frechet(a, b) - found.mean(), torch.tensor(INTERVAL)).tolist()
    return max(low, 0.0), high


def evenly(values: Tensor, n: int) -> Tensor:
    """At most n of the first dimension, evenly spaced: sets that are sorted by class give every class."""
    return values[torch.from_numpy(image_set.spread(len(values), n))]


# --- What is seen of samples


def roughness(images: Tensor) -> float:
    """Median difference of a pixel from the mean of its four neighbours, of uint8 images, black to white being 1.

    Half of an image is inside its surfaces, where there is nothing but grain.
    """
    x = images.float() / 255
    around = (x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]) / 4
    return (x[..., 1:-1, 1:-1] - around).abs().median().item()


def variety(images: Tensor) -> float:
    """Mean root mean square distance of two uint8 images, black to white being 1."""
    x = images.flatten(1).float() / 255
    return torch.pdist(x).mean().item() / x.shape[1] ** 0.5


def outside(x: Tensor, floor: float) -> float:
    """Share of values that are no numbers, or more than half of the range outside [floor, 1]."""
    margin = (1 - floor) / 2
    return 1 - ((floor - margin <= x) & (x <= 1 + margin)).float().mean().item()


def look(samples: Tensor, real: Tensor, shares: dict[str, float], memorised: float | None) -> dict[str, Any]:
    """The figures that flags are raised by, of uint8 samples and as many real images (N, C, H, W)."""
    return {
        "brightness": samples.float().mean().item() / 255,
        "brightness_real": real.float().mean().item() / 255,
        "contrast": samples.float().std().item() / 255,
        "contrast_real": real.float().std().item() / 255,
        "roughness": roughness(samples),
        "roughness_real": roughness(real),
        "spread": variety(samples),
        "spread_real": variety(real),
        "largest_class": max(shares.values(), default=0.0),
        "classes": len(shares),
        "memorised": memorised,
    }


def flags(seen: dict[str, Any]) -> list[Flag]:
    """Red flags in words, from `look`'s figures and the share of values `outside`."""
    found = []
    if seen["outside"] > MOST_OUTSIDE:
        found.append(Flag("diverged", f"{seen['outside']:.0%} of the values are far outside the range, or no numbers."))
    shift = seen["brightness"] - seen["brightness_real"]
    contrast = seen["contrast"] / max(seen["contrast_real"], 1e-6)
    if abs(shift) > MOST_SHIFT or not CONTRAST[0] <= contrast <= CONTRAST[1]:
        text = f"Brightness is {shift:+.2f} from the images', contrast {contrast:.2f} times theirs."
        found.append(Flag("wrong range", text))
    if (grain := seen["roughness"] - seen["roughness_real"]) > MOST_GRAIN:
        found.append(Flag("grain", f"Neighbouring pixels differ by {grain:.3f} more than in the images."))
    share = seen["spread"] / max(seen["spread_real"], 1e-6)
    one_class = seen["classes"] >= 4 and seen["largest_class"] > MOST_ONE_CLASS
    if share < LEAST_SPREAD or one_class:
        text = f"Two samples are {share:.2f} as far apart as two images"
        text += f"; {seen['largest_class']:.0%} are of one class." if one_class else "."
        found.append(Flag("collapse", text))
    if (seen["memorised"] or 0) > MOST_MEMORISED:
        found.append(Flag("memorising", f"{seen['memorised']:.0%} of the samples are nearly a training image."))
    return found


# --- The check


def examine(
    checkpoint: Checkpoint,
    compute: Compute,
    training: ImageSet,
    test: ImageSet,
    judge: Reference | None = None,
    *,
    names: tuple[str, ...] = (),
    seed: int = 0,
) -> Iterator[Progress | Findings]:
    """Look at a checkpoint: yields progress, and last the findings.

    Args: training and test, real images of its shape, of which `REAL` are used; judge, whose features (of up to `REAL`
    test images) the distances are taken in, None: pixels alone; names, of the classes that the labels count.
    """
    model = checkpoint.model
    name = checkpoint.folder.resolve().name if checkpoint.folder else "unnamed"
    findings = Findings(name, str(checkpoint.record.data))
    generates = {"scale_vae", "parallel_unet"} <= set(model.parts) and SAMPLERS[SAMPLERS.first].reads(model.config)
    total = (3 + (len(PASSES) + 3 if generates else 0)) * 10
    done = 0

    def progress(what: str, more: int = 10) -> Progress:
        nonlocal done
        done += more
        return Progress(what, min(done - more, total), total)

    if "scale_vae" in model.parts:
        yield progress("SSIM of the scale")
        steps = ssim_steps(model.config.T)
        ssim = {i: scale_ssim(model, compute, evenly(test.images, 4 * ROW), i, seed) for i in steps}
        findings.figures["ssim_x_delta"] = {str(i): one["x_delta"] for i, one in ssim.items()}
        yield progress("reconstructions")
        findings.rows = reconstructions(model, compute, evenly(test.images, ROW), steps, generates, seed)
    if generates:
        samples, far = torch.empty(0), 0.0
        for passes in PASSES:
            yield progress(f"{passes} pass{'es' if passes > 1 else ''}")
            x = _draw(model, compute, SHEET, min(passes, model.config.T), seed)
            findings.sheets[passes] = from_unit(x, model.config.floor)
            far = max(far, outside(x, model.config.floor))
        yield progress("interpolation")
        findings.interpolation = interpolation(model, compute, seed)
        yield progress("samples")
        parts = [_draw(model, compute, BATCH, 1, seed ^ 1, first) for first in range(0, QUICK, BATCH)]
        far = max(far, *(outside(part, model.config.floor) for part in parts))
        samples = from_unit(torch.cat(parts), model.config.floor)
        yield progress("nearest training images")
        findings.figures |= _against(samples, training, test, judge, names, findings) | {"outside": far}
        findings.flags = flags(findings.figures)
        if findings.figures["memorised"] is None:
            findings.notes = [f"Memorising {UNJUDGED}."]
    yield Progress("done", total, total)
    yield findings


def check_against(loaded: Checkpoint, compute: Compute, data: str, seed: int = 0) -> Iterator[Progress | Findings]:
    """`examine` a checkpoint against a data set, by its id or folder, and by the judge that is installed.

    Raises DataError where the data are not on this computer.
    """
    config = loaded.model.config
    wanted = {"size": config.image_size, "channels": config.channels, "allow_download": False}
    training = load_images(data, **wanted, limit=10 * REAL)
    test = load_images(data, **wanted, split="test", limit=REAL)
    judge = judges.imagenet_reference(test, compute) if judges.installed() and len(test) > 3 else None
    names = DATASETS[data].classes if data in DATASETS else None
    yield from examine(loaded, compute, training, test, judge, names=names or (), seed=seed)


def _against(
    samples: Tensor, training: ImageSet, test: ImageSet, judge: Reference | None, names: tuple[str, ...], into: Findings
) -> dict[str, Any]:
    """The figures of samples against real images; their nearest images and classes go `into` the findings."""
    real = evenly(test.images, len(samples))
    near = nearest_by_pixels(samples, training.images)
    memorised = too_near(near, nearest_by_pixels(real, training.images))
    into.nearest = {"samples": samples[:ROW], "nearest by pixels": training.images[near.index[:ROW]]}
    figures: dict[str, Any] = {"samples": len(samples), "nearest_by_pixels": near.distance.median().item()}
    labels = None if training.labels is None else training.labels[near.index]
    if judge is not None:
        features = features_of(samples, judge.extractor, BATCH)
        known = evenly(training.images, REAL)
        trained = features_of(known, judge.extractor, BATCH)
        by_features = nearest_by_features(features, trained)
        # Where features were not taken of every training image, those that are near by pixels are looked at as well.
        candidates = features_of(training.images[near.index], judge.extractor, BATCH)
        to_candidate = (features - candidates).norm(dim=1)
        reference = evenly(judge.features, REAL)
        kept = nearest_by_features(reference, trained)
        also = too_near(Nearest(near.index, torch.minimum(to_candidate, by_features.distance)), kept)
        memorised = None if memorised is None or also is None else memorised & also
        into.nearest["nearest by features"] = known[by_features.index[:ROW]]
        labels = None if labels is None else evenly(training.labels, REAL)[by_features.index]
        low, high = frechet_interval(features, reference)
        figures |= {"fid": frechet(features, reference), "fid_interval": [low, high], "kid": kid(reference, features)}
        figures |= {"features": judge.name}
    if labels is not None:
        counts = labels.bincount(minlength=len(names))
        titles = names if len(names) == len(counts) else [str(k) for k in range(len(counts))]
        into.classes = {title: count / len(samples) for title, count in zip(titles, counts.tolist(), strict=True)}
    share = None if memorised is None else memorised.float().mean().item()
    return figures | look(samples, real, into.classes, share)


def _draw(model: PixelAwareModel, compute: Compute, n: int, passes: int, seed: int, first: int = 0) -> Tensor:
    """Images first..first+n-1 of a seed as the sampler leaves them, float32 on the CPU."""
    return deque(draw(model, compute, n=n, passes=passes, seed=seed, first=first), maxlen=1).pop().x.float().cpu()


def _one_pass(model: PixelAwareModel, compute: Compute, start: Start, seed: int) -> Tensor:
    """One run from a start, as uint8 images."""
    noise = ImageNoise(seed, len(start.x_T), device=model.device)
    with torch.inference_mode(), compute.autocast():
        last = deque(SAMPLERS[SAMPLERS.first].run(model, start, noise, passes=1), maxlen=1).pop()
    return from_unit(last.x.float().cpu(), model.config.floor)


def reconstructions(
    model: PixelAwareModel, compute: Compute, images: Tensor, steps: list[int], generates: bool, seed: int
) -> dict[str, Tensor]:
    """Rows of uint8 images: the images, x_delta_hat from x_i (as an image) at each step, and one run from their x_T."""
    x0 = to_unit(images, model.config.floor).to(model.device)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    rows = {"images": images}
    for i in steps:
        x_i = closed_form(model.schedule, x0, i, noise)
        with torch.inference_mode(), compute.autocast():
            x_delta = model.scale_vae(x_i, model.step_tensor(i, len(x0))).float()
        rows[f"x_delta_hat from i = {i}"] = from_unit(model.rate_x0(x_delta).cpu(), model.config.floor)
    if generates:
        with torch.inference_mode(), compute.autocast():
            x_delta = model.scale_vae(x0, model.step_tensor(0, len(x0))).float()
        ends = model.rate_x0(x_delta), model.config.T
        x_T = model.schedule.alpha_bar(*ends).sqrt() * x0 + model.schedule.noise_variance(*ends).sqrt() * noise
        rows["one run from x_T"] = _one_pass(model, compute, Start(x_T, x_delta), seed)
    return rows


def interpolation(model: PixelAwareModel, compute: Compute, seed: int) -> Tensor:
    """One run from each of `ROW` codes on the line between two of the prior's, with the same noise; uint8 images."""
    noise = ImageNoise(seed, 2, device=model.device)
    with torch.inference_mode(), compute.autocast():
        z, eps = beginning(model, noise)
        line = torch.linspace(0, 1, ROW, device=z.device)[:, None]
        start = start_from(model, Beginning(torch.lerp(z[:1], z[1:], line), eps[:1]))
    return _one_pass(model, compute, start, seed)
