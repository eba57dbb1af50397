"""One declaration for Python, JSON, the command line and the API: frozen dataclasses that pydantic checks.

A field's type, bounds and description stand once. What does not fit is refused in one sentence, which names the field,
what it may be, and what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import from_json
from typing_extensions import dataclass_transform, get_type_hints, is_typeddict

CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Declared = TypeVar("Declared")
_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "nothing"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "names"}


def quoted(value: Any) -> str:
    """A value from outside, short enough for a message and without markup."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; a list in a list in a list ...
        text = "something too long to print"
    text = text if len(text) <= 60 else text[:57] + "..."
    return text.replace("<", "").replace(">", "")


@dataclass_transform(frozen_default=True)  # checkers take a positional Field(default) for none if told of Field
def declared(error: type[Exception], **options: Any) -> Callable[[type[Declared]], type[Declared]]:
    """Make a class a frozen dataclass whose values are checked when it is made; what does not fit raises `error`.

    options: of the dataclass, such as kw_only. `dataclasses.replace` and `asdict` work, and the former checks again.
    """

    def wrap(cls: type[Declared]) -> type[Declared]:
        made = dataclass(cls, frozen=True, config=CONFIG, **options)
        check = made.__init__

        @wraps(check)
        def __init__(self: Any, *values: Any, **named: Any) -> None:
            try:
                check(self, *values, **named)
            except ValidationError as found:
                raise error(sentence(found, made)) from None

        made.__init__ = __init__  # type: ignore[method-assign]
        return cast("type[Declared]", made)

    return wrap


def fields_of(cls: type) -> Mapping[str, FieldInfo]:
    """A declaration's fields: annotation, bounds (metadata), default and description of each."""
    return cls.__pydantic_fields__  # type: ignore[attr-defined]


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object from a stranger; raises ValueError for what is none, too deep, or holds NaN or Infinity."""
    values = from_json(text, allow_inf_nan=False)
    if not isinstance(values, dict):
        raise ValueError(f"it holds {type(values).__name__}, not an object in braces")
    return values


def checked(kind: Any, values: Any, error: type[Exception], name: str = "") -> Any:
    """Values from JSON as `kind`, a declaration or any annotation; raises `error`, in the same words for both.

    name: what the values are called in a message.
    """
    if hasattr(kind, "__pydantic_fields__"):
        if not isinstance(values, dict):
            raise error(f"{name or 'a configuration'} must be an object in braces; it is {quoted(values)}.")
        return kind(**values)
    try:
        return TypeAdapter(kind, config=None if is_typeddict(kind) else CONFIG).validate_python(values)
    except ValidationError as found:
        raise error(sentence(found, kind, name)) from None


# --- Words


def sentence(error: ValidationError, kind: Any, name: str = "") -> str:
    """What pydantic found wrong with values of a declaration, or of a TypedDict, in one sentence for a person."""
    found = error.errors(include_url=False)
    if extra := _named(found, "unexpected_keyword_argument", "extra_forbidden"):
        return f"the configuration has unknown keys: {', '.join(sorted(extra))}."
    if missing := _named(found, "missing", "missing_argument"):
        return f"the configuration is incomplete: it lacks {', '.join(missing)}."
    first = found[0]
    if first["type"] in ("value_error", "assertion_error"):  # a check of several fields, in its own words
        return str(first.get("ctx", {}).get("error"))
    where = first["loc"]
    if hasattr(kind, "__pydantic_fields__") and isinstance(where[0], int):  # an argument without its name
        where = (list(kind.__pydantic_fields__)[where[0]], *where[1:])
    return f"{_path((name, *where) if name else where)} must be {_wanted(kind, where)}; it is {quoted(first['input'])}."


def _named(found: Iterable[Mapping[str, Any]], *types: str) -> list[str]:
    return [quoted(_path(one["loc"])).strip("'") for one in found if one["type"] in types]


def _path(where: Sequence[int | str]) -> str:
    """parts, unet_widths[1], figures.generation[0].fid."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where if key not in ("", "[key]"))
    return text.removeprefix(".") or "it"


def _wanted(kind: Any, where: Sequence[int | str]) -> str:
    """In words, what may stand at a place inside of a type."""
    bounds: Sequence[Any] = ()
    for key in where:
        kind, bounds = bare(kind, bounds)
        if key == "[key]":  # what was wrong is the key that stands before it
            break
        if hasattr(kind, "__pydantic_fields__"):
            kind, bounds = kind.__pydantic_fields__[key].annotation, kind.__pydantic_fields__[key].metadata
        elif is_typeddict(kind):
            kind, bounds = get_type_hints(kind, include_extras=True)[str(key)], ()
        elif args := [arg for arg in get_args(kind) if arg is not Ellipsis]:  # of a tuple, list or dict
            kind, bounds = args[0 if where[-1] == "[key]" else -1], ()
    return allowed(kind, bounds)


def bare(kind: Any, bounds: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """A type without Annotated, Required and `| None`, and what bounds it."""
    while True:
        args = get_args(kind)
        if get_origin(kind) is Annotated:
            kind, bounds = args[0], (*bounds, *args[1:])
        elif str(get_origin(kind)).rpartition(".")[2] in ("Required", "NotRequired"):
            kind = args[0]
        elif get_origin(kind) in (Union, UnionType) and len(left := [a for a in args if a is not NoneType]) == 1:
            kind = left[0]
        else:
            return kind, [b for bound in bounds for b in (bound.metadata if isinstance(bound, FieldInfo) else [bound])]


def allowed(kind: Any, bounds: Sequence[Any] = ()) -> str:
    """What a type takes, in words: "a whole number from 1 to 8", "one of v, eps"; `bounds`: of annotated_types."""
    kind, bounds = bare(kind, bounds)
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(allowed, args)))
    if origin in (tuple, list):
        low, high = _bound(bounds, "min_length"), _bound(bounds, "max_length")
        item, _ = bare(args[0], ())
        some = "some of " + ", ".join(get_args(item)) if get_origin(item) is Literal else _PLURALS.get(item, "values")
        number = "" if low is None or high is None or some.startswith("some") else f"{low} to {high} "
        return f"a list of {number}{some}"
    if kind in (int, float):
        return f"{_NOUNS[kind]}{limits(bounds)}"
    return _NOUNS.get(kind, "an object in braces")


def _bound(bounds: Sequence[Any], name: str) -> Any:
    return next((value for bound in bounds if (value := getattr(bound, name, None)) is not None), None)


def limits(bounds: Sequence[Any]) -> str:
    """Bounds of a number, to stand behind it: " from 0 to 1", " above 0 and at most 0.1", ", 0 or more", or nothing."""
    ge, gt, le, lt = (_bound(bounds, name) for name in ("ge", "gt", "le", "lt"))
    if ge is not None and le is not None:
        return f" from {ge:,} to {le:,}"
    if ge is not None and lt is None:
        return f", {ge:,} or more"
    low = None if gt is None and ge is None else f"above {gt:,}" if gt is not None else f"at least {ge:,}"
    high = None if le is None and lt is None else f"at most {le:,}" if le is not None else f"below {lt:,}"
    words = " and ".join(filter(None, (low, high)))
    return words and f" {words}"
