"""Against the peers: the benchmark's figures, a live race, and the paper's toy experiment."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import gradio as gr
import numpy as np

from pixelviz import paper
from pixelviz.data.images import EXAMPLES
from pixelviz.measure import ladder, report
from pixelviz.service import measured as benchmarks
from pixelviz.service import race
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.kept import Kept
from pixelviz.service.race import Lane
from pixelviz.service.service import Service, friendly
from pixelviz.service.toy import gamma_energy, toy_command, toy_maps
from pixelviz.ui import charts, links, widgets
from pixelviz.ui.guard import at_home
from pixelviz.ui.markup import joined, render
from pixelviz.ui.queue import LONG_LANE, SHORT_LANE
from pixelviz.view import View

ONE_BRIGHTNESS = "one"
MOST_PAGES = 4096  # whose first race is remembered
KEPT_BYTES = 2**24  # of the pictures by each method
SHOWN_OF_EACH = 6  # images
FORWARD, HEADS = "forward", "heads"
NO_CHECKPOINT = "No checkpoint here can draw images yet. Train one in the Train tab, or load a folder in Checkpoints."
NO_TWIN = (
    "This checkpoint has no linear-beta twin, so the peers cannot run on it: only pixel-aware races. Train the part "
    "linear_twin, or load a diffusers model below."
)


def goal_list(benchmarks: Sequence[dict]) -> str:
    """What was aimed for, and whether it is met, as HTML."""
    several = len(benchmarks) > 1  # figures of different sizes stand side by side
    shown = [
        (goal, report.size(results) if several and goal.met is not None else "")
        for goal, results in report.measured_goals(benchmarks)
    ]
    return render("goals", goals=shown)


def all_measures(results: dict) -> str:
    """A benchmark's table, and on what it was measured, as HTML."""
    table = widgets.table(report.head(results), report.table_rows(results), f"All measures, {report.size(results)}")
    return render("measures", table=table, conditions=report.conditions(results))


def bench_page(results: dict | None, reason: str, longer: Sequence[dict] = ()) -> tuple[str, str, str]:
    """Goals, chart, and tables, of a checkpoint's benchmarks; or the reason why there are none."""
    if results is None:
        return widgets.alert(reason, "info"), "", ""
    every = [*longer, results]
    return joined(goal_list(every), render("pareto")), charts.benchmark(results), joined(*map(all_measures, every))


class Drawn(NamedTuple):
    """A method's images side by side, uint8 (H, n W, C), its name, its FID (infinite: not measured), and its cost."""

    picture: np.ndarray
    name: str
    fid: float
    cost: str

    @classmethod
    def of(cls, lane: Lane, fids: dict[tuple[str, str, int], float]) -> Drawn:
        """A lane that has arrived; fids as of `Race.payload`."""
        fid = fids.get((lane.case.model, lane.case.method, lane.case.passes), math.inf)
        return cls(lane.picture(), lane.name, fid, f"{lane.seconds / len(lane.x):.3f} s an image, measured now")


def strips(drawn: Iterable[Drawn]) -> str:
    """A figure a method, the best FID first, with what it costs, as HTML."""
    best_first = sorted(drawn, key=lambda one: one.fid)
    shown = ((one.picture, one.name, f"FID {one.fid:.2f}, " * math.isfinite(one.fid) + one.cost) for one in best_first)
    return widgets.figure_row(shown, kind="strips")


def paper_tables() -> str:
    """Tables 1 and 2."""
    tables = (
        widgets.table(paper.HEAD, [row.cells for row in rows], f"Table {k}: {data}")
        for k, (data, rows) in enumerate(paper.TABLES.items(), 1)
    )
    return render("papers", tables=tables)


