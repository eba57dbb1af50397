"""The tables of RESULTS.md of costs, samples and SSIM are what `bench --preset` and `evaluate --write` wrote."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COSTS = sorted((ROOT / "assets" / "costs").glob("*.json"))


@pytest.mark.parametrize("path", COSTS, ids=lambda path: path.stem)
def test_results_quote_the_measured_costs(path):
    figures = json.loads(path.read_text())
    (line,) = (
        line
        for line in (ROOT / "RESULTS.md").read_text().splitlines()
        if line.startswith(f"| `{path.stem}` | {figures['batch']} |")
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == f"{figures['head_cost_ratio_cpu_time']:.2f}"
    assert cells[3] == f"{figures['images_per_second']:.2f}"
    assert cells[4] == f"{figures['training_ratio_cpu_time']:.2f}"
    assert cells[5] == f"{figures['seconds_per_image']:.3g}"
    assert figures["environment"]["machine"].split(",")[0] in (ROOT / "RESULTS.md").read_text()


def _figures(name):
    return json.loads((ROOT / "checkpoints" / name / "config.json").read_text())["figures"]


def test_results_quote_the_samples_of_the_fashion_checkpoint():
    figures, page = _figures("fashion-mnist"), (ROOT / "RESULTS.md").read_text()
    assert f"{figures['fid_samples']:,} a row" in page
    assert {(row["start"], row["passes"]) for row in figures["generation"]} == {
        (start, passes) for start in ("consistent", "printed") for passes in (1, 2, 5, 10, 50)
    }
    for row in figures["generation"]:
        line = f"| {row['start']} | {row['passes']} | {row['fid']:.2f} | {row['seconds_per_image']:.3f} |"
        assert line in page
    prior = figures["prior_fid"]
    assert f"FID {prior['consistent']:.2f} against {prior['printed']:.1f}" in page


@pytest.mark.parametrize(
    ("name", "key"),
    [("fashion-mnist-paper-floor", "ssim_x_delta"), ("fashion-mnist-paper-floor", "ssim_alpha_bar"),
     ("fashion-mnist", "ssim_x_delta"), ("fashion-mnist", "ssim_alpha_bar"), ("cifar10", "ssim_x_delta")],
)  # fmt: skip
def test_results_quote_the_measured_ssim(name, key):
    figures = _figures(name)
    assert figures["ssim_images"] == 500
    cells = " | ".join(f"{value:.3f}" for value in figures[key].values())
    assert f"| {cells} |" in (ROOT / "RESULTS.md").read_text()
