"""Who does not visit is warned once, and marked when the notice is over; whoever comes back, or pays, is left alone.

Seen to fail: each WHEN of the verdicts taken out, each `>` of a boundary made `>=`; the claim without the verdict; the
confirmation without the look at the last visit; attempts not counted, or counted when no email could be sent; the claim
without a time until the next; the look again, before the mark, left out; errors of one user let through; the keyset
without the id; pages counted after the verdict instead of before; a foreign key that nobody planned met by each user.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import JSON, Connection, text
from structlog.testing import capture_logs

from app import clock
from app.accounts import inactivity, languages, sweeps, tonight
from app.accounts.mail import MailRefused, MailUnavailable, Message
from app.accounts.tools import tools
from app.celery import inactivity_tasks
from app.config import Settings
from app.dao import inactive_users_dao
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED, WARN
from app.dao.user_sweeps_dao import UserSweep
from app.models import GHOST_USER_ID, Permission
from app.observability import error_reports
from tests.concurrency import background, trigger, wait_until, waiting_for_locks
from tests.factories import create_service
from tests.fakes.collector import Collected, collector
from tests.fakes.recording_ses import Refusal, recording_ses
from tests.users import address, change, create_user, days_pass, marked, user

NOW = datetime.now(UTC).replace(microsecond=0)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
ATTEMPTS = 3


class Killed(BaseException):
    """The worker is gone: no code of it runs any more."""


class Outbox:
    """Sends to a list, and does what a test wants at that moment."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.messages: list[Message] = []
        self.then: Callable[[str], None] = bool

    def __call__(self, to: str, message: Message) -> None:
        self.sent.append(to)
        self.messages.append(message)
        self.then(to)


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {"INACTIVE_WARNING_ATTEMPTS": str(ATTEMPTS), "EMAILS_PER_SECOND": "1000", "INACTIVE_SHARE": "off"}


