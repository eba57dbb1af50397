"""Estimate the scale x_delta of an image from its noisy version x_i."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from pixelviz.data.picture_store import PICTURES
from pixelviz.measure.estimate import ScalePoint, ScaleResult, Tiling
from pixelviz.service import payloads
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.kept import Kept
from pixelviz.service.scale import scale_command, scale_curves
from pixelviz.service.service import Service, friendly
from pixelviz.service.turns import LONG, SHORT
from pixelviz.ui import charts, links, widgets
from pixelviz.ui.queue import SHORT_LANE
from pixelviz.view import View

FIRST_EXAMPLE = "t-shirt"
MOST_PAGES = 4096  # whose charts are remembered
KEPT_BYTES = 2**27  # of results, for A and B
PATIENCE = 0.7  # seconds without a sign of life
WHOLE, TILED = "whole", "tiled"
SIZES = {WHOLE: "At the checkpoint's size", TILED: "Tiled, at the picture's own size"}
NO_CHECKPOINT = "No checkpoint here holds a scale VAE yet. Train one in the Train tab, or load a folder in Checkpoints."

PICTURES_SHOWN = {  # of a result: title, and what it is
    "x0": ("x₀", "the image"),
    "x_i": ("xᵢ", "all the network sees"),
    "x_delta": ("x_δ", "true scale, exp(−γx₀)"),
    "x_delta_hat": ("x̂_δ", "estimated from xᵢ"),
    "x0_hat": ("−log x̂_δ / γ", "the same, read as an image"),
    "twin_x0_hat": ("x̂₀ of the twin", "trained on x₀ itself (Fig. 6)"),
    "alpha_bar": ("ᾱᵢ", "true (Fig. 5)"),
    "alpha_bar_hat": ("ᾱᵢ estimated", "from x̂_δ"),
}


def pictures(result: ScaleResult) -> str:
    """The estimates beside the truth, as HTML."""
    kind = "wide" if result.tiles > 1 else "large"
    return widgets.figure_row(((result.picture(name), *PICTURES_SHOWN[name]) for name in result.shown), kind=kind)


def _view(source: Any, seed: Any, crop: Any) -> View:
    """The picture that a page says it holds; using it raises ImageError where it is none."""
    picture = source.get("picture") if isinstance(source, dict) else None
    return View(picture=picture if isinstance(picture, str) else None, seed=seed, crop=crop)


def tiles_done(done: int, total: int) -> str:
    """How many tiles are done, as HTML."""
    return widgets.share_bar("Tiles", done / total, f"{done} of {total} tiles")


def numbers(result: ScaleResult) -> str:
    """SSIM and time as cards."""
    rows, columns = result.x0.shape[1:]
    fitted = result.fitted[1:] if result.fitted else (None, None)
    scale_there, bar_there = ("" if v is None else f" ({v:.3f} at the checkpoint's size)" for v in fitted)
    return widgets.cards(
        [
            (
                "SSIM of x̂_δ",
                f"{result.ssim_x_delta:.3f}",
                "against x_δ, on the range that x_δ really has" + scale_there,
            ),
            (
                "SSIM of ᾱᵢ",
                "–" if result.ssim_alpha_bar is None else f"{result.ssim_alpha_bar:.3f}",
                ("against the true ᾱᵢ (Fig. 5)" if result.i else "at i = 0 it is 1 everywhere") + bar_there,
            ),
            (
                "Time",
                f"{result.seconds:.2g} s",
                f"{columns}×{rows} pixels" + (f" in {result.tiles} tiles" if result.tiles > 1 else ""),
            ),
        ]
    )


def build(demo: gr.Blocks, tab: gr.Tab, service: Service, jobs: TrainingJobs) -> None:
    """The tab's components and events."""
    points: Kept[dict[str, list[ScalePoint]]] = Kept(MOST_PAGES)  # of a page's chart
    results: Kept[ScaleResult] = Kept(KEPT_BYTES)  # that a page shows

    def chosen(name):
        """The checkpoint that the tab shows; with a twin there is more to see."""
        return service.chosen(name, "scale_vae", first=service.chosen(None, "scale_vae", "twin"))

    def estimate(source, name, size, i, seed, crop, request: gr.Request):
        """Pictures, SSIM, notes and message at one i, after signs of progress; the old ones stay on an error."""
        same = (gr.skip(),) * 4
        name = name or chosen(None)  # a quick hand: the list is still on its way
        if not name:
            yield *same, widgets.alert(NO_CHECKPOINT, "info")
            return
        said = time.monotonic()
        try:
            for result in service.scale_steps(name, _view(source, seed, crop), i, size == TILED):
                if isinstance(result, Tiling) and time.monotonic() - said > PATIENCE:
                    said = time.monotonic()
                    yield *same, tiles_done(result.done, result.total)
        except Exception as error:
            yield *same, widgets.alert(friendly(error))
            return
        results.put(request.session_hash, result, sum(one.nbytes for one in (result.x0, result.x_i)) * 4)
        drawn = payloads.picture(
            result.picture("x0"), f"The image as the checkpoint {name} sees it", example=source.get("example")
        )
        yield drawn, pictures(result), numbers(result), widgets.notes(result.notes), ""

    def curves(source, name, size, i, seed, crop, request: gr.Request):
        """SSIM over i of the chosen checkpoint and of the others that take the same kind of image, and its chart."""
        if not name:
            return gr.skip()
        try:
            found = scale_curves(service, name, _view(source, seed, crop))
            points.put(request.session_hash, found, 1)
            return charts.ssim_over_i(found, i)
        except Exception as error:
            widgets.warn(friendly(error))
            return gr.skip()

    def mark(i, request: gr.Request):
        """The page's chart with another step marked."""
        found = points.get(request.session_hash)
        return charts.ssim_over_i(found, i) if found else gr.skip()

    def beside(source, name, size, i, seed, crop, a, b, b_name, request: gr.Request):
        """Two pictures of the estimate, or one of it and one of another checkpoint's."""
        try:
            here = there = results.get(request.session_hash)
            if here is None:
                return None, ""
            if b_name and b_name != name:
                there = service.scale(b_name, _view(source, seed, crop), round(i), size == TILED)
            whose = (f" of {name}", f" of {b_name}") if here is not there else ("", "")
            titles = (PICTURES_SHOWN[which][0] + one for which, one in zip((a, b), whose, strict=True))
            return payloads.a_and_b(*zip(titles, (here.picture(a), there.picture(b)), strict=True)), ""
        except Exception as error:
            return None, widgets.alert(friendly(error))

    def as_command(source, name, size, i, seed, crop):
        """The command line that draws the same pictures."""
        if not name:
            return gr.skip()
        try:
            return scale_command(
                service.find(name), source.get("example"), size == TILED, i=round(i), crop=crop, seed=seed
            )
        except Exception as error:
            friendly(error)  # into the log, if it is not foreseen
            return ""

    def choose(hold, *settings):
        """A new picture; the old one stays where it cannot be used."""
        try:
            source = hold()
        except Exception as error:
            message = friendly(error)
            widgets.warn(message)
            yield *(gr.skip() for _ in range(5)), widgets.alert(message)
            return
        for shown in estimate(source, *settings):
            yield source, *shown

    def upload(request: gr.Request, path, *settings):
        yield from choose(lambda: {"picture": PICTURES.keep(path), "example": None}, *settings, request)

    def pick_example(event: gr.EventData, request: gr.Request, *settings):
        yield from choose(lambda: links.source(event.example), *settings, request)

    def refresh(name, b_name):
        """The checkpoints there are now, the chosen ones kept."""
        names, name = service.names("scale_vae"), chosen(name)
        b_name = service.chosen(b_name, "scale_vae", first=name)
        return gr.Dropdown(choices=names, value=name), gr.Dropdown(choices=names, value=b_name)

    def reach(name, i):
        """The step slider for a checkpoint's T."""
        if not name:
            return gr.skip()
        try:
            T = service.find(name).config.T
        except Exception as error:
            widgets.warn(friendly(error))
            return gr.skip()
        return gr.Slider(maximum=T, value=min(i, T))

    source = gr.JSON(links.source(FIRST_EXAMPLE), visible="hidden")  # the page holds it, and no stream is open for it
    widgets.about("scale")
    with gr.Row(elem_classes="pv-columns"):
        with gr.Column(scale=4, min_width=300):
            picture = widgets.picture("scale-upload")
            uploader = widgets.upload_button("scale-upload")
            note = gr.HTML(apply_default_css=False)
            with gr.Group():
                name = gr.Dropdown([], label="Checkpoint", elem_id="scale-checkpoint")
                size = gr.Radio(
                    [(title, key) for key, title in SIZES.items()],
                    value=WHOLE,
                    label="Size",
                    info="tiled: up to 256 pixels a side, in overlapping tiles",
                    elem_id="scale-size",
                )
                i = gr.Slider(0, 200, 100, step=1, label="Step i", info="0: the clean image; T: the most noise")
                crop = gr.Slider(
                    0, 1, 0.5, step=0.01, label="Square", info="where along a picture's longer side it is cut out",
                    elem_id="scale-crop",
                )  # fmt: skip
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
        with gr.Column(scale=9, min_width=320):
            message = gr.HTML(apply_default_css=False, elem_id="scale-message")
            shown = gr.HTML(apply_default_css=False)
            score = gr.HTML(apply_default_css=False)
            with gr.Row(elem_id="scale-ab"):
                shows = [(title, key) for key, (title, _) in PICTURES_SHOWN.items()]
                a = gr.Dropdown(shows, value="x_delta", label="A shows", min_width=140)
                b = gr.Dropdown(shows, value="x_delta_hat", label="B shows", min_width=140)
                b_name = gr.Dropdown([], label="B's checkpoint", min_width=180, elem_id="scale-b-checkpoint")
            pair_message = gr.HTML(apply_default_css=False)
            sides = widgets.sides(elem_id="scale-sides")
            code = widgets.code("scale-code")
            widgets.heading("SSIM over i, at the checkpoint's size")
            chart = widgets.chart()
            widgets.about("scale_why")

    settings = [name, size, i, seed, crop]
    outputs = [picture, shown, score, note, message]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    waiting = {"show_progress": "minimal", "show_progress_on": shown}  # the place in the queue
    estimate.lane = lambda data: LONG if TILED in data else SHORT
    upload.lane = pick_example.lane = estimate.lane
    model = {**SHORT_LANE, **quiet, **waiting}
    shown_by = [source, *settings]
    draw = {"fn": estimate, "inputs": shown_by, "outputs": outputs, **model}
    pair = {"fn": beside, "inputs": [*shown_by, a, b, b_name], "outputs": [sides, pair_message], **SHORT_LANE, **quiet}
    line = {"fn": as_command, "inputs": shown_by, "outputs": code, "queue": False, **quiet}
    plot = {"fn": curves, "inputs": shown_by, "outputs": chart, **model}

    linked = {"picture": source, "checkpoint": name, "size": size, "i": i, "crop": crop, "seed": seed}
    linked |= {"a": a, "b": b, "b_checkpoint": b_name}
    there = dict.fromkeys(("checkpoint", "b_checkpoint"), lambda _: service.names("scale_vae"))
    opened = tab.select(refresh, [name, b_name], [name, b_name], **quiet)
    arrived = links.bring_back(opened, tab, linked, there)
    drawn = [
        arrived.then(reach, [name, i], i, **quiet).then(**draw),
        name.input(reach, [name, i], i, **quiet).then(**draw),
        gr.on([seed.change, crop.change], **draw, trigger_mode="always_last"),
        uploader.upload(upload, [uploader, *settings], [source, *outputs], **model),
        picture.input(pick_example, settings, [source, *outputs], **model),
    ]
    for event in drawn:
        event.then(**plot)
    moved = i.change(**draw, trigger_mode="always_last")
    moved.then(mark, i, chart, **quiet)
    for event in (*drawn, moved, size.input(**draw, trigger_mode="always_last")):
        event.then(**pair, trigger_mode="always_last").then(**line)
    gr.on([a.input, b.input, b_name.input], **pair, trigger_mode="always_last")
