"""A checkpoint against its peers: quality, time and cost of every method, measured the same way.

The results are one JSON file. Each row is written as soon as a seed of it is measured, and what is there is not
measured again, so a benchmark of many hours can be stopped at any time and goes on where it was. A row names the
weights of the parts it ran: when one part is trained further, the rows of the others stay.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pixelviz.data.sets import DATASETS
from pixelviz.declare import checked, declared, read_object
from pixelviz.devices import Compute
from pixelviz.measure import environment
from pixelviz.measure.judges import Reference, quality
from pixelviz.measure.likelihood import bits_per_dimension
from pixelviz.measure.metrics import features_of, load_features, load_statistics
from pixelviz.measure.results import FORMAT, Results
from pixelviz.models.classifier import FeatureExtractor, load_classifier
from pixelviz.progress import Progress
from pixelviz.samplers import SAMPLERS, compared, draw
from pixelviz.samplers.batches import BATCH, Batch, heads_batch, sample_images
from pixelviz.store.checkpoints import Checkpoint, digest, part_digest
from pixelviz.store.files import write_json, write_tensors
from pixelviz.store.peers import PART, PeerModel

QUICK_SAMPLES = 300
WARM_UP_STATES = 3
BITS, BITS_IMAGES = "bits_per_dimension", 64


class BenchmarkError(ValueError):
    """A benchmark that cannot be run, or a file of one that does not fit; the message says what to do."""


@dataclass(frozen=True)
class Case:
    """One row to be: a method with a number of passes, on the checkpoint's model or on a peer's."""

    method: str
    passes: int
    model: str

    @property
    def label(self) -> str:
        """As `parse_methods` reads it: method and passes."""
        return f"{self.method}:{self.passes}"

    @property
    def key(self) -> str:
        """Different for any two rows."""
        return f"{self.label}@{self.model}"


def bundled_reference(checkpoint: Checkpoint, compute: Compute) -> Reference:
    """The reference of the data that the checkpoint was trained on. Raises BenchmarkError where there is none."""
    config, data = checkpoint.model.config, checkpoint.record.data
    row = DATASETS.get(data.id)
    if row is None or row.classifier is None:
        raise BenchmarkError(f"there is no classifier for {data}: FID and KID would mean nothing.")
    classifier = load_classifier(row.classifier)
    shape = classifier.design.shape
    if config.shape != shape:
        raise BenchmarkError(f"the classifier of {data} takes images of {shape}; the checkpoint's are {config.shape}.")
    extractor = FeatureExtractor(classifier.to(compute.device))
    statistics_found = load_statistics(row.reference)
    name = f"bundled classifier of {row.called}, {statistics_found.number:,} test images"
    return Reference(statistics_found, load_features(row.reference), _OnDevice(extractor, compute.device), name)


class _OnDevice(nn.Module):
    """An extractor that takes its images wherever they are."""

    def __init__(self, extractor: FeatureExtractor, device: torch.device) -> None:
        super().__init__()
        self.extractor, self.device, self.num_features = extractor, device, extractor.num_features

    def forward(self, images: Tensor) -> Tensor:
        return self.extractor(images.to(self.device))


# --- What to measure


def quick_methods() -> list[str]:
    """What a quick benchmark measures, as `parse_methods` reads it."""
    return [f"{name}:{passes}" for name, row in SAMPLERS.items() for passes in row.quick]


def parse_methods(texts: Sequence[str]) -> list[tuple[str, int | None]]:
    """`ddim` (with all the numbers of passes that comparisons show) or `ddim:10`; raises BenchmarkError."""
    found = []
    for text in texts:
        method, _, passes = text.strip().partition(":")
        row = SAMPLERS.get(method)
        known = row is not None and row.stable and (passes.isdecimal() if passes else bool(row.compared))
        if not known:
            raise BenchmarkError(
                f"{text!r} is no method; write {', '.join(compared())}, or with passes, such as {quick_methods()[0]}."
            )
        found.append((method, int(passes) if passes else None))
    return found


def cases(
    checkpoint: Checkpoint, name: str, methods: Sequence[str] | None = None, peers: Sequence[PeerModel] = ()
) -> list[Case]:
    """The rows that these methods (None: all compared) give on the parts that are there.

    Raises BenchmarkError for an empty list.
    """
    model, found = checkpoint.model, []
    for method, passes in parse_methods(compared() if methods is None else methods):
        row = SAMPLERS[method]
        models = [name] * row.fits(model.config, model.parts)
        models += [one.name for one in peers if row.fits(one.config, one.parts) and method not in one.refused]
        numbers = [k for k in row.compared if k <= row.most(model.config)] if passes is None else [passes]
        found += [Case(method, k, one) for one in models for k in numbers]
    if not found:
        raise BenchmarkError(f"{name} has the parts {', '.join(model.parts)}: none of these methods can run on it.")
    return list(dict.fromkeys(found))


# --- The file


def read_results(path: Path) -> dict[str, Any]:
    """A file that `bench` wrote; raises BenchmarkError."""
    try:
        return checked(Results, read_object(path.read_bytes()), BenchmarkError)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} cannot be read as results of a benchmark ({error}).") from None


def _resume(
    path: Path, settings: dict[str, Any], weights: dict[str, dict[str, str]]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows that still hold, where the last was measured, and the bits per dimension if they hold.

    Raises BenchmarkError where all are of other weights or other settings.
    """
    if not path.exists():
        return [], {}
    results = read_results(path)
    holds = ("environment", BITS) if results.get("weights") == settings["weights"] else ("environment",)
    about = {key: results[key] for key in holds if key in results}
    other = [key for key, value in settings.items() if results.get(key) != value]
    rows = results["rows"]
    if "weights" in other:
        # A peer, or a part, that is not here this time has not changed, as far as anyone knows.
        rows = [row for row in rows if _same(row.get("weights"), weights.get(row["model"], {}))]
        if any(row["model"] == settings["checkpoint"] for row in rows):
            other.remove("weights")
    if other:
        was, now = ({key: values.get(key) for key in other} for values in (results, settings))
        raise BenchmarkError(f"{path} was measured with {was}, not {now}; name another file, or delete it.")
    return rows, about


