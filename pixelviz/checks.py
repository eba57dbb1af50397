"""What people send, checked at the door."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from pixelviz.declare import quoted

MAX_PIXELS = 6  # curves that can be told apart in one chart


class ServiceError(ValueError):
    """Something a person can mend; the message says what and how."""


def _subject(name: str) -> str:
    # "The setting n must be ...": a bare name at the start of a sentence would be capitalised.
    return name if " " in name else f"the setting {name}"


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number with hundreds of digits
        return False


def number(name: str, value: Any) -> float:
    """A finite number; raises ServiceError. Numbers in quotes, booleans and None are refused."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise ServiceError(f"{_subject(name)} must be a number; it is {quoted(value)}.")
    return float(value)


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number from low to high (3.0 counts as 3); raises ServiceError."""
    is_whole = not isinstance(value, bool) and isinstance(value, int | float) and _finite(value)
    if not is_whole or value != int(value) or not low <= value <= high:
        raise ServiceError(f"{_subject(name)} must be a whole number from {low:,} to {high:,}; it is {quoted(value)}.")
    return int(value)


def choice(name: str, value: Any, options: Iterable[str]) -> str:
    """One of the options; raises ServiceError with their names."""
    options = list(options)
    if not isinstance(value, str) or value not in options:
        raise ServiceError(f"{_subject(name)} must be one of {', '.join(options)}; it is {quoted(value)}.")
    return value


def _as_whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_as_whole)]  # in a declaration; 3.0 counts as 3


def one_of(options: Callable[[], Iterable[str]]) -> BeforeValidator:
    """In a declaration: one of the options that there are when it is checked."""
    return BeforeValidator(lambda value, info: choice(str(info.field_name), value, options()))


def parse_pixels(pixels: Any) -> list[Any]:
    """JSON text or a sequence as a list of pixels, not yet looked at (see `check_pixels`); raises ServiceError."""
    if isinstance(pixels, str):
        try:
            pixels = json.loads(pixels)
        except (ValueError, RecursionError):
            raise ServiceError(
                f"pixels must be JSON like [[12, 20, 0]], one [row, column, channel] each; it is {quoted(pixels)}."
            ) from None
    if not isinstance(pixels, list | tuple):
        raise ServiceError(f"pixels must be a list of [row, column, channel]; it is {quoted(pixels)}.")
    if len(pixels) > MAX_PIXELS:
        raise ServiceError(f"at most {MAX_PIXELS} pixels can be followed at once; there are {len(pixels)}.")
    return list(pixels)


def check_pixels(pixels: Any, shape: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Pixels as (row, column, channel) inside an image of shape (C, H, W); raises ServiceError."""
    channels, rows, columns = shape
    checked = []
    for pixel in parse_pixels(pixels):
        if not isinstance(pixel, list | tuple) or len(pixel) != 3:
            raise ServiceError(f"a pixel is [row, column, channel], three whole numbers; this one is {quoted(pixel)}.")
        where = f"of pixel {quoted(list(pixel))}, in an image of {rows} rows and {columns} columns,"
        checked.append(
            (
                whole(f"the row {where}", pixel[0], 0, rows - 1),
                whole(f"the column {where}", pixel[1], 0, columns - 1),
                whole(f"the channel {where}", pixel[2], 0, channels - 1),
            )
        )
    return tuple(checked)
