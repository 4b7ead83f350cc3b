"""Steps fit their time, and live traffic comes first.

Guards taken out, each seen to fail here: the halving after a cut (`chains._give_back`), the halving past the budget
(`next_batch_rows`), `postpone` without giving the lease back, and the bound on how often a chain yields.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from app.retention import steps
from app.retention.steps import StepFailed
from tests.chain_steps import chain, do, do_all, open_chains
from tests.factories import create_notification, create_service, history, live


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {
        "MESSAGES_PER_STEP": "8",
        "STEP_BUDGET_SECONDS": "5",
        "LOCK_TIMEOUT_SECONDS": "2",
        "YIELD_WAITING_QUERIES": "0",
        "YIELD_TIMES": "2",
        "YIELD_SECONDS": "0.001",
    }


@contextmanager
def slow_deletes(connection: Connection, seconds: float) -> Iterator[None]:
    """Every row deleted from notifications takes so long."""
    connection.execute(
        text(
            "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN OLD; END $$"
        )
    )
    connection.execute(
        text("CREATE TRIGGER slow BEFORE DELETE ON notifications FOR EACH ROW EXECUTE FUNCTION be_slow()")
    )
    try:
        yield
    finally:
        connection.execute(text("DROP TRIGGER slow ON notifications"))
        connection.execute(text("DROP FUNCTION be_slow()"))


def test_a_step_that_a_time_out_cut_is_done_again_with_half_the_rows(app: Any, connection: Connection) -> None:
    service = create_service(connection)
    ids = {create_notification(connection, service) for _ in range(8)}
    [wake] = open_chains(service)
    with slow_deletes(connection, 0.25), pytest.raises(StepFailed) as failure:  # 8 rows take 2 s of 1.7
        do(wake)
    assert failure.value.refusal.was_cut
    row = chain(connection, wake)
    assert (row["rows_per_step"], row["step"], row["lease_token"]) == (4, 0, None)
    assert (live(connection), history(connection)) == (ids, set())
    connection.execute(text("UPDATE retention.chains SET due_at = now()"))
    do(wake)
    assert len(history(connection)) == 2  # half of 4, because it is the second attempt
    assert chain(connection, wake)["rows_per_step"] > 2


def test_a_step_past_its_budget_commits_and_the_next_one_is_smaller(
    app: Any, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = create_service(connection)
    for _ in range(8):
        create_notification(connection, service)
    [wake] = open_chains(service)
    seconds = iter([0.0, 5.1])
    monkeypatch.setattr(steps, "time", SimpleNamespace(monotonic=lambda: next(seconds, 0.0)))
    do(wake)
    monkeypatch.undo()
    assert len(history(connection)) == 8
    assert chain(connection, wake)["rows_per_step"] == 4


@contextmanager
def a_query_waits_for_a_lock(engine: Engine, service: Any) -> Iterator[None]:
    """Someone's query waits for a lock that someone else holds."""
    holder = engine.connect()
    holder.execute(text("SELECT FROM services WHERE id = :id FOR UPDATE"), {"id": service})

    def wait() -> None:
        with engine.connect() as waiter:
            waiter.execute(text("SELECT FROM services WHERE id = :id FOR UPDATE"), {"id": service})
            waiter.rollback()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        with engine.connect() as watcher:
            while not watcher.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            ).scalar():
                watcher.rollback()
        yield
    finally:
        holder.rollback()
        holder.close()
        thread.join()


def test_a_chain_waits_while_queries_wait_for_locks_but_not_for_ever(
    app: Any, connection: Connection, administrator_engine: Engine
) -> None:
    service, other = create_service(connection), create_service(connection)
    notification = create_notification(connection, service)
    [wake] = open_chains(service)
    with a_query_waits_for_a_lock(administrator_engine, other):
        for times in (1, 2):
            connection.execute(text("UPDATE retention.chains SET due_at = now()"))
            assert do(wake) == []
            row = chain(connection, wake)
            assert (row["reason"], row["setbacks"], row["step"]) == ("queries-wait", times, 0)
            assert (row["lease_token"], row["attempts"], row["sent_at"]) == (None, 0, None)
            assert live(connection) == {notification}
        connection.execute(text("UPDATE retention.chains SET due_at = now()"))
        assert do(wake) == []
        assert history(connection) == {notification}
    row = chain(connection, wake)
    assert (row["reason"], row["setbacks"], row["step"]) == (None, 0, 1)


def test_a_quiet_database_makes_no_chain_wait(app: Any, connection: Connection) -> None:
    service = create_service(connection)
    notification = create_notification(connection, service)
    do_all(open_chains(service))
    assert history(connection) == {notification}
