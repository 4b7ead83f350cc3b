"""What refuses keeps itself and the user's row, and nothing else; the record names it, and no value.

Seen to fail: the first table that refuses ends the work; files behind it stay; every row of a table kept for one; the
reason without the table; the driver's error, with the row in it, raised out of the task; a lock that is waited for by
everything behind it.
"""

import traceback
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from app.accounts import deletion, steps
from app.accounts.steps import StillThere
from app.models import LoginEvent, SupportTicket
from tests.concurrency import trigger
from tests.factories import keys
from tests.integration.accounts.owned import NOW, add, create_user, delete, exists, fill, mark_by_sql, record, run
from tests.session_rows import held

SECRET = "planted-value"
ROWS = 40


@pytest.fixture
def settings_override(settings_override):
    return {**settings_override, "ACCOUNT_ROWS_PER_BATCH": "16"}


@pytest.fixture
def user(connection):
    made = create_user(connection)
    mark_by_sql(connection, made)
    return made


def log_ins(connection, user, count):
    """The last ones have a secret of their own in their data."""
    for number in range(count):
        add(connection, LoginEvent, user_id=user, data={"number": number, "from": SECRET}, created_at=NOW)


def numbers(connection):
    found = connection.execute(text("SELECT (data ->> 'number')::integer FROM login_events"))
    return sorted(found.scalars())


def refused(user):
    """What a worker's task says of it."""
    with pytest.raises(StillThere) as raised:
        run(user)
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    return str(raised.value)


def refusing(condition="true"):
    return f"IF {condition} THEN RAISE EXCEPTION 'no %', OLD.data; END IF; RETURN OLD;"


@contextmanager
def a_trigger(connection):
    with trigger(connection, "BEFORE DELETE ON login_events", refusing()):
        yield "login_events.user_id: RaiseException P0001 (in_the_way)"


@contextmanager
def a_foreign_key(connection):
    connection.execute(text("CREATE TABLE looks (event_id uuid CONSTRAINT of_log_in REFERENCES login_events)"))
    connection.execute(text("INSERT INTO looks SELECT id FROM login_events"))
    yield "login_events.user_id: ForeignKeyViolation 23503 (of_log_in of looks)"
    connection.execute(text("DROP TABLE looks"))


@contextmanager
def a_lock(connection):
    with held(connection, "SELECT FROM login_events FOR UPDATE"):
        yield "login_events.user_id: LockNotAvailable 55P03"


@contextmanager
def a_privilege(connection):
    # The workers' role is of these tests' own.
    (role,) = connection.execute(
        text(
            "SELECT grantee FROM information_schema.table_privileges WHERE table_name = 'login_events' "
            "AND privilege_type = 'DELETE' AND grantee <> grantor"
        )
    ).scalars()
    connection.exec_driver_sql(f'REVOKE DELETE ON login_events FROM "{role}"')
    yield "login_events.user_id: InsufficientPrivilege 42501"
    connection.exec_driver_sql(f'GRANT DELETE ON login_events TO "{role}"')


@pytest.mark.parametrize("in_the_way", [a_trigger, a_foreign_key, a_lock, a_privilege])
def test_a_table_that_refuses_keeps_nothing_behind_it(connection, s3, settings, user, monkeypatch, in_the_way):
    monkeypatch.setattr(steps, "LOCK_SECONDS", 0.2)
    fill(connection, user, 4)
    s3.put_object(Bucket=settings.s3_bucket_user_files, Key=f"users/{user}/a", Body=b"x")
    with in_the_way(connection) as named:
        said = refused(user)
    assert said == named
    left = set(connection.execute(TABLES_WITH_ROWS, {"id": user}).scalars())
    assert left == {"login_events", "permissions", "user_to_organisation", "user_to_service"}
    assert keys(s3, settings.s3_bucket_user_files) == set()
    kept = record(connection, user)
    assert (exists(connection, user), kept["state"], kept["reason"]) == (True, "running", named)
    assert deletion.take_due() == [], "it is tried again later"
    connection.execute(text("UPDATE user_deletions SET due_at = now()"))
    assert run(user)
    assert (exists(connection, user), record(connection, user)["reason"]) == (False, None)


