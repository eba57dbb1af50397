"""Noise an image with the pixel-aware process and with DDPM, side by side."""

from __future__ import annotations

import gradio as gr
import numpy as np

from pixelviz import figures
from pixelviz.config import PAPER_FLOOR
from pixelviz.images import EXAMPLES
from pixelviz.ui import widgets
from pixelviz.ui.jobs import TrainingJobs
from pixelviz.ui.service import METHODS, Forward, Service, ServiceError, friendly

DEFAULT_EXAMPLE = 0
RANGES = (("as printed, 1e-4 to 0.02", False), ("rescaled by 1000/T", True))
CHANNELS = ("red", "green", "blue")
TOLERANCE = 0.01  # nats; what the advice aims at

INTRO = """Brighter pixels get noise faster: each pixel's own value sets its rate. Move the time slider and watch six
pixels of your choice lose their signal, next to DDPM, which noises every pixel alike."""

FORMULAS = r"""
$$x_i=\sqrt{\bar\alpha_i}\,x_0+\sqrt{1-\bar\alpha_i}\,\varepsilon,\qquad
\bar\alpha_i=e^{-\gamma\,\frac{i}{T}\,x_0}\quad\text{(Eq. 7–9)},\qquad x_\delta=\bar\alpha_T=e^{-\gamma x_0}$$

$$\mathrm{SNR}(x_0,t)=\frac{x_0^2}{e^{\gamma t x_0}-1}\quad\text{(Eq. 11)},\qquad t=i/T$$

**Proposition 1.** Of two pixels the brighter one loses SNR faster, but only until $t_\delta$; then the order
turns round.
**Proposition 2.** Our mean is below DDPM's while $\gamma x_0 t > -\log\bar\alpha^{\text{DDPM}}_t$; dark pixels
decay slower. The **terminal gap** is $\mathrm{KL}\big(q(x_T\mid x_0)\,\|\,\mathcal N(0,1)\big)$: what starting from
pure noise ignores.
"""

Pixel = tuple[int, int, int]


def parse_pixels(text: str) -> list[Pixel]:
    """ "row, column, channel; …" as numbers, the channel 0 where it is left out; raises ServiceError."""
    pixels = []
    for part in filter(None, (p.strip() for p in (text or "").split(";"))):
        try:
            numbers = [int(n) for n in part.replace(",", " ").split()]
        except ValueError:
            numbers = []
        if len(numbers) not in (2, 3):
            raise ServiceError(f"“{part}” is not a pixel; write row, column, channel, as in 12, 40, 0; 60, 80, 1.")
        pixels.append((numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else 0))
    return pixels


def format_pixels(pixels: list[Pixel]) -> str:
    """The inverse of `parse_pixels`."""
    return "; ".join(", ".join(map(str, pixel)) for pixel in pixels)


def facts(result: Forward) -> str:
    """The numbers beside the picture, as HTML."""
    ours, ddpm = (result.gap[name] for name in METHODS)
    cards = [
        ("Terminal gap", f"{ours.mean:.3g} nats", f"mean KL of x_T to N(0, 1) per value; DDPM {ddpm.mean:.3g}"),
        (
            "Barely noisy at T",
            f"{100 * ours.share_barely_noisy:.1f} %",
            f"of the values have a variance below 0.9; the least is {ours.least_variance:.3f}",
        ),
        (
            "Ahead at t = 1",
            f"{100 * float(result.ahead(result.T).mean()):.0f} %",
            "of the values: their mean is below DDPM's (Proposition 2)",
        ),
    ]
    if result.t_delta is not None:
        brighter = 1 if result.x0_at_pixels[0] > result.x0_at_pixels[1] else 2
        until = "throughout" if result.t_delta >= 1 else f"only until t = {result.t_delta:.4g}"
        cards.append(
            ("t_δ, pixels 1 and 2", f"{result.t_delta:.4g}", f"{brighter}, brighter, loses SNR faster {until}")
        )
    suggestion = result.advice(TOLERANCE)
    wanted = [
        text
        for value, text in (
            (suggestion.gamma, f"γ = {suggestion.gamma:.3g} at this floor" if suggestion.gamma else ""),
            (suggestion.floor, f"floor {suggestion.floor:.3g} at this γ" if suggestion.floor else ""),
        )
        if value is not None
    ]
    advice = f"For a terminal gap of {TOLERANCE:g} nats this image needs at least " + " or ".join(wanted) + "."
    lines = [advice] if wanted else []
    lines += [note[:1].upper() + note[1:] for note in suggestion.notes]
    return widgets.cards(cards) + widgets.alert(" ".join(lines) or None, "info")


def explorer(result: Forward) -> str:
    """The explorer's value for a result."""
    kept = np.array(result.kept_steps)
    steps = sorted({int(kept[np.abs(kept - i).argmin()]) for i in figures.frame_steps(result.T)})
    nobody = np.zeros(result.shape, bool)
    return figures.explorer(
        T=result.T,
        steps=steps,
        frames={name: result.frames(name, steps) for name in METHODS},
        ahead=np.stack([result.ahead(i) if i else nobody for i in steps]),
        t=result.t,
        snr=result.snr,
        mean=result.mean,
        variance=result.variance,
        pixels=result.pixels,
        x0_at_pixels=result.x0_at_pixels,
    )


