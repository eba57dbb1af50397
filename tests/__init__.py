"""The tests. In all of them, what `process`, `models` and `samplers` take and give must have the shapes declared."""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook


def _of_shape(hint: Any) -> bool:
    """Whether an annotation says what shape something has."""
    return issubclass(hint, AbstractArray) if isinstance(hint, type) else any(map(_of_shape, get_args(hint)))


def checked(function: Callable) -> Callable:
    """The function, its shapes checked; other types are Pyright's, and what people may send is tried on purpose."""
    function.__annotations__ = {key: hint for key, hint in function.__annotations__.items() if _of_shape(hint)}
    return beartype(function)


install_import_hook(["pixelviz.process", "pixelviz.models", "pixelviz.samplers"], "tests.checked")
