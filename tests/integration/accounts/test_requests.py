"""The mark: who may set it, what it does in its transaction, and that it starts the deletion, whoever sets it.

Seen to fail: the sign-out left out; the ghost let through; a JSON string made an object; flags replaced instead of
added to.
"""

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.accounts import deletion, steps
from app.accounts.errors import GhostUser, UnknownUser
from app.accounts.requests import WrongIsolation, mark_for_deletion
from app.dao import user_deletions_dao
from app.db import db
from app.models import GHOST_USER_ID, LoginEvent
from tests.integration.accounts.owned import add, create_session, create_user, exists, mark_by_sql, record, run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def mark(user_id, by="operator", by_id=None):
    with db.transaction() as connection:
        return mark_for_deletion(connection, user_id, by=by, by_id=by_id, now=NOW)


def sessions(connection):
    return set(connection.execute(text("SELECT id FROM user_sessions")).scalars())


def flags(connection, user_id):
    return connection.execute(text("SELECT flags FROM users WHERE id = :id"), {"id": user_id}).scalar_one()


def test_the_mark_signs_out_and_writes_who_asked(connection):
    user, administrator = create_user(connection), create_user(connection)
    kept = {create_session(connection, administrator), create_session(connection, None)}
    create_session(connection, user)
    create_session(connection, user)
    assert mark(user, "administrator", administrator)
    made = record(connection, user)
    assert (made["state"], made["requested_by"], made["requested_by_id"]) == (
        "requested",
        "administrator",
        administrator,
    )
    assert (made["requested_at"], made["due_at"]) == (NOW, NOW)
    assert made["confirmation_address"] is None
    assert sessions(connection) == kept
    assert flags(connection, administrator) == {}


def test_what_goes_wrong_after_the_mark_takes_it_back(connection):
    user = create_user(connection)
    create_session(connection, user)
    with db.engine.connect() as transaction:
        mark_for_deletion(transaction, user, by="user", by_id=user, now=NOW)
        transaction.rollback()
    assert (record(connection, user), len(sessions(connection)), flags(connection, user)) == (None, 1, {})


def test_a_second_mark_changes_nothing(connection):
    user = create_user(connection)
    assert mark(user, "user", user)
    before = record(connection, user)
    assert not mark(user, "operator")
    assert record(connection, user) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"in_deletion": True}),
        ({"beta": True, "in_deletion": False}, {"beta": True, "in_deletion": True}),
        ('{"beta": true}', {"beta": True, "in_deletion": True}),
        (None, {"in_deletion": True}),
        ({"in_deletion": "who knows"}, {"in_deletion": True}),
        ("not json", {"in_deletion": True}),
        ([1], {"in_deletion": True}),
    ],
)
def test_flags_keep_what_they_hold_as_an_object_or_as_a_string(connection, before, after):
    user = create_user(connection)
    connection.execute(
        text("UPDATE users SET flags = CAST(:flags AS jsonb) WHERE id = :id"), {"flags": json.dumps(before), "id": user}
    )
    assert mark(user)
    marked = flags(connection, user)
    stays_a_string = before == '{"beta": true}'
    assert isinstance(marked, str) == stays_a_string
    assert (json.loads(marked) if stays_a_string else marked) == after
    assert record(connection, user)["state"] == "requested"
    assert connection.execute(text("SELECT count(*) FROM malformed_flags")).scalar() == 0


def test_the_ghost_and_a_user_who_is_not_there_are_refused(connection):
    with pytest.raises(GhostUser):
        mark(GHOST_USER_ID)
    with pytest.raises(UnknownUser):
        mark(uuid4())
    with pytest.raises(DBAPIError, match="ghost user"):
        mark_by_sql(connection, GHOST_USER_ID)
    with pytest.raises(DBAPIError, match="ghost user"):
        connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": GHOST_USER_ID})
    assert exists(connection, GHOST_USER_ID)


OTHER_VALUES = {"uuid": str(UUID(int=7)), "jsonb": '{"in_deletion": false}', "boolean": "true", "integer": "7"}
COLUMNS_OF_USERS = text(
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'users' ORDER BY 1"
)


def test_no_column_of_the_ghosts_row_can_be_changed_by_anybody_and_writing_what_is_there_is_no_change(connection):
    """The connection is the tables' owner's. A restore writes every column as it was."""
    ghost = connection.execute(text("SELECT * FROM users WHERE id = :id"), {"id": GHOST_USER_ID}).one()
    refused = []
    for column, kind in connection.execute(COLUMNS_OF_USERS).all():
        other = OTHER_VALUES.get(kind, "2031-01-01" if kind.startswith("timestamp") else "active")
        with pytest.raises(DBAPIError, match="ghost user"):
            connection.execute(
                text(f"UPDATE users SET {column} = CAST(:other AS {kind}) WHERE id = :id"),
                {"other": other, "id": GHOST_USER_ID},
            )
        connection.execute(text(f"UPDATE users SET {column} = {column} WHERE id = :id"), {"id": GHOST_USER_ID})
        refused.append(column)
    assert {"email_address", "password_hash", "platform_admin", "name", "flags"} <= set(refused)
    assert connection.execute(text("SELECT * FROM users WHERE id = :id"), {"id": GHOST_USER_ID}).one() == ghost


@pytest.mark.parametrize("set_to", ['{"in_deletion": true}', '"{\\"in_deletion\\": true}"'])
def test_a_mark_set_by_sql_starts_the_deletion(connection, set_to):
    user = create_user(connection)
    connection.execute(
        text("UPDATE users SET flags = CAST(:flags AS jsonb) WHERE id = :id"), {"flags": set_to, "id": user}
    )
    assert record(connection, user)["requested_by"] == "database"
    assert deletion.take_due() == [user]
    assert run(user)
    assert not exists(connection, user)