def build(demo: gr.Blocks, tab: gr.Tab, service: Service, jobs: TrainingJobs) -> None:
    """The tab's components and events."""
    raced: Kept[bool] = Kept(MOST_PAGES)  # pages that have had their first race
    drawn: Kept[Drawn] = Kept(KEPT_BYTES)  # the same seed, by a checkpoint's files and a method

    def points(name):
        """(label, `Case.key`) of the benchmark's methods that can be drawn here."""
        known = benchmarks.fids(benchmarks.results_or_reason(service.find(name))[0])
        there = service.contenders(name, [f"{method}:{passes}" for _, method, passes in known]) if known else ()
        return [(race.label(c, name), c.key) for c in there if (c.model, c.method, c.passes) in known]

    def benchmark(name, point):
        """Goals, chart, tables, the command lines that measure these, and the methods whose images can be seen."""
        nothing = "", "", "", gr.Dropdown([], value=None, visible=False)
        if not name:
            return widgets.alert(NO_CHECKPOINT, "info"), *nothing
        try:
            found = service.find(name)
            (results, reason), longer = benchmarks.results_or_reason(found), benchmarks.longer_benchmarks(found)
            every = [] if results is None else [*longer, results]
            code = "\n".join(benchmarks.bench_command(found, one) for one in every)
            offered = points(name)
            keys = [key for _, key in offered]
            methods = gr.Dropdown(offered, value=point if point in keys else None, visible=bool(keys))
            return *bench_page(results, reason, longer), code, methods
        except Exception as error:
            return widgets.alert(friendly(error)), *nothing

    def refresh(name):
        """The checkpoints there are now; first of all one that is measured, or that has a twin."""
        names, first = benchmarks.comparable(service)
        return gr.Dropdown(choices=names, value=name if name in names else first)

    def usual(name, chosen=()):
        """Who can race on a checkpoint, and who shall: every peer at its measured best."""
        known = benchmarks.fids(benchmarks.results_or_reason(service.find(name))[0])
        return race.lineup(service.contenders(name), name, chosen, known)

    def lineup(name, chosen):
        """Who can race on this checkpoint; those chosen before stay chosen."""
        if not name:
            return gr.skip(), widgets.alert(NO_CHECKPOINT, "info")
        try:
            line = usual(name, chosen or ())
        except Exception as error:
            return gr.CheckboxGroup([], value=[]), widgets.alert(friendly(error))
        said = widgets.alert(NO_TWIN if line.alone else None, "info")
        return gr.CheckboxGroup(list(line.choices), value=list(line.chosen)), said

    def start_race(name, chosen, n, seed):
        """The race, five times a second, and the command lines that draw the same."""
        busy = gr.Button(interactive=False), gr.Button(interactive=True)
        free = gr.Button(interactive=True), gr.Button(interactive=False)
        keep = gr.skip()
        try:
            yield json.dumps({"status": "Getting ready …"}), "", *busy, keep
            if not name and (name := benchmarks.comparable(service)[1]):  # a quick hand: the lists are on their way
                chosen = usual(name).chosen
            known = benchmarks.fids(benchmarks.results_or_reason(service.find(name))[0])
            for state in service.race(name, chosen, n, seed):
                yield state.payload(known), keep, keep, keep, keep
            racing = [case for case in service.contenders(name) if case.key in chosen]
            yield keep, keep, *free, race.commands(service.find(name), racing, n, seed)
        except Exception as error:
            yield json.dumps({"status": ""}), widgets.alert(friendly(error)), *free, keep

    def first_race(name, chosen, n, seed, request: gr.Request):
        """A race when its tab is opened, so that it is never empty; of the usual methods where none is chosen yet."""
        if raced.get(request.session_hash) or not benchmarks.comparable(service)[1]:
            yield tuple(gr.skip() for _ in range(5))
            return
        raced.put(request.session_hash, True, 1)
        try:
            chosen = chosen or usual(name).chosen if name else ()
        except Exception as error:
            friendly(error)  # into the log, if it is not foreseen; the race says it
        yield from start_race(name, chosen, n, seed)

    def draw(name, methods):
        """What each method makes of the seed, by its `Case.key`; computed once."""
        found = service.find(name)
        kept = {key: drawn.get((found.folder, found.stamp, key)) for key in methods}
        if missing := [key for key, one in kept.items() if one is None]:
            known = benchmarks.fids(benchmarks.results_or_reason(found)[0])
            *_, last = service.race(name, missing, SHOWN_OF_EACH, 0)
            for lane in last.lanes:
                kept[lane.case.key] = one = Drawn.of(lane, known)
                drawn.put((found.folder, found.stamp, lane.case.key), one, one.picture.nbytes)
        return kept.values()

    def by_each(name):
        """The same seed by each usual method, beside its figures in the benchmark."""
        if not name:
            return ""
        try:
            return render("titled", title="The same seed by each", parts=[strips(draw(name, usual(name).chosen))])
        except Exception as error:
            friendly(error)  # into the log, if it is not foreseen; goals and table say it
            return ""

    def at_point(name, point):
        """The images of a method in the plot, of that seed, too."""
        try:
            return strips(draw(name, [point])) if name and point else ""
        except Exception as error:
            return widgets.alert(friendly(error))

    def pick(name, event: gr.EventData):
        """The method whose point was chosen."""
        if event.key in [key for _, key in points(name)]:
            return event.key
        widgets.warn("This method cannot draw here now: its model is not loaded.")
        return gr.skip()

    def stopped():
        status = json.dumps({"status": "Stopped. Start again when you like.", "stopped": True})
        return status, gr.Button(interactive=True), gr.Button(interactive=False)

    def load_peer(path, name, chosen):
        try:
            peer = service.peers.load(str(service.folders.named(path, at_home())), service.names())
        except Exception as error:
            return gr.skip(), widgets.alert(friendly(error))
        line, _ = lineup(name, chosen)
        return line, widgets.alert(f"{peer} is loaded; choose its methods above.", "good")

    def toy(source, brightness, floor, given, fresh, head_error, tolerance):
        try:
            example = None if source == ONE_BRIGHTNESS else source
            picture = View.of(widgets.EXAMPLE_IDS[example]).original if example else None
            asked = {"brightness": brightness, "floor": floor, "forward_noise": given == FORWARD, "fresh_noise": fresh}
            asked |= {"head_error": head_error, "tolerance": tolerance}
            found = toy_maps(picture, **asked)
            chosen = gamma_energy(picture, floor)
            shown = (charts.lines(chosen[0], cursor=chosen[1]), chosen[2]) if chosen else ("", "")
            return charts.toy_figures(found), "", *shown, toy_command(example, **asked)
        except Exception as error:
            return gr.skip(), widgets.alert(friendly(error)), gr.skip(), gr.skip(), gr.skip()

    widgets.about("compare")
    if found := ladder.what_was_found():
        gr.HTML(widgets.alert(f"What causes what. {found}", "info"), apply_default_css=False)
    name = gr.Dropdown([], label="Checkpoint", elem_id="compare-checkpoint")
    with gr.Tabs(elem_id="compare-parts"):
        with gr.Tab("Benchmark", id="compare-benchmark"):
            with gr.Row(elem_classes="pv-columns"):
                with gr.Column(scale=8, min_width=320):
                    same_seed = gr.HTML(apply_default_css=False, elem_id="each-method")
                    reached = gr.HTML(apply_default_css=False, elem_id="goals")
                    with gr.Row():
                        point = gr.Dropdown(
                            [],
                            label="Images by",
                            info="or choose a point in the plot; of the same seed as those above",
                            visible=False,
                            scale=2,
                            min_width=220,
                            elem_id="point",
                        )
                        images = gr.HTML(apply_default_css=False, elem_id="point-images")
                    plot = widgets.chart(elem_id="pareto")
                with gr.Column(scale=5, min_width=420):  # below the plot on a tablet
                    widgets.heading("The paper's tables")
                    widgets.about("compare_paper")
                    gr.HTML(paper_tables(), apply_default_css=False, elem_id="paper-tables")
            table = gr.HTML(apply_default_css=False, elem_id="compare-table")
            bench_code = widgets.code("bench-code")
        with gr.Tab("Race", id="compare-race") as race_tab:
            widgets.about("compare_fair")
            with gr.Row(elem_id="race-settings"):
                n = gr.Slider(1, race.MOST_IMAGES, 6, step=1, label="Images", min_width=200)
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=120, elem_id="race-seed")
                go = gr.Button("Start the race", variant="primary", elem_id="race-go", scale=2, min_width=160)
                again = gr.Button("Another seed", elem_id="race-again", scale=2, min_width=160)
                stop = gr.Button("Stop", variant="stop", interactive=False, min_width=80)
                share = gr.Button("Share", elem_id="race-share", min_width=80)
            with gr.Accordion("Who races", open=False, elem_id="race-who"):
                chosen = gr.CheckboxGroup([], label="Methods", info="and their passes", elem_id="race-methods")
            message = gr.HTML(apply_default_css=False, elem_id="race-message")
            lanes = widgets.component(render("race"), "race.js", elem_id="race")
            race_code = widgets.code("race-code")
            with gr.Accordion("Race a diffusers model as well", open=False):
                with gr.Row(equal_height=True):
                    folder = gr.Textbox(
                        label="Folder of this computer",
                        info="of an unconditional UNet2DModel with its scheduler's configuration, safetensors only",
                        max_lines=1,
                        scale=4,
                        elem_id="peer-folder",
                    )
                    add = gr.Button("Load", scale=1, min_width=100)
                said = gr.HTML(apply_default_css=False, elem_id="peer-message")
        with gr.Tab("Toy experiment", id="compare-toy") as toy_tab:
            widgets.about("compare_toy")
            with gr.Row(elem_classes="pv-columns"):
                with gr.Column(scale=4, min_width=280), gr.Group():
                    source = gr.Dropdown(
                        [("one brightness", ONE_BRIGHTNESS), *((label, path.stem) for label, path in EXAMPLES)],
                        value=ONE_BRIGHTNESS,
                        label="Pixels",
                    )
                    brightness = gr.Slider(0, 1, 0.5, step=0.01, label="Brightness", elem_id="toy-brightness")
                    floor = gr.Slider(0.004, 0.5, 0.004, step=0.002, label="Floor", info="x₀ = floor + (1 − floor) p")
                    given = gr.Radio(
                        [("its own forward noise, as in the paper", FORWARD), ("the best T heads of one run", HEADS)],
                        value=FORWARD,
                        label="The recursion is given",
                    )
                    head_error = gr.Slider(
                        0, 0.2, 0.01, step=0.005, label="Error of each head", info="standard deviation", visible=False
                    )
                    fresh = gr.Checkbox(False, label="Fresh noise at every step (Algorithm 1, line 8)")
                    tolerance = gr.Dropdown(
                        [("0.1 nats", 0.1), ("0.01 nats", 0.01), ("0.001 nats", 0.001)],
                        value=0.01,
                        label="Adviser's tolerance",
                        info="terminal gap per value; its γ is the dashed line",
                    )
                with gr.Column(scale=9, min_width=320):
                    toy_message = gr.HTML(apply_default_css=False)
                    maps = widgets.component(render("toy"), "toy.js", elem_id="toy")
                    chosen_plot = widgets.chart(elem_id="energy")
                    chosen_words = gr.Markdown(elem_id="energy-said")
                    toy_code = widgets.code("toy-code", "The same maps in Python")

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    racing = {"inputs": [name, chosen, n, seed], "outputs": [lanes, message, go, stop, race_code]}
    racing |= {**quiet, "show_progress": "minimal", "show_progress_on": lanes, **LONG_LANE}
    started = [
        go.click(start_race, **racing),
        again.click(lambda: random.randrange(1_000_000), None, seed, queue=False, **quiet).then(start_race, **racing),
        race_tab.select(first_race, **racing),
    ]
    stop.click(stopped, None, [lanes, go, stop], cancels=started, queue=False, **quiet)
    share.click(None, None, None, js="() => { document.querySelector('.pv-copy').click(); }", queue=False, **quiet)
    linked = {"checkpoint": name, "methods": chosen, "images": n, "seed": seed, "pixels": source}
    linked |= {"brightness": brightness, "floor": floor, "given": given, "fresh": fresh, "error": head_error}
    linked |= {"tolerance": tolerance, "point": point}
    there = {
        "checkpoint": lambda _: benchmarks.comparable(service)[0],
        "methods": lambda now: [case.key for case in service.contenders(now["checkpoint"])],
        "point": lambda now: [key for _, key in points(now["checkpoint"])],
    }
    ready = links.bring_back(tab.select(refresh, name, name, **quiet), tab, linked, there)
    for event in (ready, name.input(lambda: None, None, None, queue=False, **quiet)):
        figures = event.then(benchmark, [name, point], [reached, plot, table, bench_code, point], **quiet)
        figures.then(lineup, [name, chosen], [chosen, message], **quiet)
        event.then(by_each, name, same_seed, show_progress_on=same_seed, **quiet, **LONG_LANE)
    plot.select(pick, name, point, queue=False, **quiet)
    latest = {"trigger_mode": "always_last", "show_progress": "minimal", "api_visibility": "private"}
    point.change(at_point, [name, point], images, **latest, **LONG_LANE)
    gr.on([add.click, folder.submit], load_peer, [folder, name, chosen], [chosen, said], **SHORT_LANE, **quiet)

    settings = [source, brightness, floor, given, fresh, head_error, tolerance]
    outputs = [maps, toy_message, chosen_plot, chosen_words, toy_code]
    redraw = {"fn": toy, "inputs": settings, "outputs": outputs, "queue": False, **quiet}
    toy_tab.select(**redraw)
    for control in settings:
        control.change(**redraw, trigger_mode="always_last")
    source.input(lambda value: gr.Slider(visible=value == ONE_BRIGHTNESS), source, brightness, queue=False, **quiet)
    given.input(lambda value: gr.Slider(visible=value == HEADS), given, head_error, queue=False, **quiet)
