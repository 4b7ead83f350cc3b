"""Real workers: through to the end, whatever happens to them on the way."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from kombu import Connection as Broker
from sqlalchemy import Connection, text

from app.celery import nightly_tasks
from app.retention import operations
from dev.processes import Child
from tests.acceptance import workers as world
from tests.acceptance.workers import (
    ROWS_PER_STEP,
    SECONDS_OF_A_SLOW_STEP,
    Workers,
    eventually,
    have_ended,
    is_in_the_middle_of_a_step,
    slow_down,
)
from tests.factories import (
    EMAIL_ADDRESS,
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


@pytest.fixture
def workers(environment: dict[str, str], connection: Connection, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(environment, tmp_path)
    yield started
    started.stop()


@pytest.fixture
def slow_steps(connection: Connection) -> Iterator[None]:
    """The first step takes seconds between its copy to history and its commit."""
    connection.execute(text(world.SLOW_DOWN))
    slow_down(connection, SECONDS_OF_A_SLOW_STEP)
    yield
    connection.execute(text(world.SLOW_NO_MORE))


def emails(connection: Connection, service: UUID, count: int) -> set[UUID]:
    return {create_notification(connection, service, "email", days_ago(30, minutes=n)) for n in range(count)}


def send_night(workers: Workers) -> None:
    workers.send(nightly_tasks.delete_notifications_older_than_retention)


def assert_each_moved_once(connection: Connection, rows: set[UUID]) -> None:
    assert (live(connection), history(connection)) == (set(), rows)
    assert sum(step["moved"] for step in steps(connection)) == len(rows)


def have_ended_with_dispatchers_help(connection: Connection, workers: Workers) -> bool:
    workers.remind(nightly_tasks.dispatch_retention)
    return have_ended(connection)


def in_the_middle(connection: Connection, workers: Workers) -> Child:
    """A worker that has begun the first step of a chain."""
    worker = workers.start("first", pool=1)
    send_night(workers)
    eventually(lambda: is_in_the_middle_of_a_step(connection))
    return worker


def test_a_message_moves_everything_to_the_end_of_the_test_chain(connection, s3, environment, workers):
    service = create_service(connection)
    rows = emails(connection, service, 2 * ROWS_PER_STEP + 1) | {create_notification(connection, service, "sms")}
    rows |= {create_letter(connection, s3, service) for _ in range(3)}
    for _ in range(2):
        create_notification(connection, service, "email", key_type="test")
        create_letter(connection, s3, service, key_type="test")
    kept = {
        create_letter(connection, s3, service, days_ago(1)),
        create_notification(connection, service, "sms", days_ago(1)),
    }
    worker = workers.start()
    send_night(workers)
    eventually(lambda: have_ended(connection) and len(chains(connection)) == 5)
    assert (live(connection), history(connection)) == (kept, rows)
    assert len(keys(s3, *(name for of, name in environment.items() if of.startswith("S3_BUCKET_")))) == 1
    stages = sorted((chain["notification_type"], chain["stage"]) for chain in chains(connection))
    assert stages == [(of, stage) for of in ("email", "letter") for stage in ("real", "test")] + [("sms", "real")]
    assert sum(step["deleted"] for step in steps(connection)) == 4
    assert all(step["task_id"] for step in steps(connection))
    assert worker.running


def test_a_pool_process_killed_in_a_step_loses_nothing_and_its_task_is_back_at_once(connection, workers, slow_steps):
    rows = emails(connection, create_service(connection), 2 * ROWS_PER_STEP)
    in_the_middle(connection, workers)
    [pool_process] = {event["process"] for event in workers.events("fanned-out")}
    [task_id] = re.findall(r"delete-notifications-for-service-and-type\[([-0-9a-f]+)\] received", workers.logged())
    os.kill(pool_process, signal.SIGKILL)
    slow_down(connection, 0)
    eventually(lambda: steps(connection))
    assert steps(connection)[0]["task_id"] == task_id, "the same message, which holds the lease of the dead"
    eventually(lambda: have_ended_with_dispatchers_help(connection, workers))
    assert_each_moved_once(connection, rows)


def test_a_worker_killed_whole_in_a_step_loses_nothing_and_another_finishes(connection, workers, slow_steps):
    """Its message is not handed out again for a quarter of an hour: the dispatcher finds the chain by its lease."""
    rows = emails(connection, create_service(connection), 2 * ROWS_PER_STEP)
    killed = in_the_middle(connection, workers)
    killed.kill()
    slow_down(connection, 0)
    eventually(lambda: not is_in_the_middle_of_a_step(connection))
    assert (live(connection), history(connection), len(steps(connection))) == (rows, set(), 0)
    workers.start("second")
    eventually(lambda: have_ended_with_dispatchers_help(connection, workers))
    assert_each_moved_once(connection, rows)


def test_a_worker_told_to_stop_finishes_its_step_and_another_goes_on(connection, workers, slow_steps):
    rows = emails(connection, create_service(connection), 2 * ROWS_PER_STEP)
    stopped = in_the_middle(connection, workers)
    stopped.ask_to_stop(signal.SIGTERM)
    assert stopped.wait(timeout_seconds=30) == 0
    slow_down(connection, 0)
    [done] = steps(connection)
    assert (done["moved"], len(history(connection))) == (ROWS_PER_STEP, ROWS_PER_STEP)
    assert [(chain["step"], chain["state"]) for chain in chains(connection)] == [(1, "waiting")]
    workers.start("second")
    eventually(lambda: have_ended_with_dispatchers_help(connection, workers))
    assert_each_moved_once(connection, rows)


def test_a_chain_whose_message_was_lost_is_found_by_beats_dispatcher(connection, workers):
    service = create_service(connection)
    rows = emails(connection, service, ROWS_PER_STEP + 1)
    assert operations.run(["email"], service), "a wake-up that nobody sends"
    workers.start()
    beat = workers.start_beat()
    eventually(lambda: have_ended(connection))
    assert beat.running
    assert_each_moved_once(connection, rows)


def test_a_night_that_is_started_twice_at_once_moves_each_row_once(connection, workers):
    services = [create_service(connection) for _ in range(4)]
    rows = {row for service in services for row in emails(connection, service, ROWS_PER_STEP + 10)}
    workers.start("first")
    workers.start("second")
    for _ in range(2):
        send_night(workers)
    eventually(lambda: have_ended_with_dispatchers_help(connection, workers) and len(chains(connection)) == 4)
    assert_each_moved_once(connection, rows)


class WritesAFile:
    """When unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_a_forged_message_is_not_unpickled_and_the_worker_lives_on(connection, workers, tmp_path):
    rows = emails(connection, create_service(connection), 1)
    worker = workers.start()
    with Broker(workers.broker.url) as broker, broker.Producer() as producer:
        task = "delete-notifications-older-than-retention"
        producer.publish(
            ([WritesAFile(tmp_path / "owned")], {}, {}),
            routing_key="retention-nightly",
            serializer="pickle",
            headers={"task": task, "id": "forged"},
        )
    send_night(workers)
    eventually(lambda: have_ended(connection))
    assert [event["code"] for event in workers.events("message-refused")] == ["envelope"]
    assert (worker.running, (tmp_path / "owned").exists()) == (True, False)
    assert_each_moved_once(connection, rows)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("not-a-uuid", "email", "2026-01-01"), "what was given is not a service id; it must be a UUID"),
        (("00000000-0000-0000-0000-00000000dead", "email", "2026-01-01"), "there is no service what was given"),
        (("00000000-0000-0000-0000-00000000dead", "fax", "2026-01-01"), "what was given is not a notification type"),
        (("00000000-0000-0000-0000-00000000dead", "email", "yesterday"), "what was given is not a date and time"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_message_that_makes_no_sense_is_refused_with_a_sentence(connection, workers, arguments, why):
    rows = emails(connection, create_service(connection), 1)
    worker = workers.start()
    workers.send(nightly_tasks.delete_notifications_for_service_and_type, *arguments)
    eventually(lambda: workers.events("message-refused"))
    [refused] = workers.events("message-refused")
    assert why in refused["why"]
    assert (refused["level"], refused["task"]) == ("error", "delete-notifications-for-service-and-type")
    assert "Traceback" not in workers.logged()
    assert (worker.running, live(connection), chains(connection), steps(connection)) == (True, rows, [], [])


# Not about a row, so the step fails as a whole; the error quotes the row.
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.sent_by = 'refused' THEN
            RAISE EXCEPTION 'no room for (%)', NEW USING ERRCODE = '53100', DETAIL = NEW::text;
        END IF;
        RETURN NEW;
    END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON notification_history FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.fixture
def history_refuses(connection: Connection) -> Iterator[None]:
    connection.exec_driver_sql(REFUSE.replace("%", "%%"))
    yield
    connection.exec_driver_sql("DROP TRIGGER refuse ON notification_history; DROP FUNCTION refuse")


def test_no_log_has_personal_data_not_even_when_the_database_refuses_a_row(connection, s3, workers, history_refuses):
    good, bad = create_service(connection), create_service(connection)
    rows = emails(connection, good, 3) | {create_letter(connection, s3, good)}
    refused = {
        create_notification(connection, bad, "email", client_reference=EMAIL_ADDRESS, sent_by="refused"),
        create_letter(connection, s3, bad, client_reference=EMAIL_ADDRESS, sent_by="refused"),
    }
    workers.start(LOG_LEVEL="DEBUG")
    workers.start_beat()  # the good letter may wait for an index that the bad one's step takes back with itself
    send_night(workers)
    eventually(lambda: len(workers.events("step-failed")) >= 2 and history(connection) == rows)
    logged = workers.logged()
    assert "53100" in logged, "the code of a full disk, which says what is wrong"
    assert EMAIL_ADDRESS not in logged
    assert "private content" not in logged
    assert live(connection) == refused
    kept = connection.execute(text("SELECT string_agg(c::text, ' ') FROM retention.chains AS c")).scalar_one()
    assert EMAIL_ADDRESS not in kept


def test_a_workers_log_is_one_json_object_a_line(connection, workers):
    emails(connection, create_service(connection), 1)
    worker = workers.start()
    send_night(workers)
    eventually(lambda: have_ended(connection))
    worker.stop()
    lines = worker.log.read_text().splitlines()
    lines = lines[lines.index(next(line for line in lines if line.startswith("{"))) :]  # celery's banner comes before
    events = [json.loads(line) for line in lines if line and not line.startswith("worker: ")]  # its last words
    assert {"timestamp", "level", "event"} <= set.intersection(*(set(event) for event in events))
    assert {"step", "fanned-out"} <= {event["event"] for event in events}
