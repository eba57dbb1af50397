"""What causes the quality, row by row (`benchmarks/ladder.py`): the table, and what it says in one sentence."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pixelviz.data.assets import ASSETS
from pixelviz.tables import Table

LADDER = ASSETS / "ladder" / "fashion-mnist.json"
START, END = "<!-- ladder -->", "<!-- /ladder -->"  # between which RESULTS.md has the table


@dataclass(frozen=True)
class Rung:
    """A row: a trained stage, the sampler by which its images are drawn (None: one run, read as v), and its passes.

    learnt: the stage with all that these images need, if that is less.
    """

    name: str
    title: str
    stage: str
    sampler: str | None
    passes: int
    learnt: str | None = None


RUNGS: Table[Rung] = Table(
    "row of the ladder",
    (
        Rung("prior", "Prior alone (no diffusion)", "pixel-aware", "prior", 1, "scale_vae"),
        Rung("uniform-1", "Uniform schedule with x_delta_hat, one pass", "uniform", "parallel", 1),
        Rung("pixel-aware-1", "Pixel-aware schedule, one pass", "pixel-aware", "parallel", 1),
        Rung("uniform-10", "Uniform schedule with x_delta_hat, ten passes", "uniform", "rotation", 10),
        Rung("pixel-aware-10", "Pixel-aware schedule, ten passes", "pixel-aware", "rotation", 10),
        Rung(
            "pixel-aware-distilled", "Pixel-aware schedule, distilled, one pass", "pixel-aware-distilled", "parallel", 1
        ),
        Rung("ddim-10", "Linear-beta twin, DDIM, ten steps", "twin", "ddim", 10),
        Rung("dpm++-10", "Linear-beta twin, DPM-Solver++(2M), ten steps", "twin", "dpm++", 10),
        Rung("twin-distilled", "Linear-beta twin, distilled likewise, one run", "twin-distilled", None, 1),
    ),
)


def _spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation over seeds where there are several."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _figures(seeds: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """One judge's figures over seeds."""
    fid, spread = _spread([one["fid"] for one in seeds])
    return {key: statistics.fmean(one[key] for one in seeds) for key in ("kid", "precision", "recall")} | {
        "fid": fid,
        "fid_spread": spread,
    }


def summed_up(found: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows in the table's order, with means over the seeds that were measured."""
    return [
        {
            "name": row.name,
            "title": row.title,
            "passes": row.passes,
            **_figures(seeds),
            "judge": _figures([one["judge"] for one in seeds]),
            "training_seconds": statistics.fmean(one["training_seconds"] for one in seeds),
            "images_seen": seeds[0]["images_seen"],
            "seeds": seeds,
        }
        for row in RUNGS.values()
        if (seeds := found.get(row.name))
    ]


def read_ladder(path: Path = LADDER) -> dict[str, Any]:
    """What `benchmarks/ladder.py` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def what_was_found(path: Path = LADDER) -> str | None:
    """The bundled ladder's `finding`; None where there is none yet."""
    return finding(read_ladder(path)) if path.is_file() else None


def ladder_lines(results: dict[str, Any]) -> list[str]:
    """The ladder as lines of Markdown: FID and recall by both judges, and the processor time of training."""
    head = (
        "Row",
        "FID",
        "Recall",
        "FID, other judge",
        "Recall, other judge",
        "Training, s of processor",
        "Images seen",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in results["rows"]:
        cells = [row["title"]]
        for judge in (row, row["judge"]):
            spread = "" if judge["fid_spread"] is None else f" ± {judge['fid_spread']:.2f}"
            cells += [f"{judge['fid']:.2f}{spread}", f"{judge['recall']:.3f}"]
        seen = " + ".join(f"{number:,}" for number in row["images_seen"].values())
        lines.append("| " + " | ".join([*cells, f"{row['training_seconds']:,.0f}", seen]) + " |")
    return lines


def effect_of_the_schedule(
    results: dict[str, Any], passes: int
) -> Literal["better", "worse", "none", "better to one", "worse to one", "contrary"] | None:
    """What the pixel-aware schedule does beside the uniform one with as many passes; None where it cannot be told.

    "none" where the means differ by less than twice the seeds' deviation, by either judge; "... to one" where the other
    sees no difference, "contrary" where one says better and the other worse. It cannot be told where a row is missing,
    or has one seed alone, whose deviation nobody knows.
    """
    rows = {row["name"]: row for row in results["rows"]}
    ours, control = (rows.get(f"{name}-{passes}") for name in ("pixel-aware", "uniform"))
    if ours is None or control is None:
        return None
    found: set[Literal["better", "worse", "none"]] = set()
    for mine, its in ((ours, control), (ours["judge"], control["judge"])):
        if mine["fid_spread"] is None or its["fid_spread"] is None:
            return None
        noise = 2 * math.hypot(mine["fid_spread"], its["fid_spread"])
        apart = mine["fid"] - its["fid"]
        found.add("none" if abs(apart) <= noise else "better" if apart < 0 else "worse")
    if len(found) == 1:
        return found.pop()
    if "none" not in found:
        return "contrary"
    return "better to one" if "better" in found else "worse to one"


EFFECTS = {
    "better": "the pixel-aware schedule itself made the images better",
    "worse": "the pixel-aware schedule itself made the images worse",
    "none": "the pixel-aware schedule itself made no difference that the seeds do not make as well",
    "better to one": "the pixel-aware schedule itself made the images better to one judge and the same to the other",
    "worse to one": "the pixel-aware schedule itself made the images worse to one judge and the same to the other",
    "contrary": "the pixel-aware schedule itself made the images better to one judge and worse to the other",
}


def finding(results: dict[str, Any]) -> str | None:
    """What was found, for a student; None until both schedules are measured with several seeds."""
    rows = {row["name"]: row for row in results["rows"]}
    said = {passes: effect_of_the_schedule(results, passes) for passes in (1, 10)}
    if None in said.values():
        return None
    seeds = min(len(rows[f"{name}-{k}"]["seeds"]) for name in ("uniform", "pixel-aware") for k in said)
    words = [f"with {'one pass' if k == 1 else 'ten passes'} {EFFECTS[one]}" for k, one in said.items() if one]
    fid = {name: f"{rows[name]['fid']:.1f}" for name in rows}
    given = ", ".join(
        f"{fid[name]} {what}"
        for name, what in (
            ("prior", "for the prior alone"),
            ("uniform-1", "with a uniform schedule and one pass"),
            ("pixel-aware-1", "with the pixel-aware one"),
            ("pixel-aware-distilled", "when that is distilled"),
            ("uniform-10", "with a uniform schedule and ten passes"),
            ("pixel-aware-10", "with the pixel-aware one"),
            ("dpm++-10", "for DPM-Solver++ of a twin"),
        )
        if name in fid
    )
    return (
        f"On small networks with the same x_delta_hat and prior ({seeds} seeds), {' and '.join(words)} (FID {given})."
    )


def with_table(text: str, results: dict[str, Any]) -> str:
    """The page's text with what stands between its markers renewed."""
    lines = [*filter(None, [finding(results)]), "", *ladder_lines(results), "", _conditions(results)]
    start, rest = text.split(START)
    return "\n".join([start + START, *lines, END]) + rest.split(END)[1]


def _conditions(results: dict[str, Any]) -> str:
    here = results["environment"]
    return (
        f"{results['samples']:,} images per row and seed. Features: {results['features']}; the other judge: "
        f"{results['judge']}. Measured on {here['machine']}, threads: {here['threads']}; {here['device']}; "
        f"{here['date'][:10]}."
    )
