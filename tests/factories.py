"""Rows and files for tests: each call makes one thing, with values that a test does not care about filled in."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, insert, text

from app.models import Notification, NotificationHistory, Service
from app.retention.tools import tools
from app.storage.naming import Letter

EMAIL_ADDRESS = "someone.private@example.test"


def days_ago(days: float, **more: float) -> datetime:
    """An aware datetime in the past."""
    return datetime.now(UTC) - timedelta(days=days, **more)


def naive(instant: datetime) -> datetime:
    """As the platform's columns keep it: UTC without a time zone."""
    return instant.astimezone(UTC).replace(tzinfo=None)


def create_service(connection: Connection, name: str | None = None, **days_of_retention: int) -> UUID:
    """A service; `email=3` gives it a retention of three days for emails."""
    service_id = uuid4()
    now = naive(datetime.now(UTC))
    connection.execute(insert(Service).values(id=service_id, name=name or str(service_id), created_at=now))
    for notification_type, days in days_of_retention.items():
        set_retention(connection, service_id, notification_type, days)
    return service_id


def set_retention(connection: Connection, service_id: UUID, notification_type: str, days: int) -> None:
    """Set, or change, how long a service keeps a type."""
    connection.execute(
        text(
            "INSERT INTO service_data_retention (id, service_id, notification_type, days_of_retention, created_at) "
            "VALUES (gen_random_uuid(), :service, :type, :days, :now) "
            "ON CONFLICT (service_id, notification_type) DO UPDATE SET days_of_retention = :days"
        ),
        {"service": service_id, "type": notification_type, "days": days, "now": naive(datetime.now(UTC))},
    )


def create_notification(
    connection: Connection,
    service_id: UUID | None,
    notification_type: str = "email",
    created_at: datetime | None = None,
    **columns: Any,
) -> UUID:
    """A live row; 30 days old, delivered and made with a normal key unless said otherwise."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "to": EMAIL_ADDRESS,
        "normalised_to": EMAIL_ADDRESS,
        "service_id": service_id,
        "key_type": "normal",
        "notification_type": notification_type,
        "notification_status": "delivered",
        "template_id": uuid4(),
        "template_version": 1,
        "created_at": naive(created_at or days_ago(30)),
        "_personalisation": "private content",
        "postage": "second" if notification_type == "letter" else None,
    }
    connection.execute(insert(Notification).values({**values, **columns}))
    return columns.get("id") or values["id"]


def create_history(connection: Connection, **columns: Any) -> UUID:
    """A row in history."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "service_id": uuid4(),
        "key_type": "normal",
        "notification_type": "email",
        "notification_status": "sending",
        "template_id": uuid4(),
        "template_version": 1,
        "created_at": naive(days_ago(30)),
    }
    connection.execute(insert(NotificationHistory).values({**values, **columns}))
    return columns.get("id") or values["id"]


def create_letter(
    connection: Connection,
    s3: Any,
    service_id: UUID,
    created_at: datetime | None = None,
    *,
    reference: str | None = "",
    file: bool = True,
    **columns: Any,
) -> UUID:
    """A letter with its file where the sending side puts it; `reference=""` gives it one of its own."""
    created_at = created_at or days_ago(30)
    reference = uuid4().hex[:16].upper() if reference == "" else reference
    letter_id = create_notification(connection, service_id, "letter", created_at, reference=reference, **columns)
    if file:
        place, key = where(connection, letter_id)
        s3.put_object(Bucket=place, Key=key, Body=b"%PDF-1.4")
    return letter_id


def where(connection: Connection, letter_id: UUID) -> tuple[str, str]:
    """The bucket and key of a letter's file, as the sending side writes it."""
    row = connection.execute(text("SELECT * FROM notifications WHERE id = :id"), {"id": letter_id}).mappings().one()
    letter = Letter(
        row["id"],
        row["reference"],
        row["created_at"].replace(tzinfo=UTC),
        row["notification_status"],
        row["key_type"],
        row["postage"],
        *(row[name] and row[name].replace(tzinfo=UTC) for name in ("updated_at", "sent_at")),
    )
    naming = tools().naming
    return naming.places(letter)[0].bucket, naming.key(letter)


def live(connection: Connection) -> set[UUID]:
    """The ids in `notifications`."""
    return set(connection.execute(text("SELECT id FROM notifications")).scalars())


def history(connection: Connection) -> set[UUID]:
    """The ids in `notification_history`."""
    return set(connection.execute(text("SELECT id FROM notification_history")).scalars())


def deferred(connection: Connection) -> dict[UUID, str]:
    """The letters that are held back, with their reasons."""
    rows = connection.execute(text("SELECT notification_id, reason FROM retention.deferred_rows"))
    return {row[0]: row[1] for row in rows}


def keys(s3: Any, *buckets: str) -> set[str]:
    """The keys of these buckets."""
    return {
        one["Key"]
        for bucket in buckets
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for one in page.get("Contents", [])
    }


def steps(connection: Connection) -> Sequence[Any]:
    """The records of steps, in order."""
    return connection.execute(text("SELECT * FROM retention.steps ORDER BY id")).mappings().all()


def chains(connection: Connection) -> Sequence[Any]:
    """The chains, in order."""
    return connection.execute(text("SELECT * FROM retention.chains ORDER BY id")).mappings().all()


def tonight() -> date:
    """The local date in the settings' zone."""
    return datetime.now(tools().settings.zone).date()
