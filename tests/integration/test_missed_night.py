"""A night that beat missed, or whose message was lost, is caught up.

Seen to fail: the look for a begun night, the condition that there was one before, the ten minutes, the night of the
day before while it is too early for tonight's, a run by hand counted as the night, and a night with one
type counted as begun.
"""

from datetime import date

import pytest
from freezegun import freeze_time
from sqlalchemy import text

from app.celery import celery, nightly_tasks
from app.retention import nightly

MONDAY, TUESDAY = date(2026, 7, 6), date(2026, 7, 7)  # British summer time: 03:00 is 02:00 UTC


@pytest.fixture(autouse=True)
def no_message_stays(app):
    yield
    celery.control.purge()


def begun(connection):
    return set(connection.execute(text("SELECT night FROM retention.run_types WHERE night >= '2026-07-07'")).scalars())


@pytest.mark.parametrize(
    ("now", "missed"),
    [
        ("2026-07-07T01:59:59Z", None),
        ("2026-07-07T02:09:59Z", None),
        ("2026-07-07T02:10:00Z", TUESDAY),
        ("2026-07-07T22:00:00Z", TUESDAY),
        ("2026-07-08T01:00:00Z", TUESDAY),
        ("2026-07-08T02:10:00Z", date(2026, 7, 8)),
    ],
)
def test_a_night_is_missed_ten_minutes_after_it_should_have_begun(app, now, missed):
    nightly.start_run(MONDAY)
    with freeze_time(now):
        assert nightly.missed_night() == missed


def test_a_night_that_began_is_not_missed(app):
    nightly.start_run(MONDAY)
    nightly.start_run(TUESDAY)
    with freeze_time("2026-07-07T12:00:00Z"):
        assert nightly.missed_night() is None


def test_before_the_first_night_nothing_is_caught_up(app):
    with freeze_time("2026-07-07T12:00:00Z"):
        assert nightly.missed_night() is None


def test_what_a_person_started_by_hand_is_not_the_night(app, connection):
    nightly.start_run(MONDAY)
    connection.execute(text("INSERT INTO retention.runs (night, started_at) VALUES ('2026-07-07', now())"))
    with freeze_time("2026-07-07T12:00:00Z"):
        assert nightly.missed_night() == TUESDAY


def test_a_night_is_begun_when_all_of_its_types_are(app, connection):
    """Someone fanned one type out by hand, in a night that beat missed."""
    nightly.start_run(MONDAY)
    with freeze_time("2026-07-07T12:00:00Z"):
        nightly.fan_out("email", TUESDAY)
        assert nightly.missed_night() == TUESDAY
        assert nightly.start_run(TUESDAY, once=True) == TUESDAY
        assert nightly.missed_night() is None


def test_the_missed_night_is_started_once_and_its_tasks_are_sent(app, connection):
    nightly.start_run(MONDAY)
    with freeze_time("2026-07-07T12:00:00Z"):
        nightly_tasks.catch_up_missed_night()
        assert begun(connection) == {TUESDAY}
        assert nightly.missed_night() is None
        with celery.connection_for_read() as broker:
            assert broker.SimpleQueue(celery.conf.task_queues[0]).qsize() == 3
