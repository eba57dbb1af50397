"""What a measurement was made on: machine, commit, versions; and how much memory it took."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pixelviz.devices import Compute

PACKAGES = ("torch", "diffusers", "torchmetrics", "numpy")
MEBIBYTE = 2**20


def processor() -> str:
    """The processor's name, as its maker gives it where the system says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return next((name for name in names if name != "unknown"), platform.processor() or platform.machine())


def commit() -> str | None:
    """The repository's commit, with "+" where files of the package differ from it; None outside a repository."""

    def git(*arguments: str) -> str:
        here = Path(__file__).resolve().parents[1]
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def describe(compute: Compute) -> dict[str, Any]:
    """Machine, device and precision, threads, commit, versions and the time, as plain values."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "machine": f"{processor()}, {cores} cores, {platform.system()}",
        "device": compute.describe(),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


class PeakMemory:
    """`mebibytes` once `peak_memory` has ended: None where the system does not tell."""

    mebibytes: float | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """The most memory in use meanwhile: of the GPU's allocator, or of the whole process on a CPU (Linux only)."""
    found, status = PeakMemory(), Path("/proc/self/status")
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    else:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        except OSError:
            status = None
    yield found
    if on_gpu:
        found.mebibytes = torch.cuda.max_memory_allocated(device) / MEBIBYTE
    elif status is not None:
        high = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        found.mebibytes = int(high.split()[1]) / 1024
