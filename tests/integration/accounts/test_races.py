"""Deletions among other work: nobody waits long, nothing is lost, and nothing comes in behind one's back.

Seen to fail: no second attempt; the order of the key left out, and one statement for all rows that should keep it; the
user's row not locked by the last step; no lock time-out; the statement that forgets whose the row is after it waited.
"""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.accounts import steps
from app.accounts.passwords import hash_password
from app.accounts.sessions import InDeletion, log_in
from app.accounts.steps import StillThere
from app.dao import user_deletions_dao
from app.dao.deletion_plan import PLAN
from app.dao.user_children_dao import Batch, User
from app.db import db
from app.models import GHOST_USER_ID, FeatureRequest, FeatureVote, LeaderBoard, LoginEvent
from tests.concurrency import background, wait_until, waiting_for_locks
from tests.factories import create_notification, create_service
from tests.integration.accounts.owned import (
    NOW,
    add,
    create_user,
    delete,
    exists,
    mark_by_sql,
    record,
    run,
)

VOTES = next(child for child in PLAN if child.table == "feature_votes")
BOARDS = next(child for child in PLAN if child.table == "leader_boards")


def wishes(connection, count):
    return [
        add(connection, FeatureRequest, id=UUID(int=number), title="wish", created_by_id=None, created_at=NOW)
        for number in range(count)
    ]


def vote(connection, user, *wanted):
    for wish in wanted:
        add(connection, FeatureVote, feature_request_id=wish, user_id=user, created_at=NOW)


def votes(connection):
    rows = connection.execute(text("SELECT feature_request_id, user_id FROM feature_votes ORDER BY 1, 2"))
    return [tuple(row) for row in rows]


def reassign_votes(user, rows=100):
    with db.transaction(lock_seconds=5) as own:
        return steps.act(own, VOTES, Batch(VOTES, User(user, None), rows))


def test_a_vote_that_the_ghost_has_already_goes(connection):
    user = create_user(connection)
    one, two, three = wishes(connection, 3)
    vote(connection, GHOST_USER_ID, one, three)
    vote(connection, user, one, two, three)
    assert reassign_votes(user) == 3
    assert votes(connection) == [(wish, GHOST_USER_ID) for wish in (one, two, three)]


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_batches_of_votes_come_to_an_end_whatever_their_size(connection, rows):
    user = create_user(connection)
    wanted = wishes(connection, 3)
    vote(connection, GHOST_USER_ID, wanted[1])
    vote(connection, user, *wanted)
    while reassign_votes(user, rows):
        """On."""
    assert votes(connection) == [(wish, GHOST_USER_ID) for wish in wanted]


def test_of_two_deletions_that_give_the_ghost_the_same_key_at_once_the_later_ones_duplicate_goes(app, connection):
    first, second = create_user(connection), create_user(connection)
    wanted = wishes(connection, 20)
    vote(connection, first, *wanted)
    vote(connection, second, *reversed(wanted))
    with background(app) as start, db.engine.connect() as holding:
        assert steps.act(holding, VOTES, Batch(VOTES, User(first, None), 100)) == 20
        later = start(reassign_votes, second)
        wait_until(lambda: waiting_for_locks(connection) == 1)
        holding.commit()
        assert later.result() == 20
    assert votes(connection) == [(wish, GHOST_USER_ID) for wish in wanted]


def test_votes_are_given_in_the_order_of_their_key_not_of_their_age(app, connection, administrator_engine):
    """So that two deletions can't wait for each other: the first key is met first."""
    user, other = create_user(connection), create_user(connection)
    wanted = wishes(connection, 5)
    vote(connection, user, *reversed(wanted))
    vote(connection, other, wanted[0])
    with background(app) as start, db.engine.connect() as holding:
        assert steps.act(holding, VOTES, Batch(VOTES, User(other, None), 1)) == 1
        later = start(reassign_votes, user)
        wait_until(lambda: waiting_for_locks(connection) == 1)
        # The last key is free: whoever waits has not come to it.
        with administrator_engine.begin() as third:
            third.execute(text("SET LOCAL lock_timeout = '500ms'"))
            third.execute(
                text(
                    "UPDATE feature_votes SET created_at = now() WHERE user_id = :user AND feature_request_id = :wish"
                ),
                {"user": user, "wish": wanted[-1]},
            )
        holding.commit()
        later.result()
    assert len(votes(connection)) == 5


def test_two_deletions_on_one_board_take_turns_and_nothing_is_lost(app, connection):
    first, second, third = (create_user(connection) for _ in range(3))
    add(connection, LeaderBoard, month="a", entries=[{"user_id": str(one)} for one in (first, second, third)])
    with background(app) as start, db.engine.connect() as holding:
        assert steps.act(holding, BOARDS, Batch(BOARDS, User(first, None), 10)) == 1
        later = start(remove_from_boards, second)
        wait_until(lambda: waiting_for_locks(connection) == 1)
        holding.commit()
        later.result()
    remove_from_boards(second)
    entries = connection.execute(text("SELECT entries FROM leader_boards")).scalar_one()
    assert entries == [{"user_id": str(third)}]