def test_malformed_flags_are_noticed_and_nothing_follows(connection):
    user = create_user(connection)
    connection.execute(text('UPDATE users SET flags = \'{"in_deletion": "perhaps"}\' WHERE id = :id'), {"id": user})
    assert connection.execute(text("SELECT user_id FROM malformed_flags")).scalars().all() == [user]
    assert (record(connection, user), deletion.take_due()) == (None, [])


def test_a_mark_that_is_taken_back_in_time_ends_the_deletion(connection):
    user = create_user(connection)
    mark_by_sql(connection, user)
    connection.execute(text("UPDATE users SET flags = '{}' WHERE id = :id"), {"id": user})
    assert (record(connection, user), deletion.take_due()) == (None, [])


def test_an_account_that_comes_back_and_is_marked_again_begins_with_nothing_of_its_last_deletion(connection):
    user = create_user(connection)
    mark_by_sql(connection, user)
    connection.execute(
        text(
            "UPDATE user_deletions SET state = 'complete', attempts = 3, rows_done = 5, confirmation_attempts = 10, "
            "confirmation_failure = 'MessageRejected', confirmation_address = 'before@example.test'"
        )
    )
    connection.execute(text("UPDATE users SET flags = '{}' WHERE id = :id"), {"id": user})
    mark_by_sql(connection, user)
    again = record(connection, user)
    kept = ("state", "attempts", "rows_done", "confirmation_attempts", "confirmation_failure")
    assert [again[name] for name in kept] == ["requested", 0, 0, 0, None]
    assert again["confirmation_address"] is None


def fails(*_):
    raise RuntimeError("no")


def clear_flags(connection, user_id):
    connection.execute(text("UPDATE users SET flags = '{}' WHERE id = :id"), {"id": user_id})


def add_log_ins(connection, user_id, count):
    for _ in range(count):
        add(connection, LoginEvent, user_id=user_id, data={}, created_at=NOW)


def test_a_deletion_that_failed_before_anything_was_done_can_be_taken_back(connection, monkeypatch):
    user = create_user(connection)
    add_log_ins(connection, user, 2)
    mark_by_sql(connection, user)
    with monkeypatch.context() as broken:
        broken.setattr(steps, "act", fails)
        with pytest.raises(RuntimeError):
            run(user)
    assert record(connection, user)["state"] == "running"
    clear_flags(connection, user)
    assert (record(connection, user), run(user), exists(connection, user)) == (None, False, True)


@pytest.mark.parametrize(
    "column",
    [
        "rows_done = 1",
        "files_done = 1",
        "attempts = 1, lease_token = gen_random_uuid(), lease_until = now() - interval '1 s'",
    ],
)
def test_a_deletion_that_may_have_done_something_goes_on_whatever_the_flags_say(connection, column):
    user = create_user(connection)
    mark_by_sql(connection, user)
    connection.execute(text(f"UPDATE user_deletions SET state = 'running', {column}"))
    clear_flags(connection, user)
    assert record(connection, user)["state"] == "running"
    assert run(user)
    assert not exists(connection, user)


@pytest.mark.parametrize("flags", ['{"in_deletion": true}', '"{\\"in_deletion\\": true}"'])
def test_a_mark_that_came_while_no_trigger_looked_is_captured_by_the_relay(connection, monkeypatch, flags):
    users = [create_user(connection) for _ in range(4)]
    unmarked = users.pop()
    connection.execute(text("ALTER TABLE users DISABLE TRIGGER capture_user_deletion"))
    connection.execute(
        text("UPDATE users SET flags = CAST(:flags AS jsonb) WHERE id = ANY (:ids)"), {"flags": flags, "ids": users}
    )
    connection.execute(text("ALTER TABLE users ENABLE TRIGGER capture_user_deletion"))
    assert record(connection, users[0]) is None
    monkeypatch.setattr(deletion, "WAKES_PER_LOOK", 2)
    captured = text("SELECT count(*) FROM user_deletions")
    assert (len(deletion.take_due()), connection.execute(captured).scalar()) == (2, 2), "no more at a time"
    assert (len(deletion.take_due()), connection.execute(captured).scalar()) == (1, 3)
    assert {record(connection, user)["requested_by"] for user in users} == {"database"}
    assert record(connection, unmarked) is None
    for user in users:
        assert run(user)
    assert [exists(connection, user) for user in users] == [False] * 3


def test_looking_for_marks_that_nobody_captured_reads_no_unmarked_user(connection):
    connection.execute(
        text(
            "INSERT INTO users (id, name, email_address, state, created_at) "
            "SELECT gen_random_uuid(), 'a', n || '@example.test', 'active', now() FROM generate_series(1, 2000) AS n"
        )
    )
    connection.execute(text("ANALYZE users"))
    plan = connection.execute(text("EXPLAIN " + user_deletions_dao.MISSED.text), {"at_most": 1000}).scalars()
    assert "ix_users_in_deletion" in "\n".join(plan)


def test_a_mark_needs_a_transaction_that_sees_what_was_committed_before_its_locks(connection):
    user = create_user(connection)
    for level in ("REPEATABLE READ", "SERIALIZABLE"):
        with pytest.raises(WrongIsolation), db.transaction(isolation_level=level) as own:
            mark_for_deletion(own, user, by="user", by_id=user, now=NOW)
    assert record(connection, user) is None
    assert mark(user)
