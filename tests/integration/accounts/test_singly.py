"""One record that the database refuses to change keeps no other from being woken, captured, given up or forgotten.

Seen to fail: with one statement for all of them, which ends for all when it is refused for one.
"""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.accounts import deletion, export
from app.models import UserDeletion, UserExport
from tests.concurrency import trigger
from tests.integration.accounts.owned import add, create_user, mark_by_sql, record

LONG_AGO = datetime.now(UTC) - timedelta(days=999)
REFUSE = "IF OLD.{0} = '{1}' THEN RAISE EXCEPTION 'no %', OLD; END IF; RETURN {2};"


def refusing(connection, event, column, value):
    row = "OLD" if "DELETE" in event else "NEW"
    return trigger(connection, f"BEFORE {event}", REFUSE.format(column, value, row))


def test_the_wake_ups_of_other_deletions_go_out(connection, capsys):
    users = [create_user(connection) for _ in range(5)]
    for user in users:
        mark_by_sql(connection, user)
    with refusing(connection, "UPDATE ON user_deletions", "user_id", users[2]):
        assert set(deletion.take_due()) == {*users} - {users[2]}
    logged = capsys.readouterr().out
    assert "RaiseException P0001 (in_the_way)" in logged
    assert str(users[2]) in logged
    assert deletion.take_due() == [users[2]]


def test_the_marks_of_others_are_captured(connection):
    users = [create_user(connection) for _ in range(5)]
    for user in users:
        mark_by_sql(connection, user)
    connection.execute(text("DELETE FROM user_deletions"))
    with refusing(connection, "UPDATE ON users", "id", users[0]):
        deletion.take_due()
    assert [user for user in users if record(connection, user) is None] == users[:1]


def test_the_records_of_other_deletions_end(connection):
    users = [uuid4() for _ in range(5)]
    times = dict.fromkeys(("requested_at", "completed_at", "due_at"), LONG_AGO)
    for user in users:
        add(connection, UserDeletion, user_id=user, state="complete", **times)
    with refusing(connection, "DELETE ON user_deletions", "user_id", users[4]):
        deletion.purge_records()
    assert [user for user in users if record(connection, user)] == users[4:]


@pytest.fixture
def exports(connection):
    times = dict.fromkeys(("requested_at", "due_at"), LONG_AGO)
    deadline = datetime.now(UTC) + timedelta(hours=1)
    return [add(connection, UserExport, user_id=uuid4(), deadline_at=deadline, **times) for _ in range(5)]


def test_the_wake_ups_of_other_exports_go_out(connection, exports):
    with refusing(connection, "UPDATE ON user_exports", "id", exports[1]):
        assert set(export.take_due()) == {*exports} - {exports[1]}


def test_other_exports_are_given_up_at_their_deadline_and_their_records_end(connection, exports):
    connection.execute(text("UPDATE user_exports SET deadline_at = due_at"))
    with refusing(connection, "UPDATE ON user_exports", "id", exports[1]):
        export.take_due()
    states = {row.id: row.state for row in connection.execute(text("SELECT id, state FROM user_exports"))}
    assert states == {**dict.fromkeys(exports, "failed"), exports[1]: "requested"}
    connection.execute(text("UPDATE user_exports SET state = 'expired'"))
    with refusing(connection, "DELETE ON user_exports", "id", exports[3]):
        export.purge_records()
    assert connection.execute(text("SELECT id FROM user_exports")).scalars().all() == [exports[3]]
