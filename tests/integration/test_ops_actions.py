"""Actions of the ops page: each is done whole and recorded with who did it, or changes nothing and says why.

Seen to fail: a run whose chains count as sent (nobody woke them for a minute); a hold that was there recorded again; a
wait for a running step that is not given up; required fields not looked at.
"""

from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from app.dao import turns_dao
from app.db import db
from app.engine import stops
from app.ops.kept import Kept
from app.retention import nightly, operations
from tests.factories import chains, create_letter, create_notification, create_service, history
from tests.integration.night import drain
from tests.ops import OPERATOR, Browser, ops_settings

DEFER = text(
    "INSERT INTO retention.deferred_rows VALUES (:letter, :service, 'real', now(), :reason, 3, now(), now(), "
    "now() + interval '1 day', false, 'letter')"
)


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {**ops_settings(), "FAN_OUT_SPREAD_SECONDS": "0"}


@pytest.fixture
def browser(app: Flask) -> Browser:
    browser = Browser(app)
    browser.log_in()
    return browser


def do(browser: Browser, action: str, **fields: Any) -> str:
    """Do it; the sentence that the page then shows."""
    answer = browser.send(f"/ops/actions/{action}", **fields)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops/"), answer.text
    return browser.get("/ops").text.split('<p class="flash" role="status">')[1].split("</p>")[0]


def recorded(connection: Connection) -> list[tuple[Any, ...]]:
    statement = "SELECT acted_by, action, service_id, detail, count FROM retention.ops_actions ORDER BY id"
    return [tuple(row) for row in connection.execute(text(statement))]


def holds(connection: Connection) -> set[tuple[str, str, str]]:
    return {tuple(row) for row in connection.execute(text("SELECT scope, reason, placed_by FROM retention.holds"))}


def due_letters(connection: Connection) -> set[Any]:
    statement = "SELECT notification_id FROM retention.deferred_rows WHERE next_attempt_at <= now()"
    return set(connection.execute(text(statement)).scalars())


@pytest.mark.parametrize(
    ("of_service", "reason", "due"),
    [(None, "", {"a", "b", "c"}), (0, "", {"a", "b"}), (None, "AccessDenied", {"a", "c"}), (0, "AccessDenied", {"a"})],
)
def test_what_is_held_back_becomes_due(browser, connection, of_service, reason, due):
    services = [create_service(connection), create_service(connection)]
    letters = {name: uuid4() for name in "abc"}
    for name, service, why in (("a", 0, "AccessDenied"), ("b", 0, "Ambiguous"), ("c", 1, "AccessDenied")):
        connection.execute(DEFER, {"letter": letters[name], "service": services[service], "reason": why})
    chosen = "" if of_service is None else str(services[of_service])
    said = do(browser, "retry", service=chosen, reason=reason)
    assert said.startswith(f"{len(due)} held back are due now.")
    assert due_letters(connection) == {letters[name] for name in due}
    whose = None if of_service is None else services[of_service]
    assert recorded(connection) == [(OPERATOR, "retry", whose, reason or None, len(due))]


def test_a_run_is_started_by_the_dispatcher_at_its_next_look(browser, connection):
    service, other = create_service(connection), create_service(connection)
    email = create_notification(connection, service)
    create_notification(connection, service, "sms")
    create_notification(connection, other)
    assert do(browser, "run", type="email", service=str(service)).startswith("1 chains opened.")
    (chain,) = chains(connection)
    assert (chain["service_id"], chain["notification_type"], chain["sent_at"]) == (service, "email", None)
    wakes, _ = nightly.dispatch()
    drain(wakes)
    assert history(connection) == {email}
    assert recorded(connection) == [(OPERATOR, "run", service, "email", None)]


def test_a_run_of_all_types_is_one_of_each(browser, connection, s3):
    service = create_service(connection)
    create_notification(connection, service)
    create_notification(connection, service, "sms")
    create_letter(connection, s3, service)
    assert do(browser, "run", type="all", service="").startswith("3 chains opened.")
    assert {chain["notification_type"] for chain in chains(connection)} == {"email", "sms", "letter"}


def test_a_hold_and_the_pause_are_placed_and_lifted_by_name(browser, connection):
    service = create_service(connection)
    assert "is on hold" in do(browser, "hold", service=str(service), reason="a court asks")
    assert "is paused" in do(browser, "pause", reason="an incident")
    assert holds(connection) == {(str(service), "a court asks", OPERATOR), ("pipeline", "an incident", OPERATOR)}
    assert "0 chains go on" in do(browser, "lift", service=str(service))
    assert "goes on, with 0 chains" in do(browser, "resume")
    assert holds(connection) == set()
    assert recorded(connection) == [
        (OPERATOR, "hold", service, "a court asks", None),
        (OPERATOR, "pause", None, "an incident", None),
        (OPERATOR, "lift", service, None, 0),
        (OPERATOR, "resume", None, None, 0),
    ]


