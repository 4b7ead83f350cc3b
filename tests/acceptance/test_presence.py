"""How many messages wait and how many workers are there, on every broker.

Seen to fail: a note at each of the worker's heartbeats, and an error of the database let through.
"""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from app import broker as questions
from app import config
from app.celery import nightly_tasks
from app.celery.presence import Presence
from tests.acceptance.brokers import WorkersOn
from tests.acceptance.workers import eventually
from tests.brokers import NAMES, broker

SEEN = text("SELECT kind, count(*) FROM retention.heartbeats GROUP BY kind")


@pytest.fixture(params=NAMES)
def workers(
    request: pytest.FixtureRequest, environment: dict[str, str], connection: Connection, tmp_path: Path
) -> Iterator[WorkersOn]:
    queues = [f"retention-test-{uuid4().hex[:12]}-{what}" for what in ("nightly", "periodic")]
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
        workers.send(nightly_tasks.dispatch_retention)
    depths = questions.queue_depths(settings, 5)
    assert (depths[settings.queue_periodic], depths[settings.queue_nightly]) == (3, 0)
    workers.start(pool=1)
    eventually(lambda: questions.queue_depths(settings, 5)[settings.queue_periodic] == 0)
    eventually(lambda: dict(tuple(row) for row in connection.execute(SEEN)) == {"worker": 1, "relay": 1})


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


def test_a_worker_notes_itself_in_the_schema_that_the_tables_are_in(app, connection, settings):
    connection.execute(text("CREATE SCHEMA elsewhere"))
    connection.execute(text("CREATE TABLE elsewhere.heartbeats (LIKE retention.heartbeats INCLUDING ALL)"))
    connection.execute(text("GRANT USAGE ON SCHEMA elsewhere TO PUBLIC; GRANT ALL ON elsewhere.heartbeats TO PUBLIC"))
    try:
        Presence("celery@somewhere", settings.database_url, "elsewhere").note()
        assert connection.execute(text("SELECT count(*) FROM elsewhere.heartbeats")).scalar() == 1
    finally:
        connection.execute(text("DROP SCHEMA elsewhere CASCADE"))
