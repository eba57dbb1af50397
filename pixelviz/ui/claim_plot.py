"""Small plots as inline SVG: numbers in, HTML out. Colours come from the stylesheet and follow the theme."""

from __future__ import annotations

import math
from html import escape

from pixelviz.claims import Curve, Plot
from pixelviz.data.pictures import PIXEL_COLOURS
from pixelviz.numerals import superscript

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
MOST_DECADES = 12
DASHES = ("", "7 4", "2 3", "9 3 2 3")  # so that colour is never the only sign


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from low to high, about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def decade(exponent: int) -> str:
    """10 to a whole power, as text."""
    return {0: "1", 1: "10"}.get(exponent, "10" + superscript(exponent))


class _Axis:
    """From values to pixels, linear or logarithmic."""

    def __init__(self, values: list[float], start: float, end: float, log: bool = False) -> None:
        self.log, self.start, self.end = log, start, end
        low, high = min(values), max(values)
        if log:
            high = math.ceil(math.log10(high))
            low = max(math.floor(math.log10(low)), high - MOST_DECADES)
        if low == high:
            low, high = low - 0.5, high + 0.5
        self.low, self.high = float(low), float(high)

    def __call__(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, -0.02), 1.02) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        if not self.log:
            return [(self(v), f"{v:.3g}") for v in nice_ticks(self.low, self.high)]
        every = max(1, math.ceil((self.high - self.low) / 5))
        exponents = range(int(self.high), int(self.low) - 1, -every)
        return [(self(10.0**e), decade(e)) for e in exponents]


def _points(curve: Curve, log: bool) -> list[tuple[float, float]]:
    pairs = zip(map(float, curve.x), map(float, curve.y), strict=True)
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log)]


def svg(plot: Plot) -> str:
    """A figure with its curves, axes and legend; empty where there is nothing to draw."""
    curves = [(curve, _points(curve, plot.log)) for curve in plot.curves]
    points = [point for _, found in curves for point in found]
    if not points:
        return ""
    x = _Axis([p[0] for p in points], LEFT, WIDTH - RIGHT)
    y = _Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, plot.log)
    parts = []
    for at, text in y.ticks():
        parts.append(f'<line class="pv-plot-grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{text}</text>')
    for at, text in x.ticks():
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{text}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="pv-plot-name" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{plot.x_label}</text>')
    turn = f"translate(10 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"
    parts.append(f'<text class="pv-plot-name" transform="{turn}" text-anchor="middle">{plot.y_label}</text>')
    legend = []
    for k, (curve, found) in enumerate(curves):
        style = f'stroke="{PIXEL_COLOURS[k % len(PIXEL_COLOURS)]}" stroke-dasharray="{DASHES[k % len(DASHES)]}"'
        path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in found)
        parts.append(f'<path class="pv-plot-line" d="M{path}" {style}/>')
        sample = f'<svg width="26" height="8" aria-hidden="true"><line x2="26" y1="4" y2="4" {style}/></svg>'
        legend.append(f"<span>{sample} {escape(curve.name)}</span>")
    return (
        f'<figure class="pv-plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(plot.label)}">'
        f'{"".join(parts)}</svg><div class="pv-plot-legend">{"".join(legend)}</div></figure>'
    )