def test_what_another_process_did_is_seen_by_the_browser_that_asked_for_it(app, browser, monkeypatch):
    """Where several processes serve the page, the one that shows it may have looked a moment ago."""
    assert "Stopped by hand" not in browser.get("/ops").text
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(app.extensions, "ops.kept", Kept())
        answer = browser.send("/ops/actions/pause", reason="a migration")
    assert answer.status_code == 303
    assert "The whole pipeline is paused" in browser.get("/ops").text


def test_missing_files_are_accepted_by_name(browser, connection):
    create_notification(connection, create_service(connection), "letter", reference="NONE")
    operations.run(["letter"])
    connection.execute(
        text("UPDATE retention.chains SET state = 'resting', reason = 'missing-files', missing_in = 'a-bucket'")
    )
    assert do(browser, "accept-missing", sure="yes") == "Accepted. 1 chains go on."
    (chain,) = chains(connection)
    assert chain["state"] == "waiting"
    accepted = connection.execute(text("SELECT bucket, accepted_by FROM retention.accepted_missing")).one()
    assert tuple(accepted) == ("a-bucket", OPERATOR)
    assert recorded(connection)[-1] == (
        OPERATOR,
        "accept missing files",
        None,
        f"a-bucket, night of {chain['night']}",
        1,
    )


@pytest.mark.parametrize(
    ("action", "fields", "says"),
    [
        ("retry", {"service": "no id"}, "is not a service id"),
        ("retry", {}, "Nothing that is held back fits"),
        ("run", {"type": "fax", "service": ""}, "is not a notification type"),
        ("run", {"type": "email", "service": str(uuid4())}, "no service"),
        ("run", {"service": ""}, "Type: this is needed"),
        ("hold", {"service": str(uuid4()), "reason": "a court asks"}, "no service"),
        ("hold", {"service": "", "reason": "a court asks"}, "Service or user: this is needed"),
        ("hold", {"service": str(uuid4()), "reason": ""}, "Why: this is needed"),
        ("pause", {"reason": "two\nlines"}, "one line of 1 to 200 characters"),
        ("pause", {"reason": "x" * 201}, "one line of 1 to 200 characters"),
        ("resume", {}, "was not paused"),
        ("lift", {"service": str(uuid4())}, "is not on hold"),
        ("accept-missing", {}, "I have checked"),
        ("accept-missing", {"sure": "yes"}, "No chain rests for missing files"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence_and_changes_nothing(browser, connection, action, fields, says):
    create_notification(connection, create_service(connection))
    answer = browser.send(f"/ops/actions/{action}", **fields)
    assert answer.status_code == 422
    assert says in answer.text.split('role="alert"')[1].split("</p>")[0]
    assert (recorded(connection), holds(connection), list(chains(connection))) == ([], set(), [])


def test_what_is_so_already_is_not_recorded_again(browser, connection):
    service = create_service(connection)
    do(browser, "hold", service=str(service), reason="a court asks")
    again = browser.send("/ops/actions/hold", service=str(service), reason="another")
    assert (again.status_code, "on hold already" in again.text) == (422, True)
    assert len(recorded(connection)) == 1


def test_a_hold_that_a_running_step_keeps_waiting_stands_and_says_so(browser, connection, monkeypatch):
    monkeypatch.setattr("app.ops.actions.SECONDS_TO_WAIT_FOR_A_STEP", 0.3)
    service = create_service(connection)
    with db.transaction() as step:
        assert stops.stopped(step, stops.turn(turns_dao.BY_HAND), services=[service]) is None
        said = do(browser, "hold", service=str(service), reason="a court asks")
    assert "still running: batch by hand" in said
    assert (len(holds(connection)), len(recorded(connection))) == (1, 1)


def test_an_action_that_fails_leaves_no_record(browser, connection):
    connection.exec_driver_sql("ALTER TABLE retention.holds ADD CONSTRAINT full_up CHECK (scope <> 'pipeline')")
    try:
        answer = browser.send("/ops/actions/pause", reason="an incident")
    finally:
        connection.exec_driver_sql("ALTER TABLE retention.holds DROP CONSTRAINT full_up")
    assert answer.status_code == 503
    assert "nothing can be shown or was changed" in answer.text
    assert (recorded(connection), holds(connection)) == ([], set())


def test_what_commands_do_is_recorded_in_the_same_place(app, connection, monkeypatch):
    monkeypatch.setenv("LOGNAME", "carol")
    service = create_service(connection)
    runner = app.test_cli_runner()
    for arguments in (
        ("hold", str(service), "--reason", "a court asks"),
        ("lift", str(service)),
        ("run", "--type", "sms"),
    ):
        ended = runner.invoke(args=["retention", *arguments])
        assert ended.exit_code == 0, ended.output
    assert recorded(connection) == [
        ("carol", "hold", service, "a court asks", None),
        ("carol", "lift", service, None, 0),
        ("carol", "run", None, "sms", None),
    ]


def test_an_unknown_action_is_not_there(browser):
    assert browser.get("/ops/actions/delete-everything").status_code == 404


def test_the_forms_show_what_was_typed_as_text(browser):
    answer = browser.get("/ops/actions/retry?reason=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
