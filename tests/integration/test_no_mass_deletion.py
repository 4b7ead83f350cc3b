"""Nobody is deleted for inactivity by mistake: emails that nobody takes, visits that nobody writes, clocks that differ.

Each was seen to fail on the code before it: all users marked a month after five nights of refusals, for every answer;
300 of 300 users warned, and marked; a user marked who was warned 15 minutes ago, by a worker 31 days ahead.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from app import clock
from app.accounts import brake, inactivity
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED
from app.state import user_sweeps
from tests.fakes.recording_ses import RecordingSes, Refusal, recording_ses
from tests.users import address, change, create_user, days_pass, marked, user

NOW = datetime.now(UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
AWAY = {"last_visit_at": NOW - 100 * DAY}


@pytest.fixture
def ses() -> Iterator[RecordingSes]:
    with recording_ses() as running:
        yield running


@pytest.fixture
def settings_override(ses: RecordingSes) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL_SESV2": ses.url, "EMAILS_PER_SECOND": "1000", "INACTIVE_SHARE": "off"}


ABOUT_US = [
    Refusal(400, "BadRequestException", "Missing final '@domain'"),
    Refusal(400, "MessageRejected", "Sending paused for this account. For more information, see …"),
    Refusal(400, "AccountSendingPausedException", "Email sending is disabled"),
    Refusal(400, "NobodyHasHeardOfItException"),
    Refusal(404, "NotFoundException"),
]


def test_refusals_that_are_about_us_count_against_nobody_and_delete_nobody(app, connection, ses):
    users = [create_user(connection, **AWAY) for _ in range(3)]
    for refusal in ABOUT_US:
        ses.refuse_all = refusal
        for _ in range(6):
            inactivity.warn_page()
            days_pass(connection, 1)
        assert {user(connection, user_id).deletion_warning_attempts for user_id in users} == {0}, refusal
        (said,) = user_sweeps.check(brake.latest())
        assert f"SES answers {refusal.code}" in said.sentence
    days_pass(connection, 40)
    inactivity.mark_page(MARK)
    assert (marked(connection), ses.emails) == ({}, [])
    ses.refuse_all = None
    inactivity.warn_page()
    assert len(ses.emails) == len(users)
    assert [*user_sweeps.check(brake.latest())] == []


def test_an_address_that_refuses_is_left_alone_after_so_many_attempts_and_keeps_its_account(app, connection, ses):
    users = [
        create_user(connection, **AWAY, email_address=bad) for bad in ("nobody@", "no one@example.test", "a..b@c.d")
    ]
    ses.refuse["a..b@c.d"] = Refusal(400, "BadRequestException", "Local address contains dot-dot")
    for _ in range(8):
        inactivity.warn_page()
        days_pass(connection, 1)
    days_pass(connection, 400)
    inactivity.mark_page(MARK)
    rows = [user(connection, user_id) for user_id in users]
    assert [row.deletion_warning_failure for row in rows] == [*["MalformedAddress"] * 2, "BadRequestException"]
    assert [row.deletion_warning_attempts for row in rows] == [5] * 3
    assert (len(ses.asked), marked(connection)) == (5, {})
    change(connection, users[0], email_address="found@example.test")
    inactivity.warn_page()
    assert [email.to for email in ses.emails] == ["found@example.test"], "another address is another matter"


def signed_in(connection: Connection, user_id: UUID, at: datetime, table: str) -> None:
    columns, values = {
        "user_sessions": ("token_hash, expires_at", "sha256(CAST(gen_random_uuid() AS text)::bytea), :at"),
        "login_events": ("data", "'{}'"),
    }[table]
    connection.execute(
        text(
            f"INSERT INTO {table} (id, user_id, created_at, {columns}) "
            f"VALUES (gen_random_uuid(), :user_id, :at, {values})".replace("::", "\\:\\:")
        ),
        {"user_id": user_id, "at": at},
    )


@pytest.mark.parametrize("table", ["user_sessions", "login_events"])
def test_a_sign_in_is_a_visit_although_nobody_writes_visits(app, connection, ses, table):
    user_id = create_user(connection, **AWAY, deletion_warning_sent_at=NOW - 40 * DAY)
    other = create_user(connection, created_at=NOW - 400 * DAY)
    for one in (user_id, other):
        signed_in(connection, one, NOW - timedelta(hours=1), table)
    inactivity.warn_page()
    inactivity.mark_page(MARK)
    assert (ses.asked, marked(connection)) == ([], {})


@pytest.mark.parametrize("state", ["inactive", "pending"])
def test_who_cant_log_in_is_not_told_to_visit_nor_deleted_for_not_visiting(app, connection, ses, state):
    create_user(connection, **AWAY, state=state)
    create_user(connection, **AWAY, state=state, deletion_warning_sent_at=NOW - 40 * DAY)
    inactivity.warn_page()
    inactivity.mark_page(MARK)
    assert (ses.asked, marked(connection)) == ([], {})


@pytest.mark.parametrize("sweep", [MARK, NEVER_COMPLETED])
def test_the_last_platform_administrator_is_never_marked(app, connection, sweep):
    ready = AWAY | {"created_at": NOW - 400 * DAY, "platform_admin": True}
    ready |= {"state": "active"} if sweep == MARK else {"state": "pending"}
    for _ in range(2):
        create_user(connection, **ready, deletion_warning_sent_at=NOW - 40 * DAY)
    create_user(connection, platform_admin=True, state="inactive")
    inactivity.mark_page(sweep)
    assert len(marked(connection)) == (1 if sweep == MARK else 0), "with no active one left, no pending one goes either"


def test_a_worker_whose_clock_is_ahead_marks_nobody_who_was_warned_lately(app, connection, monkeypatch):
    create_user(connection, **AWAY, deletion_warning_sent_at=NOW - 15 * MINUTE)
    create_user(connection, state="pending", created_at=NOW - 15 * MINUTE)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + 31 * DAY)
    for sweep in (MARK, NEVER_COMPLETED):
        inactivity.mark_page(sweep)
    assert marked(connection) == {}


def test_a_warning_that_a_slow_clock_sent_counts_from_the_moment_at_which_it_was_sent(app, connection, monkeypatch):
    user_id = create_user(connection, **AWAY)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) - 31 * DAY)
    inactivity.warn_page()
    assert user(connection, user_id).deletion_warning_sent_at > NOW
    monkeypatch.undo()
    inactivity.mark_page(MARK)
    assert marked(connection) == {}


def test_a_warning_to_another_address_is_none(app, connection, ses):
    user_id = create_user(connection, **AWAY)
    inactivity.warn_page()
    change(connection, user_id, email_address="another@private.example.test")
    days_pass(connection, 40)
    inactivity.mark_page(MARK)
    assert marked(connection) == {}
    inactivity.warn_page()
    assert ses.asked == [address(user_id), "another@private.example.test"]
    inactivity.mark_page(MARK)
    assert marked(connection) == {}
    days_pass(connection, 31)
    inactivity.mark_page(MARK)
    assert marked(connection) == {user_id: "inactivity"}


PROTECTING = [
    {"status": "trialing"},
    {"status": "past_due"},
    {"status": "ACTIVE"},
    {"status": "Canceled"},
    {"status": None},
    {"plan": "gold"},
    {"status": "canceled", "current_period_end": (NOW + DAY).isoformat()},
    {"status": "canceled", "current_period_end": f"{NOW + 40 * DAY:%Y-%m-%d}"},
    {"status": "canceled", "current_period_end": int((NOW + DAY).timestamp())},
    {"status": "canceled", "ends": str(int((NOW + DAY).timestamp()) * 1000)},
    {"status": "canceled", "items": [{"until": f"31/12/{NOW.year + 1}"}]},
    '{"status": "past_due"}',
]
ENDED = [
    {"status": "canceled"},
    {"status": "cancelled", "price": 4900, "phone": "020 7946 0000"},
    {"status": "canceled", "current_period_end": (NOW - 3 * DAY).isoformat()},
    {"status": "expired", "current_period_end": int((NOW - DAY).timestamp())},
    {},
    None,
]


def test_a_subscription_protects_unless_it_is_known_to_have_ended(app, connection, ses):
    create_user(connection, last_visit_at=NOW)
    ids = {create_user(connection, **AWAY, subscription=one): one for one in [*PROTECTING, *ENDED]}
    inactivity.warn_page()
    warned = [one for user_id, one in ids.items() if address(user_id) in ses.asked]
    assert warned == ENDED
