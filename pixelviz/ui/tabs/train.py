"""Train a model in the background and watch it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from pixelviz.checks import ServiceError
from pixelviz.config import PRESETS
from pixelviz.data import pictures
from pixelviz.data.image_set import DataError
from pixelviz.data.sets import DATASETS, load_images
from pixelviz.process.schedules import SCHEDULES, by_pixel
from pixelviz.service.jobs import TrainingJobs, TrainStatus
from pixelviz.service.service import Service, friendly
from pixelviz.ui import charts, links, widgets
from pixelviz.ui.guard import at_home
from pixelviz.ui.markup import joined, render

POLL_SECONDS = 1.0
NEW_RUN = "a new model"
FOLDER, ZIP = "a folder of images …", "a zip of images …"
PREVIEW_ROWS = ("images", "G_θ's estimate of them", "new samples, one pass")

SHOWN = 12  # images of a data set
NOT_HERE = "Its images are not on this computer yet; they are fetched when the training starts."


def clock(seconds: float | None) -> str:
    """Seconds as 1 h 2 min, 3 min 4 s, or 5 s."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def progress(status: TrainStatus, unfinished: Sequence[str] = ()) -> str:
    """State, bar and pace, as HTML; before the first run, which earlier ones can be gone on with."""
    share = status.step / status.steps if status.steps else 0
    state = {
        "idle": "Nothing is running. Start a training: its losses, previews and the time left appear here.",
        "preparing": "Preparing the data …",
    }.get(status.state, status.message or status.state)
    bar = widgets.share_bar("Training", share)
    if status.error:
        return widgets.alert(status.error)
    if status.state == "idle":
        again = [f"{run}; choose it under “Train” to go on." for run in unfinished]
        return joined(*(widgets.alert(text, "info") for text in [*again, state]))
    cards = widgets.cards(
        [
            ("Step", f"{status.step:,} of {status.steps:,}", status.checkpoint or ""),
            ("Images per second", f"{status.images_per_second:.0f}" if status.images_per_second else "–", "trained on"),
            (
                "Time left",
                clock(status.eta_seconds) if status.running else "–",
                f"{'running' if status.running else 'it ran'} for {clock(status.seconds)}",
            ),
        ]
    )
    kind = "info" if status.running else "good"
    return joined(bar, widgets.alert(state, kind), cards)


def previews(status: TrainStatus) -> str:
    """The preview images, a labelled row each, as HTML."""
    if status.preview is None:
        return ""
    rows = [(pictures.tile(row, len(row)), title, "") for row, title in zip(status.preview, PREVIEW_ROWS, strict=False)]
    return render("titled", title="Preview", parts=[widgets.figure_row(rows, kind="rows")])


def examples(data: str) -> str:
    """Images of a data set that is here, as HTML; a sentence where they are not."""
    row = DATASETS.get(data)
    if row is None:
        return ""
    try:
        wanted = {"size": max(32, row.size), "channels": row.channels, "limit": SHOWN, "allow_download": False}
        images = load_images(data, **wanted).images
    except DataError:
        return widgets.alert(NOT_HERE, "info")
    strip = pictures.tile(pictures.last_channel(images.numpy()), len(images))
    return widgets.figure_row([(strip, row.called, f"{len(images)} of {row.images['train']:,} images")], kind="rows")


def may_have_classes(data: str) -> bool:
    """Whether a data set has classes; a folder's or a zip's are seen when it is read."""
    return data not in DATASETS or bool(DATASETS[data].classes)


def offer(data: str) -> tuple[gr.Textbox, gr.File, gr.Checkbox]:
    """What there is to say of a data set: where it is, and whether its classes are learnt, as far as it has any."""
    there = may_have_classes(data)
    return (
        gr.Textbox(visible=data == FOLDER),
        gr.File(visible=data == ZIP),
        gr.Checkbox(visible=there, **({} if there else {"value": False})),
    )


