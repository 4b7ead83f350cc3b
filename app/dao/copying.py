"""How the columns of history are copied: by name, each with the cast that its two types need. Pure.

Every column of history moves, and no other. A column is never copied by its place: that would put a cost into a
carrier's column where two tables have another order.
"""

from dataclasses import dataclass
from enum import Enum

from app.dao.adoption_sql import quoted
from app.dao.catalogue import HISTORY, NOTIFICATIONS, NUMBERS, STRINGS, Casts, Catalogue, Type

WRITTEN = (*STRINGS, "json")
"""Types that keep a value as somebody wrote it."""


class How(Enum):
    """How a value of one type gets into a column of another."""

    AS_IT_IS = "as it is"
    BY_CAST = "by a cast"
    BY_TEXT = "by its text"
    NOT_AT_ALL = "not at all"


@dataclass(frozen=True)
class Copy:
    """A column of history, and how it is filled from the column of the same name."""

    column: str
    how: How
    from_type: Type
    to_type: Type
    comes_back: bool = False
    """Whether a value of history's type can be cast to that of notifications."""

    @property
    def expression(self) -> str:
        """As a SELECT would have it."""
        name, target = quoted(self.column), quoted(self.to_type.schema, self.to_type.name)
        if self.how is How.BY_CAST:
            return f"{name}::{target}"
        return f"{name}::text::{target}" if self.how is How.BY_TEXT else name

    @property
    def differs(self) -> str:
        """Whether row h of history came to have another value than row n of notifications.

        As the type that the value had: what a cast lost does not come back. A text, as what it was read as. By their
        text, since not every type can be compared; numbers as numbers, since 1.5 is 1.50.
        """
        name, common = quoted(self.column), self._compared_as
        form = quoted(common.schema, common.name) if common else "text"
        if common and common.name not in NUMBERS:
            form += "::text"
        return f"n.{name}::{form} IS DISTINCT FROM h.{name}::{form}"

    @property
    def _compared_as(self) -> Type | None:
        """None: by their text alone."""
        if self.from_type.base == self.to_type.base:
            return self.from_type
        if self.to_type.name in STRINGS:
            return None
        if self.from_type.name in WRITTEN:
            return self.to_type
        return self.from_type if self.comes_back else None


def copies(catalogue: Catalogue) -> list[Copy]:
    """Every column of history that can be inserted and that notifications has, in history's order."""
    live, history = catalogue.tables.get(NOTIFICATIONS), catalogue.tables.get(HISTORY)
    if live is None or history is None:
        return []
    return [
        _copy(name, live.columns[name].type, column.type, catalogue.casts)
        for name, column in history.columns.items()
        if name in live.columns and not column.generated
    ]


def _copy(column: str, source: Type, target: Type, casts: Casts) -> Copy:
    return Copy(column, how(source, target, casts), source, target, comes_back=(target.base, source.base) in casts)


def how(source: Type, target: Type, casts: Casts) -> How:
    """How a value of `source` gets into a column of `target`."""
    if source.base == target.base or target.name in STRINGS:
        return How.AS_IT_IS
    if target.is_enum:
        return How.BY_CAST if source.name in STRINGS else How.BY_TEXT if source.is_enum else How.NOT_AT_ALL
    by_itself = casts.get((source.base, target.base))
    if by_itself is not None:
        return How.AS_IT_IS if by_itself else How.BY_CAST
    return How.BY_CAST if source.name in STRINGS else How.NOT_AT_ALL
