"""Draw images: one run of the network, or as many as one likes."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

import gradio as gr
import numpy as np
from gradio.components import Component

from pixelviz.data import pictures
from pixelviz.process.schedules import Schedule
from pixelviz.samplers import SAMPLERS, STARTS, ours
from pixelviz.service import payloads
from pixelviz.service.generation import parse_passes, sample_command
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.kept import Kept
from pixelviz.service.service import SHOWN_FIRST, Generation, Service, friendly
from pixelviz.ui import charts, links, widgets
from pixelviz.ui.markup import render
from pixelviz.ui.queue import SHORT_LANE, admitted, generation_lane

FRAMES = 12
PARTS = "parallel_unet", "scale_vae"  # that drawing takes
FIRST_CORNERS = [0, 1, 2]  # of the triangle between samples
MOST_IMAGES = 64
MOST_SHOWN_GUIDANCE = 8  # on the slider; beyond it images are mostly too much of their class
KEPT_BYTES = 2**28  # of what the pages show, for their films
NO_CHECKPOINT = (
    "No checkpoint here holds both a parallel U-Net and a scale VAE yet. Train one in the Train tab, or load a folder "
    "in Checkpoints."
)


def status(generation: Generation) -> str:
    """One line on a run, finished or not."""
    runs = f"{generation.network_evaluations} network evaluation{'s' if generation.network_evaluations != 1 else ''}"
    if not generation.done:
        return f"Step i = {generation.i:.4g} of {generation.T}, {runs}, {generation.seconds:.1f} s …"
    images = f"{generation.n} image{'s' if generation.n != 1 else ''}"
    return f"{images} in {generation.seconds:.2f} s."


def costs(generation: Generation) -> str:
    """What a finished run cost, as cards."""
    per_image = generation.seconds_per_image
    return widgets.cards(
        [
            ("Network evaluations", f"{generation.network_evaluations}", "runs of R_φ, for each image"),
            ("Seconds", f"{generation.seconds:.2f}", f"for {generation.n} images together"),
            ("Seconds per image", f"{per_image:.4f}", "measured here, now"),
            (
                "1000 closed-loop runs",
                f"{generation.closed_loop_seconds:.2f}",
                f"seconds per image, computed from one measured run: {generation.times_faster:.0f} times as long",
            ),
        ]
    )


def trajectory_row(generation: Generation, k: int) -> str:
    """The reverse trajectory of image k as a row of frames."""
    frames = generation.trajectory(k, FRAMES)
    steps = generation.trajectory_steps(FRAMES)
    row = widgets.figure_row(
        (
            (frame, f"i = {i:.4g}", "start" if i == generation.T else "image" if i == 0 else "")
            for frame, i in zip(frames, steps, strict=True)
        ),
        kind="small",
    )
    return render("film", number=k + 1, frames=row)


def way_in_words(way: tuple[str, str, str, str, str, float]) -> tuple[str, ...]:
    """Checkpoint, passes, start, sampler, class and guidance as a person says them."""
    name, passes, start, sampler, classes, guidance = way
    return (
        name,
        f"{passes} pass{'es' if passes != '1' else ''}",
        f"start {STARTS[start].title}",
        SAMPLERS[sampler].title,
        classes or "any class",
        f"guidance {guidance:g}",
    )


def teller(side: str, class_label: str, guidance_label: str) -> list[Component]:
    """The controls of class and guidance, which are hidden where a checkpoint has no classes."""
    return [
        gr.Dropdown([("any", "")], value="", label=class_label, visible=False, elem_id=f"{side}-class"),
        gr.Slider(
            0,
            MOST_SHOWN_GUIDANCE,
            1,
            step=0.1,
            label=guidance_label,
            info="how far to follow the class: 0 not at all, 1 as learnt, beyond it at twice the cost",
            visible=False,
            elem_id=f"{side}-guidance",
        ),
    ]


class Wish(NamedTuple):
    """What images were asked of, as the controls said it."""

    name: str
    n: int
    passes: str
    start: str
    sampler: str
    seed: int
    classes: str
    guidance: float


class OnScreen(NamedTuple):
    """The images that a page shows, and what they were asked of."""

    generation: Generation
    asked: Wish


def growth(generation: Generation, schedule: Schedule) -> str:
    """Chart of the values' size, with what an error of the start would have grown to where x0 is 0.5 and 1."""
    bounds = {f"e^(γx₀/2 · (T−i)/T), x₀ = {x0:g}": generation.amplification(schedule, x0) for x0 in (0.5, 1.0)}
    return charts.magnitudes(generation.magnitudes, bounds)


