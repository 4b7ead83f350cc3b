"""A platform as the promises' tests see it: rows with their files, and what a night made of them.

Where files are and what the cut-off is, `tests.variants.policies` says without the product's code.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from app import own_schema
from tests.emptying import empty
from tests.factories import days_ago, keys, naive
from tests.fakes.fault_proxy import FaultProxy
from tests.integration.night import dispatch, make_due, run_night
from tests.variants import rows
from tests.variants.adopted import Adopted
from tests.variants.policies import EMAIL, LETTER, POLICIES, TYPES, Policy

LIVE, HISTORY = "notifications", "notification_history"
OWN_STATUSES = {"va-notify": ("pii-check-failed", "preferences-declined")}
WITHOUT_NULL_STATUS = "govuk-notify"
RETENTION_TABLES = text(
    "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
    "WHERE schemaname = :schema AND tablename NOT IN ('alembic_version', 'turns')"
)


@dataclass(frozen=True)
class Platform:
    """A database, its files, and the application on it (whose context is pushed)."""

    adopted: Adopted
    connection: Connection
    """The owner's; each statement commits at once."""
    s3: Any
    proxy: FaultProxy

    @property
    def name(self) -> str:
        return self.adopted.name

    @property
    def policy(self) -> Policy:
        """What it deletes when, and where its letters' files are."""
        return POLICIES[self.name]

    @property
    def types(self) -> tuple[str, ...]:
        """The notification types that it has."""
        return self.policy.types

    @property
    def odd_statuses(self) -> tuple[str | None, ...]:
        """Those that only this platform has, and none at all, where a row need not have one."""
        return (*OWN_STATUSES.get(self.name, ()), *(() if self.name == WITHOUT_NULL_STATUS else (None,)))

    @property
    def has_files(self) -> bool:
        return bool(self.policy.buckets)

    @property
    def bucket(self) -> str:
        """Of delivered letters."""
        return self.adopted.environment["S3_BUCKET_LETTERS_PDF"]

    def service(self, **days_of_retention: int) -> UUID:
        return rows.create_service(self.connection, **days_of_retention)

    def create(
        self, service: UUID | None, notification_type: str = EMAIL, created_at: datetime | None = None, **columns: Any
    ) -> UUID:
        """A live row, a month old unless said otherwise; a letter with its file, where letters have files."""
        created_at = created_at or days_ago(30)
        if notification_type == LETTER:
            columns = {"reference": uuid4().hex[:16].upper(), "sent_at": naive(created_at), **columns}
        id_ = rows.create_notification(self.connection, service, notification_type, created_at, **columns)
        if notification_type == LETTER and self.has_files:
            self.put_file(id_)
        return id_

    def put_file(self, letter: UUID, stamp: datetime | None = None) -> str:
        """A file of the letter, with the row's own time stamp or another (aware); its key."""
        row = self.row(LIVE, letter)
        assert row is not None
        key = self.key(row, stamp)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"%PDF-1.4")
        return key

    def key(self, row: dict[str, Any], stamp: datetime | None = None) -> str:
        """The key of a delivered letter's file."""
        [(_, prefix)] = self.policy.places(row)
        return prefix + self.policy.name("2", stamp or row["created_at"])

    def cutoff(self, days: int) -> datetime:
        """Tonight's (aware): what was made before it is past a retention of so many days."""
        zone = self.policy.zone
        return self.policy.cutoff(datetime.now(zone).date(), days, zone)

    def row(self, table: str, id_: UUID) -> dict[str, Any] | None:
        return rows.row(self.connection, table, id_)

    @property
    def live(self) -> set[UUID]:
        """The ids in `notifications`."""
        return rows.ids(self.connection, LIVE)

    @property
    def history(self) -> set[UUID]:
        """The ids in `notification_history`."""
        return rows.ids(self.connection, HISTORY)

    @property
    def files(self) -> set[str]:
        """The keys of delivered letters' files."""
        return keys(self.s3, self.bucket)

    def history_of(self, row: dict[str, Any]) -> dict[str, Any]:
        """What history is to have of a live row: its columns of the same names."""
        return {name: row[name] for name in rows.table(self.connection, HISTORY).columns.keys()}  # noqa: SIM118

    def night(self) -> None:
        """Tonight's chains of all types, with all steps that are not to wait."""
        for notification_type in TYPES:
            run_night(notification_type)

    def later(self) -> None:
        """Time passes, and the dispatcher goes on with what waited for that."""
        make_due(self.connection)
        dispatch()

    def run(self, statement: str, **values: Any) -> Any:
        """As the owner."""
        return self.connection.execute(text(statement), values)

    def records(self) -> str:
        """Everything that the pipeline wrote down."""
        return "\n".join(
            str(row._mapping) for table in self._own_tables() for row in self.run(f"SELECT * FROM {table}")
        )

    def empty(self) -> None:
        """Without rows and records."""
        others = ("services", "service_data_retention", LIVE, HISTORY)
        empty(self.connection, [*self._own_tables(), *self.policy.referring, *others])

    def _own_tables(self) -> list[str]:
        schema = own_schema.name(self.connection)
        return list(self.connection.execute(RETENTION_TABLES, {"schema": schema}).scalars())
