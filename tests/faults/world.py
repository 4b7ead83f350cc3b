"""What is there: plain SQL, and listings of S3 itself, not through the proxy."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg2
from psycopg2 import extensions, extras, sql

from tests.faults.data import Columns, Data
from tests.least import fill_bucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Row = dict[str, Any]
FileName = tuple[str, str]
"""The bucket's role and the key."""

WRITES_EVEN_IF_READ_ONLY = "-c default_transaction_read_only=off -c lock_timeout=8s -c application_name=laboratory"
RECORDS = """
    SELECT tablename FROM pg_tables
    WHERE schemaname = 'retention' AND tablename NOT IN ('alembic_version', 'turns')
"""
EMPTIED = ("notifications", "notification_history", "service_data_retention", "services")


@dataclass
class World:
    """Rows by id, files with how many versions and markers each has, rows of other tables that point at notifications
    by table, and the pipeline's own records.
    """

    live: dict[UUID, Row] = field(default_factory=dict)
    history: dict[UUID, Row] = field(default_factory=dict)
    files: Counter[FileName] = field(default_factory=Counter)
    referring: dict[str, list[Row]] = field(default_factory=dict)
    deferred: dict[UUID, Row] = field(default_factory=dict)
    deferred_buckets: list[Row] = field(default_factory=list)
    chains: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    intents: list[Row] = field(default_factory=list)
    run_types: list[Row] = field(default_factory=list)

    @property
    def records(self) -> list[str]:
        """The pipeline's own records, a line each."""
        rows = [*self.chains, *self.steps, *self.intents, *self.deferred.values(), *self.deferred_buckets]
        return [" ".join(f"{name}={value}" for name, value in row.items() if value is not None) for row in rows]


def connect(url: str) -> "extensions.connection":
    """The laboratory's own connection, which commits at once and can write when others can't."""
    connection = psycopg2.connect(url, options=WRITES_EVEN_IF_READ_ONLY, connect_timeout=5)
    connection.autocommit = True
    extras.register_uuid(conn_or_curs=connection)
    return connection


def query(connection: "extensions.connection", statement: str, values: object = None) -> list[Row]:
    with connection.cursor(cursor_factory=extras.RealDictCursor) as cursor:
        cursor.execute(statement, values)
        return [dict(row) for row in cursor.fetchall()] if cursor.description else []


def take(
    connection: "extensions.connection", s3: "S3Client", buckets: Mapping[str, str], referring: Iterable[str]
) -> World:
    """The world as it is now; `referring` are tables that point at notifications."""
    return World(
        live={row["id"]: row for row in query(connection, "SELECT * FROM notifications")},
        history={row["id"]: row for row in query(connection, "SELECT * FROM notification_history")},
        files=list_files(s3, buckets),
        referring={table: query(connection, f"SELECT * FROM {table}") for table in referring},
        deferred={row["notification_id"]: row for row in query(connection, "SELECT * FROM retention.deferred_rows")},
        deferred_buckets=query(connection, "SELECT * FROM retention.deferred_buckets"),
        chains=query(connection, "SELECT * FROM retention.chains ORDER BY id"),
        steps=query(connection, "SELECT * FROM retention.steps ORDER BY id"),
        intents=query(connection, "SELECT * FROM retention.intents ORDER BY id"),
        run_types=query(connection, "SELECT * FROM retention.run_types"),
    )


def list_files(s3: "S3Client", buckets: Mapping[str, str]) -> "Counter[FileName]":
    """Every version and every delete marker counts: while one is there, the file is."""
    found: Counter[FileName] = Counter()
    for role, bucket in buckets.items():
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            found.update((role, entry["Key"]) for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())))
    return found


def empty_tables(connection: "extensions.connection") -> None:
    """Ids of chains go on counting, so that a message that was left over means none of the next run's."""
    tables = query(connection, RECORDS)
    names = [sql.Identifier("retention", row["tablename"]) for row in tables]
    names += [sql.Identifier(name) for name in EMPTIED]
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(names)))


def write(connection: "extensions.connection", data: Data, columns: Mapping[str, Columns]) -> None:
    """The services and rows of a seed. `columns`: by table, its columns with their usual values."""
    with connection.cursor() as cursor:
        for service in data.services:
            cursor.execute(
                "INSERT INTO services (id, name, created_at) VALUES (%s, %s, now())", (service, str(service))
            )
        for (service, kind), days in data.days.items():
            cursor.execute(
                "INSERT INTO service_data_retention (id, service_id, notification_type, days_of_retention, created_at) "
                "VALUES (gen_random_uuid(), %s, %s, %s, now())",
                (service, kind, days),
            )
    for table, rows in (("notifications", data.live), ("notification_history", data.history)):
        insert(connection, table, [complete(row, columns[table]) for row in rows])
    for table, rows in data.referring.items():
        insert(connection, table, rows)


def complete(row: Columns, columns: Columns) -> Columns:
    """The row as a table with these columns has it: with the usual value of each that it says nothing of."""
    return {name: row.get(name, usual) for name, usual in columns.items()}


def insert(connection: "extensions.connection", table: str, rows: Iterable[Columns]) -> None:
    """All of them have the same columns."""
    rows = list(rows)
    columns = list(rows[0])
    statement = sql.SQL("INSERT INTO {} ({}) VALUES %s").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor:
        extras.execute_values(cursor, statement, [[row[name] for name in columns] for row in rows])


def put_files(s3_url: str, buckets: Mapping[str, str], names: Iterable[FileName]) -> None:
    keys: dict[str, list[str]] = {}
    for role, key in names:
        keys.setdefault(role, []).append(key)
    for role, its in keys.items():
        fill_bucket(s3_url, buckets[role], its)