TABLES_WITH_ROWS = text(
    " UNION ALL ".join(
        f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name} WHERE user_id = :id)"
        for name in (
            *("login_events", "user_sessions", "support_tickets", "verify_codes", "webauthn_credential"),
            *("feature_votes", "invited_users", "permissions", "user_to_organisation", "user_to_service"),
        )
    )
)


@pytest.mark.parametrize(
    ("condition", "kept", "said"),
    [
        ("OLD.data ->> 'number' = '20'", [20], ", of 1 row"),
        ("(OLD.data ->> 'number')::int IN (0, 17, 39)", [0, 17, 39], ", of 3 rows"),
        ("true", list(range(ROWS)), ""),
    ],
)
def test_rows_that_a_table_refuses_are_found_and_the_others_go(connection, user, condition, kept, said):
    log_ins(connection, user, ROWS)
    with trigger(connection, "BEFORE DELETE ON login_events", refusing(condition)):
        assert refused(user) == f"login_events.user_id: RaiseException P0001 (in_the_way){said}"
    assert numbers(connection) == kept
    assert record(connection, user)["rows_done"] == ROWS - len(kept)


def test_a_table_of_many_rows_that_it_refuses_is_given_up_soon(connection, user, monkeypatch):
    log_ins(connection, user, ROWS)
    tried = []
    act = steps.act
    monkeypatch.setattr(steps, "act", lambda *arguments: (tried.append(arguments), act(*arguments))[1])
    with trigger(connection, "BEFORE DELETE ON login_events", refusing()):
        refused(user)
    assert len(tried) == 1 + 3, "the first, the middle and the last one"


def test_what_refuses_in_the_last_step_is_named_too(connection, user):
    fill(connection, user)
    with trigger(connection, "BEFORE DELETE ON permissions", "RAISE EXCEPTION 'no %', OLD.id;"):
        assert refused(user) == "permissions.user_id: RaiseException P0001 (in_the_way)"
    with trigger(connection, "BEFORE DELETE ON users", "RAISE EXCEPTION 'no %', OLD.email_address;"):
        connection.execute(text("UPDATE user_deletions SET due_at = now()"))
        assert refused(user) == "users: RaiseException P0001 (in_the_way)"


def test_two_tables_that_refuse_are_both_named_and_a_request_is_answered(connection):
    user = create_user(connection)
    fill(connection, user)
    connection.execute(
        text("ALTER TABLE support_tickets ADD CONSTRAINT assigned CHECK (assigned_to_id IS NOT NULL) NOT VALID")
    )
    try:
        with trigger(connection, "BEFORE DELETE ON login_events", refusing()):
            assert delete(user) == "running"
    finally:
        connection.execute(text("ALTER TABLE support_tickets DROP CONSTRAINT assigned"))
    assert record(connection, user)["reason"] == (
        "login_events.user_id: RaiseException P0001 (in_the_way), of 1 row; "
        "support_tickets.assigned_to_id: CheckViolation 23514 (assigned of support_tickets), of 1 row"
    )
    assert (
        connection.execute(text("SELECT count(*) FROM support_tickets WHERE user_id = :id"), {"id": user}).scalar() == 0
    )


def test_attempts_that_get_nowhere_wait_longer_and_need_a_person_in_the_end(app, connection, settings, user):
    add(connection, SupportTicket, user_id=user, message=SECRET, created_at=NOW)
    with trigger(connection, "BEFORE DELETE ON support_tickets", "RAISE EXCEPTION 'no %', OLD.message;"):
        for _ in range(settings.deferral_attempts):
            connection.execute(text("UPDATE user_deletions SET due_at = now()"))
            refused(user)
    assert record(connection, user)["attempts"] == settings.deferral_attempts
    said = app.test_cli_runner().invoke(args=["accounts", "status"]).output
    assert "support_tickets.user_id: RaiseException P0001 (in_the_way), of 1 row" in said
    assert "it needs a person" in said
    assert SECRET not in said