def build(demo: gr.Blocks, tab: gr.Tab, service: Service, jobs: TrainingJobs) -> None:
    """The tab's components and events."""

    def show(status: TrainStatus):
        """Everything that follows a run, whether to look again soon, and the runs that can be gone on with."""
        return (
            progress(status, jobs.unfinished() if status.state == "idle" else ()),
            charts.losses(status.losses),
            previews(status),
            gr.Button(interactive=not status.running),
            gr.Button(interactive=status.running),
            gr.Button(visible=not status.running and status.state != "idle" and bool(status.checkpoint)),
            gr.Timer(active=status.running),
            gr.skip() if status.running else gr.Dropdown(choices=[NEW_RUN, *jobs.resumable()]),
        )

    def learnt() -> str | None:
        """The checkpoint that the last run has made."""
        return jobs.status().checkpoint

    def look():
        return show(jobs.status())

    def start(data, folder, sent, preset, schedule, classes, resume, steps, batch, rate, request: gr.Request):
        """Start a run; what forbids it is said, and the running one stays in view."""
        try:
            if data == FOLDER:
                data = str(service.folders.named(folder, at_home()))
            elif data == ZIP and not sent:
                raise ServiceError("upload a zip of pictures first.")
            status = jobs.start(
                request.session_hash,
                Path(sent) if data == ZIP else None,
                data=data,
                preset=preset,
                schedule=schedule,
                classes=classes,
                steps=steps,
                batch=batch,
                learning_rate=rate,
                resume=None if resume == NEW_RUN else resume,
            )
            return "", *show(status)
        except Exception as error:
            message = friendly(error)
            widgets.warn(message)
            return widgets.alert(message), *look()

    def stop(request: gr.Request):
        """Stop and save."""
        try:
            return "", *show(jobs.stop(request.session_hash))
        except Exception as error:
            message = friendly(error)
            widgets.warn(message)
            return widgets.alert(message), *look()

    def go_on(chosen):
        """A run keeps its own model; its other settings are put as they were, so that none is changed unasked."""
        new, kept = chosen == NEW_RUN, [gr.skip()] * 4
        try:
            if not new:
                training, learnt = jobs.own(chosen)
                elsewhere = FOLDER if at_home() else ZIP  # pictures are to be named, or sent, again
                kept = [learnt or elsewhere, training.steps, training.batch, training.learning_rate]
            said = ""
        except Exception as error:
            said = widgets.alert(friendly(error))
        return said, *[gr.update(interactive=new)] * 3, *kept

    full = " and ".join(row.paper for row in PRESETS.values() if row.paper)
    widgets.about("train")
    with gr.Row(elem_classes="pv-columns"):
        with gr.Column(scale=4, min_width=300):
            with gr.Group():
                data = gr.Dropdown([*DATASETS.choices(), FOLDER, ZIP], value=DATASETS.first, label="Data set")
                folder = gr.Textbox(
                    label="Folder",
                    info="on the computer that runs this app; images in it and below it are used",
                    visible=False,
                )
                sent = gr.File(label="Zip of pictures", file_types=[".zip"], height=110, visible=False)
                resume = gr.Dropdown(
                    [NEW_RUN], value=NEW_RUN, label="Train", info="or go on with an earlier run", elem_id="resume"
                )
                preset = gr.Dropdown(
                    PRESETS.choices(),
                    value=PRESETS.first,
                    label="Preset",
                    info=f"{full} as in the paper: for a GPU; a processor takes weeks",
                )
                schedule = gr.Dropdown(
                    [(SCHEDULES[name].title, name) for name in by_pixel()],
                    value=SCHEDULES.first,
                    label="Schedule",
                    info="of the noise; each pixel has its own rate",
                )
                classes = gr.Checkbox(
                    False,
                    label="Learn the classes",
                    info="the folders of your pictures, or a data set's labels: Generate then draws the one you choose",
                    elem_id="train-classes",
                )
                steps = gr.Number(
                    2000,
                    label="Steps",
                    info="in all, a resumed run's earlier ones included",
                    precision=0,
                    minimum=1,
                    elem_id="steps",
                )
                with gr.Row():
                    batch = gr.Number(64, label="Batch", precision=0, minimum=1, min_width=100)
                    rate = gr.Number(1e-3, label="Learning rate", min_width=100, step=1e-4)
            with gr.Row():
                go = gr.Button("Start training", variant="primary", scale=3, elem_id="train-start")
                halt = gr.Button("Stop", variant="stop", interactive=False, scale=1, min_width=80, elem_id="train-stop")
        with gr.Column(scale=9, min_width=320):
            widgets.about("train_learnt", elem_id="train-learnt")
            sample = gr.HTML(apply_default_css=False, elem_id="train-examples")
            message = gr.HTML(apply_default_css=False, elem_id="train-message")
            state = gr.HTML(apply_default_css=False, elem_id="train-status")
            chart = widgets.chart()
            preview = gr.HTML(apply_default_css=False, elem_id="train-preview")
            onward = gr.Button("Generate with this model", variant="primary", visible=False, elem_id="train-onward")
    timer = gr.Timer(POLL_SECONDS, active=False)

    seen = [state, chart, preview, go, halt, onward, timer, resume]
    quiet = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    linked = {"data": data, "preset": preset, "schedule": schedule, "classes": classes}
    linked |= {"steps": steps, "batch": batch, "rate": rate}
    there = {"classes": lambda now: None if may_have_classes(now["data"]) else [False]}
    arrived = links.bring_back(tab.select(look, None, seen, **quiet), tab, linked, there)
    arrived.then(examples, data, sample, **quiet)
    data.input(examples, data, sample, **quiet)
    made = gr.Textbox(label="The model that was made", visible=False)
    onward.click(learnt, None, made, **quiet).then(None, made, None, js=links.GO_TO_GENERATE, **quiet)
    timer.tick(look, None, seen, **quiet)
    asked = [data, folder, sent, preset, schedule, classes, resume, steps, batch, rate]
    go.click(start, asked, [message, *seen], **quiet)
    halt.click(stop, None, [message, *seen], **quiet)
    data.change(offer, data, [folder, sent, classes], **quiet)
    its_own = [preset, schedule, classes, data, steps, batch, rate]
    resume.input(go_on, resume, [message, *its_own], **quiet).then(examples, data, sample, **quiet)
