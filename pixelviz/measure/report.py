"""A benchmark's results as a table, a plot, and sentences: the same figures in the README and in the app."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pixelviz.data.assets import ASSETS
from pixelviz.data.pictures import PIXEL_COLOURS
from pixelviz.measure.benchmark import BenchmarkError, read_results
from pixelviz.samplers import SAMPLERS, Aim, ours

RESULTS = ASSETS / "benchmarks"
README = ASSETS.parent / "README.md"
QUALITY = ("FID", "KID × 1000", "Precision", "Recall")  # of one judge
HEAD = (
    "Method", "Passes", "Network evaluations", *QUALITY, "Seconds per image", "Parameters (M)", "Images seen",
    "Peak MiB",
)  # fmt: skip


def _number(value: float | None, digits: int = 3) -> str:
    """To three significant digits, without exponents where a person can do without."""
    if value is None:
        return "–"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def _with_spread(value: float | None, spread: float | None, factor: float = 1.0) -> str:
    if value is None:
        return "–"
    if spread is None:
        return _number(factor * value)
    digits = 2 if factor * value >= 1 else 3
    return f"{factor * value:.{digits}f} ± {factor * spread:.{digits}f}"


def method_name(row: dict[str, Any], results: dict[str, Any]) -> str:
    """A row's method, with the model where it is not the checkpoint itself."""
    return row["title"] if row["model"] == results["checkpoint"] else f"{row['title']}, {row['model']}"


def _images_seen(row: dict[str, Any]) -> str:
    """Of every part that a method runs, G_theta's first: they are trained one after the other."""
    seen = [part["images_seen"] for part in row["parts"].values()]
    return "–" if None in seen else " + ".join(f"{number:,}" for number in seen)


def head(results: dict[str, Any]) -> tuple[str, ...]:
    """The table's head: HEAD, and behind its recall the figures of a judge of another kind, where there is one."""
    place = HEAD.index("Recall") + 1
    other = [f"{name}, other judge" for name in QUALITY] if results.get("judge") else []
    return (*HEAD[:place], *other, *HEAD[place:])


def quality_cells(figures: dict[str, Any]) -> list[str]:
    """FID, KID, precision and recall of one judge, as cells."""
    return [
        _with_spread(figures["fid"], figures.get("fid_spread")),
        _with_spread(figures["kid"], figures.get("kid_spread"), 1000),
        f"{figures['precision']:.3f}",
        f"{figures['recall']:.3f}",
    ]


