"""The house's rule of imports, and the app as it is built (no browser here)."""

import ast
import importlib.util
import json
import re
import socket
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

import pixelviz
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.service import Service
from pixelviz.service.turns import AT_ONCE, LONG, MOST_WAITING, SHORT
from pixelviz.store import checkpoints
from pixelviz.ui.app import TABS, build_app, launch_options
from pixelviz.ui.tabs import train
from pixelviz.view import View
from tests.served import photo, png

PACKAGE = Path(pixelviz.__file__).parent
# From below to above: a room imports from itself and from those before it. Rooms of one row know nothing of each other.
RANKS = (
    ("tables", "declare"),
    ("config", "checks", "numerals", "paper", "progress"),
    ("devices",),
    ("process",),
    ("data",),
    ("view",),
    ("models",),
    ("samplers",),
    ("store",),
    ("measure",),
    ("learning",),
    ("claims",),
    ("export",),
    ("service",),
    ("lesson",),  # its steps ask the service for what networks say
    ("ui", "commands"),
    ("__main__", "__init__"),
)
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}


DYNAMIC = {"import_module", "__import__", "find_spec", "find_loader", "run_module", "exec", "eval"}
ADDRESS = re.compile(r"pixelviz(\.\w+)+(:\w+)?")  # a string that is a module's name, for whoever imports it later


def imported(source, module, is_package=False):
    """Dotted names of all that a module's source imports: anywhere, also relatively, inside functions, or by name.

    Raises ValueError where what is imported is known only as it runs.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name if "." in alias.name else f"{alias.name}.*" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            above = parts[: len(parts) - node.level + is_package] if node.level else []
            names |= {".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ADDRESS.fullmatch(node.value):
            names.add(node.value.replace(":", "."))
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", None))
            if called in DYNAMIC and node.args:  # a network's .eval() takes none
                name = getattr(node.args[0], "value", None)
                if module == "pixelviz.__main__" and called == "import_module":
                    continue  # the highest room: what it imports by name stands in its table, as a string
                if not isinstance(name, str) or name.startswith(".") or called in ("exec", "eval"):
                    raise ValueError(f"{module}, line {node.lineno}: what {called} imports cannot be read")
                names.add(name)
    return names


def imports(path):
    """`imported` of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return imported(path.read_text(encoding="utf-8"), module, parts[-1] == "__init__")


def room(name):
    """The top-level module of the package that a dotted name lies in, or None."""
    parts = name.split(".")
    return parts[1] if parts[0] == "pixelviz" and len(parts) > 1 else None


FILES = sorted(PACKAGE.rglob("*.py"))
ROOM_OF = {path: path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES}


def upward(own, names):
    """Imports of a room that point up, or across to one of the same rank."""
    return sorted(name for name in names if (to := room(name)) not in (None, own) and RANK.get(to, 99) >= RANK[own])


def test_every_room_has_a_rank():
    assert set(ROOM_OF.values()) == set(RANK)


def test_imports_point_one_way():
    wrong = {path: found for path, own in ROOM_OF.items() if (found := upward(own, imports(path)))}
    assert not wrong


def test_the_picture_of_the_rooms_has_every_room_in_its_order():
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawn = re.findall(r'^  (\w+)\["', text, flags=re.MULTILINE)
    assert drawn == [room for rooms in RANKS for room in rooms if (PACKAGE / room).is_dir()]


PLANTED = (
    "import pixelviz.{to}.part",
    "import pixelviz.{to}.part as part",
    "from pixelviz.{to} import part",
    "from pixelviz import {to}",
    "from ..{to} import part",
    "from .. import {to}",
    "def late():\n    from pixelviz.{to} import part",
    "if False:\n    import pixelviz.{to}",
    "__import__('pixelviz.{to}')",
    "importlib.import_module('pixelviz.{to}.part')",
    "LATER = {{'part': 'pixelviz.{to}.part:name'}}",
)


@pytest.mark.parametrize("form", PLANTED)
def test_an_import_that_points_up_is_found_in_whatever_form(form):
    for own in RANK:
        for to in set(RANK) - {own}:
            planted = upward(own, imported(form.format(to=to), f"pixelviz.{own}.module"))
            assert bool(planted) == (RANK[to] >= RANK[own]), (own, to)