def _same(measured: dict[str, str] | None, here: dict[str, str]) -> bool:
    """Whether the parts that a row ran are, as far as they are here, those that it ran; None: nobody knows."""
    if measured is None:
        return not here
    return all(here.get(part, known) == known for part, known in measured.items())


def _weights_of(method: str, weights: dict[str, str]) -> dict[str, str]:
    """Of a model's parts and their digests, those that a method runs."""
    return {part: weights.get(part, "") for part in SAMPLERS[method].needs}


# --- Measuring


@contextmanager
def counted_runs(network: nn.Module) -> Iterator[list[Any]]:
    """A list that grows by one with every run of the network, whatever a sampler says of itself."""
    runs: list[Any] = []
    hook = network.register_forward_hook(lambda *_: runs.append(None))
    try:
        yield runs
    finally:
        hook.remove()


class _Unfinished:
    """Features of a seed that is not finished, beside the results, so that an interruption loses a minute."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path.with_name(path.name + ".unfinished"), key

    def load(self) -> tuple[list[Tensor], dict[str, float]]:
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") == self.key:
                    return [file.get_tensor("features")], json.loads(metadata["figures"])
        except (OSError, SafetensorError):
            pass
        return [], {"seconds": 0.0, "runs": 0, "peak": None}

    def save(self, features: list[Tensor], figures: dict[str, float]) -> None:
        metadata = {"key": self.key, "figures": json.dumps(figures)}
        write_tensors(self.path, {"features": torch.cat(features)}, metadata)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _measure_seed(
    model: Any,
    compute: Compute,
    case: Case,
    seed: int,
    judges: Sequence[Reference],
    unfinished: _Unfinished,
    *,
    samples: int,
    batch: int,
) -> Iterator[int | dict[str, Any]]:
    """Draw the samples of one seed: yields the number of images done, and last the figures, one or two judges'."""
    row = SAMPLERS[case.method]
    settings = {"passes": case.passes, "sampler": case.method, "seed": seed}
    features, figures = unfinished.load()
    done = sum(map(len, features))
    network = getattr(model, row.network)
    # The first runs of a network are slow, and no part of its time per image.
    for _ in itertools.islice(draw(model, compute, n=min(batch, samples), **settings), WARM_UP_STATES):
        pass
    batches = sample_images(model, compute, samples, done=done, batch=batch, **settings)
    for images in _measured(batches, compute, network, figures):
        features.append(torch.cat([features_of(images, one.extractor) for one in judges], dim=1))
        done += len(images)
        unfinished.save(features, figures)
        yield done
    widths = [one.features.shape[1] for one in judges]
    first, *other = map(quality, judges, torch.cat(features).split(widths, dim=1))
    yield {
        "seed": seed,
        **first,
        **({"judge": other[0]} if other else {}),
        "seconds_per_image": figures["seconds"] / samples,
        "network_evaluations": int(figures["runs"]),
        "peak_memory": figures["peak"],
    }


