"""README's tables of costs, samples and SSIM are what `bench --preset` and `evaluate --write` wrote."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COSTS = sorted((ROOT / "assets" / "costs").glob("*.json"))


@pytest.mark.parametrize("path", COSTS, ids=lambda path: path.stem)
def test_readme_quotes_the_measured_costs(path):
    figures = json.loads(path.read_text())
    (line,) = (
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith(f"| `{path.stem}` | {figures['batch']} |")
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == f"{figures['head_cost_ratio_cpu_time']:.2f}"
    assert cells[3] == f"{figures['images_per_second']:.2f}"
    assert cells[4] == f"{figures['training_ratio_cpu_time']:.2f}"
    assert cells[5] == f"{figures['seconds_per_image']:.3g}"
    assert figures["environment"]["machine"].split(",")[0] in (ROOT / "README.md").read_text()


def _figures(name):
    return json.loads((ROOT / "checkpoints" / name / "config.json").read_text())["figures"]


def test_readme_quotes_the_samples_of_the_fashion_checkpoint():
    figures, readme = _figures("fashion-mnist"), (ROOT / "README.md").read_text()
    assert f"{figures['fid_samples']:,} a row" in readme
    assert {(row["start"], row["passes"]) for row in figures["generation"]} == {
        (start, passes) for start in ("consistent", "printed") for passes in (1, 2, 5, 10, 50)
    }
    for row in figures["generation"]:
        line = f"| {row['start']} | {row['passes']} | {row['fid']:.2f} | {row['seconds_per_image']:.3f} |"
        assert line in readme
    prior = figures["prior_fid"]
    assert f"FID {prior['consistent']:.2f} against {prior['printed']:.1f}" in readme


@pytest.mark.parametrize(
    ("name", "key"),
    [("fashion-mnist-paper-floor", "ssim_x_delta"), ("fashion-mnist-paper-floor", "ssim_alpha_bar"),
     ("fashion-mnist", "ssim_x_delta"), ("fashion-mnist", "ssim_alpha_bar"), ("cifar10", "ssim_x_delta")],
)  # fmt: skip
def test_readme_quotes_the_measured_ssim(name, key):
    figures = _figures(name)
    assert figures["ssim_images"] == 500
    cells = " | ".join(f"{value:.3f}" for value in figures[key].values())
    assert f"| {cells} |" in (ROOT / "README.md").read_text()