@pytest.mark.parametrize(
    "form",
    [
        "import_module(name)",
        "importlib.import_module('pixelviz.' + name)",
        "import_module('..ui', __package__)",
        "exec(text)",
        "__import__(f'pixelviz.{name}')",
    ],
)
def test_an_import_that_cannot_be_read_is_refused(form):
    with pytest.raises(ValueError, match=r"pixelviz\.process\.walk, line 1"):
        imported(form, "pixelviz.process.walk")


@pytest.mark.parametrize("form", ["import pixelviz", "from pixelviz import *", "from pixelviz import PixelAware"])
def test_no_room_imports_the_package_s_face(form):
    assert upward("ui", imported(form, "pixelviz.ui.app"))


def test_relative_names_are_those_that_python_finds():
    assert imported("from . import b\nfrom .c import d", "pixelviz.ui.a") == {"pixelviz.ui.b", "pixelviz.ui.c.d"}
    assert imported("from .c import d", "pixelviz.ui", is_package=True) == {"pixelviz.ui.c.d"}
    assert imported("from ..c import d", "pixelviz.ui.tabs", is_package=True) == {"pixelviz.ui.c.d"}


def test_only_the_screen_knows_gradio_or_the_screen():
    for path, own in ROOM_OF.items():
        names = imports(path)
        if own != "ui":
            assert not any(name.split(".")[0] == "gradio" for name in names), path
            assert own == "__main__" or not any(room(name) == "ui" for name in names), path


def test_what_needs_arrays_only_knows_nothing_else():
    found = {room(name) for name in imports(PACKAGE / "measure" / "metrics.py")} - {None, "data"}
    assert not found
    assert "torch" not in {name.split(".")[0] for name in imports(PACKAGE / "service" / "payloads.py")}


SHARED_NAMES = {
    "build",  # of every tab, from the table of tabs
    "train", "distill", "tune", "evaluate", "bench", "export",  # a command is called like what it runs
    "printed",  # the paper's sampler and its start, each in its own table
    "instrument", "picture", "sample_sheet",  # a component of the page, and the value that it shows
    "PixelAware",  # the schedule, as the paper calls it; and `pixelviz.PixelAware`, the model for everybody else
}  # fmt: skip


