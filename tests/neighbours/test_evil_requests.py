"""Values and addresses that nobody types by mistake: at the pages, the commands and the audits.

Seen to fail: NUL in a reason answered 500; a hold's reason of 100,000 characters taken from a command; `nan`, `inf` and
1e300 seconds, which ended in a traceback; the Host of a request as the target of a redirect; an audit from the first
day of the calendar to its last, which raised OverflowError and kept every later audit from beginning.
"""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from app import clock
from app.celery import audit_tasks
from app.errors import BadArgument
from app.ops.actions import ACTIONS
from app.retention import audit, audit_files
from app.retention.arguments import MOST_CHARACTERS_FOR_THE_RECORD
from tests.factories import create_service
from tests.ops import Browser, ops_settings

SERVICE = "6ff1b5a4-2e6d-4f68-9c4e-0d6f1d2f9a11"
FIELDS = [(action.name, field.name) for action in ACTIONS.values() for field in action.fields]
RECORDS = text("SELECT (SELECT count(*) FROM retention.holds) + (SELECT count(*) FROM retention.ops_actions)")


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {**ops_settings(), "AUDIT_EVERY_DAYS": "7"}


@pytest.fixture
def flask(app: Flask) -> Any:
    return lambda *arguments: app.test_cli_runner().invoke(args=[str(argument) for argument in arguments])


def test_no_field_of_the_ops_page_takes_what_the_database_can_not(app, connection):
    browser = Browser(app)
    browser.log_in()
    for action, name in FIELDS:
        given = {"service": SERVICE, "type": "email", "sure": "yes", "reason": "an inquiry"}
        for evil in ("a\0b", "a\nb", "a" * (MOST_CHARACTERS_FOR_THE_RECORD + 1)):
            answer = browser.send(f"/ops/actions/{action}", **{**given, name: evil})
            assert answer.status_code == 422, (action, name, answer.text)
    assert connection.execute(RECORDS).scalar() == 0


@pytest.mark.parametrize("command", [("hold", SERVICE), ("pause",), ("retry",)])
def test_a_reason_is_as_short_for_a_command_as_for_the_page(flask, connection, command):
    ended = flask("retention", *command, "--reason", "a" * 100_000)
    assert (ended.exit_code, "1 to 200 characters" in ended.output) == (2, True)
    assert connection.execute(RECORDS).scalar() == 0


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "1e300", "0", "3601", "ten"])
def test_a_lock_lasts_a_number_of_seconds(app, flask, seconds):
    ended = flask("sessions", "purge", "--rebuild", "--yes", "--longest-lock", seconds)
    assert (ended.exit_code, type(ended.exception)) == (2, SystemExit)


@pytest.mark.parametrize(
    "path", ["/ops//x", "//ops/x", "/users//me", "/ops/", "/ops//login", "/health//live", "/ops/x"]
)
def test_no_redirect_leads_to_the_host_that_the_request_names(app, path):
    answer = app.test_client().get(path, base_url="http://evil.example.test")
    assert "evil" not in answer.headers.get("Location", "")
    assert answer.status_code < 500


# Audits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "until"), [("0001-01-01", "9999-12-31"), ("1969-12-31", "2026-01-01"), ("2026-01-01", "2200-01-01")]
)
def test_an_audit_out_of_the_calendar_is_refused_and_does_not_begin(flask, connection, since, until):
    ended = flask("retention", "audit", "--since", since, "--until", until)
    assert (ended.exit_code, "out of bounds" in ended.output) == (2, True)
    assert audit.under_way() is None


@pytest.mark.parametrize(
    "given", ["0001-01-01", "9999-12-31", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
)
def test_a_date_is_bounded_wherever_it_comes_in(flask, connection, given):
    service = create_service(connection)
    with pytest.raises(BadArgument):
        clock.as_utc(given)
    assert flask("retention", "run", "--before", given).exit_code == 2
    assert flask("retention", "history", "--service", service, "--day", given[:10]).exit_code == 2


def test_an_audit_that_fails_again_and_again_is_abandoned_and_the_next_begins(app, connection, monkeypatch):
    def fails(*_: Any) -> None:
        raise OverflowError("date value out of range")

    def next_day() -> None:
        connection.execute(text("UPDATE retention.audits SET advanced_at = advanced_at - interval '1 day'"))

    with monkeypatch.context() as broken:
        broken.setattr(audit_files, "go_on", fails)
        for failures in (1, 2, 3):
            with pytest.raises(OverflowError):
                audit_tasks.audit_letter_files()
            assert _audits(connection)[-1] == (failures, "OverflowError", failures == 3)
            next_day()
    audit_tasks.audit_letter_files()
    assert len(_audits(connection)) == 1, "the next is not due yet"
    connection.execute(text("UPDATE retention.audits SET started_at = started_at - interval '7 days'"))
    audit_tasks.audit_letter_files.apply(throw=True)
    assert _audits(connection) == [(3, "OverflowError", True), (0, None, False)]


def test_another_failure_counts_anew(app, connection, monkeypatch):
    begun = audit.begin("me")
    for error, failures in ((OverflowError(), 1), (OverflowError(), 2), (KeyError(), 1), (KeyError(), 2)):

        def fails(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(audit_files, "go_on", fails)
        with pytest.raises(type(error)):
            audit.go_on(begun)
        assert _audits(connection) == [(failures, type(error).__name__, False)]


def _audits(connection: Connection) -> list[tuple[Any, ...]]:
    found = connection.execute(text("SELECT failures, failure, abandoned FROM retention.audits ORDER BY id"))
    return [tuple(row) for row in found]
