"""The one place that decides where networks run, in which precision and layout, and what running out of memory is."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from pixelviz.config import PRECISIONS, ConfigError

if TYPE_CHECKING:  # takes seconds to import, which only training needs
    from accelerate import Accelerator, PartialState

HEAPS = 2
M_ARENA_MAX = -8  # of glibc's malloc.h

Module = TypeVar("Module", bound=nn.Module)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Compute:
    """A device, the dtype that autocast uses on it (None: plain float32), and whether training is compiled."""

    device: torch.device
    autocast_dtype: torch.dtype | None
    compiled: bool = False

    def autocast(self) -> AbstractContextManager:
        """The context in which networks run."""
        enabled = self.autocast_dtype is not None
        return torch.autocast(self.device.type, self.autocast_dtype or torch.bfloat16, enabled=enabled)

    def place(self, value: Module) -> Module:
        """A network on the device; channels_last is what convolutions are fastest in on processors and on GPUs."""
        return value.to(self.device).to(memory_format=torch.channels_last)

    def images(self, values: Tensor) -> Tensor:
        """Images (B, C, H, W) on the device, in the networks' layout."""
        return values.to(self.device).contiguous(memory_format=torch.channels_last)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps float16 gradients from underflow; does nothing in other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.autocast_dtype == torch.float16)

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds of work: its own where one thread does it all, which other work beside does not lengthen."""
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        return time.process_time if alone else time.perf_counter

    def describe(self) -> str:
        """For a person: device and precision."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type.upper()
        precision = str(self.autocast_dtype or torch.float32).removeprefix("torch.")
        return f"{name}, {precision}"


def _cpu_gains_from_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively; emulated, it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "amx_tile", "avx512_bf16", "bf16"))


def _best_dtype(device: torch.device) -> torch.dtype | None:
    """What the device multiplies fastest without a loss that shows."""
    if device.type == "cuda":
        # float16 for the cards before Ampere, which only emulate bfloat16.
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_gains_from_bfloat16() else None


def choose(device: str = "auto", precision: str = "auto", *, compiled: bool = False) -> Compute:
    """Decide where and how networks run.

    Args: device, auto | cpu | cuda | mps, or cuda:1 and so on; precision, auto | float32 | bfloat16 | float16,
    that of the products, while weights stay float32; compiled, let torch.compile build the training step, which
    pays on CUDA only. On CUDA, float32 products use TF32 unless float32 is asked for by name.
    Raises ConfigError when that device is not there or cannot do it.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if there[name])
    kind, _, index = device.partition(":")
    known = not index or (kind == "cuda" and index.isdecimal() and int(index) < torch.cuda.device_count())
    if not there.get(kind, False) or not known:
        found = ", ".join(name for name, here in there.items() if here)
        if there["cuda"]:
            found += f" (cuda:0 to cuda:{torch.cuda.device_count() - 1})"
        raise ConfigError(f"device {device!r} is not available here; there is: {found}, or auto.")
    if precision not in ("auto", *PRECISIONS):
        raise ConfigError(f"precision must be auto, {', '.join(PRECISIONS)}; it is {precision!r}.")
    if compiled and kind != "cuda":
        raise ConfigError(f"compiling pays on a CUDA device only; this is {kind}. Leave --compile out.")
    chosen = torch.device(device)
    if kind == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "float32"
    dtype = _best_dtype(chosen) if precision == "auto" else getattr(torch, precision)
    return Compute(chosen, None if dtype == torch.float32 else dtype, compiled)


def half_the_cores() -> None:
    """Let this process compute on half of the cores, or fewer where it was told so.

    For one of two that share a machine, the app and a training: threads that wait for each other at every product lose
    a hundredfold where another process has one of their cores.
    """
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) // 2)))


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def share_heaps() -> None:
    """Let all threads of this process have `HEAPS` heaps together, unless MALLOC_ARENA_MAX says otherwise.

    glibc gives nearly every thread one of its own, which keeps the most that any request ever took there.
    """
    if (libc := _glibc()) and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(M_ARENA_MAX, HEAPS)


def trim() -> None:
    """Give the system back what this process has freed: by itself glibc keeps all but the end of its first heap."""
    if libc := _glibc():
        libc.malloc_trim(0)


def processes(device: str = "auto") -> PartialState:
    """The processes that `accelerate launch` or torchrun started together with this one, or this one alone."""
    from accelerate import PartialState

    launched = "LOCAL_RANK" in os.environ
    return PartialState(cpu=launched and (device == "cpu" or not torch.cuda.is_available()))


def together(device: str, precision: str, compiled: bool) -> tuple[Accelerator, Compute]:
    """Who trains together, and where this process runs its networks; arguments as for `choose`. Raises ConfigError."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    state = processes(device)
    given = torch.device("cpu") if state.device is None else state.device
    # Precision and placing are decided here; no buffer changes in training, so none need to be sent round.
    accelerator = Accelerator(
        cpu=state.num_processes > 1 and given.type == "cpu",
        mixed_precision="no",
        device_placement=False,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if state.num_processes > 1:
        if device not in ("auto", given.type):
            raise ConfigError(f"accelerate started this process for {given.type}, not {device}; leave --device out.")
        device = str(given) if given.type == "cuda" else given.type
    return accelerator, choose(device, precision, compiled=compiled)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory did not suffice, on a processor or a GPU.

    oneDNN does not say so: where its scratch memory cannot be had, it "could not create a primitive".
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, RuntimeError) and str(error).startswith(("could not create a ", "could not execute a ")):
        return True
    if not isinstance(error, Exception):
        return False
    from accelerate.utils.memory import should_reduce_batch_size

    return should_reduce_batch_size(error)


def release() -> None:
    """Give back what a computation that ran out of memory still held."""
    gc.collect()
    on_cuda = torch.cuda.is_available()
    for device in ("cpu", "cuda")[: 1 + on_cuda]:
        # Where a backward failed, PyTorch keeps its graph, with all that it saved, until the next one.
        torch.zeros((), requires_grad=True, device=device).backward()
    if on_cuda:
        torch.cuda.empty_cache()
    trim()


def halving(run: Callable[[int], Result], batch: int) -> tuple[Result, int]:
    """run(batch), or of batch/2, batch/4, ... until memory suffices; returns its result, and the batch that it took.

    The error that says that not even a batch of 1 fits is raised.
    """
    while True:
        try:
            return run(batch), batch
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or batch <= 1:
                raise
        # Only here: the error's traceback keeps alive what filled the memory.
        release()
        batch //= 2


def in_batches(
    run: Callable[[int, int], Result],
    n: int,
    batch: int,
    turn: Callable[[], AbstractContextManager] = nullcontext,
    first: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[tuple[int, Result, float]]:
    """run(first, size) over first..n-1, `batch` of them at once, fewer where memory does not suffice.

    Yields (first, what it gave, seconds that it took by `clock`). `turn` is held while it runs, and not between.
    """
    while first < n:
        with turn():
            began = clock()
            found, batch = halving(partial(run, first), min(batch, n - first))
            seconds = clock() - began
        yield first, found, seconds
        first += batch


def largest_batch(attempt: Callable[[int], object], failed: int) -> int:
    """The largest of failed/2, failed/4, ... for which `attempt` does not run out of memory; 0 where none is."""
    try:
        return halving(attempt, failed // 2)[1] if failed > 1 else 0
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return 0
    finally:
        release()
