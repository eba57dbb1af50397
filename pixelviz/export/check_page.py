"""What a check of one or two checkpoints found, as one HTML file that can be mailed: pictures are inside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor

from pixelviz.data.pictures import data_uri, tile
from pixelviz.measure.check import ROW, SHEET, Findings

COLUMNS = round(SHEET**0.5)
FIGURES = {
    "fid": "FID of one pass",
    "fid_interval": "95 % of resamples",
    "kid": "KID × 1000",
    "nearest_by_pixels": "distance to the nearest training image",
    "memorised": "share nearly a training image",
    "brightness": "brightness",
    "brightness_real": "brightness of images",
    "contrast": "contrast",
    "contrast_real": "contrast of images",
    "roughness": "grain",
    "roughness_real": "grain of images",
    "spread": "distance of two samples",
    "spread_real": "distance of two images",
    "outside": "share of values outside the range",
}


def _uri(images: Tensor, columns: int) -> str:
    """uint8 images (N, C, H, W) side by side, as a data URI."""
    return data_uri(tile(images.permute(0, 2, 3, 1).numpy(), columns))


def _written(key: str, value: Any) -> str:
    if value is None:
        return "cannot be judged"
    if isinstance(value, list):
        return " to ".join(_written(key, one) for one in value)
    return f"{1000 * value:.1f}" if key == "kid" else f"{value:.3g}"


def _tables(found: Findings) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    if ssim := found.figures.get("ssim_x_delta"):
        yield "SSIM of x_delta_hat", [(f"from i = {i}", f"{value:.3f}") for i, value in ssim.items()]
    if "samples" in found.figures:
        rows = [(name, _written(key, found.figures[key])) for key, name in FIGURES.items() if key in found.figures]
        title = f"{found.figures['samples']} samples of one pass"
        yield title + (f"; features: {found.figures['features']}" if "features" in found.figures else ""), rows
    if found.classes:
        yield (
            "Classes of the nearest training images",
            [(name, f"{share:.0%}") for name, share in found.classes.items()],
        )


def _pictures(found: Findings) -> Iterator[tuple[str, str]]:
    for passes, images in found.sheets.items():
        yield f"{passes} pass{'es' if passes > 1 else ''}", _uri(images, COLUMNS)
    for title, images in found.rows.items():
        yield title[0].upper() + title[1:], _uri(images, ROW)
    if found.interpolation is not None:
        yield "Between two codes, the same noise", _uri(found.interpolation, ROW)
    for title, images in found.nearest.items():
        yield title[0].upper() + title[1:], _uri(images, ROW)


def check_page(findings: Sequence[Findings]) -> str:
    """The HTML of one or several checks side by side."""
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    checks = [
        {
            "name": found.name,
            "data": found.data,
            "flags": found.flags,
            "notes": found.notes,
            "tables": list(_tables(found)),
            "pictures": list(_pictures(found)),
        }
        for found in findings
    ]
    return environment.get_template("check.html").render(checks=checks, made=f"Made on {date.today():%d %B %Y}.")
