"""The same promises on every broker: a night to its end, and nothing lost whatever dies on the way.

`pytest -s tests/acceptance/test_brokers.py` prints how long a killed step took to come back, on each broker; these
are the numbers of docs/brokers.md.
"""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection

from app.celery import SOFT_SHUTDOWN_IN_STEP_BUDGETS, nightly_tasks
from app.retention import operations
from dev.processes import Child
from tests.acceptance.brokers import WorkersOn, has_received
from tests.acceptance.test_workers import assert_each_moved_once, emails, slow_steps
from tests.acceptance.workers import (
    ROWS_PER_STEP,
    STEP_BUDGET_SECONDS,
    eventually,
    have_ended,
    is_in_the_middle_of_a_step,
    slow_down,
)
from tests.brokers import NAMES, broker, queue_names
from tests.factories import (
    chains,
    create_letter,
    create_notification,
    create_service,
    days_ago,
    history,
    keys,
    live,
    steps,
)

__all__ = ["slow_steps"]  # a fixture
LEAST_VISIBILITY_TIMEOUT_SECONDS = 5 * STEP_BUDGET_SECONDS + 1
SECONDS_TO_COME_BACK = LEAST_VISIBILITY_TIMEOUT_SECONDS + 30
MEASURED: dict[str, dict[str, float]] = {}


@pytest.fixture(scope="module", autouse=True)
def measured() -> Iterator[None]:
    """Prints what was measured, at the end."""
    yield
    print("\n\nSeconds until the step is taken again, or the next one begins:")
    for what, seconds in MEASURED.items():
        print(f"  {what:<58}", *(f"{name} {seconds[name]:.1f}" for name in NAMES if name in seconds), sep="  ")


@pytest.fixture(params=NAMES)
def workers(
    request: pytest.FixtureRequest, environment: dict[str, str], connection: Connection, tmp_path: Path
) -> Iterator[WorkersOn]:
    queues = queue_names("retention-test")
    with broker(request.param, tmp_path, queues) as on:
        started = WorkersOn(on, queues, environment, tmp_path)
        try:
            yield started
        finally:
            started.stop()


def note(workers: WorkersOn, what: str, step: Any, since: datetime) -> None:
    MEASURED.setdefault(what, {})[workers.name] = (step["started_at"] - since).total_seconds()


def in_the_middle(connection: Connection, workers: WorkersOn) -> tuple[set[UUID], str]:
    """Workers are in the middle of the first step of the one chain. Its rows, and the id of the step's task."""
    rows = emails(connection, create_service(connection), 2 * ROWS_PER_STEP)
    [wake] = operations.run(["email"])
    task_id = workers.send_step(wake)
    eventually(lambda: is_in_the_middle_of_a_step(connection))
    return rows, task_id


def two_workers(workers: WorkersOn, **settings: str) -> list[Child]:
    return [workers.start(name, pool=1, **settings) for name in ("one", "other")]


def busy_and_other(started: list[Child], task_id: str) -> list[Child]:
    """The worker that has the task, and the one that has not."""
    assert [has_received(worker, task_id) for worker in started].count(True) == 1
    return sorted(started, key=lambda worker: not has_received(worker, task_id))


def end_comes(connection: Connection, workers: WorkersOn, rows: set[UUID], dispatched: bool = True) -> None:
    """The chain and its test chain end; every row has moved once."""

    def ended() -> bool:
        if dispatched:
            workers.remind(nightly_tasks.dispatch_retention)
        return have_ended(connection)

    eventually(ended, SECONDS_TO_COME_BACK)
    assert_each_moved_once(connection, rows)


def test_a_night_goes_to_its_end(connection, s3, environment, workers):
    """Seen to fail: with no message sent for the chains that a fan-out opens."""
    service = create_service(connection)
    rows = emails(connection, service, 2 * ROWS_PER_STEP + 1) | {create_notification(connection, service, "sms")}
    rows |= {create_letter(connection, s3, service) for _ in range(3)}
    create_notification(connection, service, "email", key_type="test")
    create_letter(connection, s3, service, key_type="test")
    kept = {create_letter(connection, s3, service, days_ago(1))}
    worker = workers.start()
    workers.send(nightly_tasks.delete_notifications_older_than_retention)
    eventually(lambda: have_ended(connection) and len(chains(connection)) == 5)
    assert (live(connection), history(connection)) == (kept, rows)
    assert len(keys(s3, *(name for of, name in environment.items() if of.startswith("S3_BUCKET_")))) == 1
    assert (sum(step["moved"] for step in steps(connection)), worker.running) == (len(rows), True)


def test_a_step_whose_pool_process_is_killed_is_taken_again_from_the_same_message(connection, workers, slow_steps):
    """Seen to fail: without `task_reject_on_worker_lost`, the message counts as done."""
    worker = workers.start(pool=1)
    rows, task_id = in_the_middle(connection, workers)
    kill_pool_process(worker)
    killed_at = datetime.now(UTC)
    slow_down(connection, 0)
    eventually(lambda: steps(connection))
    first = steps(connection)[0]
    assert first["task_id"] == task_id
    note(workers, "pool process killed", first, killed_at)
    end_comes(connection, workers, rows)
    assert worker.running


