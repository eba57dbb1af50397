"""What is in each checkpoint, and how to add one."""

from __future__ import annotations

import base64
import json
from collections import deque

import gradio as gr

from pixelviz.data import pictures
from pixelviz.service import anatomy
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.service import Service, friendly
from pixelviz.ui import links, widgets
from pixelviz.ui.guard import at_home
from pixelviz.ui.instrument import READ_STATE
from pixelviz.ui.markup import from_markdown, joined, render
from pixelviz.ui.queue import LONG_LANE, SHORT_LANE
from pixelviz.view import View

NO_CHECKPOINT = "There is no checkpoint yet. Train one in the Train tab, or load one below."
SAMPLES = 8  # that are shown of a checkpoint
KINDS = {"bundled": "bundled with the app", "trained": "trained here", "loaded": "loaded"}
PARTS = {
    "scale_vae": "scale VAE G_θ",
    "twin": "its twin, trained on x₀",
    "parallel_unet": "parallel U-Net R_φ",
    "linear_twin": "linear-β DDPM on R_φ's backbone",
}


def summary(info: dict) -> str:
    """A checkpoint at a glance, and its parts, as HTML."""
    config = info["config"]
    cards = widgets.cards(
        [
            ("Images", f"{config['image_size']}×{config['image_size']}×{config['channels']}", info["data"]),
            (
                "Process",
                f"γ {config['gamma']:g}, T {config['T']}",
                f"floor {config['floor']:g}, {config['head_target']} heads",
            ),
            ("Parameters", f"{sum(info['parts'].values()):,}", KINDS[info["kind"]]),
            ("Trained", f"{info['seconds'] / 60:,.0f} min", info["device"]),
        ]
    )
    rows = [
        (PARTS[part], f"{count:,}", f"{info['steps'].get(part, 0):,}", f"{info['images_seen'].get(part, 0):,}")
        for part, count in info["parts"].items()
    ]
    return joined(cards, widgets.table(("Part", "Parameters", "Steps", "Images seen"), rows))


def figure_tables(figures: dict) -> str:
    """Measured figures as tables; empty where there are none."""
    parts = []
    if ssim := figures.get("ssim_x_delta"):
        rows = [("x_δ", *(f"{v:.3f}" for v in ssim.values()))]
        if bar := figures.get("ssim_alpha_bar"):
            rows.append(("ᾱᵢ", *(f"{bar[i]:.3f}" if bar.get(i) is not None else "–" for i in ssim)))
        parts.append(widgets.table(("SSIM at step i", *ssim), rows))
    if bits := figures.get("bits_per_dimension"):
        names = {"ours": "pixel-aware", "twin": "its linear-beta twin"}
        rows = [(names[one], f"{found['all']:.2f}") for one, found in bits.items()]
        parts.append(widgets.table(("Model", "Bits per dimension of held-out images, at most"), rows))
    if made := figures.get("generation"):
        rows = [
            (
                f"{row['start']}, {row['passes']} pass{'es' if row['passes'] > 1 else ''}",
                f"{row['fid']:.2f}",
                f"{row['network_evaluations']}",
                f"{row['seconds_per_image']:.4f}",
            )
            for row in made
        ]
        parts.append(widgets.table(("Samples", "FID", "Network evaluations", "Seconds per image"), rows))
    return render("titled", title="Measured", parts=parts) if parts else ""


