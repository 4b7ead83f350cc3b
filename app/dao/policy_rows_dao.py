"""A policy's rows: chosen and locked by age, moved, deleted or redacted. Statements are made for each policy.

Identifiers come from the catalogue (`app.dao.policy_tables`), every value is bound.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app import clock, own_schema
from app.dao.policy_tables import OF_SEVERAL, OPERATORS, PolicyTable, Ref, Set, filled, name, type_name
from app.refusals import CountsDiffer

JOIN = " LEFT JOIN {table} AS {alias} ON {pairs}"
AGE_OF_SEVERAL = "coalesce({columns})"

PAST = "{age} < CAST(%(before)s AS {age_type})"
# The service's own retention, the default where it has none; of two, or of one that is refused, nothing is due.
PAST_OF_SERVICE = """{age} < (
    SELECT c.before FROM unnest(CAST(%(kept_days)s AS integer[]), CAST(%(cutoffs)s AS {age_type}[])) AS c (days, before)
    WHERE c.days = (
        SELECT CASE count(*) WHEN 0 THEN CAST(%(days)s AS integer) WHEN 1 THEN min(r.days_of_retention) END
        FROM {retentions} AS r WHERE r.service_id = {service} AND r.notification_type::text = {type}
    )
  )
  AND EXISTS (SELECT FROM {services} AS s WHERE s.id = {service}) AND {type} IS NOT NULL"""
BEHIND = "({age}, n.{key}) > (CAST(%(seen_to)s AS {age_type}), CAST(%(seen_key)s AS {key_type}))"
# The same in a form that an index on the age alone serves.
FROM = "{age} >= CAST(%(seen_to)s AS {age_type})"
NOT_HELD = "({id} IS NULL OR {id}::text <> ALL (CAST(%({held})s AS text[])))"
NOT_DEFERRED = """NOT EXISTS (
    SELECT FROM retention.policy_deferred AS d
    WHERE d.policy = %(policy)s AND d.key = n.{key}::text AND d.next_attempt_at > %(now)s
  )"""
HAS_FILE = "{file} <> ''"
ONLY = "n.{key} = ANY (CAST(%(keys)s AS {key_type}[]))"
NO_SERVICE, NO_FILE = "CAST(NULL AS uuid)", "CAST(NULL AS text)"

ROWS = """
SELECT n.{key} AS key, {age} AS age, {service} AS service_id, {file} AS file
FROM {table} AS n{joins}
WHERE {eligible}
ORDER BY {age}, n.{key}
LIMIT %(limit)s
"""
LOOK = "SELECT key::text, age::text, file FROM ({rows}) AS found ORDER BY found.age, found.key"
CHOOSE = "CREATE TEMP TABLE policy_batch ON COMMIT DROP AS {rows} FOR UPDATE OF n SKIP LOCKED"
CHOSEN = "SELECT key::text, age::text, file, service_id FROM policy_batch ORDER BY policy_batch.age, policy_batch.key"
KEEP_ONLY = "DELETE FROM policy_batch WHERE key::text <> ALL (%(keys)s)"
BY_SERVICE = "SELECT service_id, count(*) FROM policy_batch WHERE service_id IS NOT NULL GROUP BY 1 ORDER BY 1"
COUNT = "SELECT count(*) FROM (SELECT FROM {table} AS n{joins} WHERE {eligible} LIMIT %(limit)s) AS due"
DAYS_IN_USE = "SELECT DISTINCT days_of_retention FROM {retentions} WHERE days_of_retention > 0"
IN_BATCH = "n.{key} IN (SELECT key FROM policy_batch)"
COPY = "INSERT INTO {target} ({columns}) SELECT {expressions} FROM {table} AS n WHERE {in_batch}"
DELETE = "DELETE FROM {table} AS n WHERE {in_batch}"
REDACT = "UPDATE {table} AS n SET {assignments} WHERE {in_batch}"


@dataclass(frozen=True)
class Due:
    """Which rows are past their time. Cut-offs are as the age's column has them.

    `before` is the cut-off of all, or the latest of `cutoffs`, each of which is for a retention of `kept_days`.
    """

    before: Any
    now: datetime
    days: int | None = None
    kept_days: tuple[int, ...] = ()
    cutoffs: tuple[Any, ...] = ()
    held_services: tuple[str, ...] = ()
    held_users: tuple[str, ...] = ()
    seen_to: str | None = None
    seen_key: str | None = None
    with_deferred: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table: its key and age as PostgreSQL prints them, its file's key, its service."""

    key: str
    age: str
    file: str | None
    service_id: UUID | None = None


