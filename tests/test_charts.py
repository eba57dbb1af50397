"""Figures for Plotly: the numbers that went in come out, gaps where nothing can be drawn, and the table agrees."""

import json
import math
from itertools import pairwise

import pytest

from pixelviz.claims import Curve, Plot
from pixelviz.service import toy
from pixelviz.ui import charts


def figure(text):
    """A chart's JSON, read strictly: no NaN, no Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(name))


def drawn(curves, log=False, **settings):
    plot = Plot("in words", "t", "y", tuple(curves), log=log)
    return figure(charts.lines(plot, **settings))


def test_what_cannot_be_drawn_is_a_gap():
    values = [math.inf, math.nan, 0.123456789, 0.0, -1.0, 4.0]
    (trace,) = drawn([Curve("a", range(6), values)])["data"]
    assert trace["y"] == [None, None, 0.12346, 0.0, -1.0, 4.0]
    made = drawn([Curve("a", range(6), values)], log=True)
    assert made["data"][0]["y"] == [None, None, 0.12346, None, None, 4.0]
    assert made["layout"]["yaxis"]["type"] == "log"
    assert made["layout"]["yaxis"]["range"] == [-1, 1], "whole decades around what is drawn"
    assert charts.lines(Plot("", "", "", (Curve("a", [0, 1], [0.0, math.nan]),), log=True)) == ""


def test_a_log_axis_does_not_follow_a_vanishing_value_down():
    low, high = drawn([Curve("a", [0, 1], [1e-300, 2.0])], log=True)["layout"]["yaxis"]["range"]
    assert (low, high) == (1 - charts.MOST_DECADES, 1)


def test_the_table_has_every_point_and_says_where_there_is_none():
    first, second = Curve("x_δ", [0, 1, 2], [1e-9, math.inf, 3.0]), Curve("b", [1, 5], [0.0, math.nan])
    table = drawn([first, second], log=True)["layout"]["meta"]
    assert table["head"] == ["t", "xδ", "b"]
    assert table["rows"] == [
        ["0", "1.00 × 10⁻⁹", "–"],
        ["1", "∞", "0"],
        ["2", "3", "–"],
        ["5", "–", "undefined"],
    ]
    assert (table["label"], table["note"]) == ("in words", "")


def test_a_long_table_is_thinned_from_end_to_end():
    table = drawn([Curve("a", range(1000), [k / 2 for k in range(1000)])])["layout"]["meta"]
    assert table["note"] == f"{charts.MOST_ROWS} of 1000 points"
    assert [row[0] for row in (table["rows"][0], table["rows"][-1])] == ["0", "999"]
    steps = [int(row[0]) for row in table["rows"]]
    assert {b - a for a, b in pairwise(steps)} <= {43, 44}  # 999 / 23
    assert all(float(y) == int(x) / 2 for x, y in table["rows"])


def test_colour_is_never_the_only_sign():
    looks = [
        (trace["line"]["color"], trace["line"]["dash"], trace["marker"]["symbol"])
        for trace in drawn([Curve(str(k), [0, 1], [k, k]) for k in range(30)], points=True)["data"]
    ]
    assert len({colour for colour, *_ in looks[:6]}) == 6
    assert len({dash for _, dash, _ in looks[:5]}) == 5
    assert len({look[:2] for look in looks}) == len({(look[0], look[2]) for look in looks}) == 30


def test_words_of_strangers_stay_words():
    made = drawn([Curve("<b>a</b> & x_δ", [0, 1], [1, 2])], targets=[(1, "<i>")])
    assert made["data"][0]["name"] == "&lt;b&gt;a&lt;/b&gt; &amp; x<sub>δ</sub>"
    assert made["layout"]["shapes"][0]["label"]["text"] == "&lt;i&gt;"
    assert made["layout"]["meta"]["head"][1] == "<b>a</b> & xδ"  # for a cell, which takes text


def test_ssim_chart_has_a_curve_a_checkpoint_and_alpha_bar_of_the_first():
    curves = {"a": [(0, 0.9, None), (100, 0.8, 0.7)], "b": [(0, 0.95, None), (200, 0.5, -0.4)]}
    made = figure(charts.ssim_over_i(curves, 100))
    assert [(trace["x"], trace["y"]) for trace in made["data"]] == [
        ([0, 100], [0.9, 0.8]),
        ([0, 200], [0.95, 0.5]),
        ([100], [0.7]),
    ]
    assert {trace["mode"] for trace in made["data"]} == {"lines+markers"}
    paper, cursor = made["layout"]["shapes"]
    assert (paper["y0"], paper["y1"], paper["xref"]) == (0.86, 0.86, "paper")
    assert (cursor["x0"], cursor["x1"], cursor["yref"]) == (100, 100, "paper")
    assert made["layout"]["yaxis"]["range"] == [0, 1]
    assert made["layout"]["meta"]["rows"] == [
        ["0", "0.9", "0.95", "–"],
        ["100", "0.8", "–", "0.7"],
        ["200", "–", "0.5", "–"],
    ]
    negative = figure(charts.ssim_over_i({"a": [(0, 0.9, None), (9, -0.25, 0.1)]}, 9))
    assert negative["layout"]["yaxis"]["range"] == [-0.25, 1]


def test_losses_are_drawn_on_a_log_axis():
    made = figure(charts.losses({"scale_vae/kl": [(1, 0.5), (2, 0.25)], "twin/x0": []}))
    assert made["layout"]["yaxis"]["type"] == "log"
    assert [(trace["name"], trace["x"], trace["y"]) for trace in made["data"]] == [
        ("scale VAE: information in its code", [1, 2], [0.5, 0.25])
    ]
    assert made["layout"]["xaxis"]["dtick"] == 1, "there is no half step"


def test_losses_before_the_first_step():
    assert charts.losses({}) == ""
    assert charts.losses({"vae/kl": []}) == ""


def test_magnitudes_count_reverse_steps_from_the_start():
    made = figure(charts.magnitudes([(4, 1.0), (2, 3.0), (0, 9.0)], {"bound": [1.0, 2.0, 4.0]}))
    assert [trace["x"] for trace in made["data"]] == [[0, 2, 4], [0, 2, 4]]
    assert [trace["y"] for trace in made["data"]] == [[1, 3, 9], [1, 2, 4]]
    assert made["data"][0]["name"] == "root mean square of x<sub>i</sub>"


def test_the_toy_maps_have_every_error_and_the_adviser_s_gamma():
    maps = toy.toy_maps(None, 0.5, 0.1)
    made = figure(charts.toy_figures(maps))
    assert made["gammas"] == list(toy.TOY_GAMMAS)
    for form, errors in maps.errors.items():
        (heat, one, point), layout = made["figures"][form]["data"], made["figures"][form]["layout"]
        assert heat["x"] == one["x"] == made["gammas"]
        assert heat["y"] == one["y"] == made["steps"] == list(toy.TOY_STEPS)
        for T, powers, words, row in zip(made["steps"], heat["z"], heat["customdata"], errors.tolist(), strict=True):
            blank = [gamma >= T for gamma in made["gammas"]]
            assert [power is None for power in powers] == [word is None for word in words] == blank
            assert [10**p for p in powers if p is not None] == pytest.approx(
                [e for e in row if e == e], rel=2e-3, abs=2e-12
            )
        assert (one["contours"]["start"], one["contours"]["end"]) == (0, 0), "where the error is 1"
        assert point["x"] == [None], "the page places it"
        assert {shape["x0"] for shape in layout["shapes"]} == {maps.advised}
        # The table is a part of the map: the same words at the same gamma and T.
        gammas = [f"{gamma:.3g}" for gamma in made["gammas"]]
        columns = [gammas.index(text) for text in layout["meta"]["head"][1:]]
        assert [columns[0], columns[-1]] == [0, len(made["gammas"]) - 1]
        for (T, *cells), step, words in zip(layout["meta"]["rows"], made["steps"], heat["customdata"], strict=True):
            assert str(step) == T
            assert cells == [words[k] or "–" for k in columns]
    hopeless = figure(charts.toy_figures(toy.toy_maps(None, 0.0, 0.001, tolerance=1e-6)))
    assert hopeless["figures"]["v"]["layout"].get("shapes", []) == []