@pytest.fixture(autouse=True)
def time_stands_still(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the application. The database's clock goes on, and is ahead: what is written is not quite NOW."""
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


def raises(error: BaseException) -> Callable[[str], None]:
    def then(_to: str) -> None:
        raise error

    return then


def planned(sweep: str) -> dict[UUID, str | None]:
    return {one.user_id: one.kept_by for one in tonight.plan() if one.sweep == sweep}


AWAY = {"last_visit_at": NOW - 61 * DAY}
OVERDUE = {"last_visit_at": NOW - 91 * DAY, "deletion_warning_sent_at": NOW - 31 * DAY}


# Who ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["last_visit_at", "created_at"])
@pytest.mark.parametrize(
    ("away", "is_warned"),
    [(60 * DAY - SECOND, False), (60 * DAY, True), (60 * DAY + SECOND, True), (900 * DAY, True)],
)
def test_a_user_is_warned_after_60_days_without_a_visit_or_without_one_ever(
    connection, outbox, column, away, is_warned
):
    user_id = create_user(connection, **{column: NOW - away})
    inactivity.warn_page(send=outbox)
    assert outbox.sent == [address(user_id)] * is_warned
    assert (user(connection, user_id).deletion_warning_sent_at is not None) == is_warned


@pytest.mark.parametrize(
    ("away", "warned_ago", "is_marked"),
    [
        (90 * DAY - SECOND, 30 * DAY, False),
        (90 * DAY, 30 * DAY, True),
        (90 * DAY + SECOND, 30 * DAY, True),
        (90 * DAY, 30 * DAY - SECOND, False),
        (90 * DAY, 29 * DAY, False),
        (90 * DAY, 30 * DAY + SECOND, True),
        (900 * DAY, None, False),
        (90 * DAY, 90 * DAY, False),  # warned before, or at the moment of, the last visit
        (90 * DAY, 91 * DAY, False),
        (90 * DAY, 90 * DAY - SECOND, True),
    ],
)
def test_a_user_is_marked_after_90_days_who_was_warned_30_days_ago_and_not_seen_since(
    connection, away, warned_ago, is_marked
):
    warned_at = None if warned_ago is None else NOW - warned_ago
    user_id = create_user(connection, last_visit_at=NOW - away, deletion_warning_sent_at=warned_at)
    inactivity.mark_page(MARK)
    assert marked(connection) == ({user_id: "inactivity"} if is_marked else {})


EXEMPT = [
    ({"free_trial_end": NOW + SECOND}, "free-trial"),
    ({"lifetime_deal": True}, "lifetime-deal"),
    ({"subscription": {"status": "active"}}, "subscription"),
    ({"subscription": '{"status": "active"}'}, "subscription"),
    ({"subscription": "active"}, "malformed-subscription"),
    ({"subscription": [{"status": "active"}]}, "malformed-subscription"),
    ({"state": "pending"}, "never-completed"),
    ({"state": "inactive"}, "not-active"),
    ({"flags": {"in_deletion": True}}, "in-deletion"),
    ({"flags": '{"in_deletion": true}'}, "in-deletion"),
    ({"flags": "{no object"}, "malformed-flags"),
]
NOT_EXEMPT = [
    {"free_trial_end": NOW},
    {"free_trial_end": NOW - SECOND},
    {"subscription": {"status": "cancelled"}},
    {"subscription": '{"status": "cancelled"}'},
    {"subscription": {}},
    {"subscription": None},
    {"subscription": JSON.NULL},
    {"flags": '{"in_deletion": false}'},
]


@pytest.mark.parametrize(("columns", "reason"), EXEMPT)
def test_who_is_exempt_is_neither_warned_nor_marked(connection, outbox, columns, reason):
    away, overdue = (create_user(connection, **dates, **columns) for dates in (AWAY, OVERDUE))
    connection.execute(text("DELETE FROM user_deletions"))
    assert (planned(WARN)[away], planned(MARK)[overdue]) == (reason, reason)
    inactivity.warn_page(send=outbox)
    inactivity.mark_page(MARK)
    assert (outbox.sent, marked(connection)) == ([], {})
    assert inactivity.warn(away, outbox) == inactivity.CAME_BACK, "nor when only the moment of acting shows it"
    assert inactivity.mark(MARK, overdue) == inactivity.CAME_BACK
    assert (outbox.sent, marked(connection)) == ([], {})


@pytest.mark.parametrize("columns", NOT_EXEMPT, ids=", ".join)
def test_what_exempts_nobody(connection, outbox, columns):
    away, overdue = (create_user(connection, **dates, **columns) for dates in (AWAY, OVERDUE))
    inactivity.warn_page(send=outbox)
    inactivity.mark_page(MARK)
    assert (outbox.sent, marked(connection)) == ([address(away)], {overdue: "inactivity"})


def test_no_sweep_reaches_the_ghost(connection, outbox):
    for dates in (AWAY, OVERDUE):
        connection.exec_driver_sql("ALTER TABLE users DISABLE TRIGGER USER")  # the ghost's row is protected, too
        change(connection, GHOST_USER_ID, **dates, state="active", created_at=NOW - 900 * DAY)
        connection.exec_driver_sql("ALTER TABLE users ENABLE TRIGGER USER")
        inactivity.warn_page(send=outbox)
        for sweep in (MARK, NEVER_COMPLETED):
            inactivity.mark_page(sweep)
        assert inactivity.mark(MARK, GHOST_USER_ID) == inactivity.CAME_BACK
    assert (outbox.sent, marked(connection)) == ([], {})


@pytest.mark.parametrize(
    ("age", "columns", "is_marked"),
    [
        (30 * DAY - SECOND, {}, False),
        (30 * DAY, {}, True),
        (900 * DAY, {"free_trial_end": NOW + SECOND}, False),
        (900 * DAY, {"free_trial_end": NOW}, True),
        (900 * DAY, {"lifetime_deal": True}, False),
        (900 * DAY, {"subscription": {"status": "active"}}, False),
        (900 * DAY, {"subscription": '{"status": "active"}'}, False),
        (900 * DAY, {"subscription": {"status": "cancelled"}}, True),
        (900 * DAY, {"subscription": "not json"}, False),
        (900 * DAY, {"last_visit_at": NOW}, True),
        (900 * DAY, {"state": "active"}, False),
        (900 * DAY, {"state": "inactive"}, False),
        (900 * DAY, {"flags": {"in_deletion": True}}, False),
    ],
)
def test_an_account_that_was_not_completed_in_30_days_is_marked(connection, age, columns, is_marked):
    user_id = create_user(connection, **{"state": "pending", "created_at": NOW - age, **columns})
    connection.execute(text("DELETE FROM user_deletions"))
    inactivity.mark_page(NEVER_COMPLETED)
    assert marked(connection) == ({user_id: "zombie-sweep"} if is_marked else {})


# Once, and never never ------------------------------------------------------------------------------------------------


def test_the_warning_names_the_day_and_comes_once(connection, outbox, settings):
    user_id = create_user(connection, **AWAY)
    inactivity.warn_page(send=outbox)
    notice_ends = user(connection, user_id).deletion_warning_sent_at + 30 * DAY
    for _ in range(2):
        days_pass(connection, 1)
        inactivity.warn_page(send=outbox)
    (message,) = outbox.messages
    (english,) = languages.load(("en",), None)
    day = english.day(clock.local_date(notice_ends, settings.zone))
    assert day in message.text, "the notice ends after the 90 days"


def test_a_visit_after_the_warning_clears_it_and_the_next_absence_is_warned_of_again(connection, outbox):
    user_id = create_user(connection, **AWAY)
    inactivity.warn_page(send=outbox)
    days_pass(connection, 29)
    change(connection, user_id, last_visit_at=NOW)
    for days in (1, 30, 28):
        days_pass(connection, days)
        inactivity.mark_page(MARK)
        inactivity.warn_page(send=outbox)
    assert (len(outbox.sent), marked(connection)) == (1, {})
    days_pass(connection, 1)
    inactivity.warn_page(send=outbox)
    days_pass(connection, 31)
    inactivity.mark_page(MARK)
    assert (len(outbox.sent), marked(connection)) == (2, {user_id: "inactivity"})


def test_a_user_who_comes_back_while_the_warning_is_on_its_way_is_not_warned(connection, outbox):
    user_id = create_user(connection, **AWAY)
    outbox.then = lambda _to: change(connection, user_id, last_visit_at=NOW)
    assert inactivity.warn(user_id, outbox) == inactivity.CAME_BACK
    assert user(connection, user_id).deletion_warning_sent_at is None


def test_a_user_who_came_back_after_the_page_was_read_gets_no_warning(connection, outbox):
    user_id = create_user(connection, **AWAY)
    change(connection, user_id, last_visit_at=NOW)
    assert inactivity.warn(user_id, outbox) == inactivity.CAME_BACK
    assert outbox.sent == []


def test_a_user_who_visits_while_the_mark_waits_for_the_row_is_not_marked(app, connection):
    user_id = create_user(connection, **OVERDUE)
    engine = app.extensions["db.engine"]
    with background(app) as start:
        with engine.begin() as visit:
            visit.execute(text("UPDATE users SET last_visit_at = :now WHERE id = :id"), {"id": user_id, "now": NOW})
            marking = start(inactivity.mark, MARK, user_id)
            wait_until(lambda: waiting_for_locks(connection) == 1)
        assert marking.result() == inactivity.CAME_BACK
    assert marked(connection) == {}


def test_two_workers_on_one_page_warn_each_user_once(app, connection, outbox):
    create_user(connection, last_visit_at=NOW)
    users = {create_user(connection, **AWAY) for _ in range(20)}
    with background(app) as start:
        pages = [start(inactivity.warn_page, None, outbox) for _ in range(3)]
        outcomes = [page.result().outcomes["warned"] for page in pages]
    assert sorted(outbox.sent) == sorted(map(address, users))
    assert sum(outcomes) == len(users)


def test_a_kill_between_the_email_and_its_record_costs_one_more_email_and_no_more(connection, outbox):
    user_id = create_user(connection, **AWAY)
    outbox.then = raises(Killed())
    with pytest.raises(Killed):
        inactivity.warn_page(send=outbox)
    outbox.then = bool
    inactivity.warn_page(send=outbox)
    assert len(outbox.sent) == 1, "the message that is delivered again finds the claim"
    for _ in range(3):
        days_pass(connection, 1)
        inactivity.warn_page(send=outbox)
    assert len(outbox.sent) == 2
    assert user(connection, user_id).deletion_warning_sent_at is not None


def test_a_worker_that_is_killed_every_time_does_not_email_for_ever_and_nobody_is_marked(connection, outbox):
    create_user(connection, **AWAY)
    outbox.then = raises(Killed())
    for _ in range(ATTEMPTS):
        with pytest.raises(Killed):
            inactivity.warn_page(send=outbox)
        days_pass(connection, 1)
    assert inactivity.warn_page(send=outbox).outcomes == {"address-refused": 1}
    days_pass(connection, 100)
    inactivity.mark_page(MARK)
    assert (len(outbox.sent), marked(connection)) == (ATTEMPTS, {})


# What goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("just_started")
def test_a_foreign_key_that_nobody_planned_ends_a_sweep_with_one_sentence_before_the_first_user(connection):
    for _ in range(3):
        create_user(connection, **OVERDUE)
        create_user(connection, state="pending")
    connection.execute(text("CREATE TABLE pets (keeper_id uuid REFERENCES users)"))
    try:
        for sweep in (MARK, NEVER_COMPLETED):
            with capture_logs() as logs:
                page = inactivity.mark_page(sweep)
            assert (page.outcomes, page.next) == ({inactivity.PRECONDITION: 1}, None)
            (said,) = logs
            assert (said["event"], "pets.keeper_id" in said["why"]) == ("precondition-failed", True)
            # One that comes while the page is worked through ends it with the first user whom it meets.
            with capture_logs() as logs:
                page = sweeps.run_page(tools().settings, sweep, lambda user_id: inactivity.mark(sweep, user_id))  # noqa: B023
            assert (page.outcomes[sweeps.UNPLANNED], page.next) == (1, None)
            assert [one["event"] for one in logs] == ["sweep-refused", "sweep-page"]
        assert marked(connection) == {}
    finally:
        connection.execute(text("DROP TABLE pets"))


def test_attempts_of_an_earlier_absence_do_not_count(connection, outbox):
    user_id = create_user(connection, **AWAY)
    outbox.then = raises(MailRefused("MessageRejected"))
    for _ in range(ATTEMPTS - 1):
        inactivity.warn_page(send=outbox)
        days_pass(connection, 1)
    change(connection, user_id, last_visit_at=NOW)
    days_pass(connection, 60)
    inactivity.warn_page(send=outbox)
    row = user(connection, user_id)
    assert (row.deletion_warning_attempts, row.deletion_warning_sent_at) == (1, None)


def test_what_is_no_fault_of_the_address_does_not_count(connection, outbox):
    user_id = create_user(connection, **AWAY)
    outbox.then = raises(MailUnavailable("TooManyRequestsException"))
    for _ in range(ATTEMPTS * 2):
        assert inactivity.warn_page(send=outbox).outcomes == {"unavailable": 1}
    row = user(connection, user_id)
    assert (row.deletion_warning_attempts, row.deletion_warning_sent_at) == (0, None)
    outbox.then = bool
    assert inactivity.warn_page(send=outbox).outcomes == {"warned": 1}, "and can be tried again at once"


def waiting(connection: Connection, count: int) -> list[UUID]:
    return [create_user(connection, last_visit_at=NOW - 70 * DAY + number * SECOND) for number in range(count)]


def test_a_page_that_meets_no_mail_server_ends_and_the_next_one_begins_with_those_whom_it_missed(connection, outbox):
    users = waiting(connection, 6)
    outbox.then = lambda _to: None if len(outbox.sent) == 1 else raises(MailUnavailable("Away"))("")
    page = inactivity.warn_page(send=outbox)
    assert (page.pause, page.next.user_id, page.outcomes) == (True, users[0], {"warned": 1, "unavailable": 3})
    outbox.then = bool
    last = inactivity.warn_page(page.next, outbox, 1)
    assert (last.outcomes, last.next, last.pause) == ({"warned": 5}, None, False)


def test_whom_a_page_missed_now_and_then_is_tried_again_at_its_end(connection, outbox):
    users = waiting(connection, 5)
    bad = {address(users[1]), address(users[3])}
    outbox.then = lambda to: raises(MailUnavailable("Away"))("") if to in bad and outbox.sent.count(to) == 1 else None
    page = inactivity.warn_page(send=outbox)
    assert (page.outcomes, page.next, page.pause) == ({"warned": 5}, None, False)


def test_users_with_whom_it_never_works_do_not_keep_everybody_else_waiting_for_ever(connection, outbox):
    users = waiting(connection, 5)
    bad = set(map(address, users[:3]))
    outbox.then = lambda to: raises(MailUnavailable("Away"))("") if to in bad else None
    page = inactivity.warn_page(None, outbox, sweeps.MOST_GOING_BACK - 1)
    assert (page.pause, page.next) == (True, inactive_users_dao.BEGINNING)
    page = inactivity.warn_page(page.next, outbox, sweeps.MOST_GOING_BACK)
    assert (page.pause, page.next.user_id) == (True, users[2])
    assert inactivity.warn_page(page.next, outbox, 0).outcomes == {"warned": 2}


def test_a_step_whose_time_is_up_leaves_nobody_behind_whom_it_missed(app, connection, outbox, monkeypatch):
    users = waiting(connection, 4)
    is_over = {"now": False}

    class Over(sweeps.Deadline):
        def remaining(self) -> float:
            return -1 if is_over["now"] else 60

    def then(to: str) -> None:
        is_over["now"] = to == address(users[2])
        if to == address(users[1]) and outbox.sent.count(to) == 1:
            raise MailUnavailable("Away")

    monkeypatch.setattr(sweeps, "Deadline", Over)
    outbox.then = then
    page = inactivity.warn_page(send=outbox)
    assert (page.pause, page.next.user_id) == (True, users[0])
    assert inactivity.warn_page(page.next, outbox, 1).outcomes == {"warned": 2, "warned-already": 1}


def test_a_mark_that_fails_once_is_tried_again_the_same_night(app, connection, monkeypatch):
    overdue = [create_user(connection, **OVERDUE) for _ in range(2)]
    mark, failed = inactivity.mark, []

    def once(sweep: str, user_id: UUID, of: UserSweep) -> str:
        if user_id == overdue[0] and not failed:
            failed.append(user_id)
            raise RuntimeError
        return mark(sweep, user_id, of)

    monkeypatch.setattr(inactivity, "mark", once)
    assert inactivity.mark_page(MARK).outcomes == {"marked": 2}
    assert set(marked(connection)) == set(overdue)


def test_what_goes_wrong_with_one_user_is_reported_with_the_id_and_stops_nobody_else(connection, outbox):
    users = [create_user(connection, last_visit_at=NOW - 70 * DAY + number * SECOND) for number in range(3)]
    overdue = [create_user(connection, **OVERDUE) for _ in range(2)]
    bad = {users[1], overdue[0]}
    listed = ", ".join(f"'{user_id}'" for user_id in bad)
    body = f"IF NEW.id IN ({listed}) THEN RAISE EXCEPTION 'private: %', NEW.email_address; END IF; RETURN NEW;"
    with trigger(connection, "BEFORE UPDATE ON users", body), capture_logs() as logs:
        warnings = inactivity.warn_page(send=outbox)
        page = inactivity.mark_page(MARK)
    assert set(outbox.sent) == {address(users[0]), address(users[2])}
    assert warnings.outcomes == {"warned": 2, "failed": 1, "warned-already": 2}
    assert (marked(connection), page.outcomes) == ({overdue[1]: "inactivity"}, {"marked": 1, "failed": 1})
    assert {log["user_id"] for log in logs if log["event"] == "sweep-failed-for-user"} == set(map(str, bad))
    assert "private" not in str(logs)


@pytest.fixture
def sentry(settings: Settings) -> Iterator[Collected]:
    with collector() as collected:
        dsn = SecretStr(f"http://public@127.0.0.1:{collected.port}/7")
        error_reports.set_up(settings.model_copy(update={"sentry_dsn": dsn}))
        yield collected
        error_reports.set_up(settings.model_copy(update={"sentry_dsn": SecretStr("")}))


@pytest.mark.filterwarnings("ignore:.*send_default_pii:DeprecationWarning")
def test_a_users_failure_is_reported_once_and_says_nothing_about_the_user(connection, outbox, sentry):
    users = [create_user(connection, last_visit_at=NOW - 70 * DAY + number * SECOND) for number in range(3)]
    body = f"IF NEW.id = '{users[1]}' THEN RAISE EXCEPTION 'private: %', NEW.email_address; END IF; RETURN NEW;"
    with trigger(connection, "BEFORE UPDATE ON users", body):
        inactivity.warn_page(send=outbox)
    error_reports.flush()
    reports = [line for line in sentry.bodies.splitlines() if b'"exception"' in line]
    assert (len(reports), len(outbox.sent)) == (1, 2)
    assert b"RaiseException" in reports[0]
    assert [word for word in (b"private.example.test", b"Ada Private") if word in sentry.bodies] == []


def test_the_only_manager_of_a_live_service_is_kept_and_said_to_be(connection):
    user_id = create_user(connection, **OVERDUE)
    service_id = create_service(connection)
    connection.execute(
        Permission.__table__.insert().values(
            id=user_id, service_id=service_id, user_id=user_id, permission="manage_service", created_at=NOW
        )
    )
    assert planned(MARK) == {user_id: "only-manager"}
    with capture_logs() as logs:
        assert inactivity.mark_page(MARK).outcomes == {"only-manager": 1}
    assert marked(connection) == {}
    assert {"user_id": str(user_id), "service_ids": [str(service_id)]}.items() <= logs[0].items()


# Pages ----------------------------------------------------------------------------------------------------------------

MANY = text(
    """
    INSERT INTO users (id, name, email_address, state, created_at, last_visit_at, lifetime_deal)
    SELECT gen_random_uuid(), 'Ada', n || '@many.example.test', 'active', CAST(:now AS timestamptz) - interval '1 year',
           CAST(:now AS timestamptz) - interval '70 days' + (n / 700) * interval '1 hour', n % 3 = 0
    FROM generate_series(1, CAST(:users AS integer)) AS n
    """
)


@pytest.fixture
def many(connection: Connection) -> int:
    """Thousands of users, hundreds of whom were seen at the same moment, a third of them exempt."""
    connection.execute(MANY, {"now": NOW, "users": 3000})
    connection.execute(text("ANALYZE users"))
    return 3000


def test_pages_meet_everyone_once_although_many_were_seen_at_one_moment(connection, many, settings):
    met: list[UUID] = []
    looked_at: list[int] = []
    page = sweeps.Page(next=inactive_users_dao.BEGINNING)
    while page.next is not None:
        page = sweeps.run_page(settings, WARN, lambda user_id: met.append(user_id) or "met", page.next)
        looked_at.append(page.outcomes.total())
    expected = set(
        connection.execute(
            text("SELECT id FROM users WHERE NOT lifetime_deal AND id <> :ghost"), {"ghost": GHOST_USER_ID}
        ).scalars()
    )
    assert (len(met), set(met)) == (len(expected), expected)
    assert looked_at == [500] * 6 + [0]


@pytest.mark.parametrize(
    ("sweep", "index"),
    [(WARN, "ix_users_last_seen"), (MARK, "ix_users_last_seen"), (NEVER_COMPLETED, "ix_users_never_completed")],
)
def test_a_page_is_read_from_its_index_and_no_further_than_its_end(connection, many, settings, sweep, index):
    changed = {WARN: "name = name", MARK: "last_visit_at = created_at", NEVER_COMPLETED: "state = 'pending'"}[sweep]
    connection.execute(text(f"UPDATE users SET {changed} WHERE id <> :ghost"), {"ghost": GHOST_USER_ID})
    connection.execute(text("ANALYZE users"))
    values = {**sweeps.limits(settings, sweep, NOW).values(), "rows": 100}
    values |= {"after_at": inactive_users_dao.BEGINNING.at, "after_id": UUID(int=0)}
    explain = text("EXPLAIN (ANALYZE, FORMAT JSON) " + inactive_users_dao.PAGE[sweep].text)
    plan = connection.execute(explain, values).scalar_one()[0]["Plan"]
    scans = list(scans_of(plan))
    assert [(scan.get("Index Name"), scan["Actual Rows"]) for scan in scans] == [(index, 100)]


def scans_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if plan.get("Relation Name") == "users" and plan["Actual Loops"]:
        yield plan
    for inner in plan.get("Plans", []):
        yield from scans_of(inner)


# The plan, the command, the tasks -------------------------------------------------------------------------------------


def crowd(connection: Connection) -> None:
    """Users of every kind around every limit."""
    for days in (1, 59, 60, 61, 89, 90, 91, 400):
        seen_at = NOW - days * DAY
        for warned in (None, 1, 29, 30, 31, 95):
            warned_at = None if warned is None else NOW - warned * DAY
            create_user(connection, last_visit_at=seen_at, deletion_warning_sent_at=warned_at)
        for columns, _reason in EXEMPT:
            create_user(connection, last_visit_at=seen_at, deletion_warning_sent_at=NOW - 31 * DAY, **columns)
        create_user(connection, state="pending", created_at=seen_at)
    connection.execute(text("DELETE FROM user_deletions"))


def test_the_plan_says_exactly_what_the_tasks_then_do(connection, outbox, monkeypatch):
    crowd(connection)
    said = {sweep: {id_ for id_, kept_by in planned(sweep).items() if kept_by is None} for sweep in sweeps.SWEEPS}
    assert (marked(connection), outbox.sent) == ({}, [])
    for sweep, mark in ((MARK, "inactivity"), (NEVER_COMPLETED, "zombie-sweep")):
        inactivity.mark_page(sweep)
        assert {id_ for id_, by in marked(connection).items() if by == mark} == said[sweep]
    inactivity.warn_page(send=outbox)
    assert set(outbox.sent) == set(map(address, said[WARN]))
    assert all(said.values())


def test_the_command_prints_ids_and_reasons_and_changes_nothing(app, connection):
    away, overdue = create_user(connection, **AWAY), create_user(connection, **OVERDUE)
    pending = create_user(connection, state="pending", created_at=NOW - 31 * DAY)
    deal = create_user(connection, lifetime_deal=True, **AWAY)
    ended = app.test_cli_runner().invoke(args=["accounts", "plan", "--kept"])
    assert ended.exit_code == 0, ended.output
    lines = ended.output.splitlines()
    away_since, overdue_since, made = (f"{NOW - days * DAY:%Y-%m-%d}" for days in (61, 91, 31))
    assert f"{away}  warn: has not visited since {away_since}, 61 days" in lines
    assert f"{overdue}  mark for deletion: was warned, and has not visited since {overdue_since}, 91 days" in lines
    assert f"{pending}  mark for deletion: never completed, made {made}, 31 days ago" in lines
    assert f"{deal}  not warn: lifetime-deal" in lines
    assert "1 to be warned, 2 to be marked for deletion." in lines
    assert "private" not in ended.output.lower()
    assert marked(connection) == {}


def test_a_message_does_a_page_and_sends_the_next(app, connection, monkeypatch):
    users = [create_user(connection, last_visit_at=NOW - 70 * DAY + number * SECOND) for number in range(5)]
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(sweeps, "USERS_PER_PAGE", 2)
    monkeypatch.setattr(inactivity_tasks.warn_inactive_users, "apply_async", lambda **message: sent.append(message))
    with recording_ses() as ses:
        use(app, ses.url)
        ses.refuse[address(users[1])] = Refusal(400, "MessageRejected", "Address blacklisted.")
        inactivity_tasks.warn_inactive_users()
        for _ in range(len(users) // 2):
            sent.pop()
            inactivity_tasks.warn_inactive_users()
    assert ses.asked == list(map(address, users))
    assert sent == []


def test_warnings_wait_a_little_while_no_email_can_be_sent_and_for_the_next_day_after_that(
    app, connection, monkeypatch
):
    for _ in range(3):
        create_user(connection, **AWAY)
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(inactivity_tasks.warn_inactive_users, "apply_async", lambda **message: sent.append(message))
    with recording_ses() as ses:
        use(app, ses.url)
        ses.refuse_all = Refusal(429, "TooManyRequestsException")
        inactivity_tasks.warn_inactive_users()
        row = sweep_row(connection)
        assert (sent, row.pauses, row.ended_at, row.seen_to is not None) == ([], 1, None, True)
        assert row.due_at == NOW + 30 * SECOND
        assert inactivity.take_due() == []
        connection.execute(
            text("UPDATE retention.user_sweeps SET pauses = :pauses, due_at = began_at"),
            {"pauses": inactivity.MOST_PAUSES},
        )
        assert inactivity.take_due() == ["warn"]
        inactivity_tasks.warn_inactive_users()
    assert (sent, sweep_row(connection).ended_at is not None, inactivity.take_due()) == ([], True, [])


def test_a_sweep_whose_message_or_worker_was_lost_goes_on_where_it_was(app, connection, monkeypatch):
    users = [create_user(connection, last_visit_at=NOW - 70 * DAY + number * SECOND) for number in range(4)]
    monkeypatch.setattr(sweeps, "USERS_PER_PAGE", 2)
    monkeypatch.setattr(inactivity_tasks.warn_inactive_users, "apply_async", lambda **_: None)
    with recording_ses() as ses:
        use(app, ses.url)
        inactivity_tasks.warn_inactive_users()
        assert ses.asked == list(map(address, users[:2]))
        assert inactivity.take_due() == [], "its message was just sent"
        connection.execute(text("UPDATE retention.user_sweeps SET sent_at = began_at - interval '1 hour'"))
        assert inactivity.take_due() == ["warn"]
        lease = "lease_token = gen_random_uuid(), lease_until = now() + interval '1 hour'"
        connection.execute(text(f"UPDATE retention.user_sweeps SET {lease}"))
        inactivity_tasks.warn_inactive_users()
        assert len(ses.asked) == 2, "somebody else is at it"
        connection.execute(
            text("UPDATE retention.user_sweeps SET lease_until = began_at, due_at = began_at, sent_at = NULL")
        )
        assert inactivity.take_due() == ["warn"]
        inactivity_tasks.warn_inactive_users()
        inactivity_tasks.warn_inactive_users()
    assert ses.asked == list(map(address, users))
    assert sweep_row(connection).ended_at is not None


def sweep_row(connection):
    return connection.execute(text("SELECT * FROM retention.user_sweeps WHERE sweep = 'warn'")).one()


def use(app: Flask, ses_url: str) -> None:
    made = app.extensions["accounts.tools"]
    changed = made.settings.model_copy(update={"aws_endpoint_url_sesv2": ses_url})
    app.extensions["accounts.tools"] = type(made)(changed)
