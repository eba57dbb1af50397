"""How far long work is: what the generators yield that a progress bar, a test and the screen all watch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """What is going on, done of total; `figures`, what has been measured, at the end at the latest."""

    what: str
    done: int
    total: int
    figures: dict[str, Any] | None = None
