"""HTML is made here and nowhere else: Jinja2 templates in templates/, which escape every value they are given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, reduce
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token
from markupsafe import Markup, escape

from pixelviz.lesson.pages import FIRST_LANGUAGE, languages

FOLDERS = [Path(__file__).with_name(name) for name in ("templates", "static")]  # a template may include a style sheet

# One letter of the paper's, perhaps with a hat or bar, and its index: x_T, x̂_δ, R_φ.
_INDEX = re.compile(r"(?<!\w)(?P<letter>[A-Za-zαγ][\u0302\u0304]?)_(?P<index>[A-Za-z0-9δθφ])(?!\w)")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDERS),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name is an error, not an empty place
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["typeset"] = typeset
    made.globals |= {"word": word, "said": said}
    return made


def render(name: str, **values: Any) -> Markup:
    """The template of this name, filled in. Values are text and are escaped, unless they come from here themselves."""
    return Markup(_environment().get_template(f"{name}.html").render(values))


def _english(key: str, numbers: Mapping[str, Any] | None) -> str:
    text = reduce(lambda texts, part: texts[part], key.split("."), languages()[FIRST_LANGUAGE])
    return text.format_map(numbers) if numbers else text


def word(key: str, tag: str = "span", numbers: Mapping[str, Any] | None = None, **attributes: str) -> Markup:
    """An element with a text of the page in English, which static/language.js changes to the visitor's language.

    key: of the texts, as page.skip; numbers: what its places are filled with. Raises KeyError.
    """
    return render("word", key=key, tag=tag, text=_english(key, numbers), numbers=numbers, attributes=attributes)


def said(numbers: Mapping[str, Any] | None = None, **keys: str) -> Markup:
    """The same for attributes: keys of the texts for label (aria-label), title and alt."""
    return render("said", texts={name: (key, _english(key, numbers)) for name, key in keys.items()}, numbers=numbers)


def joined(*parts: str) -> Markup:
    """Pieces of HTML one after the other; what was not made here is escaped."""
    return Markup("").join(parts)


@cache
def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    made.validateLink = lambda url: url.lower().startswith(("https://", "http://"))
    made.add_render_rule("link_open", _link)
    return made


def _link(renderer: RendererProtocol, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """A link that opens beside the app and tells nobody where it was followed."""
    for name, value in {"target": "_blank", "rel": "noopener noreferrer nofollow"}.items():
        tokens[at].attrSet(name, value)
    return renderer.renderToken(tokens, at, options, env)


def from_markdown(text: str) -> Markup:
    """A stranger's Markdown: tags are shown as they were written, links are http or https, and there are no images."""
    return Markup(_markdown().render(text))


def pieces(text: str, pattern: re.Pattern) -> Iterator[tuple[str, str, str]]:
    """Text, cut where `pattern` finds something to lower or raise: (text before it, _ or ^, what is there).

    The pattern's groups: letter and index for what is lowered, or power.
    """
    end = 0
    for found in pattern.finditer(text):
        groups = found.groupdict()
        before = text[end : found.start()] + (groups["letter"] or "")
        end = found.end()
        yield (before, "_", groups["index"]) if groups["index"] else (before, "^", groups["power"])
    yield text[end:], "", ""


def typeset(text: str) -> Markup:
    """Text with the symbols' indices lowered."""
    if not _INDEX.search(text):
        return escape(text)
    return render("typeset", pieces=pieces(text, _INDEX))
