"""The ladder of causes: what is summed up over seeds, what it says, and the page that quotes it."""

import json
import statistics
from pathlib import Path

import pytest

from pixelviz.measure import ladder
from pixelviz.samplers import SAMPLERS

ROOT = Path(__file__).parents[1]


def seeds(fids, other):
    """As `benchmarks/ladder.py` finds them."""
    known = {"kid": 0.01, "precision": 0.5, "recall": 0.25}
    return [
        {"seed": k, "fid": a, **known, "judge": {"fid": b, **known}, "training_seconds": 9, "images_seen": {"x": 64}}
        for k, (a, b) in enumerate(zip(fids, other, strict=True))
    ]


def results(**rows):
    """Results of these rows, by name with _ for -."""
    found = {name.replace("_", "-"): seeds(*both) for name, both in rows.items()}
    return {
        "rows": ladder.summed_up(found), "samples": 10, "features": "f", "judge": "j",
        "environment": {"machine": "m", "threads": 1, "device": "d", "date": "2026-11-26"},
    }  # fmt: skip


def test_rows_are_means_over_their_seeds():
    (row,) = results(prior=([1.0, 3.0], [10.0, 10.0]))["rows"]
    assert (row["fid"], row["judge"]["fid"], row["recall"]) == (2, 10, 0.25)
    assert row["fid_spread"] == pytest.approx(2**0.5)
    assert row["judge"]["fid_spread"] == 0


@pytest.mark.parametrize(
    ("own", "other", "said"),
    [
        (([5.0, 5.2], [50.0, 52.0]), ([9.0, 9.2], [80.0, 82.0]), "better"),
        (([9.0, 9.2], [80.0, 82.0]), ([5.0, 5.2], [50.0, 52.0]), "worse"),
        (([5.0, 6.0], [50.0, 60.0]), ([5.5, 6.6], [52.0, 61.0]), "none"),
        (([5.0, 5.2], [80.0, 82.0]), ([9.0, 9.2], [50.0, 52.0]), "contrary"),
        (([5.0, 5.2], [50.0, 60.0]), ([9.0, 9.2], [52.0, 61.0]), "better to one"),
        (([5.0, 6.0], [80.0, 82.0]), ([5.5, 6.6], [50.0, 52.0]), "worse to one"),
    ],
)
def test_the_schedule_s_effect_is_what_both_judges_see_beyond_the_seeds(own, other, said, tmp_path):
    found = results(pixel_aware_1=own, uniform_1=other, pixel_aware_10=own, uniform_10=other, prior=own)
    assert ladder.effect_of_the_schedule(found, 1) == said
    text = ladder.finding(found)
    assert f"with one pass {ladder.EFFECTS[said]} and with ten passes {ladder.EFFECTS[said]}" in text
    ours, control = (f"{statistics.fmean(fids[0]):.1f}" for fids in (own, other))
    assert f"{control} with a uniform schedule and ten passes, {ours} with the pixel-aware one" in text
    assert f"FID {found['rows'][0]['fid']:.1f} for the prior alone" in text
    path = tmp_path / "ladder.json"
    assert ladder.what_was_found(path) is None
    path.write_text(json.dumps(found))
    assert ladder.what_was_found(path) == text
    assert ladder.finding(results(prior=own, pixel_aware_1=own)) is None
    one, another = [fids[:1] for fids in own], [fids[:1] for fids in other]
    alone = results(pixel_aware_1=one, uniform_1=another, pixel_aware_10=one, uniform_10=another, prior=one)
    assert ladder.finding(alone) is None, "a seed alone is no evidence"


def test_the_page_s_table_is_renewed_between_its_markers():
    found = results(prior=([1.0, 3.0], [10.0, 10.0]))
    page = f"before\n{ladder.START}\nold\n{ladder.END}\nafter"
    text = ladder.with_table(page, found)
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter")
    assert "| Prior alone (no diffusion) | 2.00 ± 1.41 | 0.250 | 10.00 ± 0.00 | 0.250 | 9 | 64 |" in text
    assert ladder.with_table(text, found) == text


def test_every_row_can_be_drawn():
    for row in ladder.RUNGS.values():
        assert row.sampler is None or SAMPLERS[row.sampler].stable


def test_results_and_readme_quote_the_ladder():
    page, front = ((ROOT / name).read_text(encoding="utf-8") for name in ("RESULTS.md", "README.md"))
    assert ladder.with_table(page, ladder.read_ladder()) == page
    assert ladder.what_was_found() in " ".join(front.split())
