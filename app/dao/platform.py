"""The platform's tables as statements name them: their names, how words are compared, what moves. Pure.

A statement is a template: `{notifications}` is a table's name with its schema, `{type}`, `{status}` and the like are
the types that bound words are cast to. Text is not compared with an enum, and the enum's column is never cast to text,
which no index would serve. A word that an enum lacks is bound as NULL, which equals nothing, or left out of its list.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

from psycopg2 import sql
from sqlalchemy import TextClause, text

from app import own_schema
from app.dao.adoption_sql import quoted
from app.dao.catalogue import (
    HISTORY,
    NOTIFICATIONS,
    PARTITIONED_TABLE,
    PLATFORM_TABLES,
    RETENTIONS,
    SERVICES,
    Catalogue,
    Column,
)
from app.dao.copying import Copy, How, copies
from app.dao.referring import Action, Plan, plans
from app.db import PlatformTables
from app.models.types import STATUSES

T = TypeVar("T")
TYPE, STATUS = "notification_type", "notification_status"
WORDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "type": (NOTIFICATIONS, TYPE),
        "status": (NOTIFICATIONS, STATUS),
        "retention_type": (RETENTIONS, TYPE),
        "history_status": (HISTORY, STATUS),
    }
)
"""Columns whose words are bound, by the placeholders of their types."""
OF_LETTER_FILES = ("reference", "postage")
"""Columns of notifications without which a platform can do whose letters have no files."""


IN_BATCH = "n.ctid = ANY (ARRAY(SELECT row_address FROM retention_batch))"
IN_BATCH_OF_PARTITIONS = """n.ctid = ANY (ARRAY(SELECT row_address FROM retention_batch))
  AND (n.tableoid, n.ctid) IN (SELECT row_table, row_address FROM retention_batch)
  AND n.created_at >= (SELECT min(created_at) FROM retention_batch)
  AND n.created_at <= (SELECT max(created_at) FROM retention_batch)"""
"""That row n of notifications is in the batch's temporary table. An address is of one partition; the bounds leave those
aside that have no row of the batch.
"""
OF_HISTORY_KEY = ("id", "created_at")
"""The key of a history that is partitioned by created_at."""


class HistoryNotCovered(RuntimeError):
    """notification_history has columns that notifications lacks, or that can't be copied: rows can't be moved whole."""


@dataclass(frozen=True, eq=False)
class Platform:
    """What statements are built from. Tables that are not there have their plain names, and PostgreSQL says so."""

    catalogue: Catalogue
    given: PlatformTables
    """Where its tables were looked for, and which others' rows go with a notification."""
    stamp: str
    """Tells one state of the catalogue from another."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the platform's tables are there."""
        return len(self.catalogue.tables) == len(PLATFORM_TABLES)

    @cached_property
    def moving(self) -> tuple[Copy, ...]:
        """The columns that move, each with its expression. Raises HistoryNotCovered."""
        live, history = self.catalogue.tables.get(NOTIFICATIONS), self.catalogue.tables.get(HISTORY)
        if live is None or history is None:
            return ()
        found = copies(self.catalogue)
        can_be_left_out = {name for name, column in history.columns.items() if column.generated}
        lacking = [name for name in history.columns if name not in live.columns and name not in can_be_left_out]
        if lacking:
            raise HistoryNotCovered(
                f"{HISTORY} has columns that {NOTIFICATIONS} lacks: {', '.join(lacking)}. "
                f"Add them to {NOTIFICATIONS}, or drop them from {HISTORY}."
            )
        apart = [copy.column for copy in found if copy.how is How.NOT_AT_ALL]
        if apart:
            raise HistoryNotCovered(
                f"{HISTORY} has columns of another type than {NOTIFICATIONS}, which can't be copied: "
                f"{', '.join(apart)}. Give both the same type."
            )
        return tuple(found)

    @cached_property
    def deferring(self) -> tuple[Plan, ...]:
        """Foreign keys for whose rows a notification stays."""
        return self._plans("defer")

    @cached_property
    def deleting(self) -> tuple[Plan, ...]:
        """Foreign keys whose rows go with their notification."""
        return self._plans("delete")

    @property
    def has_row_security(self) -> bool:
        """Whether policies say which rows a role sees, of any table of the platform's that statements of ours read."""
        read = [table.row_security for table in self.catalogue.tables.values()]
        read += [plan.key.row_security for plan in self.deferring + self.deleting]
        return any(one.is_on for one in read)

    def _plans(self, action: Action) -> tuple[Plan, ...]:
        found = plans(self.catalogue, self.given.deleted_with)
        return tuple(plan for plan in found if plan.action == action)

    def a_type(self, word: str) -> str | None:
        """The notification type as it is bound; None if no row can be of it."""
        return _word(self._column(NOTIFICATIONS, TYPE), word)

    def a_type_of_retention(self, word: str) -> str | None:
        """The same for the type that a service's retention is for."""
        return _word(self._column(RETENTIONS, TYPE), word)

    def a_status(self, word: str) -> str | None:
        """The status as it is bound; None if no row can have it."""
        return _word(self._column(NOTIFICATIONS, STATUS), word)

    def statuses(self, words: Collection[str] | None) -> list[str] | None:
        """Of these statuses, those that a row can have; None stays None."""
        return None if words is None else [word for word in words if self.a_status(word) is not None]

    @property
    def known_statuses(self) -> tuple[str, ...]:
        """Every status that the platform has; those of the family where it can't be read."""
        return self.catalogue.statuses or STATUSES

    def clause(self, template: str, **parts: str) -> TextClause:
        """The template for SQLAlchemy, which binds `:name`. Parts are templates that it names."""
        return self._once(
            ("clause", template, *parts.items()), lambda: text(_filled(template, parts, self._names, ":", "\\:"))
        )

    def driver(self, template: str, **parts: str) -> str:
        """The template for psycopg2, which binds `%(name)s`."""
        return self._once(
            ("driver", template, *parts.items()), lambda: _filled(template, parts, self._names, "%", "%%")
        )

    def printed(self, template: str, **parts: str) -> str:
        """The template for a person to run: nothing is escaped for a driver."""
        return _filled(template, parts, self._names, "%", "%")

    def driver_for(self, plan: Plan, template: str, **parts: str) -> str:
        """The same for one foreign key: it also names `{table}`, `{refers}` and `{referred_by_key}`."""
        of_key = {"table": plan.table, "refers": plan.refers, "referred_by_key": plan.is_referred_to}
        return _filled(template, parts, {**self._names, **of_key}, "%", "%%")

    def mover(self, template: str, **parts: str) -> str:
        """The same for a template that moves rows: it also names `{columns}`, `{expressions}`, `{assignments}`, and
        `{differences}`, which counts the rows that differ for each of `moving`.

        Raises HistoryNotCovered.
        """
        return self._once(
            ("mover", template, *parts.items()),
            lambda: _filled(template, parts, {**self._names, **self._names_that_move}, "%", "%%"),
        )

    def named(self, table: str) -> str:
        """A table's name as to_regclass finds it: the platform's own in PLATFORM_SCHEMA, any other as it is given."""
        if self.given.schema is None or table not in PLATFORM_TABLES:
            return table
        return own_schema.theirs(self._table(table))

    def _once(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """Templates are constants of the code: each is filled once."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    @cached_property
    def _made(self) -> dict[tuple[object, ...], Any]:
        return {}

    @cached_property
    def _names(self) -> Mapping[str, str]:
        live = self.catalogue.tables.get(NOTIFICATIONS)
        tables = {
            "notifications": NOTIFICATIONS,
            "history": HISTORY,
            "services": SERVICES,
            "retentions": RETENTIONS,
        }
        is_partitioned = live is not None and live.kind == PARTITIONED_TABLE
        named = {"in_batch": IN_BATCH_OF_PARTITIONS if is_partitioned else IN_BATCH, "history_key": self._history_key}
        referred = " OR ".join(plan.is_referred_to for plan in self.deferring) or "false"
        return MappingProxyType(
            {"referred": f"({referred})", **named}
            | {placeholder: self._table(name) for placeholder, name in tables.items()}
            | {placeholder: _type_name(self._column(*column)) for placeholder, column in WORDS.items()}
            | {name: f"n.{name}" if live is None or name in live.columns else "NULL::text" for name in OF_LETTER_FILES}
        )

    @property
    def _history_key(self) -> str:
        """The columns by which history has a row once."""
        history = self.catalogue.tables.get(HISTORY)
        is_wide = history is not None and not history.is_unique_by("id") and history.is_unique_by(*OF_HISTORY_KEY)
        return ", ".join(OF_HISTORY_KEY if is_wide else OF_HISTORY_KEY[:1])

    @cached_property
    def _names_that_move(self) -> Mapping[str, str]:
        columns = {quoted(copy.column): copy.expression for copy in self.moving}
        return MappingProxyType(
            {
                "columns": ", ".join(columns),
                "expressions": ", ".join(f"{expression} AS {name}" for name, expression in columns.items()),
                "differences": ", ".join(f"count(*) FILTER (WHERE {copy.differs})" for copy in self.moving),
                "assignments": ", ".join(f"{name} = excluded.{name}" for name in columns),
            }
        )

    def _table(self, name: str) -> str:
        found = self.catalogue.tables.get(name)
        schema = found.schema if found is not None else self.given.schema
        return quoted(name) if schema is None else quoted(schema, name)

    def _column(self, table: str, column: str) -> Column | None:
        found = self.catalogue.tables.get(table)
        return found.columns.get(column) if found is not None else None


def _filled(template: str, parts: Mapping[str, str], names: Mapping[str, str], special: str, escaped: str) -> str:
    """What is special to the driver is escaped in names, which may hold anything."""
    plain = {name: sql.SQL(own_schema.theirs(part).replace(special, escaped)) for name, part in names.items()}
    filled = {name: sql.SQL(part).format(**plain) for name, part in parts.items()}
    return sql.SQL(template).format(**plain, **filled).as_string(None)


def _word(column: Column | None, word: str) -> str | None:
    return word if column is None or column.type.labels is None or word in column.type.labels else None


def _type_name(column: Column | None) -> str:
    """Words of any type but an enum are compared as text."""
    return quoted(column.type.schema, column.type.name) if column is not None and column.type.is_enum else "text"