def kill_pool_process(worker: Child) -> None:
    [child] = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)


def test_a_step_whose_worker_is_killed_is_given_to_another_by_the_broker_alone(connection, workers, slow_steps):
    """Nobody dispatches until then. Seen to fail: without `task_acks_late`, the message dies with its worker."""
    started = two_workers(workers, VISIBILITY_TIMEOUT_SECONDS=str(LEAST_VISIBILITY_TIMEOUT_SECONDS))
    rows, task_id = in_the_middle(connection, workers)
    busy, _ = busy_and_other(started, task_id)
    slow_down(connection, 0)
    killed_at = datetime.now(UTC)
    busy.kill()
    eventually(lambda: steps(connection), SECONDS_TO_COME_BACK)
    again = steps(connection)[0]
    assert again["task_id"] == task_id
    note(workers, f"worker killed, visibility {LEAST_VISIBILITY_TIMEOUT_SECONDS} s, no dispatcher", again, killed_at)
    # The dead worker's transaction may have had its locks a moment longer: then the chain waits for the dispatcher.
    end_comes(connection, workers, rows)


def test_a_step_whose_worker_is_killed_is_found_by_the_dispatcher_once_its_lease_is_over(
    connection, workers, slow_steps
):
    """The visibility time-out is as shipped, a quarter of an hour: nobody waits for it.

    Seen to fail: with a dispatcher that wakes nobody, on Valkey.
    """
    first = workers.start("first", pool=1)
    rows, _ = in_the_middle(connection, workers)
    killed_at = datetime.now(UTC)
    first.kill()
    slow_down(connection, 0)
    workers.start("second")
    end_comes(connection, workers, rows)
    note(workers, f"worker killed, lease {1.5 * STEP_BUDGET_SECONDS} s, dispatcher", steps(connection)[0], killed_at)


def test_a_worker_told_to_stop_ends_its_step_and_the_next_runs_on_another(connection, workers, slow_steps):
    """Seen to fail: without a soft shutdown, the step is killed and begins anew with half the rows."""
    started = two_workers(workers)
    rows, task_id = in_the_middle(connection, workers)
    stopped, other = busy_and_other(started, task_id)
    told_at = datetime.now(UTC)
    stopped.ask_to_stop(signal.SIGTERM)
    eventually(lambda: len(steps(connection)) > 1)
    done, successor, *_ = steps(connection)
    assert (done["task_id"], done["moved"]) == (task_id, ROWS_PER_STEP)
    assert has_received(other, successor["task_id"])
    assert not has_received(stopped, successor["task_id"])
    slow_down(connection, 0)
    assert stopped.wait(timeout_seconds=30) == 0
    note(workers, "SIGTERM in a step: the next begins elsewhere", successor, told_at)
    end_comes(connection, workers, rows, dispatched=False)


def test_a_worker_told_to_stop_twice_puts_its_step_back_for_another(connection, workers, slow_steps):
    """So does one whose step outlasts its grace: told twice, it gives the step up and waits for the grace to end.

    Seen to fail: without `task_acks_late`, the step is nobody's.
    """
    started = two_workers(workers)
    rows, task_id = in_the_middle(connection, workers)
    stopped, other = busy_and_other(started, task_id)
    slow_down(connection, 0)
    told_at = datetime.now(UTC)
    stopped.ask_to_stop(signal.SIGTERM)
    eventually(lambda: "Initiating Soft Shutdown" in stopped.log.read_text())
    stopped.ask_to_stop(signal.SIGQUIT)
    eventually(lambda: steps(connection))
    assert has_received(other, task_id)
    grace = SOFT_SHUTDOWN_IN_STEP_BUDGETS * STEP_BUDGET_SECONDS
    note(workers, f"SIGTERM, step given up after {grace} s: again elsewhere", steps(connection)[0], told_at)
    stopped.wait(timeout_seconds=30)
    end_comes(connection, workers, rows, dispatched=False)


@pytest.mark.parametrize("same_id", [True, False], ids=["same task", "two tasks"])
def test_a_message_that_is_delivered_twice_advances_the_chain_once(connection, workers, slow_steps, same_id):
    """Seen to fail: with neither the lease nor the step's number compared."""
    workers.start(pool=2)
    rows = emails(connection, create_service(connection), 2 * ROWS_PER_STEP)
    [wake] = operations.run(["email"])
    task_id = workers.send_step(wake)
    twin = workers.send_step(wake, task_id if same_id else None)
    eventually(lambda: steps(connection))
    slow_down(connection, 0)
    eventually(lambda: all(workers.logged().count(f"[{one}] received") == 1 + same_id for one in (task_id, twin)))
    end_comes(connection, workers, rows)
    for chain in chains(connection):
        numbers = [step["step"] for step in steps(connection) if step["chain_id"] == chain["id"]]
        assert numbers == list(range(len(numbers)))
