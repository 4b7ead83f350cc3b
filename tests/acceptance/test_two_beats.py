"""Beat may run twice, or come late: a night is begun once, and none is left out.

Real beats and workers on a real broker. Each beat gets the state of one that last ran a day ago, so that it sends all
of its schedule the moment it starts, as one that comes back after an outage does. Seen to fail: beat's message without
`once` (every service was looked at twice); the catch-up without its time long ago (five minutes late).
"""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import ProxyHandler, build_opener
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.beat import PersistentScheduler
from flask import Flask
from sqlalchemy import Connection, text

from app import config
from app.celery import configuration
from app.retention import nightly, operations
from dev.processes import Child
from tests.acceptance.workers import ROWS_PER_STEP, Workers, eventually, have_ended
from tests.factories import chains, create_notification, create_service, days_ago, history, live, steps
from tests.integration.accounts.owned import mark_by_sql, record
from tests.session_rows import create_session, session_ids
from tests.users import address, create_user, user

ZONE = ZoneInfo("Europe/London")
NIGHTLY = "delete-notifications-older-than-retention"
A_DAY = timedelta(days=1)


@pytest.fixture
def workers(environment: dict[str, str], connection: Connection, tmp_path: Path) -> Iterator[Workers]:
    started = Workers({**environment, "RETENTION_TIMEZONE": ZONE.key}, tmp_path)
    yield started
    started.stop()


def start_beat(workers: Workers, name: str, last_ran_ago: timedelta | None = None, **settings: str) -> Child:
    """A beat with a state of its own: none, or that of one which last ran so long ago."""
    directory = workers.directory / name
    directory.mkdir()
    if last_ran_ago is not None:
        app = Celery("state", set_as_current=False)
        app.conf.update(configuration(config.load(workers.environment | settings)))
        with closing(PersistentScheduler(app, schedule_filename=str(directory / "beat-schedule"))) as scheduler:
            for entry in scheduler.schedule.values():
                entry.last_run_at = datetime.now(UTC) - last_ran_ago
        app.close()
    return workers.start_beat(name, **settings)


def sent(beat: Child) -> set[str]:
    """Names of the tasks that it says it sent."""
    due = [line for line in beat.log.read_text().splitlines() if "Sending due task" in line]
    return {line.rpartition("(")[2].split(")")[0] for line in due}


def fan_outs(workers: Workers) -> list[tuple[str, str]]:
    return sorted((event["notification_type"], event["night"]) for event in workers.events("fanned-out"))


def scheduled(workers: Workers) -> set[str]:
    made = configuration(config.load(workers.environment))
    return {entry["task"] for entry in made["beat_schedule"].values()}


def emailed(workers: Workers) -> list[str]:
    """The addresses of all emails that were sent, in order."""
    url = workers.environment["AWS_ENDPOINT_URL_SESV2"]
    with build_opener(ProxyHandler({})).open(f"{url}/moto-api/data.json", timeout=60) as answer:
        sent_ones = json.load(answer).get("ses", {}).get("Message", [])
    return [", ".join(email["destinations"]["ToAddresses"]) for email in sent_ones]


def test_two_beats_begin_a_night_once_and_send_everything_else_twice_without_harm(app: Flask, connection, workers):
    service, other = create_service(connection), create_service(connection)
    rows = {create_notification(connection, service, "email", days_ago(30, minutes=n)) for n in range(ROWS_PER_STEP)}
    rows |= {create_notification(connection, other, "sms", days_ago(30))}
    assert operations.run(["sms"], other), "a wake-up that nobody sends"
    long_ago = datetime.now(UTC) - 400 * A_DAY
    absent = create_user(connection, created_at=long_ago, last_visit_at=long_ago)
    leaving = create_user(connection, last_visit_at=datetime.now(UTC))
    mark_by_sql(connection, leaving)
    create_session(connection, created_at=datetime.now(UTC) - 2 * A_DAY)
    # The dispatcher repeats a fan-out that has not come to an end by its next look. Here nothing else is to repeat one.
    seldom = {"DISPATCH_EVERY_SECONDS": "5"}
    beats = [start_beat(workers, name, last_ran_ago=A_DAY, **seldom) for name in ("one", "two")]
    for beat in beats:
        eventually(lambda beat=beat: sent(beat) == scheduled(workers))
    workers.start(pool=2, **seldom)

    eventually(lambda: workers.events("night-had-begun"))
    eventually(lambda: have_ended(connection) and len(history(connection)) == len(rows))
    eventually(lambda: record(connection, leaving)["state"] == "complete")
    eventually(lambda: user(connection, absent).deletion_warning_sent_at is not None)
    eventually(lambda: not session_ids(connection))
    eventually(lambda: len(emailed(workers)) >= 2)
    night = connection.execute(text("SELECT DISTINCT night::text FROM retention.run_types")).scalar_one()
    assert fan_outs(workers) == [("email", night), ("letter", night), ("sms", night)]
    assert (live(connection), history(connection)) == (set(), rows)
    assert sum(step["moved"] for step in steps(connection)) == len(rows)
    ours = {address(absent), address(leaving)}
    assert sorted(to for to in emailed(workers) if to in ours) == sorted(ours), "each once"


def test_a_beat_that_starts_late_begins_the_night_that_was_missed_at_once(app: Flask, connection, workers):
    due = datetime.now(ZONE) - nightly.BEAT_IS_LATE_AFTER - timedelta(minutes=2)
    missed = due.date()
    nightly.start_run(missed - A_DAY)
    connection.execute(text("UPDATE retention.run_types SET fanned_out_at = sent_at"))
    rows = {create_notification(connection, create_service(connection), "email", days_ago(30))}
    at = {"RETENTION_NIGHTLY_AT": f"{due:%H:%M}"}
    workers.start(**at)
    beat = start_beat(workers, "late", **at)
    eventually(lambda: rows == history(connection), seconds=30)
    assert NIGHTLY not in sent(beat), "beat itself has no reason to send it: that is tomorrow's"
    assert [event["night"] for event in workers.events("night-was-missed")] == [missed.isoformat()]
    assert {chain["night"] for chain in chains(connection)} == {missed}
