"""An account's deletion: what is left afterwards, where it is done, and what makes it go on.

Seen to fail: the threshold off by one; the lease not taken by the request; an export not waited for; the address kept
without being asked; what came in at the last left; the bound of a sweep ignored; a lost lease not noticed; the
message's own lease not taken up again; a wake-up sent again at once; the error not noted.
"""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.accounts import deletion, steps
from app.accounts.deletion import delete_account
from app.accounts.errors import UnknownUser
from app.accounts.steps import StillThere
from app.dao.deletion_plan import PLAN, Action
from app.dao.user_deletions_dao import DELETIONS
from app.db import db
from app.engine.leases import Lease
from app.models import (
    GHOST_USER_ID,
    InvitedOrganisationUser,
    InvitedUser,
    LeaderBoard,
    LoginEvent,
    Organisation,
    UserExport,
)
from app.storage.client import Deadline
from tests.concurrency import trigger
from tests.factories import create_service
from tests.integration.accounts.owned import (
    NOW,
    add,
    create_user,
    delete,
    exists,
    fill,
    mark_by_sql,
    mentions,
    record,
    run,
)

FEW_ROWS = 10
FEW_ITEMS = 40


@pytest.fixture
def settings_override(settings_override):
    return {
        **settings_override,
        "ACCOUNT_ROWS_PER_BATCH": str(FEW_ROWS),
        "ACCOUNT_ITEMS_IN_REQUEST": str(FEW_ITEMS),
    }


@pytest.fixture
def no_time(monkeypatch):
    """Whoever works on a deletion finds the time used up after the first batch."""

    class Over(Deadline):
        is_spent = False

        def remaining(self) -> float:
            return -1 if self.is_spent else 60

    act = steps.act

    def last(*arguments):
        Over.is_spent = True
        return act(*arguments)

    monkeypatch.setattr(steps, "act", last)
    monkeypatch.setattr(deletion, "Deadline", Over)
    monkeypatch.setattr(deletion, "_count_files", lambda *_: 0)


def log_ins(connection, user, count):
    connection.execute(
        text(
            "INSERT INTO login_events (id, user_id, data, created_at) "
            "SELECT gen_random_uuid(), :user, '{}', now() FROM generate_series(1, :count)"
        ),
        {"user": user, "count": count},
    )


def rows_of(connection, child, user):
    counted = text(f"SELECT count(*) FROM {child.table} WHERE {child.column}::text = CAST(:user AS text)")
    return connection.execute(counted, {"user": user}).scalar_one()


def until_it_rests(user):
    while run(user):
        """Messages follow each other."""


def test_each_column_is_dealt_with_as_planned_and_nobody_elses_row_is_touched(connection):
    user = create_user(connection)
    fill(connection, user)
    with_rows = [
        child for child in PLAN if child.action is not Action.REMOVE_FROM_ARRAY and rows_of(connection, child, user)
    ]
    without = {child.name for child in PLAN} - {child.name for child in with_rows}
    assert without == {
        "invited_users.email_address",
        "invited_organisation_users.email_address",
        "leader_boards.entries",
        "malformed_flags.user_id",
        "user_exports.user_id",
        "user_deletions.user_id",
        "user_deletions.requested_by_id",
    }
    everybodys = {child.name: _total(connection, child.table) for child in with_rows}
    assert delete(user) == "complete"
    assert mentions(connection, user) == {"user_deletions"}
    for child in with_rows:
        gone = everybodys[child.name] - _total(connection, child.table)
        ghosts = rows_of(connection, child, GHOST_USER_ID)
        if child.table != "users":
            expected = (1, 0) if _has_delete(child.table) else (0, int(child.action is Action.REASSIGN))
            assert (gone, ghosts) == expected, child.name
    entries = connection.execute(text("SELECT entries FROM leader_boards")).scalar_one()
    assert len(entries) == 1


def _has_delete(table):
    return any(child.table == table and child.action is Action.DELETE for child in PLAN)


def _total(connection, table):
    return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


@pytest.mark.parametrize(
    ("items", "state"), [(FEW_ITEMS - 1, "complete"), (FEW_ITEMS, "requested"), (FEW_ITEMS + 1, "requested")]
)
def test_fewer_items_than_the_setting_are_deleted_in_the_request_and_counting_stops_there(connection, items, state):
    user = create_user(connection)
    log_ins(connection, user, items - 3)
    add(connection, LeaderBoard, month="a", entries=[{"user_id": str(user)}])
    for _ in range(2):
        create_user(connection, invited_by_id=user)
    assert delete(user) == state
    assert record(connection, user)["items"] == min(items, FEW_ITEMS)
    until_it_rests(user)
    assert (exists(connection, user), record(connection, user)["state"]) == (False, "complete")
    assert record(connection, user)["rows_done"] == items


