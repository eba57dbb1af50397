"""A benchmark's results as a table, a plot, and sentences: the same figures in RESULTS.md and in the app."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelviz.data.assets import ASSETS
from pixelviz.measure import pareto
from pixelviz.measure.benchmark import BenchmarkError, read_results
from pixelviz.samplers import SAMPLERS, Aim, ours

RESULTS = ASSETS / "benchmarks"
PAGE = ASSETS.parent / "RESULTS.md"
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


def methods(results: dict[str, Any]) -> list[pareto.Series]:
    """The rows that can be drawn, a series a method; raises BenchmarkError where there is none."""
    return pareto.series(results, lambda row: method_name(row, results))


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
            + ", processor time" * (row.get("clock") == "process_time")
            for row in results["rows"]
        )
    )
    commits = ", ".join(sorted({row["commit"] or "unknown" for row in results["rows"]}))
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    seeds = f"{results['seeds']} seeds, ± their standard deviation" if results["seeds"] > 1 else "one seed"
    judge = f"; the other judge: {results['judge']}" if results.get("judge") else ""
    parts = {"ours": results["checkpoint"], "twin": "its linear-beta twin"}
    bits = ", ".join(f"{parts[one]} {found['all']:.2f}" for one, found in results.get("bits_per_dimension", {}).items())
    bits = f" Bits per dimension of held-out images, at most (by no features): {bits}." if bits else ""
    return (
        f"{results['samples']:,} images per row and seed, {seeds}; batches of {results['batch']}. "
        f"Features: {results['features']}{judge}. Measured on {places}; {results['device']}; commit {commits}; "
        f"{versions}; {here['date'][:10]}.{bits}"
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
    peer = f"{SAMPLERS[theirs['method']].title} with {theirs['passes']} steps"
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
    steps, k = goal.method_passes, goal.aim.passes
    if goal.aim.longest:
        steps = max((passes for method, passes in rows if method in goal.methods), default=steps)
    peers = [rows[method, steps] for method in goal.methods if (method, steps) in rows]
    # The prior alone runs no network: it is no diffusion that a goal could be met by.
    found = [rows[method, k] for method in ours() if (method, k) in rows and SAMPLERS[method].runs(k)]
    passes = "one pass" if k == 1 else f"{k} passes"
    if not peers or not found or found[0]["method"] != SAMPLERS.first:
        peer = f"{SAMPLERS[goal.methods[0]].title} with {steps} steps"
        return GoalResult(None, f"Pixel-aware with {passes} against {peer}: not measured yet.")
    theirs = min(peers, key=lambda row: row["fid"])
    each = [_measured_against(goal, row, theirs) for row in found]
    text = f"Pixel-aware with {passes}: {each[0].text}."
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


# --- RESULTS.md


def markdown(results: dict[str, Any], name: str) -> str:
    """Goals, plot and table of the benchmark in `name`.json, as RESULTS.md has them."""
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
    """The page's text with the figures between its markers renewed; raises BenchmarkError where there are none.

    The markers are lines `<!-- benchmark NAME -->` and `<!-- /benchmark NAME -->`, NAME that of the JSON file.
    """
    start, end = f"<!-- benchmark {name} -->", f"<!-- /benchmark {name} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise BenchmarkError(f"the page needs the lines {start} and {end}, once each, in this order.")
    return re.sub(
        f"{re.escape(start)}.*{re.escape(end)}",
        lambda _: f"{start}\n{markdown(results, name)}\n{end}",
        text,
        flags=re.DOTALL,
    )


def write_page(page: Path = PAGE, folder: Path = RESULTS) -> list[str]:
    """Renew the figures of RESULTS.md and the plots beside each JSON file in `folder`; returns the files' names."""
    text, names = page.read_text(encoding="utf-8"), []
    for path in sorted(folder.glob("*.json")):
        results = read_results(path)
        text = with_figures(text, results, path.stem)
        pareto.write_svg(methods(results), path.with_suffix(".svg"))
        names.append(path.stem)
    page.write_text(text, encoding="utf-8")
    return names
