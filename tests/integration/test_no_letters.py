"""Where there are no letters, as preset `us-notify` says, no night names a type that the enum of types lacks.

Seen to fail: each of all types taken again: in the night, its record, the plan, what is overdue, the missed night, a
run, a step by hand, a message and a chain that was open; a letters' task sent again; 'letter' compared with the column;
a retention of no days of a type that is not there called red; the audit's section, the clock's and the buckets' checks.
"""

import pytest
from freezegun import freeze_time
from sqlalchemy import text

from app import clock
from app.celery import nightly_tasks
from app.doctor import examination
from app.doctor.finding import Level
from app.errors import BadArgument
from app.ops import collector, health, progress, sections
from app.ops.kept import Kept
from app.retention import move_notifications_to_notification_history, nightly, operations, overdue
from app.retention.plan import plan
from tests.chain_steps import open_chains
from tests.factories import (
    chains,
    create_notification,
    create_service,
    days_ago,
    history,
    live,
    set_retention,
    steps,
    tonight,
)
from tests.integration.night import drain


@pytest.fixture
def settings(settings_of_preset):
    return settings_of_preset("us-notify")


@pytest.fixture(autouse=True)
def enum_without_letter(app, connection):
    connection.execute(text("ALTER TYPE notification_type RENAME VALUE 'letter' TO 'parcel'"))
    yield
    connection.execute(text("DELETE FROM notifications"))
    connection.execute(text("ALTER TYPE notification_type RENAME VALUE 'parcel' TO 'letter'"))
    app.extensions["db.engine"].dispose()


def test_a_night_has_two_types_and_no_chain_of_letters(app, connection, counting_s3):
    service = create_service(connection)
    moved = {create_notification(connection, service, of_type) for of_type in ("email", "sms")}
    night = nightly.start_run()
    began = connection.execute(text("SELECT notification_type FROM retention.run_types ORDER BY 1")).scalars().all()
    assert (night, began) == (tonight(), ["email", "sms"])
    for of_type in began:
        drain(nightly.fan_out(of_type))
    assert (history(connection), live(connection)) == (moved, set())
    assert nightly.dispatch() == ([], [])
    assert not counting_s3.requests


def test_a_letters_task_that_was_sent_before_has_nothing_to_do_and_is_not_sent_again(app, connection):
    assert nightly.fan_out("letter") == []
    assert nightly.dispatch() == ([], [])
    done = connection.execute(text("SELECT notification_type, fanned_out_at IS NOT NULL FROM retention.run_types"))
    assert done.all() == [("letter", True)]


def test_the_night_began_when_both_of_its_types_did(app, connection):
    with freeze_time(days_ago(1)):
        nightly.start_run()
    with freeze_time(days_ago(0)):
        nightly.start_run()
    assert nightly.missed_night() is None


def test_what_is_overdue_is_planned_and_measured_by_type(app, connection):
    service = create_service(connection, email=3)
    for of_type in ("email", "sms"):
        create_notification(connection, service, of_type)
    set_retention(connection, service, "parcel", 0)
    assert [(one.notification_type, one.services[0].rows) for one in plan().types] == [("email", 1), ("sms", 1)]
    assert sorted(one.notification_type for one in overdue.measure().kept) == ["email", "sms"]
    assert len(operations.run()) == 2


def test_letters_that_are_asked_for_are_refused_with_the_types_there_are(app, connection):
    service = create_service(connection)
    with pytest.raises(BadArgument, match="'letter' is not a notification type; it is one of email, sms"):
        move_notifications_to_notification_history("letter", service, days_ago(0))
    with pytest.raises(BadArgument, match="it is one of email, sms"):
        operations.run(["letter"])
    nightly_tasks.delete_notifications_for_service_and_type.apply(args=[str(service), "letter", "2026-01-01"])
    assert not chains(connection)


def test_a_chain_of_letters_that_was_open_ends(app, connection):
    service = create_service(connection)
    drain(open_chains(service, "letter"))
    assert [step["outcome"] for step in steps(connection)] == ["retention-refused"]
    assert connection.execute(text("SELECT state FROM retention.chains")).scalars().all() == ["ended"]


def test_the_page_the_metrics_the_doctor_and_readiness_cope(app, connection, settings, counting_s3):
    nightly.start_run()
    page = sections.look(settings, Kept(), clock.now())
    assert not [name for name, one in vars(page).items() if getattr(one, "failed", None)]
    assert page.audit.found is None
    assert progress.look(None, 0, 5.0, clock.now()) is not None
    assert {family.name for family in collector.Collector(settings).collect()}
    assert not [name for name in health.checks(settings) if name.startswith("bucket")]
    wrong = [one for one in examination.examine(settings) if one.level is Level.ERROR]
    assert not [one for one in wrong if "bucket" in one.check or "looked at" in one.says]
    assert not counting_s3.requests