def build(demo: gr.Blocks, tab: gr.Tab, service: Service, jobs: TrainingJobs) -> None:
    """The tab's components and events."""

    def show(source, gamma, T, floor, seed, rescaled, text):
        """Picture, explorer, facts, notes and message for the present settings; the old ones stay on an error."""
        try:
            result = service.forward(
                source["path"], gamma, T, floor, seed, pixels=parse_pixels(text), ddpm_rescaled=rescaled
            )
            image = result.frame("pixel_aware", 0)
            label = f"The image x0, {image.shape[1]} by {image.shape[0]} pixels; click to add a pixel"
            drawn = figures.picture(
                image, label, pixels=result.pixels, channels=result.shape[0], example=source["example"]
            )
            return drawn, explorer(result), facts(result), widgets.notes(result.notes), ""
        except Exception as error:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip(), widgets.alert(friendly(error))

    def choose(path, example, *settings):
        """A new picture with suggested pixels, drawn; the old one stays where it cannot be used."""
        try:
            x0 = service.forward(path, *settings[:-1], ddpm_rescaled=settings[-1]).x0
        except Exception as error:
            message = friendly(error)
            widgets.warn(message)
            return *(gr.skip() for _ in range(7)), widgets.alert(message)
        source = {"path": path, "example": example}
        text = format_pixels(figures.suggest_pixels(x0))
        return source, text, gr.Radio(visible=len(x0) == 3), *show(source, *settings, text)

    def upload(path, *settings):
        return choose(path, None, *settings)

    def example(event: gr.EventData, *settings):
        return choose(str(EXAMPLES[event.example][1]), event.example, *settings)

    def click(text, channel, event: gr.EventData):
        """The pixel text with the clicked one added; the oldest gives way to a seventh."""
        try:
            pixels = parse_pixels(text)
        except ServiceError:
            pixels = []
        clicked = (event.row, event.col, min(CHANNELS.index(channel), event.channels - 1))
        return format_pixels([*(p for p in pixels if p != clicked), clicked][-figures.MAX_PIXELS_SHOWN :])

    path = str(EXAMPLES[DEFAULT_EXAMPLE][1])
    source = gr.State({"path": path, "example": DEFAULT_EXAMPLE})
    gr.Markdown(INTRO, elem_classes="pv-intro")
    with gr.Row(elem_classes="pv-columns"):
        with gr.Column(scale=4, min_width=300):
            picture = widgets.picture("forward-upload")
            uploader = widgets.upload_button("forward-upload")
            note = gr.HTML(apply_default_css=False)
            with gr.Group():
                text = gr.Textbox(
                    label="Pixels",
                    info="Click the picture, or type row, column, channel; …",
                    max_lines=2,
                    elem_id="pixels",
                )
                channel = gr.Radio(CHANNELS, value="green", label="Channel that clicks add")
                clear = gr.Button("Clear pixels", size="sm")
            with gr.Group():
                gamma = gr.Slider(
                    1, 100, 20, step=0.5, label="γ", info="noise rate; must stay below T", elem_id="gamma"
                )
                T = gr.Slider(1, 1000, 200, step=1, label="T", info="steps")
                floor = gr.Slider(
                    0.001, 0.5, PAPER_FLOOR, step=0.001, label="Floor", info="darkest value of x₀; the paper's is 0.004"
                )
                rescaled = gr.Radio(
                    RANGES,
                    value=False,
                    label="DDPM's β range",
                    info="As printed it does not reach noise in fewer than 1000 steps.",
                )
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
        with gr.Column(scale=9, min_width=320):
            message = gr.HTML(apply_default_css=False, elem_id="forward-message")
            viewer = widgets.explorer()
            fact = gr.HTML(apply_default_css=False)
            with gr.Accordion("The formulas", open=False):
                gr.Markdown(FORMULAS, latex_delimiters=widgets.LATEX)

    settings = [gamma, T, floor, seed, rescaled]
    inputs = [source, *settings, text]
    outputs = [picture, viewer, fact, note, message]
    quiet = {"show_progress": "minimal", "show_progress_on": viewer, "api_visibility": "private"}
    shared = {"concurrency_id": "forward", "concurrency_limit": 2}

    chosen = [source, text, channel, *outputs]
    uploader.upload(upload, [uploader, *settings], chosen, **quiet, **shared)
    picture.input(example, settings, chosen, **quiet, **shared)
    demo.load(lambda *now: choose(path, DEFAULT_EXAMPLE, *now), settings, chosen, **quiet, **shared)
    draw = {"fn": show, "inputs": inputs, "outputs": outputs, "trigger_mode": "always_last", **quiet, **shared}
    picture.select(click, [text, channel], text, **quiet, queue=False).then(**draw)
    clear.click(lambda: "", None, text, **quiet, queue=False).then(**draw)
    gr.on([text.submit, text.blur, *(c.change for c in settings)], **draw)
