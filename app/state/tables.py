"""Whether the tables are there, with columns that the pipeline needs, of a kind and on a server that it can work on."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.config import Settings
from app.dao import adoption_sql
from app.dao.catalogue import (
    HISTORY,
    NOTIFICATIONS,
    ORDINARY_TABLE,
    PARTITIONED_TABLE,
    PLATFORM_TABLES,
    RETENTIONS,
    SERVICES,
    STRINGS,
    WORKERS,
    Catalogue,
    Column,
    Table,
)
from app.state import hidden
from app.state.findings import EVERYTHING, OF_LETTERS, OF_NOTIFICATIONS, Finding, look, missing, note

LEAST_VERSION = 140_000
"""Of the PostgreSQL server, as it numbers itself."""
OF_ONE_RETENTION = ("service_id", "notification_type")
UUID, TIMESTAMP, WORD, WHOLE_NUMBER = "uuid", "timestamp", "word", "whole number"
TYPES_OF = {UUID: ("uuid",), TIMESTAMP: ("timestamp",), WORD: STRINGS, WHOLE_NUMBER: ("int2", "int4", "int8")}
SPOKEN = {
    UUID: "uuid",
    TIMESTAMP: "timestamp without time zone (in UTC)",
    WORD: "text or an enum",
    WHOLE_NUMBER: "a whole number",
}


@dataclass(frozen=True)
class Need:
    """A column that statements of the pipeline name."""

    table: str
    column: str
    kind: str
    why: str
    blocks: frozenset[str] = OF_NOTIFICATIONS


ALWAYS = (
    Need(SERVICES, "id", UUID, "a night goes service by service"),
    Need(RETENTIONS, "service_id", UUID, "each service has its own retention"),
    Need(RETENTIONS, "notification_type", WORD, "each type has its own retention"),
    Need(RETENTIONS, "days_of_retention", WHOLE_NUMBER, "it is the retention"),
    Need(NOTIFICATIONS, "id", UUID, "a row is in one of the two tables by its id"),
    Need(NOTIFICATIONS, "service_id", UUID, "rows are chosen service by service"),
    Need(NOTIFICATIONS, "notification_type", WORD, "rows are chosen type by type"),
    Need(NOTIFICATIONS, "key_type", WORD, "test notifications never reach history"),
    Need(NOTIFICATIONS, "notification_status", WORD, "a letter that is not final stays"),
    Need(NOTIFICATIONS, "created_at", TIMESTAMP, "it decides what is past its retention"),
    Need(NOTIFICATIONS, "updated_at", TIMESTAMP, "where history has the row, the newer one wins"),
    Need(HISTORY, "id", UUID, "a row is in one of the two tables by its id"),
    Need(HISTORY, "created_at", TIMESTAMP, "where history has the row, the newer one wins"),
    Need(HISTORY, "updated_at", TIMESTAMP, "where history has the row, the newer one wins"),
    Need(HISTORY, "notification_status", WORD, "a status that arrives late is written there"),
)
OF_LETTER_FILES = (
    Need(NOTIFICATIONS, "reference", WORD, "it names a letter's files", OF_LETTERS),
    Need(NOTIFICATIONS, "postage", WORD, "it is part of a letter file's name", OF_LETTERS),
    Need(
        NOTIFICATIONS,
        "sent_at",
        TIMESTAMP,
        "its UTC date is a letter's folder, with LETTER_FOLDER_DATE=sent-at-utc",
        OF_LETTERS,
    ),
)


def needs(settings: Settings) -> tuple[Need, ...]:
    """The columns that the pipeline needs with these settings."""
    return ALWAYS + OF_LETTER_FILES if settings.letters_have_files else ALWAYS


def check(catalogue: Catalogue, settings: Settings, role: str = WORKERS) -> Iterator[Finding]:
    """What the server, tables and columns lack. `role`: to whom hidden rows must be shown."""
    if catalogue.server_version < LEAST_VERSION:
        yield missing("server", f"PostgreSQL is older than {LEAST_VERSION // 10_000}", "upgrade it", EVERYTHING)
    for name in PLATFORM_TABLES:
        if name not in catalogue.tables:
            yield missing(
                name,
                f"there is no table {name} in {catalogue.where}",
                "name the platform's schema with PLATFORM_SCHEMA, or grant the role USAGE on it; a view will not do",
            )
    for need in needs(settings):
        table = catalogue.tables.get(need.table)
        if table is not None:
            yield from _column(table, need)
    for table in catalogue.tables.values():
        yield from _kind(table)
        yield from hidden.check(table.schema, table.name, table.row_security, hidden.OF_PLATFORM, role)
    for name in (NOTIFICATIONS, HISTORY):
        if name in catalogue.tables:
            yield from _key(catalogue.tables[name])
            yield from _triggers(catalogue.tables[name])
            yield from _rules(catalogue.tables[name])
    if RETENTIONS in catalogue.tables:
        yield from _key_of_retentions(catalogue.tables[RETENTIONS])


def _column(table: Table, need: Need) -> Iterator[Finding]:
    about = f"{table.name}.{need.column}"
    column = table.columns.get(need.column)
    if column is None:
        yield missing(
            about,
            f"table {table.name} has no column {need.column}: {need.why}",
            f"add {need.column} ({SPOKEN[need.kind]}), or point the pipeline at the table that has it",
            need.blocks,
        )
    elif not _is(need.kind, column):
        yield missing(
            about,
            f"column {need.column} of table {table.name} is {column.type.formatted}, not {SPOKEN[need.kind]}: "
            f"{need.why}",
            _fix_of_type(need.kind),
            need.blocks,
        )


def _fix_of_type(kind: str) -> str:
    if kind == UUID:
        return "there is no setting for this: ids that are not uuid are not supported"
    return f"make it {SPOKEN[kind]}: compared as that, the pipeline would take other rows than it should"


def _is(kind: str, column: Column) -> bool:
    return column.type.name in TYPES_OF[kind] or (kind == WORD and column.type.is_enum)


def _kind(table: Table) -> Iterator[Finding]:
    if table.kind == PARTITIONED_TABLE and table.is_partitioned_by_age:
        yield note(table.name, f"table {table.name} is partitioned by created_at, which batches heed")
    elif table.kind == PARTITIONED_TABLE or table.has_children:
        is_moved_from = table.name == NOTIFICATIONS
        said = f"table {table.name} is made of several tables (partitions, or tables that inherit from it)"
        if is_moved_from:
            yield missing(
                table.name,
                f"{said}, and not by range of created_at: each batch would look into all of them",
                "partition it by range of created_at, or make it an ordinary table",
            )
        else:
            yield note(table.name, said)
    elif table.kind != ORDINARY_TABLE:
        yield missing(
            table.name,
            f"{table.name} is not a table but a view or a foreign table",
            "name the schema of the table itself with PLATFORM_SCHEMA",
        )


def _key(table: Table) -> Iterator[Finding]:
    if table.is_partitioned_by_age and table.is_unique_by("id", "created_at"):
        yield note(
            table.name,
            f"table {table.name} keeps ids apart within one created_at alone, as PostgreSQL does where a table is "
            "partitioned",
        )
    elif not table.is_unique_by("id"):
        key = ", ".join(str(column) for column in table.primary_key) or "none"
        yield missing(
            table.name,
            f"table {table.name} has no primary or unique key on id alone (its primary key: {key})",
            "without it a notification could be there twice, and the newer of two could not win",
        )


def _key_of_retentions(table: Table) -> Iterator[Finding]:
    if not set(OF_ONE_RETENTION) <= table.columns.keys():
        return
    named = adoption_sql.quoted(table.schema, table.name)
    if not any(
        index.is_unique and index.is_valid and index.predicate is None and set(index.columns) <= set(OF_ONE_RETENTION)
        for index in table.indexes
    ):
        yield look(
            table.name,
            f"no unique index keeps table {table.name} to one retention of a service and type: with two of them that "
            "service and type is refused",
            "delete all but the right one of each, and keep them apart: "
            f"{adoption_sql.twice(table.schema, table.name, OF_ONE_RETENTION)} "
            f"{adoption_sql.create_index_like(named, OF_ONE_RETENTION, is_unique=True)}",
        )


def _events(table: Table) -> set[str]:
    """What a move does to the table's rows."""
    return {"DELETE"} if table.name == NOTIFICATIONS else {"INSERT", "UPDATE"}


def _rules(table: Table) -> Iterator[Finding]:
    for rule in table.rules:
        if rule.event in _events(table):
            yield look(
                f"{table.name}.{rule.name}",
                f"rule {rule.name} of table {table.name} rewrites the statements that move rows ({rule.event})",
                "see what becomes of them: rows that do not arrive or do not go make each step roll back"
                if table.name == NOTIFICATIONS
                else "make it a trigger: with such a rule PostgreSQL refuses ON CONFLICT, so that a row that history "
                "has already stops its chain",
            )


def _triggers(table: Table) -> Iterator[Finding]:
    for trigger in table.triggers:
        events = _events(table).intersection(trigger.events)
        if trigger.is_enabled and events:
            yield look(
                f"{table.name}.{trigger.name}",
                f"trigger {trigger.name} of table {table.name} runs for every row that the pipeline moves "
                f"({', '.join(sorted(events))})",
                "see what it does with rows that leave for history; one that keeps a row from going makes each step "
                "roll back",
            )
