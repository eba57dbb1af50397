"""Numbers as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table


def figure_tables(figures: dict[str, Any], data: str) -> Iterator[Table]:
    """What `evaluation.evaluate` measured: SSIM over i, and samples over starts and passes."""
    if "ssim_x_delta" in figures:
        table = Table("from true x_i", *(f"i = {i}" for i in figures["ssim_x_delta"]), title=f"Mean SSIM, {data}")
        for key in ("x_delta", "alpha_bar", "x0"):
            if f"ssim_{key}" in figures:
                table.add_row(key, *(f"{value:.3f}" for value in figures[f"ssim_{key}"].values()))
        yield table
    if "generation" in figures:
        table = Table("start", "passes", "FID", "network evaluations", "s per image", title="Samples")
        for row in figures["generation"]:
            table.add_row(
                row["start"],
                str(row["passes"]),
                f"{row['fid']:.2f}",
                str(row["network_evaluations"]),
                f"{row['seconds_per_image']:.4f}",
            )
        yield table


def cost_table(name: str, batch: int, figures: dict[str, Any]) -> Table:
    """What `benchmark.measure` measured of a preset."""
    here = figures["environment"]
    conditions = f"{here['machine']}; {here['device']}, {here['threads']} threads"
    table = Table("what", "", title=f"{name}, batch {batch}", caption=conditions)
    table.add_row("all T heads / one head", f"{figures['head_cost_ratio']:.3f}")
    table.add_row("one pass, s per image", f"{figures['seconds_per_image']:.4f}")
    table.add_row("training, images/s", f"{figures['images_per_second']:.2f}")
    table.add_row("bare forward and backward, images/s", f"{figures['bare_images_per_second']:.2f}")
    table.add_row("training / bare", f"{figures['training_ratio']:.3f}")
    for what, peak in figures["peak_memory"].items():
        table.add_row(f"peak memory, {what.replace('_', ' ')}", "unknown" if peak is None else f"{peak:,.0f} MiB")
    return table
