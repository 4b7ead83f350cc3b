"""Where letters have rows and no files, as with preset `gc-notify`, S3 is asked for nothing, and everything else copes.

Seen to fail: letters looked for in S3 as elsewhere, the lists of what is not final and of what is held back left out of
the choice, an audit begun, due or scheduled all the same, and its sentence made an error.
"""

import pytest
from sqlalchemy import text

from app import clock, config
from app.celery import schedule
from app.dao import deferred_dao
from app.dao.deferred_dao import Reason, Whose
from app.db import db
from app.retention import audit
from tests.factories import (
    create_notification,
    create_service,
    days_ago,
    deferred,
    history,
    live,
    steps,
)
from tests.integration.night import dispatch, run_night


@pytest.fixture
def settings(settings_of_preset):
    return settings_of_preset("gc-notify")


def test_letters_go_by_the_night_and_s3_is_asked_for_nothing(app, connection, counting_s3):
    service = create_service(connection)
    references = ["AB12CD", "AB12CD", "odd/ref.", "", None]
    moved = {
        create_notification(connection, service, "letter", reference=name, notification_status=status)
        for name in references
        for status in ("delivered", "validation-failed", "technical-failure", "virus-scan-failed", "cancelled")
    }
    for status in ("delivered", "validation-failed"):
        create_notification(connection, service, "letter", key_type="test", notification_status=status)
    # On this platform letters go whatever their status.
    moved |= {
        create_notification(connection, service, "letter", notification_status=status)
        for status in ("created", "sending", "pending-virus-check", None)
    }
    young = create_notification(connection, service, "letter", days_ago(3))
    wakes = run_night()
    assert (history(connection), live(connection)) == (moved, {young})
    assert sum(step["moved"] for step in steps(connection)) == len(moved) == 29
    assert len(wakes) > 3
    assert not deferred(connection)
    assert not counting_s3.requests


def test_a_letter_that_is_held_back_stays_until_its_time_has_come(app, connection, counting_s3):
    service = create_service(connection)
    held, other = (create_notification(connection, service, "letter") for _ in range(2))
    with db.transaction() as own:
        whose = Whose(service, "letter", "real", days_ago(7))
        reasons = {held: Reason("Referred")}
        deferred_dao.defer_rows(own, whose, reasons, now=clock.now(), first_seconds=3600, attempts_before_person=8)
    run_night()
    assert (live(connection), history(connection)) == ({held}, {other})
    connection.execute(text("UPDATE retention.deferred_rows SET next_attempt_at = now() - interval '1 second'"))
    dispatch()
    assert (live(connection), history(connection)) == (set(), {held, other})
    assert (deferred(connection), dict(counting_s3.requests)) == ({}, {})


def test_there_is_nothing_to_audit_and_that_is_said(app, connection, counting_s3):
    with pytest.raises(audit.NothingToAudit, match="LETTER_FILES is no-files"):
        audit.begin("me")
    assert audit.due(clock.now()) is None
    asked = app.test_cli_runner().invoke(args=["retention", "audit"])
    assert (asked.exit_code, asked.output) == (0, "There is nothing to audit: LETTER_FILES is no-files.\n")
    assert not counting_s3.requests


def test_beat_starts_no_audits(settings, environment):
    assert "audit" not in schedule.beat(settings)
    assert "audit" in schedule.beat(config.load(environment))