def _other_quality(row: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """The cells of the judge of another kind: none where no row has one, dashes where this one has not."""
    if not results.get("judge"):
        return []
    return quality_cells(row["judge"]) if row.get("judge") else ["–"] * 4


def table_rows(results: dict[str, Any]) -> list[list[str]]:
    """Cells below `head`, one list a row."""
    return [
        [
            method_name(row, results),
            f"{row['passes']:,}",
            f"{row['network_evaluations']:,}",
            *quality_cells(row),
            *_other_quality(row, results),
            _number(row["seconds_per_image"]),
            f"{row['parameters'] / 1e6:.2f}",
            _images_seen(row),
            "–" if row["peak_memory"] is None else f"{row['peak_memory']:,.0f}",
        ]
        for row in results["rows"]
    ]


def size(results: dict[str, Any]) -> str:
    """How many images a row rests on."""
    return f"{results['samples']:,} images" + f" and {results['seeds']} seeds" * (results["seeds"] > 1)


def conditions(results: dict[str, Any]) -> str:
    """On what the figures were measured, in one paragraph."""
    here = results["environment"]
    # A benchmark may have gone on elsewhere: every row says where it was measured.
    places = "; ".join(
        dict.fromkeys(
            f"{row.get('machine', here['machine'])}, threads: {row.get('threads', here['threads'])}"
            for row in results["rows"]
        )
    )
    commits = ", ".join(sorted({row["commit"] or "unknown" for row in results["rows"]}))
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    seeds = f"{results['seeds']} seeds, ± their standard deviation" if results["seeds"] > 1 else "one seed"
    judge = f"; the other judge: {results['judge']}" if results.get("judge") else ""
    return (
        f"{results['samples']:,} images per row and seed, {seeds}; batches of {results['batch']}. "
        f"Features: {results['features']}{judge}. Measured on {places}; {results['device']}; commit {commits}; "
        f"{versions}; {here['date'][:10]}."
    )


# --- What was aimed for


@dataclass(frozen=True)
class Goal:
    """What is aimed for against a peer (`samplers.Aim`): its forms by name, the first its plain one, and its passes."""

    aim: Aim
    methods: tuple[str, ...]
    method_passes: int


def goals() -> list[Goal]:
    """The aims that rows of SAMPLERS have, those of fewest passes first."""
    found = []
    for name, row in SAMPLERS.items():
        if row.aim is not None:
            forms = (name, *(other for other, one in SAMPLERS.items() if one.variant_of == name))
            found.append(Goal(row.aim, forms, row.compared[0]))
    return sorted(found, key=lambda goal: goal.aim.passes)


@dataclass(frozen=True)
class GoalResult:
    """Whether a goal is met (None: a row is missing, or two judges disagree), and the sentence that says so."""

    met: bool | None
    text: str


def _measured_against(goal: Goal, ours: dict[str, Any], theirs: dict[str, Any]) -> GoalResult:
    """Whether a row of ours meets a goal, and the figures that say so."""
    better, ratio = ours["fid"] <= theirs["fid"], ours["seconds_per_image"] / theirs["seconds_per_image"]
    worse = "" if better else f" (worse by {ours['fid'] - theirs['fid']:.2f})"
    quick = goal.aim.time_share is None or ratio <= goal.aim.time_share
    peer = f"{SAMPLERS[theirs['method']].title} with {goal.method_passes} steps"
    text = f"FID {ours['fid']:.2f} against {theirs['fid']:.2f} of {peer}{worse}, in {ratio:.2g} of its time"
    text = text if quick else f"{text} (aim: {goal.aim.time_share:g})"
    if not (ours.get("judge") and theirs.get("judge")):
        return GoalResult(better and quick, text)
    other = ours["judge"]["fid"], theirs["judge"]["fid"]
    text += f"; to the other judge {other[0]:.2f} against {other[1]:.2f}"
    if better != (other[0] <= other[1]):
        return GoalResult(None, f"{text}: which is better depends on the judge")
    return GoalResult(better and quick, text)


def verdict(goal: Goal, results: dict[str, Any]) -> GoalResult:
    """How the checkpoint does against a goal: by the first sampler or, where that misses it, by others of ours."""
    rows = {(r["method"], r["passes"]): r for r in results["rows"] if r["model"] == results["checkpoint"]}
    peers = [rows[method, goal.method_passes] for method in goal.methods if (method, goal.method_passes) in rows]
    k = goal.aim.passes
    found = [rows[method, k] for method in ours() if (method, k) in rows]
    passes = "one pass" if k == 1 else f"{k} passes"
    if not peers or not found or found[0]["method"] != SAMPLERS.first:
        peer = f"{SAMPLERS[goal.methods[0]].title} with {goal.method_passes} steps"
        return GoalResult(None, f"Ours with {passes} against {peer}: not measured yet.")
    theirs = min(peers, key=lambda row: row["fid"])
    each = [_measured_against(goal, row, theirs) for row in found]
    text = f"Ours with {passes}: {each[0].text}."
    if not each[0].met:
        text += "".join(f" {SAMPLERS[r['method']].title}: {v.text}." for r, v in zip(found[1:], each[1:], strict=True))
    met = True if any(one.met for one in each) else None if any(one.met is None for one in each) else False
    return GoalResult(met, text)


def verdicts(results: dict[str, Any]) -> list[GoalResult]:
    """All goals."""
    return [verdict(goal, results) for goal in goals()]


def measured_goals(benchmarks: Sequence[dict[str, Any]]) -> list[tuple[GoalResult, dict[str, Any]]]:
    """Of each goal what the first benchmark says that has measured it, and that benchmark; else the first of all."""
    found = []
    for several in zip(*map(verdicts, benchmarks), strict=True):
        pairs = list(zip(several, benchmarks, strict=True))
        found.append(next((pair for pair in pairs if pair[0].met is not None), pairs[0]))
    return found


# --- The plot

# The values within a decade that are marked on an axis that spans at most so many decades.
TICKS = ((0.5, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)), (1.2, (1, 1.5, 2, 3, 5, 7)), (2.4, (1, 2, 5)), (3.5, (1, 3)))
SHAPES = {
    "circle": '<circle r="5.5"/>',
    "square": '<path d="M-5-5h10v10h-10z"/>',
    "triangle": '<path d="M0-6.5l6 11h-12z"/>',
    "diamond": '<path d="M0-7l7 7-7 7-7-7z"/>',
    "cross": '<path d="M-6-3l3-3 3 3 3-3 3 3-3 3 3 3-3 3-3-3-3 3-3-3 3-3z"/>',
    "bar": '<path d="M-3-7h6v14h-6z"/>',
}
FONT = "ui-sans-serif, system-ui, 'Segoe UI', Roboto, sans-serif"


