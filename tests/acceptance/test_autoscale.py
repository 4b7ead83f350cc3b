"""A pool that grows and shrinks with its work (`celery worker --autoscale`) loses nothing on the way.

Seen to fail: `--autoscale` left out (the pool stayed at one process, and only one had a step when it was stopped).
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from app.celery import nightly_tasks
from dev.processes import Child
from tests.acceptance import workers as world
from tests.acceptance.workers import ROWS_PER_STEP, Workers, eventually, have_ended, slow_down
from tests.factories import create_notification, create_service, days_ago, history, live, steps

MOST, LEAST = 3, 1
QUICKLY = {"AUTOSCALE_KEEPALIVE": "1"}
"""Seconds for which Celery leaves a pool at its size after it has grown; 30 as shipped."""


@pytest.fixture
def workers(environment: dict[str, str], connection: Connection, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(environment, tmp_path)
    yield started
    started.stop()


@pytest.fixture
def slow_steps(connection: Connection) -> Iterator[None]:
    connection.execute(text(world.SLOW_DOWN))
    slow_down(connection, 0.5)
    yield
    connection.execute(text(world.SLOW_NO_MORE))


def pool_size(worker: Child) -> int:
    """The children of the worker's main process."""
    return len(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split())


def overdue(connection: Connection, services: int, steps_each: int) -> set:
    count = steps_each * ROWS_PER_STEP
    return {
        create_notification(connection, service, "email", days_ago(30, minutes=minutes))
        for service in [create_service(connection) for _ in range(services)]
        for minutes in range(count)
    }


def test_a_night_grows_the_pool_and_its_end_shrinks_it_and_nothing_is_lost(connection, workers, slow_steps):
    rows = overdue(connection, services=4, steps_each=2)
    worker = workers.start_autoscaled(MOST, LEAST, **QUICKLY)
    eventually(lambda: pool_size(worker) == LEAST)
    workers.send(nightly_tasks.delete_notifications_older_than_retention)
    eventually(lambda: pool_size(worker) == MOST)
    assert live(connection), "it grew while there was work"
    eventually(lambda: have_ended(connection))
    eventually(lambda: pool_size(worker) == LEAST)
    assert (live(connection), history(connection)) == (set(), rows)
    assert sum(step["moved"] for step in steps(connection)) == len(rows)

    more = overdue(connection, services=2, steps_each=1)
    workers.send(nightly_tasks.delete_notifications_older_than_retention)
    eventually(lambda: history(connection) == rows | more)
    assert worker.running, "what is left of the pool works on"


def test_a_pool_that_has_grown_is_told_to_stop_and_every_process_finishes_its_step(connection, workers, slow_steps):
    rows = overdue(connection, services=4, steps_each=2)
    slow_down(connection, world.SECONDS_OF_A_SLOW_STEP)
    worker = workers.start_autoscaled(MOST, LEAST, **QUICKLY)
    workers.send(nightly_tasks.delete_notifications_older_than_retention)
    eventually(lambda: connection.execute(world.IN_THE_MIDDLE).scalar() == MOST)
    worker.ask_to_stop(signal.SIGTERM)
    assert worker.wait(timeout_seconds=60) == 0
    slow_down(connection, 0)
    done = steps(connection)
    assert len(done) >= MOST
    assert {step["moved"] for step in done} == {ROWS_PER_STEP}
    assert len(history(connection)) == ROWS_PER_STEP * len(done)
    assert live(connection) | history(connection) == rows
