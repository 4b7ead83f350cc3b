"""Users for tests, and one row of theirs in every column that the plan of a deletion names."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, insert, select, text

from app import models
from app.accounts import deletion
from app.accounts.deletion import delete_account
from app.models import Base
from tests.factories import create_history, create_notification, create_service

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TABLES_TO_COMPARE = [table for table in Base.metadata.sorted_tables if table.schema is None]


def create_user(connection: Connection, **columns: Any) -> UUID:
    """An active user without anything."""
    user_id = columns.pop("id", None) or uuid4()
    values = {"name": "Someone", "email_address": f"{user_id}@example.test", "state": "active", "created_at": NOW}
    connection.execute(insert(models.User).values(id=user_id, **{**values, **columns}))
    return user_id


def create_session(connection: Connection, user_id: UUID | None) -> UUID:
    """A session, alive."""
    return add(
        connection,
        models.UserSession,
        user_id=user_id,
        token_hash=str(uuid4()).encode(),
        created_at=NOW,
        expires_at=datetime.now(UTC) + timedelta(days=30),
    )


def make_manager(connection: Connection, user_id: UUID, service_id: UUID) -> None:
    """Give the user the permission that a live service needs somebody to have."""
    values = {"service_id": service_id, "user_id": user_id, "permission": "manage_service", "created_at": NOW}
    add(connection, models.Permission, **values)


def add(connection: Connection, model: Any, **columns: Any) -> UUID:
    """A row of a table, with an id of its own unless one is given, or there is none."""
    if "id" in model.__table__.columns:
        columns = {"id": uuid4(), **columns}
    connection.execute(insert(model.__table__).values(columns))
    return columns.get("id", UUID(int=0))


def fill(connection: Connection, user_id: UUID, rows: int = 1) -> None:
    """So many rows of the user's in every column of the plan, and beside each one of somebody else's."""
    other = create_user(connection)
    service = create_service(connection)
    for owner in (user_id, other):
        for number in range(rows):
            for make in _makers(connection, owner, service, number):
                make()
    boards = {"month": str(uuid4()), "entries": [{"user_id": str(user_id), "sent": 3}, {"user_id": str(other)}]}
    add(connection, models.LeaderBoard, **boards)


def _makers(connection: Connection, user_id: UUID, service: UUID, number: int) -> Iterator[Callable[[], object]]:
    at, of_service = {"created_at": NOW}, {"service_id": service, "created_at": NOW}

    def adds(model: Any, **columns: Any) -> Callable[[], UUID]:
        return lambda: add(connection, model, **columns)

    yield lambda: create_session(connection, user_id)
    yield adds(models.VerifyCode, user_id=user_id, code_hash="x", expires_at=NOW)
    yield adds(models.WebauthnCredential, user_id=user_id, name="key", public_key="x", **at)
    yield adds(models.LoginEvent, user_id=user_id, data={"from": "somewhere"}, **at)
    yield lambda: create_user(connection, invited_by_id=user_id)
    yield adds(models.InvitedUser, email_address="a@example.test", **{"user_id": user_id}, **of_service)
    organisation = add(connection, models.Organisation, name=str(uuid4()), **at)
    folder = add(connection, models.TemplateFolder, service_id=service, name="folder")
    invited = {"email_address": "a@example.test", "organisation_id": organisation, "invited_by_id": user_id}
    yield adds(models.InvitedOrganisationUser, **invited, **at)
    somebody = create_user(connection)
    yield adds(models.SupportTicket, user_id=user_id, message="private", **at)
    yield adds(models.SupportTicket, user_id=somebody, message="theirs", assigned_to_id=user_id, **at)
    yield adds(models.UserFolderPermission, user_id=user_id, template_folder_id=folder)
    yield adds(models.UserToOrganisation, user_id=user_id, organisation_id=organisation)
    yield adds(models.UserToService, user_id=user_id, service_id=create_service(connection))
    yield adds(models.Permission, user_id=user_id, permission=f"see {number}", **of_service)
    made = {"created_by_id": user_id, **of_service}
    yield adds(models.Template, name="t", content="c", **made)
    yield adds(models.TemplateVersion, version=1, content="c", **made)
    yield adds(models.Job, original_file_name="people.csv", **made)
    yield adds(models.ApiKey, name="key", **made)
    yield adds(models.ApiKeyVersion, version=1, **made)
    yield adds(models.Event, event_type="sent", **made)
    yield adds(models.ContactList, original_file_name="people.csv", **made)
    yield adds(models.ServiceCallback, url="https://example.test", updated_by_id=user_id, **of_service)
    yield adds(models.FeatureRequest, title="more", created_by_id=user_id, **at)
    wish = add(connection, models.FeatureRequest, title="wish", created_by_id=None, **at)
    yield adds(models.FeatureVote, feature_request_id=wish, user_id=user_id, **at)
    yield lambda: create_notification(connection, service, created_by_id=user_id)
    yield lambda: create_history(connection, created_by_id=user_id)


def mark_by_sql(connection: Connection, user_id: UUID) -> None:
    """As an operator does it."""
    connection.execute(
        text("""UPDATE users SET flags = flags || '{"in_deletion": true}' WHERE id = :id"""), {"id": user_id}
    )


def delete(user_id: UUID) -> str:
    """Ask for a deletion as the user does. Returns its state."""
    return delete_account(user_id, by="user", by_id=user_id, now=datetime.now(UTC)).state


def run(user_id: UUID) -> bool:
    """What a worker does with a message."""
    return deletion.run(user_id, str(uuid4()))


def record(connection: Connection, user_id: UUID) -> Any:
    """The row of the deletion."""
    found = connection.execute(text("SELECT * FROM user_deletions WHERE user_id = :id"), {"id": user_id})
    return found.mappings().one_or_none()


def exists(connection: Connection, user_id: UUID) -> bool:
    """Whether the user is there."""
    found = connection.execute(text("SELECT FROM users WHERE id = :id"), {"id": user_id})
    return found.first() is not None


def dump(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the platform, in a fixed order, but for the times of the work and its tokens."""
    left_out = {"started_at", "completed_at", "lease_token", "lease_until", "due_at", "sent_at", "requested_at"}
    return {
        table.name: sorted(
            (tuple(row) for row in connection.execute(select(*(c for c in table.c if c.name not in left_out)))),
            key=repr,
        )
        for table in TABLES_TO_COMPARE
    }


def mentions(connection: Connection, user_id: UUID) -> set[str]:
    """The tables in which the user's id still is."""
    return {name for name, rows in dump(connection).items() if str(user_id) in repr(rows)}