def _measured(
    batches: Iterator[Batch], compute: Compute, network: nn.Module, figures: dict[str, float]
) -> Iterator[Tensor]:
    """Finished images, uint8; `figures` gets the seconds, the runs per image and the most memory so far."""
    while True:
        with counted_runs(network) as runs, environment.peak_memory(compute.device) as memory:
            batch = next(batches, None)
        if batch is None:
            return
        figures["seconds"] += batch.seconds
        figures["runs"] = len(runs)
        figures["peak"] = max((peak for peak in (figures["peak"], memory.mebibytes) if peak), default=None)
        yield batch.images


def _summary(
    case: Case,
    model: Any,
    seen: dict[str, int],
    weights: dict[str, str],
    seeds: list[dict[str, Any]],
    here: dict[str, Any],
    compute: Compute,
) -> dict[str, Any]:
    """A row: means over the seeds, and the standard deviations of what varies."""
    row = SAMPLERS[case.method]
    counts, images = model.parameter_counts(), [seen.get(part) for part in row.needs]

    def mean(key: str) -> float | None:
        values = [seed[key] for seed in seeds]
        return None if None in values else statistics.fmean(values)

    def spread(key: str) -> float | None:
        return statistics.stdev(seed[key] for seed in seeds) if len(seeds) > 1 else None

    return {
        "method": case.method,
        "title": row.title,
        "citation": row.citation,
        "model": case.model,
        "passes": case.passes,
        "network_evaluations": seeds[0]["network_evaluations"],
        "fid": mean("fid"),
        "fid_spread": spread("fid"),
        "kid": mean("kid"),
        "kid_spread": spread("kid"),
        "precision": mean("precision"),
        "recall": mean("recall"),
        **({"judge": _judged(seeds)} if "judge" in seeds[0] else {}),
        "seconds_per_image": mean("seconds_per_image"),
        "seconds_spread": spread("seconds_per_image"),
        "parameters": sum(counts[part] for part in row.needs),
        "images_seen": None if None in images else sum(images),
        "peak_memory": mean("peak_memory"),
        "parts": {
            part: {"parameters": counts[part], "images_seen": number}
            for part, number in zip(row.needs, images, strict=True)
        },
        "weights": _weights_of(case.method, weights),
        "commit": here["commit"],
        "date": here["date"],
        "machine": here["machine"],
        "threads": here["threads"],
        "clock": compute.clock.__name__,
        "seeds": seeds,
    }


def _judged(seeds: list[dict[str, Any]]) -> dict[str, float | None]:
    """What the judge of another kind says of a row: means over the seeds, and how its FID varies."""
    every = [seed["judge"] for seed in seeds]
    spread = statistics.stdev(one["fid"] for one in every) if len(every) > 1 else None
    return {key: statistics.fmean(one[key] for one in every) for key in every[0]} | {"fid_spread": spread}