def remove_from_boards(user):
    with db.transaction() as own:
        return steps.act(own, BOARDS, Batch(BOARDS, User(user, None), 10))


@pytest.mark.parametrize("table", ["login_events", "notifications"])
def test_a_row_that_somebody_takes_over_while_a_batch_waits_for_it_stays_his(
    app, connection, administrator_engine, table
):
    user, heir = create_user(connection), create_user(connection)
    add(connection, LoginEvent, user_id=user, data={}, created_at=NOW)
    create_notification(connection, create_service(connection), created_by_id=user)
    [child] = [child for child in PLAN if child.table == table]

    def batch():
        with db.transaction() as own:
            return steps.act(own, child, Batch(child, User(user, None), 10))

    take_over = text(f"UPDATE {table} SET {child.column} = :heir WHERE {child.column} = :user")
    with background(app) as start, administrator_engine.connect() as holding:
        holding.execute(take_over, {"heir": heir, "user": user})
        acting = start(batch)
        wait_until(lambda: waiting_for_locks(connection) == 1)
        holding.commit()
        assert acting.result() == 0
    assert connection.execute(text(f"SELECT {child.column} FROM {table}")).scalars().all() == [heir]


def test_a_row_that_comes_in_during_the_last_step_waits_and_is_then_refused(
    app, connection, administrator_engine, monkeypatch
):
    user = create_user(connection)
    mark_by_sql(connection, user)
    delete_user = user_deletions_dao.delete_user
    inserts = []

    def insert():
        with administrator_engine.begin() as inserting:
            add(inserting, LoginEvent, user_id=user, data={}, created_at=NOW)

    with background(app) as start:

        def meanwhile(*arguments):
            inserts.append(start(insert))
            wait_until(lambda: waiting_for_locks(connection) == 1)
            delete_user(*arguments)

        monkeypatch.setattr(user_deletions_dao, "delete_user", meanwhile)
        assert run(user)
        with pytest.raises(IntegrityError):
            inserts[0].result()
    assert not exists(connection, user)


@pytest.fixture(params=["read committed", "repeatable read", "serializable"])
def default_isolation(app, connection, request):
    """What the database gives to a transaction that does not ask for another."""
    name = connection.engine.url.database
    connection.execute(text(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{request.param}'"))
    app.extensions["db.engine"].dispose()
    with db.transaction() as own:
        assert own.execute(text("SHOW default_transaction_isolation")).scalar() == request.param
    yield
    connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_isolation'))


def test_a_log_in_that_waits_for_the_mark_sees_it_whatever_the_default_isolation(
    app, connection, administrator_engine, default_isolation
):
    user = create_user(connection, password_hash=hash_password("a long private sentence"))
    with background(app) as start, administrator_engine.connect() as marking:
        mark_by_sql(marking, user)
        logging_in = start(log_in, f"{user}@example.test", "a long private sentence", datetime.now(UTC))
        wait_until(lambda: waiting_for_locks(connection) == 1)
        marking.commit()
        with pytest.raises(InDeletion):
            logging_in.result()


def test_a_request_that_waits_for_another_mark_sees_it_whatever_the_default_isolation(
    app, connection, administrator_engine, default_isolation
):
    user = create_user(connection)
    with background(app) as start, administrator_engine.connect() as marking:
        mark_by_sql(marking, user)
        asking = start(delete, user)
        wait_until(lambda: waiting_for_locks(connection) == 1)
        marking.commit()
        assert asking.result() == "requested"
    assert record(connection, user)["requested_by"] == "database"


def test_an_insert_that_has_not_committed_is_waited_for_and_goes_too(
    app, connection, administrator_engine, default_isolation
):
    user = create_user(connection)
    mark_by_sql(connection, user)
    with (
        background(app) as start,
        administrator_engine.connect() as slow,
    ):
        add(slow, LoginEvent, user_id=user, data={}, created_at=NOW)
        running = start(run, user)
        wait_until(lambda: waiting_for_locks(connection) == 1)
        slow.commit()
        assert running.result()
    assert not exists(connection, user)
    assert record(connection, user)["rows_done"] == 1


@pytest.mark.parametrize(
    ("statement", "column"),
    [
        ("SELECT FROM users WHERE id = :user FOR UPDATE", "users"),
        ("SELECT FROM login_events WHERE user_id = :user FOR UPDATE", "login_events.user_id"),
    ],
)
def test_who_holds_a_row_for_long_makes_the_deletion_give_way(app, connection, administrator_engine, statement, column):
    user = create_user(connection)
    add(connection, LoginEvent, user_id=user, data={}, created_at=NOW)
    mark_by_sql(connection, user)
    with administrator_engine.begin() as holding:
        holding.execute(text(statement), {"user": user})
        with pytest.raises(StillThere):
            run(user)
    assert record(connection, user)["reason"] == f"{column}: LockNotAvailable 55P03"
    connection.execute(text("UPDATE user_deletions SET due_at = now()"))
    assert run(user)
    assert not exists(connection, user)
