"""A table: rows by name, in order. Whatever can be chosen by name is a row that carries all its behaviour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Row(Protocol):
    """name: what people type and files say; title: what they read."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...


R = TypeVar("R", bound=Row)


class Table(Mapping[str, R], Generic[R]):
    """Rows by name; the first is what is used where nobody chooses.

    Args: what, a row's kind, for messages; rows; error, what `find` raises. Two rows may share neither name nor title.
    """

    def __init__(self, what: str, rows: Iterable[R] = (), error: type[ValueError] = ValueError) -> None:
        self.what, self.error = what, error
        self._rows: dict[str, R] = {}
        for row in rows:
            self.add(row)

    def add(self, row: R) -> R:
        """Append a row; raises ValueError where its name or title is taken."""
        if not row.name or not row.title:
            raise ValueError(f"a {self.what} needs a name and a title; this one has {row.name!r} and {row.title!r}.")
        if taken := [one.name for one in self._rows.values() if row.name == one.name or row.title == one.title]:
            raise ValueError(f"the {self.what} {row.name!r} ({row.title}) has the name or title of {taken[0]!r}.")
        self._rows[row.name] = row
        return row

    @contextmanager
    def extended(self, row: R) -> Iterator[R]:
        """The table with one row more, for as long as the context lasts."""
        try:
            yield self.add(row)
        finally:
            self._rows = {name: one for name, one in self._rows.items() if one is not row}

    def find(self, name: str) -> R:
        """The row of that name; raises the table's error with the names there are."""
        if name not in self._rows:
            raise self.error(f"there is no {self.what} {name!r}; there are: {', '.join(self)}.")
        return self._rows[name]

    def get(self, name: str | None) -> R | None:  # type: ignore[override]  # without another default
        """The row of that name, None where there is none."""
        return self._rows.get(name) if name is not None else None

    @property
    def first(self) -> str:
        """The name of the first row."""
        return next(iter(self._rows))

    def choices(self) -> list[tuple[str, str]]:
        """(title, name) of every row, as a list to choose from shows them."""
        return [(row.title, name) for name, row in self._rows.items()]

    def __getitem__(self, name: str) -> R:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
