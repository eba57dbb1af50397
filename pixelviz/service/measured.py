"""A checkpoint's bundled benchmarks, which the Compare tab shows."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pixelviz.measure import report
from pixelviz.measure.benchmark import BenchmarkError, Case, read_results
from pixelviz.service.catalog import Found
from pixelviz.service.generation import command_line
from pixelviz.service.service import SHOWN_FIRST, Service
from pixelviz.store.checkpoints import digest


@lru_cache(maxsize=16)
def _digest(folder: Path, stamp: tuple[int, ...]) -> str:
    """The weights' digest; `stamp` changes when they do."""
    return digest(folder)


def results_or_reason(found: Found, folder: Path = report.RESULTS) -> tuple[dict[str, Any] | None, str]:
    """The bundled benchmark of a checkpoint's very weights, or None and what to say instead."""
    path = folder / f"{found.name}.json"
    try:
        results = read_results(path) if path.is_file() else None
    except BenchmarkError as error:
        return None, str(error)
    if results is not None and results["weights"] == _digest(found.folder, found.stamp):
        return results, ""
    file = f"{folder.parent.name}/{folder.name}/{path.name}"
    command = f"python -m pixelviz bench --checkpoint {found.folder.parent.name}/{found.name} --json {file}"
    return None, f"{found.name} has not been measured with these weights yet. This measures it: {command}"


def longer_benchmarks(found: Found, folder: Path = report.RESULTS) -> list[dict[str, Any]]:
    """Further bundled benchmarks of the same weights, in files named after the checkpoint and more; readable ones."""
    results = []
    for path in sorted(folder.glob(f"{found.name}-*.json")):
        try:
            one = read_results(path)
        except BenchmarkError:
            continue
        if one.get("checkpoint") == found.name and one["weights"] == _digest(found.folder, found.stamp):
            results.append(one)
    return results


def bench_command(found: Found, results: dict[str, Any]) -> str:
    """The command line that measures a benchmark's rows; where a peer or a part of the checkpoint is, it cannot say."""
    rows, notes = results["rows"], []
    asked = {
        "methods": ",".join(dict.fromkeys(Case(row["method"], row["passes"], row["model"]).label for row in rows)),
        "samples": results["samples"],
        "seeds": results["seeds"],
        "threads": results["environment"]["threads"],
        "json": f"{found.name}-{results['samples']}.json",
    }
    line = f"{command_line('bench', found, **asked)} --{'' if results.get('judge') else 'no-'}judge"
    peers = dict.fromkeys(row["model"] for row in rows if row["model"] != results["checkpoint"])
    notes += [f"--peer with the folder of: {', '.join(peers)}"] if peers else []
    needed = {part for row in rows if row["model"] == results["checkpoint"] for part in row["parts"]}
    missing = sorted(needed - set(found.parts))
    notes += [f"with the checkpoint's {', '.join(missing)}, which is not bundled"] if missing else []
    return f"{line} # and {'; '.join(notes)}" if notes else line


def fids(results: dict[str, Any] | None) -> dict[tuple[str, str, int], float]:
    """FID of a benchmark's rows by (model, method, passes); none without a benchmark."""
    return {(row["model"], row["method"], row["passes"]): row["fid"] for row in (results or {}).get("rows", ())}


def comparable(service: Service) -> tuple[list[str], str | None]:
    """Checkpoints that can draw, and which to show first: of those that are measured, or have a twin, faces."""
    twins = service.names("linear_twin")
    names = list(dict.fromkeys([*service.names("parallel_unet", "scale_vae"), *twins]))
    best = [name for name in names if results_or_reason(service.find(name))[0] is not None]
    best = [name for name in best if name in twins] or best
    return names, SHOWN_FIRST if SHOWN_FIRST in best else next(iter(best + twins + names), None)
