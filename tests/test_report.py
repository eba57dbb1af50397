"""What is said of a benchmark's rows: verdicts, marks, the frontier, the page."""

import re

from pixelviz.measure import pareto, report
from pixelviz.measure.benchmark import read_results
from pixelviz.samplers import SAMPLERS
from pixelviz.ui import charts
from tests.test_benchmark import assert_drawn


def _row(method, passes, fid_value, seconds):
    return {"model": "m", "method": method, "passes": passes, "fid": fid_value, "seconds_per_image": seconds}


def test_verdicts_say_by_how_much():
    rows = [
        _row("parallel", 1, 3.0, 0.2),
        _row("ddim", 10, 4.0, 1.0),
        _row("parallel", 10, 2.5, 1),
        _row("dpm++", 10, 2, 1),
    ]
    met, missed, _, still_open, _ = report.verdicts({"checkpoint": "m", "rows": rows})
    assert met.met is True
    assert "3.00" in met.text
    assert "0.2 of its time" in met.text
    assert missed.met is False
    assert "worse by 0.50" in missed.text
    assert still_open.met is None
    slow = report.verdicts({"checkpoint": "m", "rows": [_row("parallel", 1, 3.0, 0.3), _row("ddim", 10, 4.0, 1.0)]})[0]
    assert slow.met is False
    assert "aim: 0.25" in slow.text
    rows = [_row("parallel", 1, 3.0, 0.3), _row("rotation", 1, 3.5, 0.2), _row("ddim", 10, 4.0, 1.0)]
    by_rotation = report.verdicts({"checkpoint": "m", "rows": rows})[0]
    assert by_rotation.met is True
    assert "aim: 0.25" in by_rotation.text
    assert "one head a run): FID 3.50 against 4.00" in by_rotation.text
    assert report.verdicts({"checkpoint": "m", "rows": rows[1:]})[0].met is None


def test_a_goal_is_judged_against_the_peer_at_its_best():
    rows = [_row("parallel", 1, 3.0, 0.2), _row("ddim", 10, 4.0, 1.0), _row("ddim-quad", 10, 2.0, 1.0)]
    against = report.verdicts({"checkpoint": "m", "rows": rows})[0]
    assert against.met is False
    assert "2.00 of DDIM (quadratic) with 10 steps (worse by 1.00)" in against.text
    rows[2]["fid"] = 5.0
    against = report.verdicts({"checkpoint": "m", "rows": rows})[0]
    assert against.met is True
    assert "4.00 of DDIM with 10 steps" in against.text
    only = report.verdicts({"checkpoint": "m", "rows": [rows[0], rows[2]]})[0]
    assert "5.00 of DDIM (quadratic)" in only.text
    assert report.verdicts({"checkpoint": "m", "rows": rows[:1]})[0].met is None


def test_the_prior_alone_meets_no_goal():
    rows = [_row("parallel", 1, 5.0, 0.2), _row("prior", 1, 3.0, 0.1), _row("ddim", 10, 4.0, 1.0)]
    assert report.verdicts({"checkpoint": "m", "rows": rows})[0].met is False


def test_a_verdict_on_which_two_judges_disagree_is_none():
    rows = [_row("parallel", 1, 3.0, 0.1), _row("ddim", 10, 4.0, 1.0)]
    for row, other in zip(rows, (50.0, 60.0), strict=True):
        row["judge"] = {"fid": other}
    agreed = report.verdicts({"checkpoint": "m", "rows": rows})[0]
    assert agreed.met
    assert "to the other judge 50.00 against 60.00" in agreed.text
    rows[0]["judge"]["fid"] = 61.0
    apart = report.verdicts({"checkpoint": "m", "rows": rows})[0]
    assert apart.met is None
    assert "which is better depends on the judge" in apart.text


def test_every_method_has_a_mark_of_its_own():
    rows = [{**_row(f"method {k}", 1, 1.0 + k, 1.0 + k), "fid_spread": None} for k in range(2 * len(SAMPLERS))]
    looks = [(one.colour, one.marker) for one in pareto.series({"rows": rows}, lambda row: row["method"])]
    assert len(set(looks)) == len(rows)
    assert len(charts.SYMBOLS) == len(pareto.MARKERS)


def test_the_frontier_is_what_nothing_beats():
    rows = [_row("a", k, f, s) for k, (f, s) in enumerate([(5, 1), (3, 2), (4, 3), (3, 2.5), (1, 9), (6, 0.5)])]
    assert [(row["fid"], row["seconds_per_image"]) for row in pareto.frontier(rows)] == [
        (6, 0.5),
        (5, 1),
        (3, 2),
        (1, 9),
    ]


def test_a_label_stands_where_it_covers_least():
    assert pareto.label_sides([(1, 1), (100, 100)], ["1", "2"]) == [(1, 0), (1, 0)]
    # A neighbour close on the right: the first label goes to the left of its point, the second to the right.
    assert pareto.label_sides([(1.0, 1.0), (1.1, 1.0), (10.0, 10.0)], ["1,000", "1,000", "1"])[:2] == [(-1, 0), (1, 0)]


def test_the_page_s_figures_are_the_benchmarks():
    """Every figure quoted comes from a file that `bench` wrote, and so does every plot."""
    text = report.PAGE.read_text(encoding="utf-8")
    for path in sorted(report.RESULTS.glob("*.json")):
        found = read_results(path)
        assert path.stem.startswith(found["checkpoint"])
        assert report.with_figures(text, found, path.stem) == text
        assert_drawn(path.with_suffix(".svg"), found)
    quoted = set(re.findall(r"<!-- benchmark (\S+) -->", text))
    assert quoted == {path.stem for path in report.RESULTS.glob("*.json")}


def test_unipc_and_the_corrector_are_aims_too():
    """The corrector has the steps that it was measured with, the most of them; its plain number is 1000."""
    rows = [_row("parallel", k, 2.0, 0.1) for k in (10, 50)]
    rows += [_row("unipc", 10, 1.9, 0.1), _row("sde-pc", 100, 9.0, 1), _row("sde-pc", 250, 1.5, 2)]
    *_, unipc, _, corrector = report.verdicts({"checkpoint": "m", "rows": rows})
    assert unipc.met is corrector.met is False
    assert "1.50 of SDE, predictor-corrector with 250 steps (worse by 0.50)" in corrector.text
    assert "UniPC with 10 steps (worse by 0.10)" in unipc.text
    rows[-1]["fid"] = 2.5
    assert report.verdicts({"checkpoint": "m", "rows": rows})[-1].met is True
    assert "1000 steps: not measured yet" in report.verdicts({"checkpoint": "m", "rows": rows[:3]})[-1].text
