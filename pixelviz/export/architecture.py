"""Fig. 4, drawn from the networks themselves: each block where its resolution puts it, lit by what it gave in a run."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pixelviz.claims import Bench
from pixelviz.data.pictures import stretched, tile
from pixelviz.export.paper_figures import WIDTH, styled
from pixelviz.measure.estimate import noised
from pixelviz.models.graph import Block, trace
from pixelviz.process.schedules import image_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW, MAIN, SIDE = 1.25, 0.78, 0.3  # a row's height, a block's side and a map's, where columns are 1 apart
LIT = 4  # channels that a block shows: those that vary most
SHOWN = 64  # channels at most of one block
# The paper's symbol of a block, by its name; {k} counts from 1.
SYMBOLS = (
    (r"encoder\.(\d+)(\.blocks)?", r"$\mathcal{{E}}_{{{k}}}$", "#1f5fbf"),
    (r"decoder\.(\d+)(\.blocks)?", r"$\mathcal{{D}}_{{{k}}}$", "#12924f"),
    (r"(?:encoder|decoder)\.(\d+)\.time|(?:encoder|decoder)_time\.(\d+)", r"$\mathcal{{P}}_{{{k}}}$", "#8b62dc"),
    (r"(?:encoder|decoder)\.(\d+)\.scale", r"$\mathcal{{H}}_{{{k}}}$", "#d6510b"),
    (r"head_time", r"$\mathcal{{P}}$", "#8b62dc"),
    (r"head_scale", r"$\mathcal{{H}}$", "#d6510b"),
    (r"heads", r"$\mathcal{{G}}_j$", "#b3261e"),
    (r"to_code", r"$\mu, \log\sigma^2$", "0.35"),
    (r"from_code", r"from $z$", "0.35"),
)
WHAT = {
    "time": "time map P",
    "scale": "scale map H",
    "encoder": "encoder E",
    "decoder": "decoder D",
    "heads": "sub-networks G",
    "code": "linear map, to or from z",
    "output": "what the run gave",
}


class Panel(NamedTuple):
    """A network that ran: its symbol, its title, its output's symbol, its blocks, and the picture x_i that it read."""

    network: str
    title: str
    result: str
    blocks: list[Block]
    image: Tensor  # (C, H, W)


def run(found: Bench, seed: int, i: int) -> list[Panel]:
    """G_theta and R_phi, as far as the checkpoint has them, run once on x_i of a bench's picture; i from 1 to T."""
    model, config = found.model, found.model.config
    x_i = noised(model.schedule, found.x0, [i], seed).float().to(model.device)
    inputs = {"x_i": x_i, "i": torch.full((1,), float(i), device=model.device)}
    x_delta, panels = image_scale(found.x0, config.gamma)[None].float().to(model.device), []
    if "scale_vae" in model.parts:
        blocks = trace(model.scale_vae, inputs)
        x_delta = blocks[-1].output[None].to(model.device)
        title = rf"$G_\theta(x_i, i)$, the scale VAE, at $i={i}$ of {config.T}"
        panels.append(Panel("G_θ", title, r"$\hat{x}_\delta$", blocks, x_i[0].cpu()))
    if "parallel_unet" in model.parts:
        heads = torch.linspace(1, i, min(LIT, i), device=model.device).round().long()
        blocks = trace(model.parallel_unet, {**inputs, "x_delta": x_delta}, heads=heads)
        title = rf"$R_\phi(x_i, \hat{{x}}_\delta, i)$, parallel U-Net, {config.T} heads; shown: $j={_listed(heads)}$"
        panels.append(Panel("R_φ", title, r"$Z^j$", blocks, x_i[0].cpu()))
    return panels


def _listed(heads: Tensor) -> str:
    return ",".join(map(str, heads.tolist()))


# --- What is where


def symbol(name: str) -> tuple[str, str]:
    """How the paper calls a block, in TeX, and its colour."""
    for pattern, text, colour in SYMBOLS:
        if match := re.fullmatch(pattern, name):
            number = next((int(one) + 1 for one in match.groups() if one and one.isdecimal()), "")
            return text.format(k=number), colour
    return {"inlet": "in", "outlet": "out", "head_inlet": "$x_i$"}.get(name, name.removeprefix("head_")), "0.35"


def what(block: Block) -> str:
    """What a block is, in words."""
    return next((text for key, text in WHAT.items() if key in block.name), "convolution or norm")


def shape(block: Block) -> str:
    """The shape of what a block gave for an image: channels x rows x columns."""
    return "×".join(str(n) for n in block.output.squeeze().shape) or "1"


