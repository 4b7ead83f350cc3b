"""Rows of other tables that point at notifications, and what becomes of a notification that one refers to. Pure.

A foreign key without an action stops the delete of a whole batch. So there is a plan for each: its rows go with the
notification (`delete`), or the notification stays (`defer`). What a key does by itself can't be declared away. Where a
third table stops those rows from going, by declaration or by themselves, the notification stays.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2 import sql

from app.dao.adoption_sql import quoted
from app.dao.catalogue import Catalogue, ForeignKey

LOOKED_UP = "EXISTS (SELECT FROM {table} AS r WHERE {refers} OFFSET 0)"
HASHED = "({referred}) IN (SELECT {columns} FROM {table} AS r WHERE {present})"

Action = Literal["defer", "delete", "cascade", "set"]
BY_ITSELF: Mapping[str, Action] = {"CASCADE": "cascade", "SET NULL": "set", "SET DEFAULT": "set"}


@dataclass(frozen=True)
class Plan:
    """What is done about one foreign key."""

    key: ForeignKey
    action: Action

    @property
    def is_read(self) -> bool:
        """Whether statements of ours read the table. What a key does by itself PostgreSQL does as the table's owner."""
        return self.action in ("defer", "delete")

    @property
    def is_referred_to(self) -> str:
        """Whether a row of the table refers to notification n, as an expression.

        OFFSET 0 keeps the planner to one look into the table's index for each row, in the order of the choice. Without
        an index on it the table is hashed, once for each statement.
        """
        parts = {
            "table": self.table,
            "refers": self.refers,
            "present": " AND ".join(f"r.{quoted(column)} IS NOT NULL" for column in self.key.columns),
            "columns": self._of("r", self.key.columns),
            "referred": self._of("n", self.key.referred_columns),
        }
        template = LOOKED_UP if self.key.is_indexed else HASHED
        return sql.SQL(template).format(**{name: sql.SQL(part) for name, part in parts.items()}).as_string(None)

    @property
    def table(self) -> str:
        """The referring table, as statements name it."""
        return quoted(self.key.schema, self.key.table)

    @property
    def refers(self) -> str:
        """Whether row r of the table refers to notification n."""
        pairs = zip(self.key.columns, self.key.referred_columns, strict=True)
        return " AND ".join(f"r.{quoted(column)} = n.{quoted(referred)}" for column, referred in pairs)

    @staticmethod
    def _of(alias: str, columns: Sequence[str]) -> str:
        return ", ".join(f"{alias}.{quoted(column)}" for column in columns)


def plans(catalogue: Catalogue, deleted: Collection[str]) -> list[Plan]:
    """A plan for every foreign key that points at notifications. `deleted`: tables whose rows are declared to go."""
    return [Plan(key, _action(key, deleted)) for key in catalogue.referring]


def _action(key: ForeignKey, deleted: Collection[str]) -> Action:
    wanted = BY_ITSELF.get(key.on_delete) or ("delete" if key.table in deleted else "defer")
    return "defer" if key.stopped_by and wanted != "set" else wanted
