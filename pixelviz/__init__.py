"""PixelViz: see, understand and check diffusion whose noise schedule depends on each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixelviz.store.hub import PixelAware

__all__ = ["PixelAware"]


def __getattr__(name: str) -> Any:
    """`pixelviz.PixelAware`, imported when it is asked for: torch takes seconds."""
    if name == "PixelAware":
        from pixelviz.store.hub import PixelAware

        return PixelAware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
