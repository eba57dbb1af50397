"""The tables of RESULTS.md of costs, samples and SSIM are what `bench --preset` and `evaluate --write` wrote."""

import json
import re
from pathlib import Path

import pytest
import torch

from pixelviz.data.sets import load_images
from pixelviz.process.schedules import PixelAware
from pixelviz.process.theory import terminal_gap

ROOT = Path(__file__).parents[1]
COSTS = sorted((ROOT / "assets" / "costs").glob("*.json"))


@pytest.mark.parametrize("path", COSTS, ids=lambda path: path.stem)
def test_results_quote_the_measured_costs(path):
    figures = json.loads(path.read_text())
    (line,) = (
        line
        for line in (ROOT / "RESULTS.md").read_text().splitlines()
        if line.startswith(f"| `{figures['preset']}` | {figures['batch']} |")
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == f"{figures['head_cost_ratio_cpu_time']:.2f}"
    assert cells[3] == f"{figures['images_per_second']:.2f}"
    assert cells[4] == f"{figures['training_ratio_cpu_time']:.2f}"
    assert cells[5] == f"{figures['seconds_per_image']:.3g}"
    shares = [figures.get(f"{name}_ratio_cpu_time") for name in ("one_pass", "few_heads")]
    assert cells[6] == " / ".join("–" if share is None else f"{share:.2f}" for share in shares)
    assert figures["environment"]["machine"].split(",")[0] in (ROOT / "RESULTS.md").read_text()


def _record(name):
    return json.loads((ROOT / "checkpoints" / name / "config.json").read_text())


def _figures(name):
    return _record(name)["figures"]


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


def test_readme_and_results_quote_the_faces():
    readme, page = (" ".join((ROOT / name).read_text().split()) for name in ("README.md", "RESULTS.md"))
    measured = json.loads((ROOT / "assets" / "benchmarks" / "faces.json").read_text())
    rows = {(row["method"], row["passes"]): row for row in measured["rows"]}
    one, ten, prior = rows["parallel", 1], rows["parallel", 10], rows["prior", 1]
    clipped, quadratic = rows["dpm++-clip", 10], rows["ddim-quad", 10]
    assert f"FID of {measured['samples']:,} such: {one['fid']:.1f};" in readme
    assert f"begins with, {prior['fid']:.1f}, of ten passes {ten['fid']:.1f};" in readme
    assert f"clipped DPM-Solver++ {clipped['fid']:.1f}, of quadratic DDIM {quadratic['fid']:.1f}." in readme
    judged = [f"{row['judge']['fid']:.0f}" for row in (clipped, quadratic, one)]
    assert "the twin is the better one: {} and {} against {} ".format(*judged) in readme
    assert "clipped DPM-Solver++ ({}) or quadratic DDIM ({}) is better than all of ours ({} at".format(*judged) in page
    plain = [rows[name, 10]["judge"]["fid"] for name in ("ddim", "dpm++", "unipc")]
    assert "UniPC as they are ({:.0f}, {:.0f} and {:.0f}) are behind".format(*plain) in page
    assert ten["fid"] < one["fid"] < prior["fid"] < min(clipped["fid"], quadratic["fid"])
    assert clipped["judge"]["fid"] < quadratic["judge"]["fid"] < one["judge"]["fid"] < prior["judge"]["fid"]
    assert one["judge"]["fid"] < min(ten["judge"]["fid"], *plain)
    most = max(row["recall"] for row in measured["rows"] if row["method"] in ("ddim", "dpm++", "dpm++-clip", "unipc"))
    assert (
        f"Recall is {one['recall']:.2f} at one pass and {ten['recall']:.2f} at ten, the peers' best {most:.2f}." in page
    )
    few, rotation = rows["few-heads", 1], rows["rotation", 1]
    shares = [row["seconds_per_image"] / quadratic["seconds_per_image"] for row in (one, few, rotation)]
    assert f"takes {shares[0]:.2f} of the time of DDIM with 10 steps" in page
    assert f"24 of the heads take {shares[1]:.2f}, and the rotation, which reads one, {shares[2]:.2f}, both" in page
    kept = json.loads((ROOT / "assets" / "likelihood" / "faces.json").read_text())
    seen = [kept["by_images_seen"][images] for images in ("61440", "170240", "439040")]
    for form, found in (
        ("five passes went from FID {:.1f} by {:.1f} to {:.1f},", [one["fid"] for one in seen]),
        ("from {:.0f} by {:.0f} to {:.0f} by the other judge", [one["judge_fid"] for one in seen]),
        ("bits per dimension from {:.2f} by {:.2f} to {:.2f}.", [one["bits_per_dimension"]["all"] for one in seen]),
        ("with 10 steps went from {:.1f} to {:.1f},", [one["twin"]["fid"] for one in seen[1:]]),
        ("and from {:.0f} to {:.0f}; while", [one["twin"]["judge_fid"] for one in seen[1:]]),
    ):
        assert form.format(*found) in page
    runs = [kept["distilled"]["rotation"][passes] for passes in ("1", "10")]
    said = "took one run from {before:.2f} to {after:.2f}".format(**runs[0])
    assert said + " and ten runs from {before:.2f} to {after:.2f}".format(**runs[1]) in page
    worse = [kept["tuned"]["rotation"][passes]["after"] for passes in ("1", "10")]
    assert "`tune`, in as much time, made them worse ({:.1f} and {:.1f}).".format(*worse) in page
    bits = measured["bits_per_dimension"]
    assert f"the better model ({bits['twin']['all']:.2f} against {bits['ours']['all']:.2f})" in page
    accuracy = json.loads((ROOT / "assets" / "classifier" / "faces.json").read_text())["test_accuracy"]
    assert f"names {100 * accuracy:.1f} % of the test images rightly" in page
    record = _record("faces")
    assert measured["rows"][-1]["images_seen"] == record["images_seen"]["linear_twin"] == 439_040


@pytest.mark.parametrize("size", [28, 32])
def test_the_card_quotes_the_terminal_gap_of_its_own_pictures(size):
    """32x32 is padded with black, whose gap is the largest; the bundled 10,000 are a part of the card's 60,000."""
    images = load_images("fashion-mnist-10k", split="train", size=32, channels=1).images
    pad = (32 - size) // 2
    counts = torch.bincount(images[:, :, pad : 32 - pad, pad : 32 - pad].flatten().long(), minlength=256)
    note = next(note for note in _record("fashion-mnist")["notes"] if note.startswith("Floor"))
    own, own_floor, _, raw, raw_floor = map(float, re.findall(r"0\.\d{3,}", note))
    for floor, quoted in ((0.2, own if size == 32 else raw), (0.004, own_floor if size == 32 else raw_floor)):
        x0 = floor + (1 - floor) * torch.arange(256).double() / 255
        gap = terminal_gap(PixelAware(200, 20.0), x0).kl
        assert (gap * counts).sum().item() / counts.sum().item() == pytest.approx(quoted, rel=0.03)


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


@pytest.mark.parametrize("name", ["undistilled", "fashion-mnist"])
def test_results_quote_the_solvers(name):
    found, page = (
        json.loads((ROOT / "assets" / "solvers" / f"{name}.json").read_text()),
        (ROOT / "RESULTS.md").read_text(),
    )
    for solver in ("rotation", "multistep"):
        cells = " | ".join(f"{found[solver][k]:.4f}" for k in ("2", "5", "10", "20", "50"))
        assert f"| {solver} | {cells} |" in page


def test_results_quote_the_bits_per_dimension():
    figures = json.loads((ROOT / "assets" / "likelihood" / "fashion-mnist.json").read_text())
    page = " ".join((ROOT / "RESULTS.md").read_text().split())
    ours, twin = (figures["bits_per_dimension"][name] for name in ("ours", "twin"))
    assert f"): {ours['all']:.2f}, of which the code {ours['code']:.2f}, the steps {ours['steps']:.2f}" in page
    assert (
        f"in the end {ours['levels']:.2f}; the linear-beta twin {twin['all']:.2f}, of which {twin['steps']:.2f}" in page
    )
    said = f"errs by {ours['deviation']:.3f} (black to white being 1), the twin's by {twin['deviation']:.3f}"
    assert said in page
    assert f"{figures['images']} test images" in page


def listed(values, keys, digits):
    """As "1, 2 and 3"."""
    *most, last = (f"{values[key]:.{digits}f}" for key in keys)
    return f"{', '.join(most)} and {last}"


def test_the_page_of_own_pictures_quotes_its_hour():
    """Its table is what `run.yaml`'s neighbours and the system's clock recorded."""
    found = json.loads((ROOT / "docs" / "own-pictures.json").read_text())
    page = (ROOT / "docs" / "own-pictures.md").read_text()
    steps = ("500", "1000", "2000", "4000")
    left = int(found["options"].split("--steps ")[1].split()[0]) - found["steps"]
    for said in (
        f"{found['seconds']:,.0f} s, ended by `timeout -s INT 3600` before its last {left} steps",
        f"{found['processor_seconds']:,.0f} s: on these networks two threads keep "
        f"{found['processor_seconds'] / found['seconds']:.1f} cores at work",
        f"{found['steps']:,}, {found['images_seen']:,}",
        f"| {found['images_seen'] / found['seconds']:.1f} |",
        f"{found['peak_memory_mib']:,} MiB",
        f"after {', '.join(f'{int(step):,}' for step in steps[:-1])} and {int(steps[-1]):,} steps",
    ):
        assert said in page, said
    measured = found["evaluation"]
    assert f"| {listed(measured['ssim_x_delta'], ('1', '50', '200'), 3)}, over {measured['ssim_images']:,} test" in page
    one, five = measured["generation"]
    assert [one["passes"], five["passes"]] == [1, 5]
    assert f"{measured['fid_samples']:,} samples against the {measured['ssim_images']:,} test images" in page
    prior = measured["prior_fid"]["consistent"]
    assert f"| {prior:.0f} for the prior alone, {one['fid']:.0f} at one pass, {five['fid']:.0f} at five |" in page
    assert f"| {one['seconds_per_image']:.4f} s an image |" in page
    assert f"| {measured['bits_per_dimension']['ours']['all']:.2f} |" in page
    for name, digits in (("parallel_unet/head_i", 2), ("parallel_unet/head_T", 2), ("scale_vae/log_x_delta", 4)):
        (line,) = (line for line in page.splitlines() if f"held-out `{name}`" in line)
        after = {step: found["held_out"][step][name] for step in steps}
        assert line.endswith(f"| {listed(after, steps, digits)} |")
