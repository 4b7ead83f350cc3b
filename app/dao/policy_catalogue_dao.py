"""The tables that policies name, and those that their foreign keys lead to, as the catalogue has them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from app import own_schema
from app.dao import catalogue_dao
from app.dao.catalogue import RETENTIONS, SERVICES, Casts, ForeignKey, Table
from app.db import PLATFORM, PlatformTables

Place = tuple[str | None, str]
"""Schema and name; no schema: where the search path finds it."""


@dataclass(frozen=True)
class Found:
    """What was found. Tables by schema and name."""

    role: str
    own: str
    """What the schema `retention` is called here."""
    given: str | None
    """The schema of the platform's tables, if one is set."""
    tables: Mapping[tuple[str, str], Table]
    visible: Mapping[str, Table]
    """By the names that policies have for them."""
    keys: tuple[ForeignKey, ...]
    held_on: Mapping[tuple[str, str], frozenset[str]]
    usable_schemas: frozenset[str]
    casts: Casts

    def table(self, named: str) -> Table | None:
        """A table by the name that a policy has for it."""
        return self.visible.get(named)

    def of(self, schema: str, name: str) -> Table | None:
        """A table by its schema and name."""
        return self.tables.get((schema, name))

    def keys_of(self, table: Table, column: str) -> list[ForeignKey]:
        """Foreign keys of one column of a table."""
        return [
            key for key in self.keys if (key.schema, key.table, key.columns) == (table.schema, table.name, (column,))
        ]

    def keys_to(self, table: Table) -> list[ForeignKey]:
        """Foreign keys that point at a table."""
        return [key for key in self.keys if (key.referred_schema, key.referred) == (table.schema, table.name)]


def read(connection: Connection, names: Collection[str], depth: int) -> Found:
    """These tables, services and retentions, and what so many foreign keys in a row lead to from them."""
    own = own_schema.name(connection)
    platform: PlatformTables = connection.get_execution_options().get(PLATFORM) or PlatformTables()
    wanted = {named: _place(named, own, platform.schema) for named in {*names, SERVICES, RETENTIONS}}
    tables: dict[tuple[str, str], Table] = {}
    visible: dict[str, Table] = {}
    keys: dict[ForeignKey, None] = {}
    held: dict[tuple[str, str], frozenset[str]] = {}
    usable: set[str] = set()
    casts: dict[tuple[tuple[str, str], tuple[str, str]], bool] = {}
    role = ""
    places: set[Place] = set(wanted.values())
    for _ in range(depth):
        new: list[Table] = []
        for schema, of_schema in _by_schema(places).items():
            found = catalogue_dao.others(connection, of_schema, schema)
            role = found.role
            new += found.tables
            keys.update(dict.fromkeys(found.keys))
            held.update(found.held_on)
            usable |= found.usable_schemas
            casts.update(found.casts)
            visible.update({n: t for n, p in wanted.items() for t in found.tables if p == (schema, t.name)})
        tables.update({(table.schema, table.name): table for table in new})
        ahead: set[Place] = {(key.referred_schema, key.referred) for key in keys if (key.schema, key.table) in tables}
        places = {place for place in ahead if place not in tables}
        if not places:
            break
    return Found(role, own, platform.schema, tables, visible, tuple(keys), held, frozenset(usable), casts)


def _place(named: str, own: str, schema: str | None) -> Place:
    first, dot, rest = named.partition(".")
    if not dot:
        return schema, named
    return (own if first == own_schema.USUAL else first), rest


def _by_schema(places: Iterable[Place]) -> dict[str | None, set[str]]:
    grouped: dict[str | None, set[str]] = {}
    for schema, name in places:
        grouped.setdefault(schema, set()).add(name)
    return grouped