def public_names(path):
    """Classes and functions that a file defines at its top level, but for those of its own."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")]


def test_a_name_means_one_thing():
    where = defaultdict(list)
    for path in FILES:
        for name in public_names(path):
            where[name].append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in where.items() if len(paths) > 1 and name not in SHARED_NAMES} == {}
    assert all(len(where[name]) > 1 for name in SHARED_NAMES), "a name that is no longer shared needs no leave"


@pytest.fixture
def app(tmp_path):
    service = Service([tmp_path / "checkpoints", tmp_path / "runs"], device="cpu")
    return build_app(service, TrainingJobs(service))


def test_the_app_builds_with_its_tabs_and_no_checkpoint(app):
    tabs = [block for block in app.blocks.values() if isinstance(block, gr.Tab)]
    titles = [tab.label for tab in tabs if tab.parent.parent is app]  # not the tabs within a tab
    assert titles == [title for title, _ in TABS]
    assert titles[:2] == ["Forward", "Lesson"]


def test_every_control_has_a_label(app):
    controls = (gr.Slider, gr.Number, gr.Textbox, gr.Dropdown, gr.Radio, gr.Checkbox, gr.File)
    found = [block for block in app.blocks.values() if isinstance(block, controls)]
    assert len(found) > 20
    assert all(block.label for block in found)
    assert all(block.value for block in app.blocks.values() if isinstance(block, gr.Button))


def test_events_of_the_screen_are_private_and_the_documented_endpoints_are_not(app):
    names = {name for name in app.get_api_info()["named_endpoints"]}
    assert names == {"/curves", "/scale", "/generate", "/train_start", "/train_status", "/train_stop"}


def test_model_work_has_two_lanes(app):
    lanes = {lane: [fn for fn in app.fns.values() if fn.concurrency_id == lane] for lane in AT_ONCE}
    assert len(lanes[SHORT]) >= 6
    assert len(lanes[LONG]) >= 3
    assert all(fn.concurrency_limit == AT_ONCE[lane] for lane, fns in lanes.items() for fn in fns)


def test_the_queue_is_bounded(app):
    assert MOST_WAITING < app._queue.max_size < 10_000


def test_launch_options_are_arguments_of_launch_and_bound_uploads():
    options = launch_options()
    assert options["max_file_size"]
    assert options["ssr_mode"] is False
    assert options["run_history"] is False
    assert all(Path(path).is_file() for path in options["css_paths"])
    fonts = [*options["theme"]._font, *options["theme"]._font_mono]
    assert not any(isinstance(font, gr.themes.GoogleFont) for font in fonts)


@pytest.fixture
def entry():
    """app.py as a Space imports it."""
    path = PACKAGE.parent / "app.py"
    spec = importlib.util.spec_from_file_location("space_entry", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_space_entry_exposes_demo(entry):
    assert isinstance(entry.demo, gr.Blocks)


def test_a_port_in_use_is_one_line(entry, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setattr("sys.argv", ["app.py", "--host", "127.0.0.1", "--port", port])
        with pytest.raises(SystemExit):
            entry.main()
    assert f"port {port} is in use" in capsys.readouterr().err


def test_static_files_are_free_of_addresses():
    for path in filter(Path.is_file, (PACKAGE / "ui" / "static").rglob("*")):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0.4, "0 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")]
)
def test_clock(seconds, text):
    assert train.clock(seconds) == text


def test_command_and_triangle_are_of_the_images_shown_whatever_the_controls_say_by_now(service):
    handlers = {one.name: one.fn for one in build_app(service, TrainingJobs(service)).fns.values() if one.fn}
    drawn, nobody = SimpleNamespace(session_hash="drawn"), SimpleNamespace(session_hash="nobody")
    list(handlers["first_run"]("tiny", 3, "2", "consistent", "parallel", 7, "", 1, drawn))
    for who, there in ((drawn, True), (nobody, False)):
        command = handlers["as_command"](True, "tiny", "1", "printed", "parallel", "", 1, who)
        corners = handlers["first_corners"](who)
        *_, (sides, said) = handlers["beside"](True, 16, "1", "tiny", "printed", "parallel", "", 1, who)
        assert not said
        assert [isinstance(one, str) for one in (command, corners, sides)] == [there] * 3
        if there:
            mine, other = command.splitlines()
            assert "--passes 2" in mine
            assert "--start printed" in other
            assert mine.count("--n 3") == other.count("--n 3") == mine.count("--seed 7") == other.count("--seed 7") == 1
            assert json.loads(corners)["seed"] == 7


def test_what_was_found_of_one_checkpoint_goes_when_another_is_loaded(service, tmp_path):
    folder = service.find("tiny").folder
    own = Service([folder.parent, tmp_path / "runs"], device="cpu")
    handlers = {one.name: one.fn for one in build_app(own, TrainingJobs(own)).fns.values() if one.fn}
    _, _, said, *found = handlers["load_files"]([folder / checkpoints.CONFIG, folder / checkpoints.WEIGHTS])
    assert "Loaded" in said
    assert [one if isinstance(one, str) else one.value for one in found[:4]] == ["", "", "", None]
    assert not found[4].open
    _, _, said, *found = handlers["load_files"]([tmp_path / checkpoints.CONFIG])
    assert "Loaded" not in said
    assert found == [gr.skip()] * 5, "nothing was loaded, and nothing is put away"


def test_a_hand_quicker_than_the_list_of_checkpoints_gets_the_one_that_comes_first(service):
    """What the screen sends before a tab's list has come: no checkpoint yet, though there is one."""
    handlers = {one.name: one.fn for one in build_app(service, TrainingJobs(service)).fns.values() if one.fn}
    who = SimpleNamespace(session_hash="quick")
    view = View.of(png(photo()))
    drawn, _ = handlers["light"](json.dumps({"picture": view.picture}), None, 0.5)
    assert "data:image/svg+xml" in drawn
    *_, (_, shown, *_, said) = handlers["estimate"]({"picture": view.picture}, None, "whole", 2, 0, 0.5, who)
    assert "<img" in shown
    assert not said
    *_, (sheet, *_, said, _, _) = handlers["first_run"](None, 2, "1", "consistent", "parallel", 0, "", 1, who)
    assert "2 images in" in json.dumps(sheet)
    assert not said
    *_, (page, _) = handlers["check"](None)
    assert "Tiny learnt squares" in page
    *states, end = handlers["start_race"](None, [], 2, 0)
    assert "sample" in end[-1]
    assert json.loads(states[-1][0])["lanes"]
    assert [message for _, message, *_ in states if isinstance(message, str)] == [""]