class Statements:
    """The statements of one policy."""

    def __init__(self, of: PolicyTable) -> None:
        self.of = of
        ages = [ref.expression for ref in of.age]
        self.values: dict[str, Any] = {"policy": of.policy}
        self.parts = {
            "table": of.named(of.table),
            "key": name(of.key.name),
            "key_type": type_name(of.key.type),
            "age": ages[0] if len(ages) == 1 else filled(AGE_OF_SEVERAL, columns=", ".join(ages)),
            "age_type": type_name(of.age_type),
            "service": of.service.expression if of.service else NO_SERVICE,
            "file": self._file(),
            "joins": "".join(self._join(number) for number in range(len(of.joins))),
        }
        self.fixed = [self._test(number) for number in range(len(of.tests))]
        if of.file:
            self.fixed.append(filled(HAS_FILE, file=self.parts["file"]))
        for plan in of.referring:
            self.fixed.append(f"NOT {own_schema.theirs(plan.is_referred_to.replace('%', '%%'))}")
        if of.type_of_retention is not None:
            self.fixed.append(self._past_of_service(of.type_of_retention))

    def _join(self, number: int) -> str:
        join = self.of.joins[number]
        pairs = " AND ".join(
            f"{join.alias}.{name(referred)} = {join.before}.{name(column)}"
            for column, referred in zip(join.columns, join.referred, strict=True)
        )
        return filled(JOIN, table=self.of.named(join.table), alias=join.alias, pairs=pairs)

    def _test(self, number: int) -> str:
        test = self.of.tests[number]
        bound = f"where_{number}"
        self.values[bound] = list(test.values) if test.operator in OF_SEVERAL else test.values[0]
        return filled(
            OPERATORS[test.operator],
            column=test.ref.expression,
            value=f"%({bound})s",
            type=type_name(test.ref.column.type),
        )

    def _file(self) -> str:
        parts = []
        for number, (literal, ref) in enumerate(self.of.file):
            self.values[f"file_{number}"] = literal
            parts.append(f"%(file_{number})s::text")
            if ref is not None:
                parts.append(f"{ref.expression}::text")
        return " || ".join(parts) or NO_FILE

    def _past_of_service(self, of_type: Ref | str) -> str:
        if isinstance(of_type, str):
            self.values["type_of_retention"] = of_type
        said = "%(type_of_retention)s::text" if isinstance(of_type, str) else f"{of_type.expression}::text"
        tables = {"services": self.of.services, "retentions": self.of.retentions}
        named = {key: self.of.named(table) for key, table in tables.items() if table is not None}
        kept = {key: self.parts[key] for key in ("age", "age_type", "service")}
        return filled(PAST_OF_SERVICE, type=said, **named, **kept)

    def _eligible(self, due: Due, *more: str) -> str:
        conditions = [PAST, *more]
        if not due.with_deferred:
            conditions.append(NOT_DEFERRED)
        if due.seen_to is not None:
            conditions += [FROM, BEHIND]
        found = [self._filled(condition) for condition in conditions] + self.fixed
        for ref, held in ((self.of.service, "held_services"), (self.of.user, "held_users")):
            if ref is not None:
                found.append(filled(NOT_HELD, id=ref.expression, held=held))
        return "\n  AND ".join(found)

    def _filled(self, template: str) -> str:
        return filled(template, **{key: part for key, part in self.parts.items() if f"{{{key}}}" in template})

    def rows(self, due: Due, *more: str) -> str:
        """The rows that are due, oldest first."""
        named = {key: part for key, part in self.parts.items() if f"{{{key}}}" in ROWS}
        return filled(ROWS, **named, eligible=self._eligible(due, *more))

    def count(self, due: Due) -> str:
        """How many rows are due, up to a limit."""
        named = {key: self.parts[key] for key in ("table", "joins")}
        return filled(COUNT, **named, eligible=self._eligible(due))

    def bound(self, due: Due, limit: int = 0, keys: Sequence[str] = ()) -> dict[str, Any]:
        """What the statements bind."""
        given = {
            **vars(due),
            "kept_days": list(due.kept_days),
            "cutoffs": list(due.cutoffs),
            "held_services": list(due.held_services),
            "held_users": list(due.held_users),
        }
        return {**self.values, **given, "limit": limit, "keys": list(keys)}

    @property
    def in_batch(self) -> str:
        """That a row is of the batch."""
        return self._filled(IN_BATCH)

    def copy(self) -> str | None:
        """Into the table that rows move to."""
        of = self.of
        if of.target is None:
            return None
        return filled(
            COPY,
            target=of.named(of.target),
            table=self.parts["table"],
            columns=", ".join(name(copy.column) for copy in of.copied),
            expressions=", ".join(copy.expression.replace("%", "%%") for copy in of.copied),
            in_batch=self.in_batch,
        )

    def remove(self) -> str:
        """The end of the batch's rows."""
        if not self.of.changed:
            return filled(DELETE, table=self.parts["table"], in_batch=self.in_batch)
        assignments = ", ".join(self._assignment(number, change) for number, change in enumerate(self.of.changed))
        return filled(REDACT, table=self.parts["table"], in_batch=self.in_batch, assignments=assignments)

    def _assignment(self, number: int, change: Set) -> str:
        column = name(change.column.name)
        if change.kind == "null":
            return f"{column} = NULL"
        if change.kind == "column":
            return f"{column} = n.{name(str(change.value))}"
        self.values[f"set_{number}"] = change.value
        bound = f"%(set_{number})s" if change.kind == "to" else "%(now_utc)s"
        return f"{column} = CAST({bound} AS {type_name(change.column.type)})"


