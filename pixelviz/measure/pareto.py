"""A benchmark as a picture, FID over seconds per image: which point is where, and the file that RESULTS.md shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixelviz.data.pictures import PIXEL_COLOURS
from pixelviz.measure.benchmark import BenchmarkError

# As Matplotlib calls them; their number and the colours' share no divisor, so that no two methods look alike.
MARKERS = ("o", "s", "^", "D", "X", "*", "v")
X_LABEL, Y_LABEL, BEST = "seconds per image", "FID (lower is better)", "best for its time"
# Where a label can stand beside its point, the best first: to the right (1) or left (-1), above (1) or below (-1).
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
PLOT = (620, 330)  # pixels, about, of the plot in which labels are to find their places
POINT, LETTER, LINE = 15, 7, 13  # pixels: a point's side, a letter's width, a line's height
STYLE = {
    "svg.fonttype": "none",  # text can be searched, and read aloud
    "svg.hashsalt": "pixelviz",  # equal figures are equal files
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": "#d8dee8",
    "axes.labelcolor": "#1f2937",
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
    "grid.color": "#d8dee8",
    "text.color": "#1f2937",
}


class Series(NamedTuple):
    """A method's rows, by passes, and the sides of their labels; k, its place, chooses its colour and marker."""

    name: str
    rows: list[dict[str, Any]]
    sides: list[tuple[int, int]]
    k: int

    @property
    def colour(self) -> str:
        """As #rrggbb."""
        return PIXEL_COLOURS[self.k % len(PIXEL_COLOURS)]

    @property
    def marker(self) -> int:
        """Index of its marker in MARKERS."""
        return self.k % len(MARKERS)

    @property
    def spreads(self) -> list[float]:
        """Standard deviation of each FID, 0 where it is not known or as large as the FID: a log axis has no 0."""
        return [row["fid_spread"] if row["fid_spread"] and row["fid_spread"] < row["fid"] else 0.0 for row in self.rows]


def frontier(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that no other beats in both time and FID, fastest first."""
    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda r: (r["seconds_per_image"], r["fid"])):
        if not best or row["fid"] < best[-1]["fid"]:
            best.append(row)
    return best


def _scaled(values: Sequence[float], pixels: float) -> list[float]:
    """Places of positive values on a log axis of so many pixels."""
    logs = [math.log10(value) for value in values]
    span = max(logs) - min(logs) or 1.0
    return [(value - min(logs)) / span * pixels for value in logs]


def label_sides(points: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[tuple[int, int]]:
    """For points (x, y) on log axes, the one of SIDES on which each label covers least of points and other labels."""
    at = list(
        zip(
            *(_scaled(values, pixels) for values, pixels in zip(zip(*points, strict=True), PLOT, strict=True)),
            strict=True,
        )
    )
    taken = [(x, y, POINT, POINT) for x, y in at]  # middle, width and height

    def covered(box: tuple[float, float, float, float]) -> float:
        over = 0.0
        for x, y, wide, high in taken:
            overlap = [(box[2] + wide) / 2 - abs(box[0] - x), (box[3] + high) / 2 - abs(box[1] - y)]
            over += max(0.0, overlap[0]) * max(0.0, overlap[1])
        return round(over, 3)  # to touch is not to cover

    chosen = []
    for (x, y), label in zip(at, labels, strict=True):
        wide = LETTER * len(label)
        boxes = {
            side: (x + side[0] * (POINT + wide) / 2, y + side[1] * (POINT + LINE) / 2, wide, LINE) for side in SIDES
        }
        best = min(SIDES, key=lambda side: covered(boxes[side]))
        taken.append(boxes[best])
        chosen.append(best)
    return chosen


def series(results: dict[str, Any], name: Callable[[dict[str, Any]], str]) -> list[Series]:
    """A benchmark's methods as they are drawn; name(row) says whose row it is. Raises BenchmarkError without rows."""
    rows = [row for row in results["rows"] if row["fid"] is not None and row["fid"] > 0]
    if not rows:
        raise BenchmarkError("there is nothing to plot yet: no row of the benchmark is finished.")
    rows.sort(key=lambda row: row["passes"])
    sides = label_sides([(r["seconds_per_image"], r["fid"]) for r in rows], [f"{r['passes']:,}" for r in rows])
    names = dict.fromkeys(name(row) for row in results["rows"])
    found = [
        (title, [(row, side) for row, side in zip(rows, sides, strict=True) if name(row) == title]) for title in names
    ]
    return [
        Series(title, [row for row, _ in own], [side for _, side in own], k)
        for k, (title, own) in enumerate(found)
        if own
    ]


def write_svg(methods: Sequence[Series], path: Path) -> None:
    """FID over seconds per image on log axes: every method, every number of passes, and what no other beats.

    A point's group in the file has the id `point-K-PASSES`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    with rc_context(STYLE):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log", xlabel=X_LABEL, ylabel=Y_LABEL)
        axes.margins(0.06)
        for one in methods:
            x, y = ([row[key] for row in one.rows] for key in ("seconds_per_image", "fid"))
            axes.plot(x, y, color=one.colour, linewidth=1.2, alpha=0.55)
            axes.errorbar(x, y, one.spreads, fmt="none", ecolor=one.colour, elinewidth=1.2)
            look = {"color": one.colour, "marker": MARKERS[one.marker], "linestyle": "none"}
            axes.plot([], [], label=one.name, markersize=7, **look)
            for row, (right, up) in zip(one.rows, one.sides, strict=True):
                place = row["seconds_per_image"], row["fid"]
                axes.plot(*place, markersize=8, markeredgecolor="white", gid=f"point-{one.k}-{row['passes']}", **look)
                axes.annotate(
                    f"{row['passes']:,}", place, (6 * right, 6 * up), textcoords="offset points",
                    ha={1: "left", 0: "center", -1: "right"}[right], va={1: "bottom", 0: "center", -1: "top"}[up],
                )  # fmt: skip
        best = frontier([row for one in methods for row in one.rows])
        axes.step(
            [row["seconds_per_image"] for row in best], [row["fid"] for row in best], where="post", color="#4b5563",
            linestyle="--", linewidth=1.2, label=BEST, zorder=1,
        )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 4, 5, 7)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
            axis.set_minor_locator(LogLocator(subs="all"))
            axis.set_minor_formatter("")
        axes.grid(which="major", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
