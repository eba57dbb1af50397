"""The page's charts, from numbers to Plotly's figures as JSON. How they look in a theme: static/plot_widget.js."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import unescape
from typing import Any

from markupsafe import escape
from torch import Tensor

from pixelviz.claims import Curve, Plot
from pixelviz.data.pictures import PIXEL_COLOURS
from pixelviz.measure import pareto, report
from pixelviz.measure.benchmark import Case
from pixelviz.numerals import in_words
from pixelviz.paper import SSIM
from pixelviz.service.toy import TOY_GAMMAS, TOY_STEPS, ToyMaps
from pixelviz.ui import markup

# A curve has a dash and a symbol of its own, so that colour is never the only sign. The three lists have no common
# divisor: a pair comes again after thirty curves, and after forty-two points.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "x", "star", "triangle-down")
GRAY = "#77859b"  # 3:1 against both backgrounds, like the colours
POSITIONS = {
    (right, up): f"{('bottom', 'middle', 'top')[up + 1]} {('left', 'center', 'right')[right + 1]}"
    for right, up in pareto.SIDES
}  # Plotly's names for them
HOVER = "<b>%{fullData.name}</b>, %{customdata}<br>FID %{y:.2f}, %{x:.3~g} s per image<extra></extra>"
COLOURED = (-4, 5)  # powers of ten of the toy experiment's error that have a colour of their own
GAMMA_TICKS, T_TICKS = (1, 3, 10, 30, 100), (5, 10, 20, 50, 100, 200, 500, 1000)
MAP_COLUMNS = 12  # of a map's table
MOST_ROWS = 24  # of a chart's table; longer curves are thinned in it
FEW = 8  # whole numbers, which are all marked
MOST_DECADES = 12  # of a log axis, from the greatest value down


def _plain(text: str) -> str:
    """Markup for a place that takes text only."""
    return unescape(re.sub(r"<[^<>]*>", "", text))


def _drawn(values: Iterable[float], log: bool = False) -> list[float | None]:
    """Five significant digits; None, a gap, for what is not finite, and on a log axis for what is not positive."""
    return [float(f"{v:.5g}") if math.isfinite(v) and (v > 0 or not log) else None for v in map(float, values)]


def _thinned(count: int, most: int = MOST_ROWS) -> list[int]:
    """At most so many indices below `count`, evenly spaced, the first and the last among them."""
    rows = min(count, most)
    return [round(k * (count - 1) / max(1, rows - 1)) for k in range(rows)]


def _table(x_label: str, curves: Sequence[tuple[str, Curve]]) -> dict[str, Any]:
    """The numbers of (name, curve) in words: a row for every x of any curve, thinned where there are too many."""
    values = [dict(zip(map(float, curve.x), map(float, curve.y), strict=True)) for _, curve in curves]
    every = sorted({x for column in values for x in column})
    chosen = [every[k] for k in _thinned(len(every))]
    rows = [[in_words(x), *(in_words(column[x]) if x in column else "–" for column in values)] for x in chosen]
    note = f"{len(chosen)} of {len(every)} points" if len(chosen) < len(every) else ""
    return {"head": [x_label, *(name for name, _ in curves)], "rows": rows, "note": note}


def _figure(traces: Sequence[dict[str, Any]], **layout: Any) -> str:
    """Traces and layout, checked by plotly, as JSON. The page's script adds the theme as a template."""
    import plotly.graph_objects as go  # here, as the app is to start fast

    return go.Figure(data=list(traces), layout={"template": "none", **layout}).to_json()


def lines(
    plot: Plot,
    *,
    typeset: Callable[[str], str] = markup.typeset,
    points: bool = False,
    whole_x: bool = False,
    y_range: tuple[float, float] | None = None,
    targets: Sequence[tuple[float, str]] = (),
    cursor: float | None = None,
    height: int = 240,
) -> str:
    """Curves over one axis; empty where no value can be drawn.

    typeset: makes markup of names; points: mark them; whole_x: x counts something; targets: horizontal lines
    (y, name); cursor: a vertical line at that x; height: of the plot without its legend, in pixels.
    """
    named = [(typeset(curve.name), curve) for curve in plot.curves]
    columns = [_drawn(curve.y, plot.log) for curve in plot.curves]
    there = [y for column in columns for y in column if y is not None]
    if not there:
        return ""
    if plot.log and y_range is None:  # Plotly would show a single vanishing value however far down it is
        low, high = math.floor(math.log10(min(there))), math.ceil(math.log10(max(there)))
        y_range = max(low, high - MOST_DECADES), max(high, low + 1)
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers" if points else "lines",
            "name": name,
            "x": _drawn(curve.x),
            "y": column,
            "line": {"color": PIXEL_COLOURS[k % len(PIXEL_COLOURS)], "dash": DASHES[k % len(DASHES)]},
            "marker": {"symbol": SYMBOLS[k % len(SYMBOLS)]},
        }
        for k, ((name, curve), column) in enumerate(zip(named, columns, strict=True))
    ]
    marks = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": {"dash": "4px,4px"},
         "label": {"text": typeset(name), "textposition": "end", "yanchor": "bottom"}}
        for y, name in targets
    ]  # fmt: skip
    if cursor is not None:
        marks.append({"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": cursor, "x1": cursor})
    x_label = typeset(plot.x_label)
    span = max(max(curve.x) for curve in plot.curves) - min(min(curve.x) for curve in plot.curves)
    whole = {"tickformat": ",~f", **({"dtick": 1} if span < FEW else {})} if whole_x else {}
    return _figure(
        traces,
        height=height,
        hovermode="x unified",
        shapes=marks,
        xaxis={
            "title": {"text": x_label},
            "unifiedhovertitle": {"text": f"<b>{x_label} = %{{x}}</b>"},
            **whole,
        },
        yaxis={
            "title": {"text": typeset(plot.y_label)},
            "type": "log" if plot.log else "linear",
            "hoverformat": ".4~g",
            "nticks": height // 60,
            **({"range": y_range} if y_range else {}),
        },
        meta={"label": plot.label, **_table(_plain(x_label), [(_plain(name), curve) for name, curve in named])},
    )