def days_in_use(connection: Connection, of: PolicyTable) -> set[int]:
    """Every retention that some service has, in days, but for refused ones."""
    if of.retentions is None:
        return set()
    return set(connection.exec_driver_sql(filled(DAYS_IN_USE, retentions=of.named(of.retentions))).scalars())


def look(connection: Connection, of: PolicyTable, due: Due, limit: int) -> list[Row]:
    """The oldest rows that are due, without a lock."""
    statements = Statements(of)
    rows = connection.exec_driver_sql(filled(LOOK, rows=statements.rows(due)), statements.bound(due, limit))
    return [Row(*row) for row in rows]


def count(connection: Connection, of: PolicyTable, due: Due, limit: int) -> int:
    """How many rows are due, up to a limit."""
    statements = Statements(of)
    found: int = connection.exec_driver_sql(statements.count(due), statements.bound(due, limit)).scalar_one()
    return found


@dataclass
class Removal:
    """A batch, locked in its temporary table, as `app.engine.batch` wants it."""

    connection: Connection
    statements: Statements
    rows: dict[str, Row]
    now: datetime

    def ids(self) -> list[str]:
        """The rows' keys, oldest first."""
        return list(self.rows)

    def leave(self, keys: Collection[str]) -> None:
        """Take these rows out of the batch. They stay locked until the commit."""
        self.rows = {key: row for key, row in self.rows.items() if key not in keys}
        self.connection.exec_driver_sql(KEEP_ONLY, {"keys": list(self.rows)})

    def remove(self, only: Collection[str] | None) -> int:
        """Move, delete or redact these rows, all of the batch if None. Raises CountsDiffer, DBAPIError."""
        wanted = len(self.rows) if only is None else len(only)
        if only is not None:
            self.connection.exec_driver_sql(KEEP_ONLY, {"keys": list(only)})
        table = self.statements.of.table.name
        copy, remove = self.statements.copy(), self.statements.remove()
        values = {**self.statements.values, "now_utc": clock.to_column(self.now)}
        if copy is not None:
            self._require(wanted, self.connection.exec_driver_sql(copy).rowcount, f"{table}'s history")
        self._require(wanted, self.connection.exec_driver_sql(remove, values).rowcount, table)
        return wanted

    @staticmethod
    def _require(wanted: int, done: int, table: str) -> None:
        if done != wanted:
            raise CountsDiffer(f"{wanted} rows were selected, {done} were written", table)

    def by_service(self) -> list[tuple[UUID, int]]:
        """How many rows of which service are in the batch."""
        return [(service_id, rows) for service_id, rows in self.connection.exec_driver_sql(BY_SERVICE)]


def choose(connection: Connection, of: PolicyTable, due: Due, limit: int, keys: Sequence[str] | None = None) -> Removal:
    """Lock the oldest rows that are due and that nobody else holds; only of these keys, if they are given."""
    statements = Statements(of)
    rows = statements.rows(due, ONLY) if keys is not None else statements.rows(due)
    connection.exec_driver_sql(filled(CHOOSE, rows=rows), statements.bound(due, limit, keys or ()))
    chosen = [Row(*row) for row in connection.exec_driver_sql(CHOSEN)]
    return Removal(connection, statements, {row.key: row for row in chosen}, due.now)