def build(demo: gr.Blocks, tab: gr.Tab, service: Service, jobs: TrainingJobs) -> None:
    """The tab's components and events."""
    shown: Kept[OnScreen] = Kept(KEPT_BYTES)  # by page

    def asked_of(request):
        """What the images that a page shows were asked of; its controls may say something else by now."""
        kept = shown.get(request.session_hash)
        return kept and kept.asked

    def run(name, n, passes, start, sampler, seed, classes, guidance, request: gr.Request):
        """The sheet, growing, then the costs and the first image's trajectory."""
        busy = gr.Button(interactive=False), gr.Button(interactive=True)
        free = gr.Button(interactive=True), gr.Button(interactive=False)
        keep = gr.skip()
        name = name or service.chosen(None, *PARTS, first=SHOWN_FIRST)  # a quick hand: the list is still on its way
        if not name:
            yield keep, keep, keep, keep, widgets.alert(NO_CHECKPOINT, "info"), *free
            return
        try:
            steps = service.generate(name, n, parse_passes(passes), start, sampler, seed, classes, guidance)
            waiting = payloads.sample_sheet(None, "Starting …", progress=0.0, done=False)
            yield waiting, "", "", None, "", *busy
            for generation in steps:
                if not generation.done and generation.working is not None:
                    yield (
                        payloads.sample_sheet(
                            generation.x, status(generation), progress=generation.progress, done=False
                        ),
                        *(keep for _ in range(6)),
                    )
            sheet = payloads.sample_sheet(generation.images, status(generation), chosen=0)
            chart = None if SAMPLERS[sampler].stable else growth(generation, service.checkpoint(name).model.schedule)
            said = widgets.alert(" ".join(generation.notes) or None, "info")
            asked = Wish(name, n, passes, start, sampler, seed, classes, guidance)
            shown.put(request.session_hash, OnScreen(generation, asked), generation.nbytes)
            yield sheet, costs(generation), trajectory_row(generation, 0), chart, said, *free
        except Exception as error:
            yield (
                payloads.sample_sheet(None, "", keep=True),
                keep,
                keep,
                keep,
                widgets.alert(friendly(error)),
                *free,
            )

    def first_run(name, n, passes, start, sampler, seed, classes, guidance, request: gr.Request):
        """A first sheet when the tab is opened, so that it is never empty."""
        if shown.get(request.session_hash) is None:
            yield from run(name, n, passes, start, sampler, seed, classes, guidance, request)
        else:
            yield tuple(gr.skip() for _ in range(7))

    def stopped():
        """What remains of a run that was stopped."""
        return (
            payloads.sample_sheet(None, "Stopped. The settings are kept; generate again when you like.", keep=True),
            gr.Button(interactive=True),
            gr.Button(interactive=False),
        )

    def as_command(both, b, passes, start, sampler, classes, guidance, request: gr.Request):
        """The command lines that draw the same images, of A as it is shown and, where it is there too, of B."""
        if not (asked := asked_of(request)):
            return gr.skip()
        lines = [sample_command(service.find(asked.name), *asked[1:])]
        if both and b:
            heard = passes, start, sampler, asked.seed, classes, guidance
            lines.append(sample_command(service.find(b), asked.n, *heard, out="b.png"))
        return "\n".join(lines)

    def beside(both, _, b_passes, b, b_start, b_sampler, b_class, b_guidance, request: gr.Request):
        """The same seed in both ways, A as it is shown and B; first how far B is."""
        kept = shown.get(request.session_hash)
        if not both or not kept or not b:
            yield None, ""
            return
        try:
            here, (name, n, passes, start, sampler, seed, classes, guidance) = kept
            told = b_class, b_guidance
            for there in service.generate(b, n, parse_passes(b_passes), b_start, b_sampler, seed, *told):
                if not there.done:
                    yield gr.skip(), widgets.share_bar("B", there.progress, f"B: {status(there)}")
            ways = (name, passes, start, sampler, classes, guidance), (b, b_passes, b_start, b_sampler, *told)
            differ = [k for k in range(len(ways[0])) if ways[0][k] != ways[1][k]] or [0]
            words = [", ".join(way_in_words(way)[k] for k in differ) for way in ways]
            sheets = [pictures.tile(one.images, pictures.grid_columns(one.n)) for one in (here, there)]
            yield payloads.a_and_b(*zip(words, sheets, strict=True)), ""
        except Exception as error:
            yield None, widgets.alert(friendly(error))

    def choose(event: gr.EventData, request: gr.Request):
        """The trajectory of the image that was clicked, and the sheet with it marked."""
        if (kept := shown.get(request.session_hash)) is None:
            return gr.skip(), gr.skip()
        generation = kept.generation
        k = int(np.clip(event.index, 0, generation.n - 1))
        return (
            payloads.sample_sheet(generation.images, status(generation), chosen=k),
            trajectory_row(generation, k),
        )

    def refresh(name, b):
        names, name = service.names(*PARTS), service.chosen(name, *PARTS, first=SHOWN_FIRST)
        return gr.Dropdown(choices=names, value=name), gr.Dropdown(
            choices=names, value=service.chosen(b, *PARTS, first=name)
        )

    def reach(name, sampler):
        """The choices of passes for a checkpoint's T and a sampler."""
        if not name:
            return gr.skip()
        try:
            config = service.find(name).config
        except Exception as error:
            widgets.warn(friendly(error))
            return gr.skip()
        row = SAMPLERS[sampler]
        if not row.passes:
            return gr.Dropdown(choices=["1"], value="1", interactive=False, info="one run is all there is")
        info = f"from 1 (one run) to T = {config.T} (closed loop)"
        return gr.Dropdown(choices=[str(k) for k in row.offered(config)], interactive=True, info=info)

    def classes_of(name):
        """The classes of a checkpoint; none of one that is not there."""
        try:
            return service.find(name).config.classes if name else ()
        except Exception:  # which `reach` has said
            return ()

    def offer(name, chosen, guidance):
        """The classes of a checkpoint, and how far to follow them; nothing of these where it has none."""
        names = classes_of(name)
        choices = [("any", ""), *((one, one) for one in names)]
        return (
            gr.Dropdown(choices=choices, value=chosen if chosen in names else "", visible=bool(names)),
            gr.Slider(value=guidance if names else 1, visible=bool(names)),
        )

    def sampler_changed(name, sampler):
        """Its choices of passes, and what there is to say of it."""
        about = SAMPLERS[sampler].about
        return reach(name, sampler), gr.Markdown(about, visible=bool(about))

    @admitted
    def between(place):
        """What the triangle shows at [checkpoint, seed, corners, weights, class, guidance], or why it cannot."""
        try:
            found = service.between(*place)
        except Exception as error:
            return {"error": friendly(error)}
        return {"image": pictures.data_uri(found.image), "milliseconds": found.milliseconds}

    def first_corners(request: gr.Request):
        """The triangle between the first samples of what a page shows."""
        if not (asked := asked_of(request)):
            return gr.skip()
        return with_corners(asked.name, asked.seed, asked.classes, asked.guidance)

    def with_corners(name, seed, classes, guidance, chosen=FIRST_CORNERS):
        """The triangle between samples of a seed; None where this checkpoint cannot draw it."""
        try:
            ends = [
                service.between(name, seed, chosen, [float(k == corner) for k in chosen], classes, guidance).image
                for corner in chosen
            ]
        except Exception as error:
            friendly(error)  # into the log, if it is not foreseen
            return None
        return payloads.corners(name, int(seed), chosen, (classes, guidance), ends)

    def new_corner(value, event: gr.EventData):
        """The image that was clicked is the newest corner, and takes the oldest one's place."""
        state = json.loads(value or "null")
        if state is None or event.index in state["corners"]:
            return gr.skip()
        return with_corners(state["checkpoint"], state["seed"], *state["told"], [*state["corners"][1:], event.index])

    widgets.about("generate")
    with gr.Row(elem_classes="pv-columns"):
        with gr.Column(scale=4, min_width=300):
            with gr.Group():
                name = gr.Dropdown([], label="Checkpoint", elem_id="generate-checkpoint")
                told = teller("generate", "Class", "Guidance")
                n = gr.Slider(1, MOST_IMAGES, 16, step=1, label="Images")
                passes = gr.Dropdown(
                    [str(k) for k in SAMPLERS[SAMPLERS.first].nice],
                    value="1",
                    allow_custom_value=True,
                    label="Passes",
                    info="runs of the network, from 1 to T",
                    elem_id="passes",
                )
                start = gr.Radio(
                    STARTS.choices(),
                    value=STARTS.first,
                    label="Start",
                    info=" ".join(f"{row.title.capitalize()}: {row.about}." for row in STARTS.values()),
                )
                mine = [(SAMPLERS[key].title, key) for key in ours()]
                sampler = gr.Radio(mine, value=SAMPLERS.first, label="Sampler")
                with gr.Row(equal_height=True, elem_classes="pv-seed"):
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=120, elem_id="seed")
                    dice = gr.Button("New seed", size="sm", min_width=80, elem_classes="pv-beside")
                both = gr.Checkbox(False, label="A and B", info="the same seed in another way, beside it")
                with gr.Group(visible=False) as other:
                    b = gr.Dropdown([], label="B's checkpoint", elem_id="b-checkpoint")
                    b_told = teller("b", "B's class", "B's guidance")
                    b_passes = gr.Dropdown(
                        [str(k) for k in SAMPLERS[SAMPLERS.first].nice],
                        value="10",
                        allow_custom_value=True,
                        label="B's passes",
                        elem_id="b-passes",
                    )
                    b_start = gr.Radio(STARTS.choices(), value=STARTS.first, label="B's start")
                    b_sampler = gr.Radio(mine, value=SAMPLERS.first, label="B's sampler")
            with gr.Row():
                go = gr.Button("Generate", variant="primary", scale=3, elem_id="generate")
                stop = gr.Button("Stop", variant="stop", interactive=False, scale=1, min_width=80)
            why = gr.Markdown("", visible=False, latex_delimiters=widgets.LATEX, elem_classes="pv-intro")
        with gr.Column(scale=9, min_width=320):
            message = gr.HTML(apply_default_css=False, elem_id="generate-message")
            sheet = widgets.sample_sheet(elem_id="sheet")
            on_the_way = gr.HTML(apply_default_css=False, elem_id="b-message")
            sides = widgets.sides(elem_id="generate-sides")
            cost = gr.HTML(apply_default_css=False)
            film = gr.HTML(apply_default_css=False, elem_id="film")
            triangle = widgets.triangle(between)
            chart = widgets.chart()
            code = widgets.code("as-code")

    settings = [name, n, passes, start, sampler, seed, *told]
    outputs = [sheet, cost, film, chart, message, go, stop]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    waiting = {"show_progress": "minimal", "show_progress_on": sheet}  # the place in the queue
    run.lane = first_run.lane = beside.lane = generation_lane
    model = {**SHORT_LANE, **quiet, **waiting}

    beside_it = [both, b, b_passes, b_start, b_sampler, *b_told]
    keys = ["checkpoint", "images", "passes", "start", "sampler", "seed", "class", "guidance"]
    keys += ["ab", "b_checkpoint", "b_passes", "b_start", "b_sampler", "b_class", "b_guidance"]
    there = {}
    for side in ("", "b_"):
        there[f"{side}checkpoint"] = lambda _: service.names(*PARTS)
        there[f"{side}class"] = lambda now, whose=f"{side}checkpoint": classes_of(now[whose])
        there[f"{side}guidance"] = lambda now, whose=f"{side}checkpoint": None if classes_of(now[whose]) else [1]
    opened = tab.select(refresh, [name, b], [name, b], **quiet)
    arrived = links.bring_back(opened, tab, dict(zip(keys, [*settings, *beside_it], strict=True)), there)
    ready = arrived.then(reach, [name, sampler], passes, **quiet)
    for one, heard in ((name, told), (b, b_told)):
        ready = ready.then(offer, [one, *heard], heard, **quiet)
    first = ready.then(first_run, settings, outputs, **model)
    started = go.click(run, settings, outputs, **model)
    pair = [both, n, b_passes, b, b_start, b_sampler, *b_told]  # its lane is found by the second and third
    paired = []
    for drawn in (first, started):
        paired.append(drawn.then(beside, pair, [sides, on_the_way], **SHORT_LANE, **quiet))
        drawn.then(first_corners, None, triangle, **SHORT_LANE, **quiet)
        drawn.then(as_command, beside_it, code, **quiet)
    stop.click(stopped, None, [sheet, go, stop], cancels=[started, first, *paired], queue=False, **quiet)
    both.change(lambda on: gr.Group(visible=on), both, other, queue=False, **quiet)
    # B begins with what A is told.
    both.input(offer, [b, *told], b_told, **quiet).then(beside, pair, [sides, on_the_way], **SHORT_LANE, **quiet)
    b.input(offer, [b, *b_told], b_told, **quiet)
    dice.click(lambda: random.randrange(1_000_000), None, seed, queue=False, **quiet)
    name.input(reach, [name, sampler], passes, **quiet).then(offer, [name, *told], told, **quiet)
    sampler.input(sampler_changed, [name, sampler], [passes, why], **quiet)
    sheet.select(choose, None, [sheet, film], **quiet)
    sheet.select(new_corner, triangle, triangle, **SHORT_LANE, **quiet)
