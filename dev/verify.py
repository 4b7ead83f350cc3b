"""An independent look at a night: what was there before, what is there now, and whether the promises held.

Nothing here uses the pipeline's code. A mistake in its rules must not be able to agree with itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import psycopg2
from psycopg2 import extensions, extras, sql

from dev import verify_sql as statements
from dev.seed_model import Buckets, Expected

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SHOWN = 10
ROWS_PER_INSERT = 1_000


class Finding(NamedTuple):
    """A row or file, and what is wrong with it."""

    subject: str
    reason: str


class Due(NamedTuple):
    """What a night has to do for a type."""

    rows: int
    files: int


class Counts(NamedTuple):
    """A type's rows before the night, and what became of them. Files only letters have."""

    before: int
    moved: int
    deleted: int
    newer: int
    not_final: int
    deferred: int
    refused: int
    without_service: int


@dataclass
class Result:
    """What was found. All is well when every list is empty."""

    lost: list[Finding]
    orphaned: list[Finding]
    kept: list[Finding]
    wrong_cases: list[Finding]
    cases: int
    counts: dict[str, Counts]
    files_deleted: int
    refused_services: int
    personal_columns: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.lost or self.orphaned or self.kept or self.wrong_cases or self.personal_columns)

    @property
    def summary(self) -> str:
        return f"{len(self.lost):,} rows lost, {len(self.orphaned):,} files orphaned, {len(self.kept):,} kept too long"

    def details(self) -> Iterator[str]:
        """Lines for people, at most ten of a kind. None when all is well."""
        kinds = {
            "lost": self.lost,
            "orphaned": self.orphaned,
            "kept too long": self.kept,
            "awkward case": self.wrong_cases,
        }
        for kind, findings in kinds.items():
            yield from (f"{kind}: {subject} {reason}" for subject, reason in findings[:SHOWN])
            if len(findings) > SHOWN:
                yield f"{kind}: and {len(findings) - SHOWN:,} more"
        if self.personal_columns:
            yield f"notification_history has columns for personal data: {', '.join(self.personal_columns)}"


