"""Writing a seed quickly: rows by COPY, files by several threads."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING
from uuid import uuid5

from psycopg2 import extensions, sql

from dev.letters_pdf import letter_pdf
from dev.seed_model import Row, Service, StoredFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UPLOADERS = 8
ROWS_PER_COPY = 5_000
NULL = "\\N"

SHARED = (
    *("id", "notification_type", "service_id", "key_type", "notification_status", "created_at", "sent_at"),
    *("sent_by", "updated_at", "reference", "client_reference", "template_id", "template_version"),
    *("job_id", "job_row_number", "api_key_id", "created_by_id", "billable_units", "international"),
    *("phone_prefix", "rate_multiplier", "postage", "document_download_count"),
)
LIVE_ONLY = ("to", "normalised_to", "_personalisation", "reply_to_text", "unsubscribe_link")
COPY = sql.SQL("COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv, NULL {null})")


def write_services(connection: "extensions.connection", services: Iterable[Service]) -> None:
    """Services with their own retentions."""
    services = list(services)
    columns = ("id", "name", "active", "created_at")
    rows = [(service.id, service.name, service.active, service.created_at) for service in services]
    _copy(connection, "services", columns, rows)
    own = ("id", "service_id", "notification_type", "days_of_retention", "created_at")
    retentions = [
        (uuid5(service.id, kind), service.id, kind, days, service.created_at)
        for service in services
        for kind, days in service.days.items()
    ]
    _copy(connection, "service_data_retention", own, retentions)


def write_rows(
    connection: "extensions.connection", table: str, rows: Iterable[Row], advance: Callable[[int], None]
) -> int:
    """Rows of `notifications` or `notification_history`; returns how many. Commits as it goes."""
    columns = SHARED + LIVE_ONLY if table == "notifications" else SHARED
    fields = [column.lstrip("_") for column in columns]
    written, remaining = 0, iter(rows)
    while part := [[getattr(row, name) for name in fields] for row in islice(remaining, ROWS_PER_COPY)]:
        _copy(connection, table, columns, part)
        connection.commit()
        written += len(part)
        advance(len(part))
    return written


def upload(s3: "S3Client", files: Iterable[StoredFile], advance: Callable[[int], None]) -> int:
    """Put the files' PDFs; returns how many. The first error ends it."""

    def put(file: StoredFile) -> None:
        body = letter_pdf(file.line or "A file of nobody's")
        s3.put_object(Bucket=file.bucket, Key=file.key, Body=body, ContentType="application/pdf")

    pool = ThreadPoolExecutor(UPLOADERS, thread_name_prefix="upload")
    try:
        tasks = [pool.submit(put, file) for file in files]
        for task in as_completed(tasks):
            task.result()
            advance(1)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C need not wait for thousands of files
    return len(tasks)


def analyse(connection: "extensions.connection") -> None:
    """Fresh statistics: autovacuum would take its time."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE services, service_data_retention, notifications, notification_history")
    connection.commit()


def _copy(
    connection: "extensions.connection",
    table: str,
    columns: tuple[str, ...],
    rows: Iterable[Iterable[object]],
) -> None:
    lines = io.StringIO()
    csv.writer(lines).writerows(_values(rows))
    lines.seek(0)
    statement = COPY.format(
        table=sql.Identifier(table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        null=sql.Literal(NULL),
    )
    with connection.cursor() as cursor:
        cursor.copy_expert(statement, lines)


def _values(rows: Iterable[Iterable[object]]) -> Iterator[list[object]]:
    """NULL as the COPY statement spells it; instants as the naive UTC that the columns hold."""
    for row in rows:
        yield [
            NULL
            if value is None
            else value.astimezone(UTC).replace(tzinfo=None)
            if isinstance(value, datetime)
            else value
            for value in row
        ]
