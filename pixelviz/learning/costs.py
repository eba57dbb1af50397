"""What a model costs: its T heads beside one, training beside a bare forward and backward, one pass, memory.

Whatever is compared is run in turns within one run, after one round to warm up, and given as medians: on a machine
with other work, figures of different minutes do not compare. A generator, to be watched.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import torch

from pixelviz.config import ConfigError, ModelConfig, TrainConfig
from pixelviz.data.sets import ImageSet, Origin, to_unit
from pixelviz.devices import choose
from pixelviz.learning.training import train
from pixelviz.measure import environment
from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.schedules import image_scale
from pixelviz.progress import Progress
from pixelviz.samplers import SAMPLERS, draw

PARTS = ("scale_vae", "parallel_unet")  # what one pass runs, and what the paper trains
PEER = ("ddim", 10)  # what one pass is timed beside, on the linear-beta twin
TRAINING_STEPS = 1_000_000  # never reached: it is stopped before
Run = Callable[[], object]
Times = dict[str, list[tuple[float, float]]]


def in_turns(
    what: str, runs: Mapping[str, Run], repeats: int, device: torch.device, *, done: int = 0, total: int
) -> Generator[Progress, None, Times]:
    """Run all of them `repeats` times in turns, every other round backwards, after a round that does not count.

    Yields after every round, counted from `done`. Returns, per name, the seconds of each run: by the clock, and of
    this process's processor time.
    """
    times: Times = {name: [] for name in runs}
    for k in range(repeats + 1):
        for name in list(runs)[:: 1 if k % 2 else -1]:
            _wait(device)
            began = time.perf_counter(), time.process_time()
            runs[name]()
            _wait(device)
            if k:
                times[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
        yield Progress(what, done + k + 1, total)
    return times


def _wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _median(times: list[tuple[float, float]], clock: int = 0) -> float:
    return statistics.median(pair[clock] for pair in times)


def _ratio(times: Times, above: str, below: str, device: torch.device) -> tuple[float, float | None]:
    """Of two medians: by the clock, and by processor time, which other work leaves alone (None on a GPU)."""
    cpu = _median(times[above], 1) / _median(times[below], 1) if device.type == "cpu" else None
    return _median(times[above]) / _median(times[below]), cpu


def measure(
    config: ModelConfig, *, device: str = "auto", batch: int = 4, repeats: int = 5, seed: int = 0
) -> Iterator[Progress]:
    """The figures of one model with fresh weights, which costs what a trained one does.

    Args: batch, images per run, in training too; repeats, runs per figure. Raises ConfigError.
    The last Progress holds `figures`, plain values:
      head_cost_ratio    a run of R_phi with all T heads over the same with head T alone; 1.0 is the least there is
      images_per_second  of `training.train`; bare_images_per_second of a forward and backward of the same
                         networks on a batch that lies ready: no loss, optimiser, averaging, data or random numbers
      training_ratio     the first over the second, at most about 1
      seconds_per_image  of one pass by the sampler "parallel": G_theta, R_phi once, and all T steps
      one_pass_ratio     of that to DDIM with 10 steps on the linear-beta twin, R_phi's backbone with one head
      few_heads_ratio    the same of the sampler "few-heads"
      peak_memory        MiB, of the GPU or else of the process: of one pass, of training
      ..._cpu_time       the same ratio in this process's processor time, on a CPU
    """
    if not 1 <= batch <= 4096 or not 1 <= repeats <= 1000:
        raise ConfigError(f"batch must be 1 to 4096 and repeats 1 to 1000; they are {batch} and {repeats}.")
    compute = choose(device)
    place = compute.device
    rounds = repeats + 1
    total = 3 * rounds

    torch.manual_seed(seed)
    model = compute.place(PixelAwareModel(config, PARTS)).eval()
    unet, vae = model.parallel_unet, model.scale_vae
    x = compute.images(torch.randn(batch, *config.shape))
    pixels = torch.randint(0, 256, (batch, *config.shape), dtype=torch.uint8)
    x_delta = compute.images(image_scale(to_unit(pixels, config.floor), config.gamma))
    last = torch.full((batch,), config.T, device=place)
    drift = config.head_target == "v"  # as one pass runs it

    @torch.inference_mode()
    def run_heads(heads: torch.Tensor | None) -> None:
        with compute.autocast():
            unet(x, x_delta, last, heads, drift=drift)

    twin = compute.place(PixelAwareModel(config, ("linear_twin",))).eval()

    def run_pass(sampler: str = SAMPLERS.first) -> None:
        for _ in draw(model, compute, n=batch, seed=seed, sampler=sampler):
            pass

    def run_peer() -> None:
        for _ in draw(twin, compute, n=batch, seed=seed, sampler=PEER[0], passes=PEER[1]):
            pass

    with environment.peak_memory(place) as pass_memory:
        runs = {"one": lambda: run_heads(last[:1]), "all": lambda: run_heads(None)}
        heads = yield from in_turns("T heads beside one", runs, repeats, place, total=total)
        run_pass()
    runs = {"pass": run_pass, "few": partial(run_pass, "few-heads"), "peer": run_peer}
    passes = yield from in_turns("one pass", runs, repeats, place, done=rounds, total=total)

    settings = TrainConfig(steps=TRAINING_STEPS, batch=batch, parts=PARTS, seed=seed)
    chosen = torch.randint(1, config.T + 1, (batch, settings.heads_per_step), device=place)
    model.train()

    def run_bare() -> None:
        model.zero_grad()
        with compute.autocast():
            estimate = vae.decode(vae.encode(x, last).sample(), last)
            z = unet(x, x_delta, last, chosen, drift=drift)
        (estimate.float().mean() + z.float().mean()).backward()

    with (
        environment.peak_memory(place) as training_memory,
        closing(train(ImageSet(pixels, Origin(title="noise")), config, settings, device=device)) as loop,
    ):
        next(loop)  # it also draws a preview
        runs = {"loop": lambda: next(loop), "bare": run_bare}
        steps = yield from in_turns("training", runs, repeats, place, done=2 * rounds, total=total)

    head_cost, head_cost_cpu = _ratio(heads, "all", "one", place)
    one_pass, one_pass_cpu = _ratio(passes, "pass", "peer", place)
    few_heads, few_heads_cpu = _ratio(passes, "few", "peer", place)
    training, training_cpu = _ratio(steps, "bare", "loop", place)
    figures: dict[str, Any] = {
        "config": config.to_dict(),
        "parameters": model.parameter_counts(),
        "environment": environment.describe(compute),
        "batch": batch,
        "repeats": repeats,
        "head_attention": config.head_attention,
        "head_cost_ratio": head_cost,
        "head_cost_ratio_cpu_time": head_cost_cpu,
        "seconds_one_head": _median(heads["one"]),
        "seconds_all_heads": _median(heads["all"]),
        "images_per_second": batch / _median(steps["loop"]),
        "bare_images_per_second": batch / _median(steps["bare"]),
        "training_ratio": training,
        "training_ratio_cpu_time": training_cpu,
        "seconds_per_image": _median(passes["pass"]) / batch,
        "one_pass_ratio": one_pass,
        "one_pass_ratio_cpu_time": one_pass_cpu,
        "few_heads_ratio": few_heads,
        "few_heads_ratio_cpu_time": few_heads_cpu,
        "peak_memory": {"one_pass": pass_memory.mebibytes, "training": training_memory.mebibytes},
    }
    yield Progress("done", total, total, figures)
