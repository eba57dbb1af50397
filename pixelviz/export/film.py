"""The forward process as a film: frames of both methods side by side with the time, as GIF or MP4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, HEAD, FOOT = 16, 34, 46  # pixels
INK, DIM, PAPER, MARK = "#f1f5f9", "#94a3b8", "#0b1220", "#6ecbe0"
HOLD = 8  # frames that the first and the last stand still
GIF_COLOURS = 128


def panel_size(rows: int, columns: int, side: int) -> tuple[int, int]:
    """(columns, rows) of a picture on the screen: enlarged by a whole factor where it is small, at most `side`."""
    factor = side / max(rows, columns)
    factor = float(int(factor)) if factor >= 1 else factor
    return max(1, round(columns * factor)), max(1, round(rows * factor))


def compose(left: np.ndarray, right: np.ndarray, names: Sequence[str], i: int, T: int, side: int) -> Image.Image:
    """One frame: two pictures uint8 (H, W, C), their names, and a bar with the time. Sides are even (for video)."""
    from matplotlib import get_data_path  # takes a while to import, which opening the app should not wait for

    width, height = panel_size(*left.shape[:2], side)
    total = (2 * width + 3 * MARGIN, height + HEAD + FOOT)
    total = tuple(n + n % 2 for n in total)
    frame = Image.new("RGB", total, PAPER)
    draw = ImageDraw.Draw(frame)
    face = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    font, small = ImageFont.truetype(face, 15), ImageFont.truetype(face, 13)
    for k, (image, name) in enumerate(zip((left, right), names, strict=True)):
        x = MARGIN + k * (width + MARGIN)
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        enlarged = width >= image.shape[1]
        frame.paste(
            picture.resize((width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX), (x, HEAD)
        )
        draw.text((x, HEAD / 2), name, INK, font, anchor="lm")
    y, end = HEAD + height + 15, total[0] - MARGIN
    draw.rounded_rectangle((MARGIN, y, end, y + 4), 2, "#24304a")
    reached = MARGIN + (end - MARGIN) * i / T
    draw.rounded_rectangle((MARGIN, y, max(reached, MARGIN + 4), y + 4), 2, MARK)
    draw.text((MARGIN, y + 17), f"i = {i} of {T}", INK, small, anchor="lm")
    draw.text((end, y + 17), f"t = {i / T:.3f}", DIM, small, anchor="rm")
    return frame


def held(frames: Sequence[Image.Image]) -> Iterator[Image.Image]:
    """The frames, the first and the last standing still for a while."""
    yield from [frames[0]] * HOLD
    yield from frames[1:-1]
    yield from [frames[-1]] * HOLD


def write_gif(stream: BinaryIO, frames: Sequence[Image.Image], seconds_per_frame: float = 0.1) -> None:
    """An endless GIF; the first and the last frame stay longer."""
    # An octree: median cut, the default, takes a hundred times as long on noise.
    fast, plain = Image.Quantize.FASTOCTREE, Image.Dither.NONE
    palette = [frame.quantize(GIF_COLOURS, fast, dither=plain) for frame in frames]
    each = round(1000 * seconds_per_frame)
    durations = [each * HOLD, *[each] * (len(frames) - 2), each * HOLD][: len(frames)]
    palette[0].save(stream, "gif", save_all=True, append_images=palette[1:], duration=durations, loop=0, optimize=False)


def write_mp4(stream: BinaryIO, frames: Sequence[Image.Image], rate: int = 12) -> None:
    """H.264 in MP4, which every browser and slide program plays; `stream` must be seekable."""
    import av  # as late as Matplotlib

    with av.open(stream, "w", format="mp4") as container:
        track = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "medium"})
        track.width, track.height = frames[0].size
        track.pix_fmt = "yuv420p"
        for frame in held(frames):
            container.mux(track.encode(av.VideoFrame.from_image(frame)))
        container.mux(track.encode())