def ssim_over_i(curves: Mapping[str, Sequence[tuple[int, float, float | None]]], i: int) -> str:
    """SSIM of x_delta_hat over i for several checkpoints, and of alpha_bar_i for the first; a cursor at i.

    curves: (i, ssim_x_delta, ssim_alpha_bar) points of each checkpoint; the last is None at i = 0.
    """
    drawn = [Curve(f"x_δ, {name}", [p[0] for p in points], [p[1] for p in points]) for name, points in curves.items()]
    first, points = next(iter(curves.items()))
    there = [(step, bar) for step, _, bar in points if bar is not None]
    drawn.append(Curve(f"ᾱᵢ, {first}", [step for step, _ in there], [bar for _, bar in there]))
    lowest = min((y for curve in drawn for y in curve.y if math.isfinite(y)), default=0.0)
    label = f"SSIM between the true and the estimated scale over the step i, now at i = {i}"
    return lines(
        Plot(label, "step i", "SSIM", tuple(drawn)),
        points=True,
        whole_x=True,
        y_range=(min(0.0, lowest), 1.0),
        targets=[(SSIM[0], f"{SSIM[0]:g}, the paper's lowest")],
        cursor=i,
        height=300,
    )


LOSSES = {  # as training reports them, part and loss; and in words
    "scale_vae": "scale VAE",
    "twin": "its twin",
    "parallel_unet": "parallel U-Net",
    "linear_twin": "linear-β twin",
    "x0": "error of the image",
    "x_delta": "error of the scale",
    "log_x_delta": "error of the scale's logarithm",
    "ssim": "likeness of the scale (SSIM, 1 is best)",
    "kl": "information in its code",
    "eps": "error of the noise",
    "head_i": "error at the step it sees",
    "all_heads": "error at all steps below",
    "head_T": "error from noise alone",
}


def loss_in_words(name: str) -> str:
    """`parallel_unet/v` as a person says it; what has no words here stays as it is."""
    return ": ".join(LOSSES.get(piece, piece) for piece in name.split("/"))


def losses(history: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Losses over steps on a log axis, a curve a loss; empty before the first step."""
    drawn = tuple(
        Curve(loss_in_words(name), [p[0] for p in points], [p[1] for p in points])
        for name, points in history.items()
        if points
    )
    label = "Training losses over steps, on a log axis"
    return lines(Plot(label, "step", "loss", drawn, log=True), whole_x=True, height=300)


def magnitudes(points: Sequence[tuple[int, float]], bounds: Mapping[str, Sequence[float]]) -> str:
    """Root mean square of x_i over the steps left to i = 0, T - i, on a log axis.

    points: (i, rms); bounds: named curves over the same steps.
    """
    T = max(i for i, _ in points)
    done = [T - i for i, _ in points]
    curves = {"root mean square of x_i": [rms for _, rms in points], **bounds}
    label = "Size of the values along the reverse trajectory, on a log axis"
    axes = "reverse steps made, T − i", "size"
    return lines(Plot.over(label, axes, done, curves, log=True), whole_x=True)


def _log_axis(title: str, values: Sequence[float]) -> dict[str, Any]:
    """An axis for points with labels beside them; where it spans few decades, more than one tick in each."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.1 * (high - low), 0.06)
    ticks = "D1" if high - low < 1.3 else "D2" if high - low < 3 else 1  # all digits, 1, 2 and 5, or decades
    span = {"range": [low - margin, high + 1.5 * margin], "dtick": ticks}  # the labels stand mostly on the right
    return {"title": {"text": title}, "type": "log", "tickformat": ",~g", **span}


def benchmark(results: dict[str, Any]) -> str:
    """FID over seconds per image on log axes: every method, every number of passes, and what no other beats.

    A point's id is its `Case.key`. Raises BenchmarkError for results without rows.
    """
    methods = report.methods(results)
    best = pareto.frontier([row for one in methods for row in one.rows])
    step = {
        "type": "scatter",
        "mode": "lines",
        "name": pareto.BEST,
        "x": [row["seconds_per_image"] for row in best],
        "y": [row["fid"] for row in best],
        "line": {"shape": "hv", "dash": "5px,4px", "color": GRAY, "width": 1.5},
        "hoverinfo": "skip",
    }
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers+text",
            "name": escape(one.name),
            "x": [row["seconds_per_image"] for row in one.rows],
            "y": [row["fid"] for row in one.rows],
            "ids": [Case(row["method"], row["passes"], row["model"]).key for row in one.rows],
            "error_y": {"array": one.spreads, "width": 0, "thickness": 1.5},
            "text": [f"{row['passes']:,}" for row in one.rows],
            "textposition": [POSITIONS[side] for side in one.sides],
            "customdata": [f"{row['passes']:,} pass{'es' * (row['passes'] != 1)}" for row in one.rows],
            "hovertemplate": HOVER,
            "line": {"color": one.colour, "width": 1.2},
            "marker": {"symbol": SYMBOLS[one.marker], "size": 10},
        }
        for one in methods
    ]
    rows = [
        [one.name, f"{row['passes']:,}", in_words(row["seconds_per_image"]), f"{row['fid']:.2f}"]
        for one in methods
        for row in one.rows
    ]
    label = f"FID over seconds per image of {results['checkpoint']} and its peers, on log axes"
    return _figure(
        [*traces, step],
        height=430,
        hovermode="closest",
        uirevision=f"{results['checkpoint']}, {results['weights']}",
        xaxis=_log_axis(pareto.X_LABEL, [row["seconds_per_image"] for one in methods for row in one.rows]),
        yaxis=_log_axis(pareto.Y_LABEL, [row["fid"] for one in methods for row in one.rows]),
        meta={"label": label, "head": ["Method", "Passes", "Seconds per image", "FID"], "rows": rows, "note": ""},
    )


