"""Users and sessions for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, insert, text

from app.accounts.passwords import hash_password
from app.accounts.tokens import new_token, token_hash
from app.models import User, UserSession

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PASSWORD = "a long private sentence"


@cache
def password_hash() -> str:
    return hash_password(PASSWORD)


def create_user(connection: Connection, **columns: Any) -> UUID:
    """An active user of the last year, without a password."""
    user_id = columns.pop("id", None) or uuid4()
    values = {
        "name": "Private Person",
        "email_address": f"{user_id}@private.example.test",
        "state": "active",
        "created_at": datetime.now(UTC) - timedelta(days=365),
    }
    connection.execute(insert(User).values(id=user_id, **{**values, **columns}))
    return user_id


def create_session(connection: Connection, user_id: UUID | None = None, **columns: Any) -> UUID:
    """A session, anonymous unless of a user, that was made an hour ago and has a day to go."""
    session_id = uuid4()
    now = datetime.now(UTC)
    values = {"token_hash": session_id.bytes, "created_at": now - HOUR, "expires_at": now + DAY}
    connection.execute(insert(UserSession).values(id=session_id, user_id=user_id, **{**values, **columns}))
    return session_id


def create_token(connection: Connection, user_id: UUID | None = None, **columns: Any) -> str:
    """A session's token."""
    token = new_token()
    create_session(connection, user_id, token_hash=token_hash(token), **columns)
    return token


def create_sessions(
    connection: Connection, rows: int, *, created_at: datetime, lasting: timedelta, **more: Any
) -> None:
    """Many anonymous sessions, a millisecond apart, or of `user_id`."""
    connection.execute(
        text(
            "INSERT INTO user_sessions (id, token_hash, user_id, created_at, expires_at) "
            "SELECT gen_random_uuid(), uuid_send(gen_random_uuid()), CAST(:user_id AS uuid), at, at + :lasting "
            "FROM generate_series(1, :rows) AS i, LATERAL (SELECT :created_at + i * interval '1 ms' AS at) AS made"
        ),
        {"rows": rows, "created_at": created_at, "lasting": lasting, "user_id": more.get("user_id")},
    )


def session_ids(connection: Connection) -> set[UUID]:
    """The ids in `user_sessions`."""
    return set(connection.execute(text("SELECT id FROM user_sessions")).scalars())


def user(connection: Connection, user_id: UUID) -> dict[str, Any]:
    """A user's row."""
    return dict(connection.execute(text("SELECT * FROM users WHERE id = :id"), {"id": user_id}).mappings().one())


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """A transaction of another connection of the administrator, who otherwise commits each statement at once."""
    with connection.engine.connect().execution_options(isolation_level="READ COMMITTED") as other, other.begin():
        yield other


@contextmanager
def held(connection: Connection, statement: str, **values: Any) -> Iterator[None]:
    """The statement's locks, held by a transaction of another connection of the administrator."""
    with transaction(connection) as other:
        other.execute(text(statement), values)
        yield