def test_invitations_to_the_address_go_with_it_in_whichever_case_and_nobody_elses(connection):
    user, other = create_user(connection, email_address="Ada@Private.test"), create_user(connection)
    service = create_service(connection)
    organisation = add(connection, Organisation, name="a body", created_at=NOW)
    for address in ("ada@private.test", "Ada@Private.test", "ada@private.test.example", "bada@private.test"):
        invitation = {"email_address": address, "created_at": NOW}
        add(connection, InvitedUser, service_id=service, **{"user_id": other}, **invitation)
        add(connection, InvitedOrganisationUser, organisation_id=organisation, invited_by_id=other, **invitation)
    assert (delete(user), record(connection, user)["items"]) == ("complete", 4)
    for table in ("invited_users", "invited_organisation_users"):
        left = connection.execute(text(f"SELECT email_address FROM {table}")).scalars()
        assert set(left) == {"ada@private.test.example", "bada@private.test"}


def test_files_are_items_too(connection, s3, settings):
    user = create_user(connection)
    log_ins(connection, user, FEW_ITEMS - 2)
    for name in ("a", "b"):
        s3.put_object(Bucket=settings.s3_bucket_user_files, Key=f"users/{user}/{name}", Body=b"x")
    assert (delete(user), record(connection, user)["items"]) == ("requested", FEW_ITEMS)


def test_what_the_request_has_no_time_for_is_left_to_the_workers(connection, no_time):
    user = create_user(connection)
    log_ins(connection, user, FEW_ROWS + 1)
    assert delete(user) == "running"
    left = record(connection, user)
    assert (left["lease_token"], left["sent_at"], exists(connection, user)) == (None, None, True)
    assert deletion.take_due() == [user]


def test_a_worker_that_has_no_time_left_sends_the_next_message(connection, no_time, monkeypatch):
    user = create_user(connection)
    log_ins(connection, user, 3 * FEW_ROWS)
    mark_by_sql(connection, user)
    assert run(user)
    stopped = record(connection, user)
    assert (stopped["state"], stopped["lease_token"], stopped["attempts"]) == ("running", None, 0)
    assert deletion.take_due() == [], "its successor was sent"
    monkeypatch.undo()
    assert run(user)
    assert record(connection, user)["rows_done"] == 3 * FEW_ROWS


def test_deleting_twice_is_deleting_once(connection):
    user = create_user(connection)
    log_ins(connection, user, 2)
    assert delete(user) == "complete"
    before = record(connection, user)
    assert delete(user) == "complete"
    assert record(connection, user) == before
    with pytest.raises(UnknownUser):
        delete(uuid4())


def test_asking_again_while_it_runs_changes_nothing(connection):
    user = create_user(connection)
    log_ins(connection, user, FEW_ITEMS)
    assert delete(user) == "requested"
    before = record(connection, user)
    assert delete_account(user, by="administrator", by_id=uuid4(), now=NOW).state == "requested"
    assert record(connection, user) == before


def test_nobody_else_works_on_what_a_request_or_a_worker_has_leased(connection):
    user = create_user(connection)
    mark_by_sql(connection, user)
    connection.execute(
        text("UPDATE user_deletions SET lease_token = gen_random_uuid(), lease_until = now() + interval '1 h'")
    )
    assert (deletion.take_due(), run(user), exists(connection, user)) == ([], False, True)
    connection.execute(text("UPDATE user_deletions SET lease_until = now()"))
    assert deletion.take_due() == [user]
    assert (run(user), exists(connection, user)) == (True, False)


def test_a_message_that_is_delivered_again_takes_its_own_lease_up_again(connection):
    user, message = create_user(connection), str(uuid4())
    mark_by_sql(connection, user)
    until = datetime.now(UTC) + timedelta(hours=1)
    connection.execute(
        text("UPDATE user_deletions SET state = 'running', lease_holder = :holder, lease_until = :until"),
        {"holder": message, "until": until},
    )
    assert deletion.run(user, message)
    assert not exists(connection, user)


def test_who_has_lost_the_lease_changes_nothing_more(connection, monkeypatch):
    user = create_user(connection)
    log_ins(connection, user, 2)
    mark_by_sql(connection, user)
    clean = steps.clean_table

    def steal(*arguments):
        """Between two transactions: within one, the row is locked."""
        connection.execute(text("UPDATE user_deletions SET lease_token = gen_random_uuid()"))
        return clean(*arguments)

    monkeypatch.setattr(steps, "clean_table", steal)
    assert not run(user)
    assert _total(connection, "login_events") == 2


@pytest.mark.parametrize(
    ("state", "deadline_in", "waits"),
    [
        ("requested", timedelta(hours=1), True),
        ("running", timedelta(hours=1), True),
        ("running", timedelta(0), False),
        ("ready", timedelta(hours=1), False),
        ("failed", timedelta(hours=1), False),
    ],
)
def test_an_export_that_was_asked_for_is_waited_for_until_its_deadline(connection, state, deadline_in, waits):
    user = create_user(connection)
    now = datetime.now(UTC)
    export = {"state": state, "requested_at": now, "deadline_at": now + deadline_in, "due_at": now}
    add(connection, UserExport, user_id=user, **export)
    assert delete(user) == ("requested" if waits else "complete")
    if waits:
        assert not run(user)
        assert (record(connection, user)["reason"], exists(connection, user)) == (deletion.WAITS_FOR_EXPORT, True)
        assert record(connection, user)["due_at"] > now
        connection.execute(text("UPDATE user_exports SET state = 'ready'"))
        connection.execute(text("UPDATE user_deletions SET due_at = now()"))
        assert run(user)
    assert (exists(connection, user), _total(connection, "user_exports")) == (False, 1)


