"""Drawn faces in four styles: sheets of them as files, and how to draw more (of no real person, free to share).

A folder holds `SPLIT-STYLE-NN.webp`, each a sheet of faces of 64x64 pixels in colour, to be cut row by row.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from pixelviz.data.image_set import DataError, ImageSet, Origin, Wanted, fit_batch, spread
from pixelviz.data.images import ImageError

SIDE = 64
COLUMNS = 25  # of a sheet
PER_SHEET = 500
# As files name them, and DiceBear.
STYLES = {"micah": "micah", "personas": "personas", "pixel-art": "pixelArt", "toon-head": "toonHead"}
PACKAGES = ("@dicebear/core@9.4.3", "@dicebear/collection@9.4.3")
TEST_SHARE = 6  # one in so many of a style's faces, the last ones
# Reads {style, first, last} from its arguments and writes one face a line, as JSON of SVG.
SCRIPT = """
import { createAvatar } from "@dicebear/core";
import * as styles from "@dicebear/collection";
const backgroundColor = ("b6e3f4 c0aede d1d4f9 ffd5dc ffdfbf a3d9a5 f4d35e ee964b 5b8e7d 3d5a80 293241 f28482 84a59d "
  + "2a9d8f e9c46a").split(" ");
const [style, first, last] = process.argv.slice(1);
for (let k = Number(first); k < Number(last); k++)
  console.log(JSON.stringify(
    createAvatar(styles[style], { seed: `pv-${style}-${k}`, size: 64, backgroundColor }).toString()));
"""


class Sheet(NamedTuple):
    """A file of faces: their style's place in STYLES, and how many they are."""

    path: Path
    label: int
    count: int


def holds_sheets(folder: Path, split: str) -> bool:
    """Whether there is any sheet of the split, readable or not."""
    return any(any(folder.glob(f"{split}-{style}-[0-9]*.webp")) for style in STYLES)


def sheets(folder: Path, split: str) -> list[Sheet]:
    """The sheets of a split, style by style, in order; an empty list where there are none. Raises ImageError."""
    found = []
    for label, style in enumerate(STYLES):
        for path in sorted(folder.glob(f"{split}-{style}-[0-9]*.webp")):
            with _opened(path) as picture:
                width, height = picture.size
            if width % SIDE or height % SIDE:
                raise ImageError(f"{path.name} is {width}x{height} pixels, no sheet of faces of {SIDE}x{SIDE}.")
            found.append(Sheet(path, label, width * height // SIDE**2))
    return found


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=["WEBP"])
    except (OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path.name} cannot be read ({error}); copy it again.") from None


def cut(path: Path) -> np.ndarray:
    """A sheet's faces, uint8 (N, 3, 64, 64), row by row. Raises ImageError."""
    try:
        with _opened(path) as picture:
            values = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ImageError(f"{path.name} cannot be read ({error}); copy it again.") from None
    rows, columns = values.shape[0] // SIDE, values.shape[1] // SIDE
    return values.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIDE, SIDE)


