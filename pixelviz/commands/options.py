"""Options of a command from a declaration: every field has one, with the field's help and bounds, said once.

    @takes(training=Options(TrainConfig, "Training"))
    def train(out: Path, training: dict[str, Any]): ...

The command gets what was given, and nothing else: a field that is not in the dictionary was not asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.markup import escape

from pixelviz.declare import bare, fields_of, limits


@dataclass(frozen=True)
class Options:
    """The options of a declaration.

    panel: their heading in --help; only: the fields that have one (None: all); names: further names of a field's
    option; defaults: what is done where one is not given, if that is not the declaration's own default.
    """

    declaration: type
    panel: str
    only: tuple[str, ...] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> list[inspect.Parameter]:
        """One keyword parameter a field, with typer's annotation, None where not given."""
        known = fields_of(self.declaration)
        return [self._parameter(name, known[name]) for name in self.only or known]

    def _parameter(self, name: str, info: FieldInfo) -> inspect.Parameter:
        kind, bounds = bare(info.annotation, info.metadata)
        option = f"--{name.replace('_', '-')}"
        names = [f"{option}/--no-{option[2:]}"] if kind is bool else [option]
        default = self.defaults.get(name, info.get_default())
        annotation = typer.Option(
            *names,
            *filter(None, [self.names.get(name)]),
            help=escape(_help(info.description or "", kind, limits(bounds))),
            show_default=_shown(default) or False,
            rich_help_panel=self.panel,
        )
        wanted = Annotated[_simple(kind) | None, annotation]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=wanted)

    def given(self, values: dict[str, Any]) -> dict[str, Any]:
        """Takes the options out of a command's arguments; those that were given, lists as tuples."""
        known = fields_of(self.declaration)
        found = {name: values.pop(name) for name in self.only or known}
        return {
            name: _listed(name, value, bare(known[name].annotation, ())[0])
            for name, value in found.items()
            if value is not None
        }


def _simple(kind: Any) -> type:
    """What the command line reads: lists are text with commas, choices are text or numbers."""
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    return kind if kind in (int, float, bool) else str


def _help(text: str, kind: Any, bounds: str) -> str:
    """A field's description with what it may be."""
    if get_origin(kind) is tuple:
        item = bare(get_args(kind)[0], ())[0]
        bounds = f"with commas, of {', '.join(get_args(item))}" if get_origin(item) is Literal else "with commas"
    elif get_origin(kind) is Literal:
        bounds = ", ".join(map(str, get_args(kind)))
    return f"{text} ({bounds.strip(', ')})" if bounds else text


def _shown(default: Any) -> str:
    if default is None or default is PydanticUndefined or default is MISSING:
        return ""
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default).lower()


def _listed(name: str, value: Any, kind: Any) -> Any:
    """Text with commas as a tuple, of numbers where the field's are; raises typer.BadParameter."""
    if get_origin(kind) is not tuple:
        return value
    items = [item.strip() for item in value.split(",")]
    if bare(get_args(kind)[0], ())[0] is not int:
        return tuple(items)
    if not all(item.isdecimal() for item in items):
        option = name.replace("_", "-")
        raise typer.BadParameter(f"--{option} takes whole numbers with commas, such as 2,5,10; it is {value!r}.")
    return tuple(map(int, items))


def takes(**groups: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of declarations, in place of its parameters of the groups' names."""

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(command).parameters.items()
            if name not in groups
        ]
        added = [parameter for group in groups.values() for parameter in group.parameters()]

        @wraps(command)
        def called(**values: Any) -> None:
            command(**{name: group.given(values) for name, group in groups.items()}, **values)

        parameters = [*own, *added]
        del called.__wrapped__  # or typer would look at the command's own signature
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return wrap