def build(demo: gr.Blocks, tab: gr.Tab, service: Service, jobs: TrainingJobs) -> None:
    """The tab's components and events."""

    def show(name):
        """Everything about one checkpoint."""
        if not name:
            return widgets.alert(NO_CHECKPOINT, "info"), "", "", ""
        try:
            info = service.describe(name)
            text = json.dumps(info["config"], indent=2, ensure_ascii=False)
            return summary(info), figure_tables(info["figures"]), from_markdown(info["card"]), text
        except Exception as error:
            return widgets.alert(friendly(error)), "", "", ""

    def drawn_by(name):
        """Some images of a checkpoint, one run each; nothing where it cannot draw any."""
        if name not in service.names("parallel_unet", "scale_vae"):
            return ""
        try:
            last = deque(service.generate(name, SAMPLES), maxlen=1).pop()
        except Exception as error:
            return widgets.alert(friendly(error))
        strip = pictures.tile(last.images, len(last.images))
        return widgets.figure_row([(strip, "What it draws", "seed 0, one run for each image")], kind="rows")

    def listed(name):
        """The list, with `name` chosen where it is there, and folders that could not be read."""
        broken = joined(*(widgets.alert(f"{folder}: {why}") for folder, why in service.problems()))
        return gr.Radio(choices=service.names(), value=service.chosen(name)), broken

    def check(name):
        """How far the check is, then its page."""
        name = name or service.chosen(None)  # a quick hand: the list is still on its way
        if not name:
            yield widgets.alert(NO_CHECKPOINT, "info"), gr.skip()
            return
        try:
            for step in service.check(name):
                if isinstance(step, str):
                    file = base64.b64encode(step.encode()).decode()
                    yield render("checked", checkpoint=name, page=step, file=file), gr.Button(interactive=True)
                else:
                    bar = widgets.share_bar("Check", step.done / step.total, f"{step.what} …")
                    yield bar, gr.Button(interactive=False)
        except Exception as error:
            yield widgets.alert(friendly(error)), gr.Button(interactive=True)

    def forget():
        """What was found of the one before is not this one's: the panel lights anew when it is opened."""
        return "", "", "", gr.Dropdown([], value=None), gr.Accordion(open=False)

    def load(read):
        """Add a checkpoint by `read()`, and choose it."""
        try:
            name = read()
        except Exception as error:
            message = friendly(error)
            widgets.warn(message)
            return gr.skip(), gr.skip(), widgets.alert(message), *(gr.skip() for _ in stale)
        said = widgets.alert(f"Loaded {name}; it can be chosen in the other tabs, too.", "good")
        return *listed(name), said, *forget()

    def load_folder(path):
        return load(lambda: service.load_folder(str(service.folders.named(path, at_home()))))

    def load_files(paths):
        return load(lambda: service.load_files(paths or []))

    def light(state, name, share):
        """Fig. 4 of a checkpoint, its table, and its blocks to look into."""
        name = name or service.chosen(None)  # as above
        if not name:
            return widgets.alert(NO_CHECKPOINT, "info"), gr.skip()
        try:
            found = anatomy.light(service, name, View.from_state(state), share)
        except Exception as error:
            return widgets.alert(friendly(error)), gr.skip()
        table = widgets.table(("Block", "What", "Gives", "Parameters", "Computed from"), found.rows)
        drawn = render("architecture", source=found.picture, words=found.words, table=table)
        return drawn, gr.Dropdown(choices=found.names, value=None)

    def look_into(state, name, share, block):
        """All channels of one block."""
        try:
            image, words = anatomy.feature_maps(service, name, View.from_state(state), share, block)
        except Exception as error:
            return widgets.alert(friendly(error))
        return widgets.figure_row([(image, block, words)], kind="wide")

    widgets.about("checkpoints")
    with gr.Row(elem_classes="pv-columns"):
        with gr.Column(scale=4, min_width=300):
            name = gr.Radio([], label="Checkpoints", elem_classes="pv-list")
            broken = gr.HTML(apply_default_css=False)
            with gr.Group():
                folder = gr.Textbox(
                    label="Load another folder", info="its path on the computer that runs this app", lines=1
                )
                from_folder = gr.Button("Load folder", size="sm")
            with gr.Group():
                files = gr.File(
                    label="Or upload config.json and model.safetensors, or a zip of them",
                    file_count="multiple",
                    type="filepath",
                    height=170,
                    elem_id="checkpoint-files",
                )
                from_files = gr.Button("Load uploaded files", size="sm")
            said = gr.HTML(apply_default_css=False, elem_id="checkpoint-message")
        with gr.Column(scale=9, min_width=320):
            samples = gr.HTML(apply_default_css=False, elem_id="checkpoint-samples")
            glance = gr.HTML(apply_default_css=False)
            figures = gr.HTML(apply_default_css=False)
            with gr.Accordion("Its networks, lit by a run (Fig. 4)", open=False, elem_id="architecture") as inside:
                widgets.about("checkpoints_lit")
                share = gr.Slider(0, 1, 0.2, step=0.01, label="Time of x_i", info="share of T; 1: the most noise")
                drawn = gr.HTML(apply_default_css=False, elem_id="architecture-drawn")
                block = gr.Dropdown([], label="Look into a block", elem_id="architecture-block")
                maps = gr.HTML(apply_default_css=False, elem_id="architecture-maps")
            examine = gr.Button(
                "Check it: samples, reconstructions, nearest images, red flags (a minute)", elem_id="check"
            )
            checked = gr.HTML(apply_default_css=False, elem_id="checked")
            with gr.Accordion("Model card, as it is published: the same figures, and what was tried", open=False):
                card = gr.HTML(elem_classes="pv-card")
            with gr.Accordion("Configuration", open=False):
                config = gr.Code(language="json", show_label=False, interactive=False)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    state = gr.Textbox(label="The instrument's settings", visible=False)
    model = {"api_visibility": "private", "js": READ_STATE, **SHORT_LANE}
    lit = {"fn": light, "inputs": [state, name, share], "outputs": [drawn, block], "show_progress_on": drawn, **model}
    inside.expand(**lit)
    share.release(**lit)
    block.input(look_into, [state, name, share, block], maps, show_progress_on=maps, **model)
    shown = {"fn": show, "inputs": name, "outputs": [glance, figures, card, config], **quiet}
    strip = {"fn": drawn_by, "inputs": name, "outputs": samples, **quiet, **SHORT_LANE}
    opened = tab.select(listed, name, [name, broken], **quiet)
    links.bring_back(opened, tab, {"checkpoint": name}, {"checkpoint": lambda _: service.names()}).then(**shown).then(
        **strip
    )
    name.input(**shown).then(**strip)
    stale = [checked, drawn, maps, block, inside]
    name.input(forget, None, stale, queue=False, **quiet)
    examine.click(check, name, [checked, examine], **LONG_LANE, **quiet)
    loaded = [name, broken, said, *stale]
    for event in (
        from_folder.click(load_folder, folder, loaded, **quiet),
        folder.submit(load_folder, folder, loaded, **quiet),
        from_files.click(load_files, files, loaded, **quiet),
    ):
        event.then(**shown).then(**strip)
