"""The one place that decides where networks run and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from pixelviz.config import ConfigError


@dataclass(frozen=True)
class Compute:
    """A device, and the dtype that autocast uses on it (None: plain float32)."""

    device: torch.device
    autocast_dtype: torch.dtype | None

    def autocast(self) -> AbstractContextManager:
        """The context in which networks run."""
        enabled = self.autocast_dtype is not None
        return torch.autocast(self.device.type, self.autocast_dtype or torch.bfloat16, enabled=enabled)

    def describe(self) -> str:
        """For a person: device and precision."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type.upper()
        return f"{name}, {'bfloat16' if self.autocast_dtype == torch.bfloat16 else 'float32'}"


def _cpu_gains_from_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively; emulated, it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "amx_tile", "avx512_bf16", "bf16"))


def choose(device: str = "auto") -> Compute:
    """Resolve auto | cpu | cuda | mps (or cuda:1, ...); raises ConfigError when that device is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(device.split(":")[0], False):
        found = ", ".join(name for name, here in there.items() if here)
        raise ConfigError(f"device {device!r} is not available here; there is: {found}, or auto.")
    kind = torch.device(device)
    if kind.type == "cuda":
        bfloat16 = torch.cuda.is_bf16_supported()
    else:
        bfloat16 = kind.type == "cpu" and _cpu_gains_from_bfloat16()
    return Compute(kind, torch.bfloat16 if bfloat16 else None)
