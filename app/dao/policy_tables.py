"""A policy as its statements see it: its table, columns behind paths, and what is compared. Pure.

The policy's own table is `n` in every statement, the tables of its paths are `p1`, `p2` and so on. Identifiers come
from the catalogue and are quoted; values are bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from app import own_schema
from app.dao.adoption_sql import quoted
from app.dao.catalogue import Column, Table, Type
from app.dao.copying import Copy
from app.dao.referring import Plan

OWN = "n"


@dataclass(frozen=True)
class Ref:
    """A column of the policy's table, or of one at the end of a path."""

    alias: str
    table: Table
    column: Column

    @property
    def is_own(self) -> bool:
        """Whether the policy's own table has it."""
        return self.alias == OWN

    @property
    def expression(self) -> str:
        """As a statement names it."""
        return f"{self.alias}.{name(self.column.name)}"


@dataclass(frozen=True)
class Join:
    """A table of a path: by which columns of the one before it the row is found, and by which of its own."""

    before: str
    alias: str
    table: Table
    columns: tuple[str, ...]
    referred: tuple[str, ...]


@dataclass(frozen=True)
class Test:
    """What a column must be: the operator is a key of `OPERATORS`."""

    ref: Ref
    operator: str
    values: tuple[Any, ...]


OPERATORS: Mapping[str, str] = {
    "equal": "{column} = CAST({value} AS {type})",
    "differs": "{column} <> CAST({value} AS {type})",
    "one_of": "{column} = ANY (CAST({value} AS {type}[]))",
    "none_of": "{column} <> ALL (CAST({value} AS {type}[]))",
    "above": "{column} > CAST({value} AS {type})",
    "below": "{column} < CAST({value} AS {type})",
    "is_set": "({column} IS NOT NULL) = CAST({value} AS boolean)",
}
OF_SEVERAL = ("one_of", "none_of")


@dataclass(frozen=True)
class Set:
    """What a column becomes: a value, the time of the batch, NULL, or another column's value."""

    column: Column
    kind: str
    value: Any = None


@dataclass(frozen=True)
class PolicyTable:
    """A policy whose every name was found in the catalogue.

    `copied` are the columns that move to `target`; `changed` what a redaction sets; neither: rows are deleted. `file`
    is literal text and the column that follows it, in turn. `referring` are keys for whose rows a row stays.
    """

    policy: str
    table: Table
    key: Column
    age: tuple[Ref, ...]
    joins: tuple[Join, ...]
    tests: tuple[Test, ...]
    service: Ref | None
    user: Ref | None
    type_of_retention: Ref | str | None
    """Where the retention is the service's own: the type, or the column that says it."""
    services: Table | None
    retentions: Table | None
    file: tuple[tuple[str, Ref | None], ...]
    target: Table | None
    copied: tuple[Copy, ...]
    changed: tuple[Set, ...]
    referring: tuple[Plan, ...]
    own: str
    """What the schema `retention` is called in this database."""

    @property
    def age_type(self) -> Type:
        """All columns of an age have one type."""
        return self.age[0].column.type

    def named(self, table: Table) -> str:
        """A table as statements name it; one of our own schema as the engine expects it."""
        if table.schema == self.own:
            return f"{own_schema.USUAL}.{name(table.name)}"
        return own_schema.theirs(name(table.schema, table.name))


def name(*names: str) -> str:
    """Quoted for psycopg2, which takes a single percent sign for a value's."""
    return quoted(*names).replace("%", "%%")


def type_name(of: Type) -> str:
    """A type as a cast names it."""
    return name(of.schema, of.name)


def filled(template: str, **parts: str) -> str:
    """A template with identifiers and fragments of this code's own."""
    return sql.SQL(template).format(**{key: sql.SQL(part) for key, part in parts.items()}).as_string(None)
