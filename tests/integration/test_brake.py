"""A night that would warn or mark too many users is stopped before the first, until an operator accepts the number.

Seen to fail: 300 of 300 users warned, and marked, before there was a brake; the act not counted; a number accepted that
nobody had seen; an acceptance that lasts; no look at whether anybody writes visits; the forecast a night off; a warning
tried lately forecast for tonight.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from app.accounts import brake, inactivity, sweeps
from app.accounts.forecast import NIGHTS, forecast
from app.adopt import report
from app.celery import account_tasks, inactivity_tasks
from app.dao import user_sweeps_dao
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED, WARN
from app.db import db
from app.doctor import work
from app.errors import BadArgument
from app.ops import sections
from app.ops.kept import Kept
from app.state import user_sweeps
from tests.fakes.recording_ses import RecordingSes, recording_ses
from tests.users import create_user, days_pass, marked

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
LEAST = 3
USERS = text(
    """
    INSERT INTO users (id, name, email_address, state, created_at, last_visit_at, deletion_warning_sent_at,
                       deletion_warning_address)
    SELECT gen_random_uuid(), 'Ada', n || '@many.example.test', :state, CAST(:now AS timestamptz) - interval '1 year',
           CAST(:visit AS timestamptz), :warned_at, n || '@many.example.test'
    FROM generate_series(CAST(:first AS integer), CAST(:first AS integer) + :users - 1) AS n
    """
)


@pytest.fixture
def ses() -> Iterator[RecordingSes]:
    with recording_ses() as running:
        yield running


@pytest.fixture
def settings_override(ses: RecordingSes) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_SESV2": ses.url,
        "EMAILS_PER_SECOND": "1000",
        "INACTIVE_SHARE": "0.1",
        "INACTIVE_SHARE_LEAST": str(LEAST),
    }


def many(
    connection: Connection,
    users: int,
    *,
    visit: Any = None,
    warned_at: Any = None,
    state: str = "active",
    first: int = 1,
) -> None:
    values = {"users": users, "visit": visit, "warned_at": warned_at, "state": state, "first": first}
    connection.execute(USERS, {**values, "now": NOW})


def stopped() -> dict[str, str | None]:
    return {of.sweep: of.blocked_by for of in brake.latest()}


def test_a_night_on_which_all_seem_to_be_away_warns_and_marks_nobody(app, connection, ses):
    many(connection, 300, visit=NOW - 100 * DAY, warned_at=NOW - 40 * DAY)
    many(connection, 300, visit=NOW - 100 * DAY, first=1000)
    many(connection, 300, state="pending", first=2000)
    create_user(connection, last_visit_at=NOW)
    pages = [inactivity.warn_page(), *map(inactivity.mark_page, (MARK, NEVER_COMPLETED))]
    assert [(page.outcomes, page.next) for page in pages] == [({sweeps.BLOCKED: 1}, None)] * 3
    assert (ses.asked, marked(connection)) == ([], {})
    assert stopped() == dict.fromkeys(sweeps.SWEEPS, user_sweeps.SHARE)


@pytest.mark.parametrize(
    ("visit", "reason"), [(None, user_sweeps.NOT_TRACKED), (NOW - 8 * DAY, user_sweeps.STOPPED), (NOW - 6 * DAY, None)]
)
def test_visits_that_nobody_writes_stop_even_a_few(app, connection, ses, visit, reason):
    many(connection, 20, visit=visit)
    change_created = text("UPDATE users SET created_at = :now WHERE email_address LIKE '%many%'")
    connection.execute(change_created, {"now": NOW - DAY})
    create_user(connection, last_visit_at=NOW - 100 * DAY)
    inactivity.warn_page()
    assert (stopped()[WARN], len(ses.asked)) == (reason, 0 if reason else 1)


def test_what_is_accepted_is_the_number_that_was_seen_and_this_night(app, connection, ses, monkeypatch):
    many(connection, 20, visit=NOW)
    many(connection, 5, visit=NOW - 100 * DAY, first=1000)
    inactivity.warn_page()
    flask = app.test_cli_runner()
    said = flask.invoke(args=["accounts", "status"]).output
    assert "would warn 5 of 25 active users" in said
    assert "flask --app app accounts accept-share warn 5." in said
    settings = app.extensions["settings"]
    assert [one.level.value for one in work.judged(settings) if one.check == work.SWEEPS] == ["error"]
    shown = sections.look(settings, Kept(), datetime.now(UTC)).sweeps.found
    assert [(one.of.found, one.is_acceptable) for one in shown] == [(5, True)]
    looked = report.look(settings, NOW.date()).findings
    assert [one.sentence for one in looked if one.about == "sweep warn"] == [shown[0].finding.sentence]
    for wrong in (["warn", "4"], ["warn", "6"], ["mark", "5"]):
        ended = flask.invoke(args=["accounts", "accept-share", *wrong])
        assert (ended.exit_code, len(ses.asked)) == (1, 0), ended.output
    assert flask.invoke(args=["accounts", "accept-share", "warn", "5"]).exit_code == 0
    assert "blocked" not in flask.invoke(args=["accounts", "status"]).output
    with pytest.raises(BadArgument):
        brake.accept(WARN, 5, "somebody")

    sent: list[str] = []
    monkeypatch.setattr(inactivity_tasks.warn_inactive_users, "apply_async", lambda **_: sent.append("warn"))
    for _ in range(2):
        account_tasks.relay_user_deletions()
    assert sent == ["warn"]

    many(connection, 2, visit=NOW - 90 * DAY, first=2000)  # seen last, so that the others come first
    page = inactivity.warn_page()
    assert (page.outcomes["warned"], page.outcomes[sweeps.BLOCKED], len(ses.emails)) == (5, 1, 5)
    (of,) = brake.latest()
    assert (of.blocked_by, of.acted, of.found) == (user_sweeps.MORE, 5, 2)
    brake.accept(WARN, 2, "somebody")
    assert inactivity.warn_page().outcomes["warned"] == 2

    days_pass(connection, 1)
    many(connection, 5, visit=NOW - 100 * DAY, first=3000)
    assert inactivity.warn_page().outcomes == {sweeps.BLOCKED: 1}, "the next night is another one"


def test_addresses_that_refuse_in_numbers_stop_the_warnings(app, connection, ses):
    many(connection, 200, visit=NOW)
    for number in range(8):
        create_user(connection, last_visit_at=NOW - 100 * DAY, email_address=f"nobody {number}@example.test")
    page = inactivity.warn_page()
    assert page.outcomes == {"refused": LEAST + 1, sweeps.BLOCKED: 1}
    assert stopped() == {WARN: user_sweeps.REFUSALS}
    with pytest.raises(BadArgument):
        brake.accept(WARN, 8, "somebody")


def test_a_share_that_is_off_stops_nothing(app: Flask, connection, ses):
    made = app.extensions["accounts.tools"]
    app.extensions["accounts.tools"] = type(made)(made.settings.model_copy(update={"inactive_share": None}))
    many(connection, 20, visit=NOW - 100 * DAY)
    create_user(connection, last_visit_at=NOW)
    assert inactivity.warn_page().outcomes == {"warned": 20}


# The forecast ---------------------------------------------------------------------------------------------------------


def crowd(connection: Connection) -> None:
    for days in (0, 1, 15, 30, 59, 60, 61, 89, 91, 400):
        seen_at = NOW - days * DAY
        create_user(connection, created_at=seen_at)
        create_user(connection, last_visit_at=seen_at)
        create_user(connection, last_visit_at=seen_at, deletion_warning_sent_at=NOW - 10 * DAY)
        create_user(connection, last_visit_at=seen_at, free_trial_end=NOW + 7 * DAY)
        create_user(connection, last_visit_at=seen_at, subscription={"status": "past_due"})
        create_user(connection, state="pending", created_at=seen_at)
        create_user(connection, state="inactive", created_at=seen_at)
    signed_in = "INSERT INTO login_events SELECT gen_random_uuid(), :user, '{}', :at"
    user = create_user(connection, last_visit_at=NOW - 400 * DAY)
    connection.execute(text(signed_in), {"user": user, "at": NOW - 50 * DAY})


def test_the_forecast_is_what_the_nights_then_do(app, connection, ses):
    crowd(connection)
    made = app.extensions["accounts.tools"]
    app.extensions["accounts.tools"] = type(made)(made.settings.model_copy(update={"inactive_share": None}))
    said = [dict(night.users) for night in forecast().nights]
    for number in range(35):
        done = {WARN: len(ses.emails), MARK: len(marked(connection))}
        before = set(marked(connection))
        create_user(connection, last_visit_at=datetime.now(UTC))
        inactivity.warn_page()
        change_sent = text("UPDATE users SET deletion_warning_sent_at = :now WHERE deletion_warning_sent_at > :now")
        connection.execute(change_sent, {"now": NOW})
        for sweep in (MARK, NEVER_COMPLETED):
            inactivity.mark_page(sweep)
        new = [by for user_id, by in marked(connection).items() if user_id not in before]
        done = {WARN: len(ses.emails) - done[WARN], MARK: new.count("inactivity")}
        assert done | {NEVER_COMPLETED: new.count("zombie-sweep")} == said[number], f"night {number}"
        days_pass(connection, 1)
        connection.execute(text("UPDATE login_events SET created_at = created_at - interval '1 day'"))


def test_the_forecasts_first_night_is_what_the_brake_counts(app, connection, settings):
    crowd(connection)
    for column in ("deletion_warning_due_at", "deletion_warning_sent_at"):
        for ahead in (-40 * DAY, -DAY, DAY):
            create_user(connection, last_visit_at=NOW - 100 * DAY, **{column: NOW + ahead})
    for ahead in (-DAY, DAY):
        address = f"{uuid4()}@example.test"
        tried = {"deletion_warning_due_at": NOW + ahead, "deletion_warning_attempts": 9}
        sent = {"email_address": address, "deletion_warning_address": address, "last_visit_at": NOW - 100 * DAY}
        create_user(connection, **sent, **tried)
    with db.transaction(read_only=True) as reading:
        now = db.bounded_now(reading, datetime.now(UTC))
        found = {
            sweep: user_sweeps_dao.count_found(reading, sweep, sweeps.limits(settings, sweep, now))
            for sweep in sweeps.SWEEPS
        }
    assert dict(forecast().nights[0].users) == found
    assert min(found.values()) > 0


def test_the_plan_fits_a_terminal_and_names_what_protects_the_rest(app, connection, ses):
    crowd(connection)
    many(connection, 3_000, visit=NOW - 59.5 * DAY)
    flask = app.test_cli_runner()
    ended = flask.invoke(args=["accounts", "plan"])
    assert ended.exit_code == 0, ended.output
    assert max(map(len, ended.output.splitlines())) <= 80
    assert re.search(r"3,00\d !", ended.output)
    assert "10 subscription" in ended.output
    told = json.loads(flask.invoke(args=["accounts", "plan", "--json"]).output)
    assert len(told["nights"]) == NIGHTS
    assert (told["kept"]["not-active"], told["kept"]["ghost"]) == (10, 1)
    assert (marked(connection), ses.asked) == ({}, [])
