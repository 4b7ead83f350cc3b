"""A request's seconds hold for all that it does: what they don't suffice for is refused whole, or left to the workers.

The limits of locks and statements are many times longer here, so that only the request's own can end a wait so soon.
Seen to fail: no limit on the mark, the counting and the work; the time that was used up noted as a failure.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.accounts import deletion, steps
from app.models import LoginEvent, UserToService
from tests.factories import create_service
from tests.integration.accounts.owned import (
    NOW,
    add,
    create_session,
    create_user,
    delete,
    exists,
    mark_by_sql,
    record,
    run,
)
from tests.session_rows import create_token, held

SECONDS = 1
FAR_LESS_THAN_OTHER_LIMITS = 12
"""Seconds. A statement may take 20 otherwise, and a lock any time."""


@pytest.fixture
def settings_override():
    return {
        "ACCOUNT_REQUEST_SECONDS": str(SECONDS),
        "LOCK_TIMEOUT_SECONDS": "600",
        "S3_BUCKET_USER_FILES": "",
        "ACCOUNT_RETRY_SECONDS": "1",
    }


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LOCK_SECONDS", 600)


@contextmanager
def in_time() -> Iterator[None]:
    began = monotonic()
    yield
    assert monotonic() - began < FAR_LESS_THAN_OTHER_LIMITS


@pytest.fixture
def user(connection):
    made = create_user(connection)
    add(connection, LoginEvent, user_id=made, data={}, created_at=NOW)
    return made


HELD = {
    "the user's row": "SELECT FROM users WHERE id = :user FOR UPDATE",
    "a session": "SELECT FROM user_sessions WHERE user_id = :user FOR UPDATE",
    "the table of permissions": "LOCK TABLE permissions",
}


@pytest.mark.parametrize("what", HELD)
def test_a_mark_that_does_not_get_its_lock_in_time_is_refused_and_nothing_changes(connection, user, what):
    create_session(connection, user)
    with in_time(), held(connection, HELD[what], user=user), pytest.raises(OperationalError, match="timeout"):
        delete(user)
    assert (record(connection, user), exists(connection, user)) == (None, True)
    assert connection.execute(text("SELECT count(*) FROM user_sessions")).scalar() == 1


def test_the_api_says_so_and_when_to_come_back(app, connection, user):
    token = create_token(connection, user)
    with held(connection, HELD["the user's row"], user=user):
        answer = app.test_client().delete("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json["code"], answer.headers["Retry-After"]) == (503, "unavailable", "5")
    assert answer.json["message"].endswith(".")
    again = app.test_client().delete("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert (again.status_code, again.json["state"]) == (200, "complete")


def test_the_command_says_so_too(app, connection, user):
    with held(connection, HELD["the user's row"], user=user):
        refused = app.test_cli_runner().invoke(args=["accounts", "delete", str(user), "--yes"])
    assert (refused.exit_code, record(connection, user)) == (1, None)
    assert "Error: Somebody holds the account's row, so that nothing was changed. Try again." in refused.output


def test_items_that_can_not_be_counted_in_time_leave_the_account_marked_and_to_the_workers(connection, user):
    with in_time(), held(connection, "LOCK TABLE verify_codes"):
        assert delete(user) == "requested"
    left = record(connection, user)
    assert (left["items"], left["lease_token"], left["requested_by"]) == (None, None, "user")
    assert deletion.take_due() == [user]
    assert run(user)
    assert not exists(connection, user)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM login_events WHERE user_id = :user FOR UPDATE",
        "SELECT FROM user_to_service WHERE user_id = :user FOR UPDATE",
    ],
)
def test_work_that_does_not_get_on_in_time_is_left_to_the_workers_and_is_no_failure(
    connection, user, statement, monkeypatch
):
    """The lock comes once the request has begun to work, as somebody else's statement may."""
    do = deletion._do
    add(connection, UserToService, user_id=user, service_id=create_service(connection))
    with ExitStack() as locks:

        def meanwhile(work):
            locks.enter_context(held(connection, statement, user=user))
            return do(work)

        monkeypatch.setattr(deletion, "_do", meanwhile)
        with in_time():
            assert delete(user) == "running"
        left = record(connection, user)
    assert (left["reason"], left["attempts"], left["lease_token"]) == (None, 0, None)
    monkeypatch.undo()
    assert deletion.take_due() == [user], "at once"
    assert run(user)
    assert not exists(connection, user)


def test_asking_again_for_what_somebody_holds_is_refused_too(connection, user):
    mark_by_sql(connection, user)
    before = record(connection, user)
    with held(connection, HELD["the user's row"], user=user), pytest.raises(OperationalError):
        delete(user)
    assert record(connection, user) == before