class Verification:
    """Take a snapshot with `before`, let the night do its work, then ask `after`.

    The snapshot is kept in the database itself, in a schema `verification`, which `before` makes anew. Zones
    are names of IANA time zones. Nothing but the pipeline may change rows or files in between.
    """

    def __init__(
        self,
        database_url: str,
        s3: "S3Client",
        buckets: Buckets,
        *,
        zone: str = "Europe/London",
        folder_zone: str = "Europe/London",
        default_days: int = 7,
    ) -> None:
        self._database_url = database_url
        self._s3 = s3
        self._buckets = buckets
        self._values = {
            "zone": zone,
            "folder_zone": folder_zone,
            "default_days": default_days,
            **buckets._asdict(),
        }

    def before(self, now: datetime) -> dict[str, Due]:
        """Take the snapshot of a night at `now` (aware); returns what is due, by type."""
        with self._transaction() as cursor:
            cursor.execute(statements.SCHEMA)
            digest = _digest(cursor)
            for statement in (statements.TAKE_LIVE, statements.TAKE_HISTORY, statements.TAKE_OWNERS):
                cursor.execute(sql.SQL(statement).format(digest=digest), {**self._values, "now": now})
            self._list_files(cursor, "files")
            cursor.execute("ANALYZE verification.live, verification.history, verification.owners")
            cursor.execute(statements.DUE)
            return {kind: Due(*numbers) for kind, *numbers in cursor.fetchall()}

    def after(self, cases: Sequence[Expected] = ()) -> Result:
        """Compare with the snapshot."""
        with self._transaction() as cursor:
            cursor.execute("TRUNCATE verification.files_after")
            self._list_files(cursor, "files_after")
            cursor.execute(statements.DEFERRED)
            cursor.execute(sql.SQL(statements.NOW).format(digest=_digest(cursor)))
            cursor.execute("ALTER TABLE after ADD PRIMARY KEY (id); ANALYZE after")
            cursor.execute(statements.COUNTS)
            counts = {kind: Counts(*numbers) for kind, *numbers in cursor.fetchall()}
            cursor.execute(statements.TOTALS)
            files_deleted, refused_services = cursor.fetchone()
            return Result(
                lost=_findings(cursor, statements.LOST),
                orphaned=_orphaned(cursor),
                kept=_findings(cursor, statements.KEPT_TOO_LONG),
                wrong_cases=_wrong_cases(cursor, cases),
                cases=len({expected.case for expected in cases}),
                counts=counts,
                files_deleted=files_deleted,
                refused_services=refused_services,
                personal_columns=_personal_columns(cursor),
            )

    @contextmanager
    def _transaction(self) -> Iterator["extensions.cursor"]:
        """One snapshot of the database for all questions."""
        with closing(psycopg2.connect(self._database_url)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ")
            extras.register_uuid(conn_or_curs=connection)
            with connection, connection.cursor() as cursor:
                yield cursor

    def _list_files(self, cursor: "extensions.cursor", table: str) -> None:
        insert = sql.SQL("INSERT INTO verification.{} (bucket, key) VALUES %s").format(sql.Identifier(table))
        found = {(bucket, key) for bucket in self._buckets for key in self._keys(bucket)}
        extras.execute_values(cursor, insert, sorted(found), page_size=ROWS_PER_INSERT)
        cursor.execute(sql.SQL(statements.NAME_PREFIXES).format(files=sql.Identifier(table)))

    def _keys(self, bucket: str) -> Iterator[str]:
        """The bucket's keys. Every version and marker counts as the file: while one is there, the data is."""
        if "Status" not in self._s3.get_bucket_versioning(Bucket=bucket):  # never enabled: there are none
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                yield from (entry["Key"] for entry in page.get("Contents", ()))
            return
        for versions in self._s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            yield from (entry["Key"] for entry in versions.get("Versions", ()))
            yield from (entry["Key"] for entry in versions.get("DeleteMarkers", ()))


def _digest(cursor: "extensions.cursor") -> sql.Composable:
    """A digest of the columns that history has, of the table with the alias n."""
    cursor.execute(statements.COLUMNS)
    columns = sql.SQL(", ").join(sql.Identifier("n", name) for (name,) in cursor.fetchall())
    return sql.SQL("md5(ROW({})::text)").format(columns)


def _findings(cursor: "extensions.cursor", statement: str | sql.Composable) -> list[Finding]:
    cursor.execute(statement)
    return [Finding(*row) for row in cursor.fetchall()]


def _orphaned(cursor: "extensions.cursor") -> list[Finding]:
    looks = (
        ("files_after", statements.STILL_THERE),
        ("files", statements.MISSING),
    )
    return [
        finding
        for table, what in looks
        for finding in _findings(
            cursor,
            sql.SQL(statements.ORPHANED).format(files=sql.Identifier("verification", table), what=sql.SQL(what)),
        )
    ]


def _personal_columns(cursor: "extensions.cursor") -> list[str]:
    cursor.execute(statements.COLUMNS)
    return [name for (name,) in cursor.fetchall() if name in statements.PERSONAL]


def _wrong_cases(cursor: "extensions.cursor", cases: Iterable[Expected]) -> list[Finding]:
    cases = list(cases)
    cursor.execute(statements.FATES, {"ids": [expected.id for expected in cases]})
    fates = {row[0]: _Fate(*row[1:]) for row in cursor.fetchall()}
    cursor.execute("SELECT bucket, key FROM verification.files_after")
    files = set(cursor.fetchall())
    return [
        Finding(f"{expected.case} {expected.id}", wrong)
        for expected in cases
        for wrong in _wrongs(expected, fates, files)
    ]


class _Fate(NamedTuple):
    live: bool
    history: bool
    deferred: bool
    history_status: str | None

    @property
    def outcome(self) -> str:
        if self.live and self.history:
            return "in both tables"
        if self.live:
            return "deferred" if self.deferred else "stays"
        return "moved" if self.history else "deleted"


def _wrongs(expected: Expected, fates: dict[UUID, _Fate], files: set[tuple[str, str]]) -> Iterator[str]:
    fate = fates.get(expected.id, _Fate(False, False, False, None))
    if fate.outcome != expected.outcome:
        yield f"should be {expected.outcome!r}, is {fate.outcome!r}"
    if expected.history_status and fate.history_status != expected.history_status:
        yield f"should be {expected.history_status!r} in history, is {fate.history_status!r}"
    yield from (f"should have lost its file {key}" for _, key in expected.files_gone & files)
    yield from (f"should have kept the file {key}" for _, key in expected.files_kept - files)
