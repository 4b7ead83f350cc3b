"""How many messages wait and how many workers are there, on every broker.

Seen to fail: a note at each of the worker's heartbeats, an error of the database let through, and relays forgotten with
the workers.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from app import broker as questions
from app import clock, config
from app.celery import nightly_tasks, periodic
from app.celery.presence import Presence
from app.dao import heartbeats_dao
from app.db import db
from app.retention import heartbeat
from tests.acceptance.brokers import WorkersOn
from tests.acceptance.workers import eventually
from tests.brokers import NAMES, broker, queue_names

SEEN = text("SELECT kind, count(*) FROM retention.heartbeats GROUP BY kind")


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


def test_waiting_messages_are_counted_and_workers_say_that_they_are_there(app, connection, workers):
    settings = config.load(workers.environment)
    assert set(questions.queue_depths(settings, 5).values()) == {0}
    for _ in range(3):
        workers.send_periodic(nightly_tasks.dispatch_retention, 3600)
    depths = questions.queue_depths(settings, 5)
    assert (depths[settings.queue_periodic], depths[settings.queue_nightly]) == (3, 0)
    workers.start(pool=1)
    eventually(lambda: questions.queue_depths(settings, 5)[settings.queue_periodic] == 0)
    eventually(lambda: dict(tuple(row) for row in connection.execute(SEEN)) == {"worker": 1, "relay": 1, "periodic": 1})
    assert len(workers.events("periodic-message-too-soon")) == 2


def test_a_worker_goes_on_while_the_database_is_away(app, connection):
    away = Presence("celery@somewhere", "postgresql+psycopg2://who@127.0.0.1:9/none")
    away.note()
    assert connection.execute(SEEN).all() == []


def test_a_worker_notes_itself_now_and_then(app, connection, settings):
    here = Presence("celery@somewhere", settings.database_url)
    here.note()
    connection.execute(text("DELETE FROM retention.heartbeats"))
    here.note()
    assert connection.execute(SEEN).all() == []
    here._next = 0.0
    here.note()
    assert [tuple(row) for row in connection.execute(SEEN)] == [("worker", 1)]
    here.leave()
    assert connection.execute(SEEN).all() == []


def test_only_a_worker_that_was_not_seen_for_a_day_is_forgotten(app, connection, monkeypatch):
    """A relay or a periodic task that has been silent for longer is what somebody has to see."""
    now = datetime.now(UTC)
    day, second = timedelta(days=1), timedelta(seconds=1)
    monkeypatch.setattr(clock, "now", lambda: now)
    with db.transaction() as own:
        heartbeats_dao.note(own, heartbeats_dao.WORKER, "celery@here", now - day)
        for kind in (heartbeats_dao.WORKER, heartbeats_dao.RELAY, heartbeats_dao.PERIODIC):
            heartbeats_dao.note(own, kind, "gone", now - day - second)
    heartbeat.fold()
    left = connection.execute(text("SELECT kind, name FROM retention.heartbeats ORDER BY kind")).all()
    assert [tuple(row) for row in left] == [("periodic", "gone"), ("relay", "gone"), ("worker", "celery@here")]


def test_periodic_messages_that_piled_up_do_their_work_once_by_the_databases_clock(app, connection, monkeypatch):
    began: list[str] = []
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(days=31))
    for name in ("first", "second", "third"):
        periodic.run("a-task", 3600, lambda name=name: began.append(name))
    assert began == ["first"]
    connection.execute(text("UPDATE retention.heartbeats SET seen_at = seen_at - interval '16 minutes'"))
    periodic.run("a-task", 3600, lambda: began.append("an hour later"))
    assert began == ["first", "an hour later"]


def test_periodic_work_that_fails_is_done_by_the_next_message(app, connection):
    with pytest.raises(ZeroDivisionError):
        periodic.run("a-task", 3600, lambda: 1 / 0)
    assert periodic.run("a-task", 3600, lambda: "done") == "done"