@pytest.mark.parametrize("retained", [True, False])
def test_the_address_is_kept_only_where_the_settings_say_so(connection, settings, retained):
    user = create_user(connection, email_address="someone.private@example.test")
    mark_by_sql(connection, user)
    with db.transaction() as own:
        lease = deletion._claim(own, settings, user, None, datetime.now(UTC))
    chosen = settings.model_copy(update={"retain_emails": retained})
    assert steps.work(steps.Work(chosen, user, lease, Deadline(60))) is steps.Outcome.COMPLETE
    kept = connection.execute(text("SELECT email_address FROM retained_emails")).scalars().all()
    assert kept == (["someone.private@example.test"] if retained else [])


@pytest.mark.parametrize("came_in", [1, FEW_ROWS - 1, FEW_ROWS, 3 * FEW_ROWS])
def test_what_came_in_after_its_table_was_cleaned_goes_with_the_last_step(connection, monkeypatch, came_in):
    user = create_user(connection)
    mark_by_sql(connection, user)
    clean_files, times = steps.clean_files, []

    def comes_in(work):
        if not times:
            log_ins(connection, user, came_in)
        times.append(len(times))
        return clean_files(work)

    monkeypatch.setattr(steps, "clean_files", comes_in)
    assert run(user)
    assert (exists(connection, user), record(connection, user)["rows_done"]) == (False, came_in)
    assert len(times) == (2 if came_in < FEW_ROWS else 3), "past the bound the row is let go, and tables are cleaned"


def test_what_came_in_at_the_very_last_goes_while_the_row_is_locked(connection, monkeypatch):
    user = create_user(connection)
    mark_by_sql(connection, user)
    sweep = steps.sweep

    def comes_in(work):
        swept = sweep(work)
        log_ins(connection, user, FEW_ROWS - 1)
        return swept

    monkeypatch.setattr(steps, "sweep", comes_in)
    assert run(user)
    assert (exists(connection, user), record(connection, user)["rows_done"]) == (False, FEW_ROWS - 1)


def test_a_deletion_that_fails_is_tried_again_later_and_says_why(connection):
    user = create_user(connection)
    log_ins(connection, user, 2)
    mark_by_sql(connection, user)
    with trigger(connection, "BEFORE DELETE ON login_events", "RAISE EXCEPTION 'no % for you', OLD.user_id;"):
        for attempt in (1, 2, 3):
            connection.execute(text("UPDATE user_deletions SET due_at = now()"))
            assert deletion.take_due() == [user]
            with pytest.raises(StillThere):
                run(user)
            failed = record(connection, user)
            assert (failed["state"], failed["reason"], failed["attempts"]) == (
                "running",
                "login_events.user_id: RaiseException P0001 (in_the_way), of 2 rows",
                attempt,
            )
            assert failed["lease_token"] is None
            waits = (failed["due_at"] - datetime.now(UTC)).total_seconds()
            assert waits < 2 ** (attempt - 1), "a second, doubled each time"
    connection.execute(text("UPDATE user_deletions SET due_at = now()"))
    assert run(user)
    assert (record(connection, user)["state"], record(connection, user)["reason"]) == ("complete", None)


def test_a_request_whose_work_fails_is_answered_and_left_to_the_workers(connection):
    user = create_user(connection)
    log_ins(connection, user, 2)
    with trigger(connection, "BEFORE DELETE ON login_events", "RAISE EXCEPTION 'no';"):
        assert delete(user) == "running"
    assert record(connection, user)["reason"].startswith("login_events.user_id: RaiseException P0001")
    assert exists(connection, user)


def test_attempts_that_get_nowhere_are_followed_by_smaller_batches(connection, settings):
    user = uuid4()
    sizes = [
        steps.Work(settings, user, Lease(DELETIONS, user, uuid4(), attempts), Deadline(1)).rows
        for attempts in (1, 2, 3, 4, 60)
    ]
    assert sizes == [10, 5, 2, 1, 1]


def test_the_relay_sends_what_was_captured_once_and_again_when_it_was_lost(connection, settings):
    users = {create_user(connection) for _ in range(3)}
    for user in users:
        mark_by_sql(connection, user)
    assert set(deletion.take_due()) == users
    assert deletion.take_due() == []
    intervals = 2 * settings.dispatch_every_seconds
    connection.execute(
        text("UPDATE user_deletions SET sent_at = sent_at - make_interval(secs => :seconds)"), {"seconds": intervals}
    )
    assert set(deletion.take_due()) == users
    assert _total(connection, LoginEvent.__tablename__) == 0
