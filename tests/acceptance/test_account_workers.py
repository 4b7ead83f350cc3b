"""Real workers delete an account that SQL has marked, also when they are killed in the middle of batches.

Seen to fail: deletions whose lease is over not sent again; rows counted apart from their batch.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from app.celery import account_tasks
from app.dao.deletion_plan import PLAN, Action
from tests import factories
from tests.acceptance.workers import Workers, eventually
from tests.integration.accounts import owned
from tests.integration.accounts.owned import create_user, exists, fill, mark_by_sql, mentions, record
from tests.integration.accounts.test_killed import POINTS, Numbered

ROWS_PER_BATCH = 20
BATCHES = 3

SLOW = """
CREATE TABLE slowness (seconds float NOT NULL);
INSERT INTO slowness VALUES (2);
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN PERFORM pg_sleep(max(seconds)) FROM slowness; RETURN NULL; END
$$;
CREATE TRIGGER slow AFTER DELETE ON login_events FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
"""
SLOW_NO_MORE = "DROP TRIGGER slow ON login_events; DROP FUNCTION be_slow; DROP TABLE slowness"
IN_THE_MIDDLE = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND query LIKE '%login_events%' AND wait_event = 'PgSleep'"
)
MANY_ROWS = text(
    "INSERT INTO login_events (id, user_id, data, created_at) "
    "SELECT gen_random_uuid(), :user, '{}', now() FROM generate_series(2, :count)"
)


@pytest.fixture
def workers(environment: dict[str, str], connection: Connection, tmp_path: Path) -> Iterator[Workers]:
    small = {"ACCOUNT_ROWS_PER_BATCH": str(ROWS_PER_BATCH), "ACCOUNT_RETRY_SECONDS": "1"}
    started = Workers({**environment, **small}, tmp_path)
    yield started
    started.stop()


@pytest.fixture
def slow_batches(connection: Connection) -> Iterator[None]:
    connection.execute(text(SLOW))
    yield
    connection.execute(text(SLOW_NO_MORE))


def is_over(connection, workers, user):
    workers.remind(account_tasks.relay_user_deletions)
    return record(connection, user)["state"] == "complete"


def test_a_worker_killed_whole_in_a_batch_loses_nothing_and_another_finishes(connection, workers, slow_batches):
    user = create_user(connection)
    fill(connection, user)
    connection.execute(MANY_ROWS, {"user": user, "count": BATCHES * ROWS_PER_BATCH})
    killed = workers.start("first", pool=1)
    mark_by_sql(connection, user)
    workers.send(account_tasks.relay_user_deletions)
    eventually(lambda: record(connection, user)["rows_done"] > ROWS_PER_BATCH)
    eventually(lambda: connection.execute(IN_THE_MIDDLE).scalar())
    killed.kill()
    connection.execute(text("UPDATE slowness SET seconds = 0"))
    assert exists(connection, user)
    workers.start("second", pool=1)
    eventually(lambda: is_over(connection, workers, user))
    assert mentions(connection, user) == {"user_deletions"}
    others = {child.name for child in PLAN if child.action is not Action.KEEP} - {
        "login_events.user_id",
        "malformed_flags.user_id",
        "invited_users.email_address",
        "invited_organisation_users.email_address",
    }
    assert record(connection, user)["rows_done"] == len(others) + BATCHES * ROWS_PER_BATCH


# A sequence keeps what a transaction that is rolled back has told it: each boundary stops the work once.
STOP_AT_BOUNDARIES = """
CREATE SEQUENCE reached MINVALUE 0 START 0;
SELECT setval('reached', 0);
CREATE FUNCTION stop_at_boundary() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE boundary bigint := CASE NEW.state WHEN 'complete' THEN 1000000 ELSE NEW.rows_done END;
    BEGIN
        IF boundary > (SELECT last_value FROM reached) THEN
            PERFORM setval('reached', boundary);
            PERFORM pg_sleep(60);
        END IF;
        RETURN NEW;
    END
$$;
CREATE TRIGGER stop_at_boundary BEFORE UPDATE OF rows_done, state ON user_deletions
    FOR EACH ROW EXECUTE FUNCTION stop_at_boundary();
"""
GO_ON = "DROP TRIGGER stop_at_boundary ON user_deletions; DROP FUNCTION stop_at_boundary; DROP SEQUENCE reached"
STOPPED = text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
    "AND query LIKE '%UPDATE user_deletions%' AND wait_event = 'PgSleep'"
)
# The two may differ in how far their confirmations are: how often the relay has woken them, and who has the lease.
FORGET_THE_CONFIRMATION = text(
    """
    UPDATE user_deletions
    SET confirmation_address = NULL, confirmation_attempts = 0, confirmed_at = NULL, wakes = 0, attempts = 0,
        lease_token = NULL, lease_holder = NULL, lease_until = NULL
    """
)
TERMINATED = text("SELECT pg_terminate_backend(:pid, 30000)")  # the time-out in milliseconds


@pytest.fixture
def stops(connection: Connection) -> Iterator[None]:
    connection.execute(text(STOP_AT_BOUNDARIES))
    yield
    connection.execute(text(GO_ON))


@pytest.fixture
def ids(monkeypatch: pytest.MonkeyPatch) -> Numbered:
    numbered = Numbered()
    monkeypatch.setattr(owned, "uuid4", numbered)
    monkeypatch.setattr(factories, "uuid4", numbered)
    return numbered


def test_a_worker_process_killed_at_every_table_boundary_ends_in_the_state_of_one_that_never_was(
    connection, workers, stops, ids
):
    users = []
    for number in range(2):
        ids.begin(number)
        user = ids()
        create_user(connection, id=user, created_at=owned.NOW, email_address=f"{number:04}@example.test")
        fill(connection, user)
        users.append(user)
    killed, never_killed = users
    worker = workers.start(pool=1, ACCOUNT_ROWS_PER_BATCH="1000", S3_BUCKET_USER_FILES="")
    mark_by_sql(connection, killed)
    kills = 0
    while record(connection, killed)["state"] != "complete":
        eventually(lambda: connection.execute(STOPPED).scalar() or is_over(connection, workers, killed))
        for backend in connection.execute(STOPPED).scalars().all():
            (process,) = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
            os.kill(int(process), signal.SIGKILL)
            # Seen again on its way out, it would have the next process killed for the same boundary.
            assert connection.execute(TERMINATED, {"pid": backend}).scalar()
            kills += 1
    assert kills == POINTS
    mark_by_sql(connection, never_killed)
    eventually(lambda: is_over(connection, workers, never_killed))
    workers.stop()
    connection.execute(FORGET_THE_CONFIRMATION)
    assert not exists(connection, killed)
    rows = ids.rows(connection)
    assert len(rows[1]) > len(PLAN)
    assert rows[0] == rows[1]
