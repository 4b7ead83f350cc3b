"""`flask accounts`: looking before and after, and deleting.

Seen to fail: the question left out; the dry run that deletes, also of a deletion that was blocked.
"""

from uuid import uuid4

import pytest
from sqlalchemy import text

from app.accounts.steps import StillThere
from app.models import GHOST_USER_ID, LoginEvent
from tests.concurrency import trigger
from tests.factories import create_service
from tests.integration.accounts.owned import (
    NOW,
    add,
    create_user,
    delete,
    exists,
    make_manager,
    mark_by_sql,
    record,
    run,
)

ADDRESS = "someone.private@example.test"


@pytest.fixture
def flask(app):
    def run_command(*arguments, **options):
        return app.test_cli_runner().invoke(args=["accounts", *map(str, arguments)], **options)

    return run_command


@pytest.fixture
def user(connection):
    made = create_user(connection, email_address=ADDRESS)
    add(connection, LoginEvent, user_id=made, data={}, created_at=NOW)
    return made


def test_deleting_shows_what_goes_and_asks(connection, flask, user):
    refused = flask("delete", user, input="n\n")
    assert refused.exit_code == 1
    assert "login_events.user_id: delete 1 (where somebody signed in from is personal)" in refused.output
    assert exists(connection, user)
    done = flask("delete", user, input="y\n")
    assert (done.exit_code, exists(connection, user)) == (0, False)
    assert f"{user} is complete: asked for by operator" in done.output
    assert record(connection, user)["requested_by_id"] is None


def test_a_dry_run_shows_the_same_and_does_nothing(connection, flask, user):
    shown = flask("delete", user, "--dry-run")
    assert (shown.exit_code, exists(connection, user), record(connection, user)) == (0, True, None)
    assert "login_events.user_id: delete 1" in shown.output
    assert "Dry run: nothing was done." in shown.output


def test_a_dry_run_says_what_forbids_it(connection, flask, user):
    service = create_service(connection)
    make_manager(connection, user, service)
    assert str(service) in flask("delete", user, "--dry-run").output
    refused = flask("delete", user, "--yes")
    assert (refused.exit_code, exists(connection, user)) == (1, True)
    assert "Nobody else can manage these live services" in refused.output


@pytest.mark.parametrize(
    ("who", "sentence"), [(GHOST_USER_ID, "stands for all deleted ones"), (uuid4(), "There is no user")]
)
@pytest.mark.parametrize("more", [[], ["--yes"], ["--dry-run"]])
def test_the_ghost_and_nobody_are_refused_with_a_sentence(app, flask, who, sentence, more):
    refused = flask("delete", who, *more)
    assert refused.exit_code == 1
    assert sentence in refused.output
    assert "Traceback" not in refused.output


def test_what_is_no_id_is_refused(app, flask):
    assert flask("delete", "me").exit_code == 2
    assert flask("status", "me").exit_code == 2


def test_the_status_shows_what_is_open_and_why_and_no_address(connection, flask, user):
    assert "No account was ever marked" in flask("status").output
    mark_by_sql(connection, user)
    with trigger(connection, "BEFORE DELETE ON login_events", "RAISE EXCEPTION 'no';"):
        for _ in range(2):
            connection.execute(text("UPDATE user_deletions SET due_at = now()"))
            with pytest.raises(StillThere):
                run(user)
    other = create_user(connection)
    assert delete(other) == "complete"
    connection.execute(
        text(
            "UPDATE user_deletions SET confirmation_failure = 'NoSlot', confirmation_attempts = 2 WHERE user_id = :id"
        ),
        {"id": other},
    )
    malformed = create_user(connection, flags=[1])
    output = flask("status").output
    assert "1 complete, 1 running" in output
    assert f"{user} is running: asked for by database" in output
    assert "RaiseException P0001 (in_the_way), of 1 row; 2 attempts in a row got nowhere; next attempt" in output
    assert f"{other} is complete" in output
    assert "not confirmed yet: NoSlot after 2 attempts" in output
    assert f"{malformed} has flags that can't be read" in output
    assert "@" not in output


def test_the_status_of_one_user(connection, flask, user):
    unknown = flask("status", user)
    assert (unknown.exit_code, "was never marked" in unknown.output) == (1, True)
    assert delete(user) == "complete"
    assert f"{user} is complete: asked for by user" in flask("status", user).output


def test_deleting_again_says_how_far_it_is(connection, flask, user):
    assert delete(user) == "complete"
    again = flask("delete", user, "--yes")
    assert again.exit_code == 0
    assert "is complete: asked for by user" in again.output


def test_a_blocked_deletion_is_neither_tried_dry_nor_gone_on_with_unasked(connection, flask, user):
    service = create_service(connection)
    make_manager(connection, user, service)
    mark_by_sql(connection, user)
    run(user)
    assert record(connection, user)["state"] == "blocked"
    make_manager(connection, create_user(connection), service)
    assert "Dry run: nothing was done." in flask("delete", user, "--dry-run").output
    assert flask("delete", user, input="n\n").exit_code == 1
    assert (record(connection, user)["state"], exists(connection, user)) == ("blocked", True)
    flask("delete", user, "--yes")
    assert record(connection, user)["state"] != "blocked"