def channels(block: Block, most: int) -> np.ndarray:
    """uint8 (h, w): the channels (of heads: each head) that vary most, every one over its own range, as a square.

    A vector is a square of its numbers.
    """
    values = block.output
    if values.ndim == 4:
        values = values.mean(1)
    if values.ndim < 3 or values.shape[-1] == 1:
        values = values.flatten()
        side = math.ceil(math.sqrt(len(values)))
        values = torch.nn.functional.pad(values, (0, side**2 - len(values)), value=float(values.mean()))
        return stretched(values.view(1, 1, side, side))[0, 0]
    best = values.flatten(1).var(1).topk(min(most, len(values))).indices.sort().values
    return tile(stretched(values[best][:, None]).transpose(0, 2, 3, 1), math.ceil(math.sqrt(len(best))))[..., 0]


class Place(NamedTuple):
    """A block in a panel: the middle of its square, and the square's side."""

    x: float
    y: float
    side: float


def layout(panel: Panel) -> dict[str, Place]:
    """Places by name: columns in the order of the run, rows by resolution; maps of the inputs alone hang below the
    block that they are added to.
    """
    inputs = {source for block in panel.blocks for source in block.sources} - {block.name for block in panel.blocks}
    path = [block for block in panel.blocks if block is panel.blocks[0] or not set(block.sources) <= inputs]
    top = panel.image.shape[-1]
    rows = {b.name: math.log2(top / b.output.shape[-1]) for b in path if b.output.ndim > 2 and b.output.shape[-1] > 1}
    deepest = max(rows.values())
    places = {"x_i": Place(0, 0, MAIN)}
    for column, block in enumerate(path, start=1):
        places[block.name] = Place(column, -ROW * rows.get(block.name, deepest + 1), MAIN)
    for block in path:
        hung = [b.name for b in panel.blocks if b.name in block.sources and b not in path]
        x, y, _ = places[block.name]
        for k, name in enumerate(hung):
            places[name] = Place(x + (k - (len(hung) - 1) / 2) * (SIDE + 0.06), y - MAIN / 2 - 0.22 - SIDE / 2, SIDE)
    return places


# --- The figure


@styled
def draw_networks(panels: list[Panel], note: str) -> Figure:
    """Fig. 4: the networks one below the other."""
    from matplotlib.figure import Figure

    places = [layout(panel) for panel in panels]
    columns = max(place.x for each in places for place in each.values()) + 1
    heights = [1.65 - min(place.y for place in each.values()) for each in places]
    unit = WIDTH / columns
    figure = Figure(figsize=(WIDTH, unit * sum(heights) + 0.25), layout="constrained")
    several = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, place, axes, height in zip(panels, places, several, heights, strict=True):
        _panel(axes, panel, place, unit * 72)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(0.75 - height, 0.75), aspect="equal")
        axes.axis("off")
    figure.text(0.5, 0, note, ha="center", va="bottom", fontsize=7.5, color="0.35")
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    return figure


def _panel(axes, panel: Panel, places: dict[str, Place], points: float) -> None:
    """One network; points: of a column."""
    letter = min(9.0, points / 5.5)

    def put(name: str, picture: np.ndarray, label: str, below: str, colour: str) -> None:
        x, y, side = places[name]
        half, big = side / 2, side == MAIN
        box = (x - half, x + half, y - half, y + half)
        axes.imshow(picture, extent=box, cmap="gray", vmin=0, vmax=255, interpolation="none", zorder=2)
        axes.add_patch(_frame(box, colour, 1.2 if big else 0.7))
        size = letter if big else letter * 0.75
        if big:
            axes.text(x, y + half + 0.04, label, ha="center", va="bottom", fontsize=size, color=colour)
            axes.text(x, y - half - 0.03, below, ha="center", va="top", fontsize=letter * 0.55, color="0.3")
        else:
            axes.text(x, y - half - 0.03, label, ha="center", va="top", fontsize=size, color=colour)

    axes.set_title(panel.title, loc="left")
    put("x_i", tile(stretched(panel.image[None]).transpose(0, 2, 3, 1), 1).mean(-1), "$x_i$", "", "0.35")
    for block in panel.blocks:
        label, colour = (panel.result, "0.1") if block.name == "output" else symbol(block.name)
        put(block.name, channels(block, LIT), label, shape(block), colour)
        for source in block.sources:
            on_path = source in places and places[source].side == places[block.name].side == MAIN
            if on_path and (source != "x_i" or block is panel.blocks[0]):
                _arrow(axes, places[source], places[block.name])


def _frame(box: tuple[float, ...], colour: str, width: float):
    from matplotlib.patches import Rectangle

    left, right, low, high = box
    return Rectangle((left, low), right - left, high - low, fill=False, edgecolor=colour, linewidth=width, zorder=3)


def _arrow(axes, start: Place, end: Place) -> None:
    half = MAIN / 2
    axes.annotate(
        "", (end.x - half, end.y), (start.x + half, start.y),
        arrowprops={"arrowstyle": "-|>", "color": "0.45", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0,
                    "mutation_scale": 6},
        zorder=1,
    )  # fmt: skip
