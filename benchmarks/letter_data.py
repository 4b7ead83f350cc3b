"""Letters of many services in the tables, and their files in the S3 server: from ONE seed, but for the day."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from app import clock
from app.retention.cutoffs import cutoff
from app.retention.tools import tools
from app.storage.naming import Letter
from benchmarks import connections
from benchmarks.platform import NAMESPACE, SEED
from benchmarks.s3_server import S3Server
from dev.stack import BUCKETS

LETTERS_BUCKET = BUCKETS["S3_BUCKET_LETTERS_PDF"]
DAYS_OF_RETENTION = 7

SERVICE_ROWS = """
INSERT INTO services (id, name, active, created_at)
SELECT id, 'Service ' || id, true, now() FROM unnest(%(ids)s::uuid[]) AS s (id)
"""
RETENTION_ROWS = """
INSERT INTO service_data_retention (id, service_id, notification_type, days_of_retention, created_at)
SELECT gen_random_uuid(), id, 'letter', %(days)s, now() FROM unnest(%(ids)s::uuid[]) AS s (id)
"""
# As references are, their order has nothing to do with whose letters they are.
LETTERS = """
INSERT INTO notifications
    (id, "to", service_id, key_type, notification_type, notification_status, template_id, template_version,
     created_at, updated_at, reference, postage)
SELECT md5(salt || 'id')::uuid, 'x', service_id, 'normal', 'letter', 'delivered', md5(service_id::text)::uuid, 1,
       at, at, upper(left(md5(salt), 16)), 'second'
FROM unnest(%(ids)s::uuid[], %(counts)s::integer[]) AS s (service_id, count),
     generate_series(1, count) AS i,
     LATERAL (SELECT service_id || ' ' || i || ' ' || %(salt)s AS salt) AS salted,
     LATERAL (SELECT %(first)s::timestamp + (%(last)s::timestamp - %(first)s::timestamp)
                     * ((hashtextextended(salt, %(seed)s) & 1048575) / 1048576.0::float8) AS at) AS made
RETURNING id, reference, created_at
"""
ALL_LETTERS = """
SELECT id, reference, created_at, notification_status, key_type, postage FROM notifications
WHERE notification_type = 'letter'
"""


@dataclass(frozen=True)
class Day:
    """A folder's day, and when letters of it were made (aware): in its morning."""

    date: date

    @property
    def first(self) -> datetime:
        return datetime(self.date.year, self.date.month, self.date.day, 6, tzinfo=UTC)

    @property
    def last(self) -> datetime:
        return self.first + timedelta(hours=6)

    @property
    def folder(self) -> str:
        return f"{self.date.isoformat()}/"


def overdue_day(number: int = 0) -> Day:
    """The last day of which everything is past the default retention; or one `number` days earlier."""
    settings = tools().settings
    before = cutoff(clock.local_date(clock.now(), settings.zone), DAYS_OF_RETENTION, settings)
    return Day((before - timedelta(days=1 + number)).astimezone(settings.zone).date())


def services(connection: Any, name: str, count: int, *, days: int | None = None) -> list[UUID]:
    """So many new services, with a retention for letters of so many days or the default."""
    ids = [uuid5(NAMESPACE, f"{SEED} {name} {number}") for number in range(count)]
    given = {"ids": [str(id_) for id_ in ids], "days": days}
    connections.run(connection, SERVICE_ROWS, given)
    if days is not None:
        connections.run(connection, RETENTION_ROWS, given)
    return ids


def insert_letters(connection: Any, counts: dict[UUID, int], day: Day) -> list[Any]:
    """So many letters of each service. Returns their ids, references and times of creation."""
    values = {
        "ids": [str(id_) for id_ in counts],
        "counts": list(counts.values()),
        "first": clock.to_column(day.first),
        "last": clock.to_column(day.last),
        "salt": day.folder,
        "seed": SEED,
    }
    with connection.cursor() as cursor:
        cursor.execute(LETTERS, values)
        return list(cursor.fetchall())


def send(connection: Any, server: S3Server, counts: dict[UUID, int], day: Day, *, odd_share: int = 0) -> list[str]:
    """So many letters of each service, with their files. Every `odd_share`th file has another class and time stamp.

    Returns the files' keys.
    """
    rows = insert_letters(connection, counts, day)
    keys = _keys((id_, reference, at, "delivered", "normal", "second") for id_, reference, at in rows)
    for number in range(0, len(keys) if odd_share else 0, odd_share or 1):
        keys[number] = keys[number].replace(".D.2.C.", ".D.E.C.")[: -len("00.PDF")] + "77.PDF"
    server.put(LETTERS_BUCKET, keys)
    return keys


def put_files_of_all(connection: Any, server: S3Server) -> int:
    """A file for each letter that is in the table. Returns their number."""
    with connection.cursor() as cursor:
        cursor.execute(ALL_LETTERS)
        rows = cursor.fetchall()
    for kind, bucket in (("test", BUCKETS["S3_BUCKET_TEST_LETTERS"]), ("real", LETTERS_BUCKET)):
        server.put(bucket, _keys(row for row in rows if (row[4] == "test") == (kind == "test")))
    return len(rows)


def _keys(rows: Iterable[Sequence[Any]]) -> list[str]:
    """From (id, reference, created_at as the column has it, status, key type, postage)."""
    naming = tools().naming
    return [naming.key(Letter(row[0], row[1], row[2].replace(tzinfo=UTC), *row[3:])) for row in rows]