def toy_figures(maps: ToyMaps) -> str:
    """All forms' errors over gamma and T as JSON: the figures, and what the page says of a point in them."""
    figures = {form: json.loads(_toy_map(form, errors, maps.advised)) for form, errors in maps.errors.items()}
    about = {"gammas": TOY_GAMMAS, "steps": TOY_STEPS, "advice": maps.advice, "brightest": maps.brightest}
    return json.dumps({"figures": figures, **about})


def _toy_map(form: str, errors: Tensor, advised: float | None) -> str:
    """A form's heat map; the line where the error is 1, the range of an image; the adviser's gamma; and a point."""
    powers = [_drawn(row) for row in errors.clamp(min=1e-12).log10().tolist()]
    words = [[None if math.isnan(error) else in_words(error, 3) for error in row] for row in errors.tolist()]
    over = {"x": TOY_GAMMAS, "y": TOY_STEPS, "z": powers}
    low, high = COLOURED
    ticks = list(range(low, high + 1, 3))
    heat = {
        "type": "heatmap",
        **over,
        "zmin": low,
        "zmax": high,
        "colorscale": "Viridis",  # lightness rises with the error and tells it without colour
        "customdata": words,
        "hovertemplate": "γ = %{x:.3~g}, T = %{y}<br>error %{customdata}<extra></extra>",
        "colorbar": {
            "title": {"text": "root mean square error of x<sub>0</sub>", "side": "right"},
            "thickness": 12,
            "tickvals": ticks,
            "ticktext": [f"{10.0**power:,g}" for power in ticks],
        },
    }
    one = {
        "type": "contour",
        **over,
        "contours": {"start": 0, "end": 0, "size": 1, "coloring": "none"},
        "line": {"color": "white", "width": 2},
        "showscale": False,
        "hoverinfo": "skip",
    }
    point = {
        "type": "scatter",
        "mode": "markers",
        "x": [None],
        "y": [None],
        "marker": {"symbol": "circle", "size": 12, "color": "white", "line": {"color": "black", "width": 3}},
        "hoverinfo": "skip",
    }
    lines = [{"color": "black", "width": 4}, {"color": "white", "width": 2, "dash": "6px,4px"}]
    across = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": advised, "x1": advised}
    columns = _thinned(len(TOY_GAMMAS), MAP_COLUMNS)
    title = {"printed": "Algorithm 1 with Eq. 4's step", "letter": "Line 9 to the letter", "v": "v-form"}[form]
    axis = {"type": "log", "showgrid": False, "tickformat": ",d"}
    return _figure(
        [heat, one, point],
        height=340,
        showlegend=False,
        hovermode="closest",
        shapes=[{**across, "line": line} for line in lines] if advised and advised <= TOY_GAMMAS[-1] else [],
        xaxis={**axis, "title": {"text": "γ"}, "tickvals": GAMMA_TICKS, "tickangle": 0},
        yaxis={**axis, "title": {"text": "T"}, "tickvals": T_TICKS},
        meta={
            "label": f"{title}: root mean square error of x₀ over γ and T",
            "head": ["T \\ γ", *(f"{TOY_GAMMAS[k]:.3g}" for k in columns)],
            "rows": [[str(T), *(row[k] or "–" for k in columns)] for T, row in zip(TOY_STEPS, words, strict=True)],
            "note": f"{len(columns)} of {len(TOY_GAMMAS)} values of γ",
        },
    )
