"""Figures in the layouts of the paper's, drawn by Matplotlib for print: arrays in, a Figure out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pixelviz.data.pictures import PIXEL_COLOURS, tile

if TYPE_CHECKING:  # Matplotlib takes a while to import, which opening the app should not wait for
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.9  # inches: two columns of a journal
DPI = 300
OURS, DDPM = "#b3261e", "#1f5fbf"  # red and blue, as in Fig. 2; dashes tell them apart as well
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "ooo")
SPAN_DB = 80.0  # of Fig. 1's vessels, from the fullest down
LEAST_SIDE = 64  # pixels of an image in a grid; smaller ones are repeated, so that frames and gutters stay thin
GUTTER = 3  # white pixels between the images of a grid, at that side
STYLE = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # fonts, not outlines: text can be searched and copied
    "svg.fonttype": "path",  # the same letters on every machine
    "savefig.facecolor": "white",
    "figure.facecolor": "white",
}
LAYOUT_ROUNDS = 3
_lock = threading.Lock()  # Matplotlib's settings and font caches belong to the whole process


@cache
def _add_fonts() -> None:
    """Make STYLE's letters known: Matplotlib brings them, but its list of fonts is a file that may be out of date."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import fontManager

    for file in sorted((Path(get_data_path()) / "fonts" / "ttf").glob("STIXGeneral*.ttf")):
        fontManager.addfont(file)


