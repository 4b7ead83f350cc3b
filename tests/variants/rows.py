"""Rows for any variant: what its columns are, and so what must be given a value, is asked of the database itself.

Each column that no test cares about has a value that tells it from every other, so that a value which lands in a
column of another name is seen.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4, uuid5

from sqlalchemy import Column, Connection, MetaData, Table, insert, select

NAMESPACE = UUID("6f1f0f86-2f0c-4f0a-9a55-3f1f3b1a2c77")
BEGINNING = datetime(2020, 1, 1)  # noqa: DTZ001 - for a timestamp without time zone
USUAL = {
    "to": "someone.private@example.test",
    "normalised_to": "someone.private@example.test",
    "_personalisation": "private content",
    "key_type": "normal",
    "notification_status": "delivered",
    "template_version": 1,
}
LEFT_EMPTY = ("job_id", "job_row_number", "updated_at", "sent_at")
"""NULL unless a test says otherwise: unique together, or a time that decides something."""


_tables: dict[tuple[str, str, str | None], Table] = {}


def table(connection: Connection, name: str, schema: str | None = None) -> Table:
    """The table as the database has it; read once for each database."""
    key = (str(connection.engine.url), name, schema)
    if key not in _tables:
        _tables[key] = Table(name, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
    return _tables[key]


def value_for(column: Column[Any]) -> Any:
    """A value of the column's type that no other column gets."""
    own = sum(column.name.encode()) % 997 + 1
    kind = column.type.python_type
    labels = getattr(column.type, "enums", None)
    if labels:
        return labels[own % len(labels)]
    if kind is str:
        return f"of {column.name}"
    return {
        UUID: uuid5(NAMESPACE, column.name),
        int: own,
        float: own + 0.5,
        Decimal: Decimal(own) + Decimal("0.25"),
        bool: bool(own % 2),
        datetime: BEGINNING + timedelta(minutes=own),
    }[kind]


def create_service(connection: Connection, **days_of_retention: int) -> UUID:
    """A service; `email=3` gives it a retention of three days for emails."""
    service_id, now = uuid4(), datetime.now(UTC).replace(tzinfo=None)
    values = {"id": service_id, "name": str(service_id), "active": True, "created_at": now}
    connection.execute(insert(table(connection, "services")).values(values))
    for notification_type, days in days_of_retention.items():
        connection.execute(
            insert(table(connection, "service_data_retention")).values(
                id=uuid4(),
                service_id=service_id,
                notification_type=notification_type,
                days_of_retention=days,
                created_at=now,
            )
        )
    return service_id


def create_notification(
    connection: Connection,
    service_id: UUID | None,
    notification_type: str = "email",
    created_at: datetime | None = None,
    **columns: Any,
) -> UUID:
    """A live row with a value in every column; 30 days old, delivered and made with a normal key unless said otherwise.

    Raises KeyError for a column that this variant lacks.
    """
    return _create(connection, "notifications", service_id, notification_type, created_at, columns)


def create_history(
    connection: Connection,
    service_id: UUID | None,
    notification_type: str = "email",
    created_at: datetime | None = None,
    **columns: Any,
) -> UUID:
    """A row in history, as `create_notification` makes a live one."""
    return _create(connection, "notification_history", service_id, notification_type, created_at, columns)


def _create(
    connection: Connection,
    name: str,
    service_id: UUID | None,
    notification_type: str,
    created_at: datetime | None,
    given: Mapping[str, Any],
) -> UUID:
    made = table(connection, name)
    for column in given:
        made.columns[column]
    created_at = created_at or datetime.now(UTC) - timedelta(days=30)
    values = {column.name: value_for(column) for column in made.columns if column.name not in LEFT_EMPTY}
    values |= {column: value for column, value in USUAL.items() if column in made.columns}
    values |= {
        "id": uuid4(),
        "service_id": service_id,
        "notification_type": notification_type,
        "created_at": created_at.astimezone(UTC).replace(tzinfo=None),
        **given,
    }
    if "postage" in made.columns and "postage" not in given:
        values["postage"] = "second" if notification_type == "letter" else None
    connection.execute(insert(made).values(values))
    return values["id"]


def create_referring(connection: Connection, name: str, notification_id: UUID) -> None:
    """A row of a table that points at notifications: scheduled_notifications or recipient_identifiers."""
    made = table(connection, name)
    values = {column.name: value_for(column) for column in made.columns}
    if "id" in values:
        values["id"] = uuid4()
    connection.execute(insert(made).values({**values, "notification_id": notification_id}))


def row(connection: Connection, name: str, notification_id: UUID) -> dict[str, Any] | None:
    """The row with this id, by column name; None if there is none."""
    made = table(connection, name)
    found = connection.execute(select(made).where(made.columns["id"] == notification_id)).mappings().one_or_none()
    return None if found is None else dict(found)


def ids(connection: Connection, name: str) -> set[UUID]:
    """The ids in a table."""
    return set(connection.execute(select(table(connection, name).columns["id"])).scalars())