def frontier(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that no other beats in both time and FID, fastest first."""
    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda r: (r["seconds_per_image"], r["fid"])):
        if not best or row["fid"] < best[-1]["fid"]:
            best.append(row)
    return best


class _Axis:
    """A log axis from the least to the greatest value, with a margin, onto pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = math.log10(min(values)), math.log10(max(values))
        margin = max(0.08 * (high - low), 0.06)
        self.low, self.high, self.start, self.end = low - margin, high + margin, start, end

    def __call__(self, value: float) -> float:
        return self.start + (math.log10(value) - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values, about five of them: many of a decade, or of many decades one each."""
        span = self.high - self.low
        steps = next((values for most, values in TICKS if span < most), (1,))
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        found = [m * 10.0**d for d in decades for m in steps]
        return [v for v in found if self.low <= math.log10(v) <= self.high]


def pareto_svg(results: dict[str, Any], width: int = 720, height: int = 420) -> str:
    """FID over seconds per image, both on log axes: every method, every number of passes, and the frontier.

    Colours follow the page's theme where there is one. Raises BenchmarkError for results without rows.
    """
    rows = [row for row in results["rows"] if row["fid"] is not None and row["fid"] > 0]
    if not rows:
        raise BenchmarkError("there is nothing to plot yet: no row of the benchmark is finished.")
    ink, soft = "var(--body-text-color, #1f2937)", "var(--body-text-color-subdued, #4b5563)"
    names = list(dict.fromkeys(method_name(row, results) for row in rows))
    legend, legend_height = _legend(names, width, ink)
    left, right, top, bottom = 54, 18, legend_height + 14, 44
    x = _Axis([row["seconds_per_image"] for row in rows], left, width - right)
    y = _Axis([row["fid"] for row in rows], height - bottom, top)
    parts = [
        f'<rect width="{width}" height="{height}" fill="var(--block-background-fill, #fff)"/>',
        f'<g font-family="{FONT}" font-size="12">',
        legend,
        f'<g stroke="var(--border-color-primary, #d8dee8)" fill="{soft}" text-anchor="middle">',
    ]
    for value in x.ticks():
        parts.append(f'<path d="M{x(value):.1f} {top}V{height - bottom}"/>')
        parts.append(_text(x(value), height - bottom + 17, _tick(value), 'stroke="none"'))
    for value in y.ticks():
        parts.append(f'<path d="M{left} {y(value):.1f}H{width - right}"/>')
        parts.append(_text(left - 7, y(value) + 4, _tick(value), 'stroke="none" text-anchor="end"'))
    parts.append("</g>")
    middle = (top + height - bottom) / 2
    parts.append(
        _text((left + width - right) / 2, height - 8, "seconds per image", f'fill="{ink}" text-anchor="middle"')
    )
    turned = f'transform="rotate(-90 14 {middle:.0f})" fill="{ink}" text-anchor="middle"'
    parts.append(_text(14, middle, "FID (lower is better)", turned))
    best = frontier(rows)
    steps = "".join(f"H{x(row['seconds_per_image']):.1f}V{y(row['fid']):.1f}" for row in best[1:])
    start = f"M{x(best[0]['seconds_per_image']):.1f} {y(best[0]['fid']):.1f}"
    parts.append(f'<path d="{start}{steps}" fill="none" stroke="{soft}" stroke-width="1.5" stroke-dasharray="5 4"/>')
    at = {id(row): (x(row["seconds_per_image"]), y(row["fid"])) for row in rows}
    taken = [(px - 7, py - 7, px + 7, py + 7) for px, py in at.values()]
    for k, name in enumerate(names):
        colour, shape = _style(k)
        mine = sorted((r for r in rows if method_name(r, results) == name), key=lambda r: r["passes"])
        way = "L".join(f"{at[id(row)][0]:.1f} {at[id(row)][1]:.1f}" for row in mine)
        parts.append(f'<path d="M{way}" fill="none" stroke="{colour}" stroke-width="1.5" opacity="0.55"/>')
        for row in mine:
            parts.append(_point(row, name, at[id(row)], y, colour, shape))
            parts.append(
                _label(f"{row['passes']}", at[id(row)], taken, (left, top, width - right, height - bottom), ink)
            )
    parts.append("</g>")
    label = (
        f"FID over seconds per image of {results['checkpoint']} and its peers, on log axes; the table has the numbers"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'


def _tick(value: float) -> str:
    return f"{value:,.6g}" if value >= 1e-4 else f"{value:.0e}"


def _style(k: int) -> tuple[str, str]:
    """Colour and shape of the k-th method: never the colour alone, and never the same two again."""
    again, shapes = k // len(PIXEL_COLOURS), list(SHAPES.values())
    return PIXEL_COLOURS[k % len(PIXEL_COLOURS)], shapes[(k + again) % len(shapes)]


def _point(row: dict[str, Any], name: str, at: tuple[float, float], y: _Axis, colour: str, shape: str) -> str:
    """A marker with its error bar; its title shows on hover."""
    px, py = at
    bar = ""
    if row["fid_spread"] and row["fid"] > row["fid_spread"]:
        ends = y(row["fid"] - row["fid_spread"]), y(row["fid"] + row["fid_spread"])
        bar = f'<path d="M{px:.1f} {ends[0]:.1f}V{ends[1]:.1f}" stroke="{colour}" stroke-width="1.5"/>'
    passes = f"{row['passes']} pass" + ("es" if row["passes"] != 1 else "")
    title = f"{name}, {passes}: FID {row['fid']:.2f}, {_number(row['seconds_per_image'])} s per image"
    edge = 'stroke="var(--block-background-fill, #fff)" stroke-width="1.2"'
    return (
        f'<g class="pv-point"><title>{escape(title)}</title>{bar}'
        f'<g transform="translate({px:.1f} {py:.1f})" fill="{colour}" {edge}>{shape}</g></g>'
    )


def _label(
    text: str,
    at: tuple[float, float],
    taken: list[tuple[float, float, float, float]],
    frame: tuple[float, float, float, float],
    ink: str,
) -> str:
    """The number of passes, on the side of its point where it covers least."""
    wide, px, py = 7 * len(text), *at
    places = [(px + 10, py + 4), (px - 10 - wide, py + 4), (px - wide / 2, py - 11), (px - wide / 2, py + 20)]
    places += [(px + 8, py - 8), (px - 8 - wide, py - 8), (px + 8, py + 16), (px - 8 - wide, py + 16)]

    def covered(place: tuple[float, float]) -> float:
        box = (place[0], place[1] - 10, place[0] + wide, place[1] + 2)
        over = sum(
            max(0.0, min(box[2], b[2]) - max(box[0], b[0])) * max(0.0, min(box[3], b[3]) - max(box[1], b[1]))
            for b in taken
        )
        outside = box[0] < frame[0] or box[1] < frame[1] or box[2] > frame[2] or box[3] > frame[3]
        return over + 1000 * outside

    best = min(places, key=covered)
    taken.append((best[0], best[1] - 10, best[0] + wide, best[1] + 2))
    # A rim in the background's colour keeps it readable on a line.
    rim = 'stroke="var(--block-background-fill, #fff)" stroke-width="3.5" paint-order="stroke" stroke-linejoin="round"'
    return _text(*best, text, f'fill="{ink}" font-size="11.5" {rim}')


def _legend(names: Sequence[str], width: int, ink: str) -> tuple[str, int]:
    """Shapes and names in as many lines as they need; and the height that they take."""
    parts, at_x, at_y = [], 14.0, 16
    entries = [(name, *_style(k)) for k, name in enumerate(names)] + [("best for its time", "", "")]
    for name, colour, shape in entries:
        wide = 24 + 7 * len(name)
        if at_x + wide > width and at_x > 14:
            at_x, at_y = 14.0, at_y + 20
        if shape:
            parts.append(f'<g transform="translate({at_x + 6:.1f} {at_y - 4})" fill="{colour}">{shape}</g>')
        else:
            soft = "var(--body-text-color-subdued, #4b5563)"
            parts.append(f'<path d="M{at_x - 2:.1f} {at_y - 4}h17" stroke="{soft}" stroke-dasharray="5 4"/>')
        parts.append(_text(at_x + 18, at_y, name, f'fill="{ink}"'))
        at_x += wide + 10
    return "".join(parts), at_y + 4


# --- The README


def markdown(results: dict[str, Any], name: str) -> str:
    """Goals, plot and table of the benchmark in `name`.json, as the README has them."""
    mark = {True: "met", False: "not met", None: "open"}
    size = f"{results['samples']:,} images a seed, {results['seeds']} seed" + "s" * (results["seeds"] > 1)
    lines = [f"**Peers of `checkpoints/{results['checkpoint']}`**, {size}", ""]
    lines += [f"- {mark[one.met]}: {one.text}" for one in verdicts(results)]
    lines += ["", f"![FID over seconds per image](assets/benchmarks/{name}.svg)", ""]
    titles = head(results)
    lines += ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(cells) + " |" for cells in table_rows(results)]
    return "\n".join([*lines, "", conditions(results)])


def with_figures(text: str, results: dict[str, Any], name: str) -> str:
    """The README's text with the figures between its markers renewed; raises BenchmarkError where there are none.

    The markers are lines `<!-- benchmark NAME -->` and `<!-- /benchmark NAME -->`, NAME that of the JSON file.
    """
    start, end = f"<!-- benchmark {name} -->", f"<!-- /benchmark {name} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise BenchmarkError(f"the README needs the lines {start} and {end}, once each, in this order.")
    return re.sub(
        f"{re.escape(start)}.*{re.escape(end)}",
        lambda _: f"{start}\n{markdown(results, name)}\n{end}",
        text,
        flags=re.DOTALL,
    )


def write_readme(readme: Path = README, folder: Path = RESULTS) -> list[str]:
    """Renew the README's figures and the plots beside each JSON file in `folder`; returns the files' names."""
    text, names = readme.read_text(encoding="utf-8"), []
    for path in sorted(folder.glob("*.json")):
        results = read_results(path)
        text = with_figures(text, results, path.stem)
        path.with_suffix(".svg").write_text(pareto_svg(results), encoding="utf-8")
        names.append(path.stem)
    readme.write_text(text, encoding="utf-8")
    return names