class Grid(NamedTuple):
    """A panel of equal images, uint8 (N, H, W, C), row by row; and its caption."""

    images: np.ndarray
    caption: str


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A function that draws, with the settings of this module and its layout made once; one at a time."""

    @wraps(draw)
    def wrapper(*args, **kwargs) -> Figure:
        from matplotlib import rc_context

        with _lock, rc_context(STYLE):
            _add_fonts()
            figure = draw(*args, **kwargs)
            # Constrained layout moves a little with every drawing, so left on, each file format has another layout.
            for _ in range(LAYOUT_ROUNDS):
                figure.draw_without_rendering()
            figure.set_layout_engine("none")
            return figure

    return wrapper


def save_figure(figure: Figure, stream, format: str) -> None:
    """Write a figure as png, svg or pdf; the files hold no date, so equal figures are equal files."""
    from matplotlib import rc_context

    nothing = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[format]
    with _lock, rc_context({**STYLE, "svg.hashsalt": "pixelviz"}):
        figure.savefig(stream, format=format, dpi=DPI, metadata=nothing, bbox_inches="tight", pad_inches=0.03)


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _plain(axes: Axes, framed: bool) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(framed)
        spine.set(linewidth=0.4, color="0.6")


def _show(axes: Axes, image: np.ndarray, framed: bool) -> None:
    """One image, every pixel a square; `none` keeps its own pixels in PDF and SVG."""
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255, interpolation="none")
    _plain(axes, framed)


@styled
def snr_vessels(steps: Sequence[int], snr: np.ndarray, x0: Sequence[float], T: int) -> Figure:
    """Fig. 1: at each step a vessel per pixel, filled to the SNR that is left.

    snr: (len(steps), P), positive; x0: of the P pixels. Levels are in decibels.
    """
    from matplotlib.ticker import MaxNLocator

    level = 10 * np.log10(np.maximum(snr, 1e-300))
    top = math.ceil(level.max() / 10) * 10
    bottom = max(top - SPAN_DB, math.floor(level.min() / 10) * 10 - 10)
    figure = _figure(2.7)
    axes = figure.subplots()
    count = len(x0)
    width = 0.82 / count
    for k, (value, colour) in enumerate(zip(x0, PIXEL_COLOURS, strict=False)):
        at = np.arange(len(steps)) + (k - (count - 1) / 2) * width
        filled = np.clip(level[:, k], bottom, top) - bottom
        axes.bar(at, top - bottom, width * 0.86, bottom, fill=False, edgecolor="0.55", linewidth=0.6)
        axes.bar(
            at,
            filled,
            width * 0.86,
            bottom,
            color=colour,
            edgecolor="white",
            hatch=HATCHES[k],
            linewidth=0,
            label=rf"pixel {k + 1}, $x_0={value:.3g}$",
        )
        axes.bar(at, filled, width * 0.86, bottom, fill=False, edgecolor=colour, linewidth=0.6)
    axes.set_xticks(range(len(steps)), [rf"$i={i}$" for i in steps])
    axes.set_xlabel(rf"time-step ($T={T}$)")
    axes.set_ylabel("SNR left (dB)")
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="x", length=0)
    figure.legend(loc="outside upper center", ncols=min(count, 3))
    return figure


class MomentCurves(NamedTuple):
    """A method's mean and variance over an image's pixels of one channel at i = 0..T: measured, and expected."""

    name: str
    mean: np.ndarray
    variance: np.ndarray
    expected_mean: np.ndarray
    expected_variance: np.ndarray


@styled
def moments(methods: Sequence[MomentCurves], channel: str) -> Figure:
    """Fig. 2: mean (left) and variance (right) of one channel over the steps; thin lines: expected."""
    figure = _figure(2.7)
    left, right = figure.subplots(1, 2)
    for method, colour, dash in zip(methods, (DDPM, OURS), ("--", "-"), strict=True):
        i = np.arange(len(method.mean))
        for axes, measured, expected in (
            (left, method.mean, method.expected_mean),
            (right, method.variance, method.expected_variance),
        ):
            axes.plot(i, measured, dash, color=colour, label=method.name)
            axes.plot(i, expected, "-", color=colour, linewidth=3.2, alpha=0.22, zorder=1)
    for axes, target, what in ((left, 0, "mean"), (right, 1, "variance")):
        axes.axhline(target, color="0.45", linewidth=0.6, linestyle=(0, (1, 2)))
        axes.set_xlabel(r"step $i$")
        axes.set_ylabel(f"{what} over the pixels ({channel})")
        axes.set_xlim(0, len(methods[0].mean) - 1)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


@styled
def image_row(images: Sequence[np.ndarray], captions: Sequence[str], note: str = "") -> Figure:
    """Fig. 3: images uint8 (H, W, C) side by side, lettered."""
    figure = _figure(WIDTH / len(images) + 0.55)
    for k, (axes, image, caption) in enumerate(zip(figure.subplots(1, len(images)), images, captions, strict=True)):
        _show(axes, image, framed=True)
        axes.set_xlabel(f"({chr(65 + k)}) {caption}")
    if note:
        figure.text(0.5, 0, note, ha="center", va="bottom", fontsize=7.5, color="0.35")
        figure.get_layout_engine().set(rect=(0, 0.05, 1, 0.95))
    return figure


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 (N, H, W, C) as one image: thin gray frames, so that white images have an edge, and white gutters."""
    images = images.repeat(-(-LEAST_SIDE // images.shape[1]), 1).repeat(-(-LEAST_SIDE // images.shape[2]), 2)
    gap = max(1, round(GUTTER * images.shape[1] / LEAST_SIDE))
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=160)
    framed = np.pad(framed, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    blank = -len(framed) % columns
    framed = np.concatenate([framed, np.full((blank, *framed.shape[1:]), 255, np.uint8)])
    return tile(framed, columns)[:-gap, :-gap]


@styled
def grids(panels: Sequence[Grid], columns: int, note: str = "") -> Figure:
    """Fig. 5 to 12: grids of images side by side, lettered; small images are shown pixel by pixel."""
    whole = [mosaic(panel.images, columns) for panel in panels]
    ratio = max(image.shape[0] / image.shape[1] for image in whole)
    figure = _figure(WIDTH / len(panels) * ratio * 0.97 + (0.5 if note else 0.3))
    for k, (axes, image, panel) in enumerate(zip(figure.subplots(1, len(panels)), whole, panels, strict=True)):
        _show(axes, image, framed=False)
        axes.set_xlabel(f"({chr(65 + k)}) {panel.caption}")
    if note:
        figure.text(0.5, 0, note, ha="center", va="bottom", fontsize=7.5, color="0.35")
        figure.get_layout_engine().set(rect=(0, 0.045, 1, 0.955))
    return figure
