"""Numbers as a person reads them."""

from __future__ import annotations

import math

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def superscript(exponent: int) -> str:
    """A whole number, raised."""
    return str(exponent).translate(_SUPERSCRIPT)


def in_words(value: float, digits: int = 4, most: float = 1e6) -> str:
    """A number to read: `digits` of them, and a power of ten from `most` on and below 1e-3."""
    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value and not 1e-3 <= abs(value) < most:
        mantissa, exponent = f"{value:.{digits - 2}e}".split("e")
        text = f"{mantissa} × 10{superscript(int(exponent))}"
    else:
        text = f"{value:,.0f}" if value == int(value) or abs(value) >= 10**digits else f"{value:.{digits}g}"
    return text.replace("-", "−")