def read(folder: Path, split: str, keep: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A sheet's faces and their labels, int64 (n,), at a time; of those whose place in the whole is in `keep`."""
    chosen, first = [], 0
    for sheet in sheets(folder, split):
        if keep is None:
            chosen.append((sheet, slice(None)))
        elif len(here := keep[(first <= keep) & (keep < first + sheet.count)] - first):
            chosen.append((sheet, here))
        first += sheet.count
    with ThreadPoolExecutor(2) as pool:
        for faces, (sheet, which) in zip(pool.map(cut, [sheet.path for sheet, _ in chosen]), chosen, strict=True):
            yield faces[which], np.full(len(faces[which]), sheet.label)


def from_sheets(folder: Path, origin: Origin, wanted: Wanted, total: int | None = None) -> ImageSet:
    """The faces in a folder of sheets, labelled by style; `total`: of the whole set, where the folder holds a part.

    origin: their id and title. Raises DataError.
    """
    try:
        count = sum(sheet.count for sheet in sheets(folder, wanted.split))
        keep = spread(count, wanted.limit)
        parts = [
            (fit_batch(torch.from_numpy(part), wanted.size, wanted.channels), torch.from_numpy(labels))
            for part, labels in read(folder, wanted.split, keep)
        ]
    except ImageError as error:
        raise DataError(f"{folder}: {error}") from None
    images, labels = map(torch.cat, zip(*parts, strict=True))
    return ImageSet(images, replace(origin, number=len(keep), total=total or count, split=wanted.split), None, labels)


def paste(faces: np.ndarray) -> Image.Image:
    """A sheet of uint8 faces (N, 64, 64, 3), `COLUMNS` to a row; N divides into such rows."""
    rows = faces.reshape(-1, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
    return Image.fromarray(rows.reshape(-1, COLUMNS * SIDE, 3))


# --- Drawing them


def draw_faces(out: Path, number: int, *, first: int = 0, packages: Path = Path(), effort: int = 4) -> Iterator[int]:
    """Draw `number` faces, as many of each style, into sheets in `out`: five sixths to train, the rest to test.

    Args: number, a multiple of 4 x 25; first, K of the first seed `pv-STYLE-K` (from 1,000,000 on for measuring only);
    packages, a folder in which `npm install` was run for PACKAGES; effort of the compression, 0 to 6. The same
    numbers give the same faces. Yields how many are drawn. Raises ImageError where something needed is missing.
    """
    each, rest = divmod(number, len(STYLES) * COLUMNS)
    if rest or number < 1:
        raise ImageError(f"the number of faces must be a multiple of {len(STYLES) * COLUMNS}; it is {number}.")
    each *= COLUMNS
    test = each // TEST_SHARE // COLUMNS * COLUMNS
    _check_tools(packages)
    out.mkdir(parents=True, exist_ok=True)
    done = 0
    for style, name in STYLES.items():
        for split, begin, end in (("train", 0, each - test), ("test", each - test, each)):
            for sheet, start in enumerate(range(begin, end, PER_SHEET)):
                stop = min(start + PER_SHEET, end)
                faces = np.stack(list(_render(name, first + start, first + stop, packages)))
                path = out / f"{split}-{style}-{sheet:02d}.webp"
                paste(faces).save(path, lossless=True, method=effort, quality=100)
                done += len(faces)
                yield done


def _check_tools(packages: Path) -> None:
    """Raise ImageError unless Node.js, DiceBear's packages and resvg are here."""
    ask = f"run `npm install {' '.join(PACKAGES)}` in {packages.name or 'this folder'}"
    if shutil.which("node") is None:
        raise ImageError(f"drawing faces needs Node.js (https://nodejs.org); install it, then {ask}.")
    if not (packages / "node_modules" / "@dicebear" / "collection").is_dir():
        raise ImageError(f"drawing faces needs DiceBear's packages; {ask}, or name their folder with --packages.")
    try:
        import resvg_py  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImageError("drawing faces needs the package resvg-py: pip install resvg-py.") from None


def _render(name: str, first: int, last: int, packages: Path) -> Iterator[np.ndarray]:
    """Faces first..last-1 of a style, uint8 (64, 64, 3): drawn at twice the size, and halved by averaging."""
    import resvg_py  # pyright: ignore[reportMissingImports]  # only who draws anew has it

    # The name of a style is ours, not the user's: nothing here is a shell's to read.
    command = ["node", "--input-type=module", "-e", SCRIPT, name, str(first), str(last)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=packages, check=False)
    if found.returncode:
        raise ImageError(f"Node.js could not draw {name}: {(found.stderr.strip().splitlines() or ['no reason'])[-1]}")
    for line in found.stdout.splitlines():
        png = resvg_py.svg_to_bytes(svg_string=json.loads(line), width=2 * SIDE, height=2 * SIDE)
        picture = Image.open(io.BytesIO(bytes(png))).convert("RGB")
        yield np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))
