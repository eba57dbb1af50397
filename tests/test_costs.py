"""README's table of costs is what `bench --preset` wrote."""

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
