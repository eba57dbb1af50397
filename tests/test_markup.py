"""HTML comes from templates that escape: nothing else makes it, and what strangers write is shown as they wrote it."""

import ast
import json
import re
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from jinja2 import UndefinedError

import pixelviz
from pixelviz.ui import claims_page, markup, widgets
from pixelviz.ui.app import launch_options
from tests.browser import PATIENCE, watched

PACKAGE = Path(pixelviz.__file__).parent
TAG = re.compile(r"(?<!\(\?P)</?[a-z][a-z0-9]*(\s|/|>|$)")  # and no group of a pattern
# Figures as files, an inequality in LaTeX, and what Plotly takes in its texts.
NO_HTML = {"measure/report.py", "claims/rates.py", "ui/charts.py"}
DTYPE = re.compile("<[fiu][0-9]")
HOSTILE = [
    '<img src=x onerror="window.hacked=1">',
    "</p></div><script>window.hacked=1</script>",
    "\" onmouseover='window.hacked=1' `window.hacked=1`",
    "${window.hacked=1} {{value}} {{{value}}} {% raw %} {# no #}",
    "\\` \\${1} \\u0060 &lt;b&gt; $1 %s {0}",
]


def markup_in(path):
    """Lines of string literals with tags, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    expressions = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    tagged = (node for node in strings if TAG.search(node.value) and not DTYPE.fullmatch(node.value))
    return [node.lineno for node in tagged if id(node) not in expressions]


def test_no_python_file_builds_html():
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {name: lines for name, path in files.items() if name not in NO_HTML and (lines := markup_in(path))}
    assert not found


def test_html_in_a_file_is_found(tmp_path):
    path = tmp_path / "planted.py"
    path.write_text('"""<p>docstring</p>"""\nx = 1\ny = f"<b>{x}</b>"\nz = "<br/>"\n', encoding="utf-8")
    assert set(markup_in(path)) == {3, 4}


def test_templates_are_used_and_complete():
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for path in (PACKAGE / "ui" / "templates").iterdir():
        assert re.search(rf'render\(\s*"{path.stem}"', code), f"{path.name} is not used"
    with pytest.raises(UndefinedError):
        markup.render("alert", message="no kind")


@pytest.mark.parametrize("text", HOSTILE)
def test_values_are_escaped_also_where_symbols_are_typeset(text):
    for made in (markup.typeset(text), claims_page.symbols(text), claims_page.statement(text.replace("$", ""))):
        assert "<img" not in made
        assert "<script" not in made
    assert markup.joined(text, markup.typeset("x_T")).endswith("x<sub>T</sub>")
    assert "<img" not in markup.joined(text)


def blocks(text):
    """A page with a hostile text in every kind of HTML and of component."""
    row = [text] * 3
    image = np.zeros((4, 4, 3), np.uint8)
    with gr.Blocks() as demo:
        for name, html in {
            "alert": widgets.alert(text),
            "notes": widgets.notes([text]),
            "cards": widgets.cards([tuple(row)]),
            "table": widgets.table(row, [row], text),
            "figures": widgets.figure_row([(image, text, text)]),
            "progress": widgets.share_bar(text, 0.5, text),
            "titled": markup.render("titled", title=text, parts=[text]),
            "symbols": claims_page.symbols(text),
        }.items():
            gr.HTML(html, elem_id=name, apply_default_css=False)
        lane = {"name": text, "place": None, "runs": 1, "fid": None, "seconds": 1, "progress": 0.5, "strip": None}
        race = {"status": text, "lanes": [{**lane, "count": 1}]}
        widgets.component(markup.render("race"), "race.js", json.dumps(race), elem_id="race")
        later = gr.HTML(elem_id="later", apply_default_css=False)
        gr.Button("Update", elem_id="update").click(lambda: widgets.alert(text), None, later)
    return demo


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text(browser, text):
    demo = blocks(text)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    complaints = watched(page, url)
    try:
        page.goto(url)
        page.locator("#race .pv-lane").wait_for()
        page.locator("#update").click()
        page.locator("#later .pv-alert").wait_for()
        for name in ("alert", "notes", "cards", "table", "figures", "progress", "titled", "symbols", "race", "later"):
            assert text in page.locator(f"#{name}").text_content(), name
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("window.hacked") is None
    finally:
        page.close()
        demo.close()
    assert not complaints