@declared(BenchmarkError)
class Comparison:
    """What a benchmark compares; raises BenchmarkError."""

    samples: int = Field(10_000, ge=BATCH // 10, description="Images per row and seed.")
    seeds: int = Field(3, ge=1, description="Seeds per row, from 0 on; their spread is given.")
    methods: Annotated[tuple[str, ...], Field(strict=False)] | None = Field(
        None, description=f"Of {', '.join(compared())}; with passes as in {quick_methods()[0]}."
    )


def bench(
    checkpoint: Checkpoint,
    compute: Compute,
    path: Path,
    reference: Reference,
    *,
    peers: Sequence[PeerModel] = (),
    judge: Reference | None = None,
    held_out: Tensor | None = None,
    **settings: Any,
) -> Iterator[Progress]:
    """Measure every method on the checkpoint and its peers, into the JSON file `path`; goes on where that ends.

    Args: peers, of the same image shape; judge, of another kind than the reference (`judges`), whose figures every row
    then has too; held_out, uint8 (N, C, H, W), N >= 2, images not learnt, for the bits per dimension of the model and
    of its twin, a judge that needs no features; settings, see `Comparison`. Rows of parts that were trained since are
    measured anew or, if they are not asked for, dropped.
    Yields progress about once a batch, its figures as they are in the file. Raises BenchmarkError.
    """
    asked = Comparison(**settings)
    samples, seeds = asked.samples, asked.seeds
    name, config = checkpoint.folder.resolve().name, checkpoint.model.config
    models = {name: (checkpoint.model, checkpoint.record.images_seen)}
    for peer in peers:
        if peer.config.shape != config.shape:
            raise BenchmarkError(
                f"{peer.name} makes images of {peer.config.shape}, {name} of {config.shape}; they cannot be compared."
            )
        if peer.name in models:
            raise BenchmarkError(f"{peer.name} is the name of two models here; rename its folder.")
        models[peer.name] = (peer, {PART: None})
    chosen = cases(checkpoint, name, asked.methods, peers)
    every_judge = [reference, judge] if judge else [reference]
    settings = {
        "format": FORMAT,
        "checkpoint": name,
        "weights": digest(checkpoint.folder),
        "data": str(checkpoint.record.data),
        "features": reference.name,
        "judge": judge.name if judge else None,
        "samples": samples,
        "seeds": seeds,
        "batch": heads_batch(config, BATCH),  # for all alike: that of the model whose heads take most memory
        "device": compute.describe(),
    }
    here = environment.describe(compute)
    weights = {
        one: {part: part_digest(getattr(model, part)) for part in model.parts} for one, (model, _) in models.items()
    }
    kept, about = _resume(path, settings, weights)
    about.setdefault("environment", here)
    rows = {(row["model"], row["method"], row["passes"]): row for row in kept}

    order = {method: place for place, method in enumerate(SAMPLERS)}

    def results() -> dict[str, Any]:
        in_order = sorted(rows, key=lambda key: (key[0] != name, key[0], order.get(key[1], len(order)), key[2]))
        return {**settings, **about, "rows": [rows[key] for key in in_order]}

    total, done = len(chosen) * seeds * samples, 0
    for case in chosen:
        key = (case.model, case.method, case.passes)
        model, seen = models[case.model]
        finished = list(rows[key]["seeds"]) if key in rows else []
        done += len(finished) * samples
        for seed in range(len(finished), seeds):
            what = f"{case.label} of {case.model}, seed {seed}"
            yield Progress(what, done, total, results())
            unfinished = _Unfinished(path, f"{settings} {case} {seed}")
            steps = _measure_seed(
                model, compute, case, seed, every_judge, unfinished, samples=samples, batch=settings["batch"]
            )
            for state in steps:
                if isinstance(state, dict):
                    finished.append(state)
                else:
                    yield Progress(what, done + state, total, results())
            about["environment"] = here
            rows[key] = _summary(case, model, seen, weights[case.model], finished, here, compute)
            write_json(path, results(), indent=1)
            unfinished.remove()
            done += samples
    if held_out is not None and BITS not in about:
        yield Progress("bits per dimension", done, total, results())
        about[BITS] = bits_per_dimension(checkpoint.model, compute, held_out)
        write_json(path, results(), indent=1)
    elif path.exists() and read_results(path)["weights"] != settings["weights"]:  # a part has come or gone, no row
        write_json(path, results(), indent=1)
    yield Progress("done", total, total, results())
