"""A night cuts off where its platform does: what fans out, what a step takes, the plan, and what counts as overdue.

Seen to fail: local midnight taken for every platform in the fan-out, in the step, and in the time since when a row is
overdue; the step counting from a local date that UTC has not reached.
"""

from datetime import datetime, timedelta

import pytest
from freezegun import freeze_time

from app.retention import move_notifications_to_notification_history, nightly, overdue
from app.retention.plan import plan
from tests.factories import create_notification, create_service, history, live

MICROSECOND = timedelta(microseconds=1)
GC, US, VA = ({"PLATFORM_PRESET": f"{platform}-notify"} for platform in ("gc", "us", "va"))


# A retention of seven days. New York's clocks go forward on 8 March 2026 at 07:00 UTC and back on 1 November at 06:00.
@pytest.mark.parametrize(
    ("settings_override", "now", "cut_off"),
    [
        (GC, "2026-03-08T08:00:00Z", "2026-03-01T23:59:59.999999Z"),
        (GC, "2026-03-09T00:00:00Z", "2026-03-02T23:59:59.999999Z"),
        (GC, "2026-11-01T08:00:00Z", "2026-10-25T23:59:59.999999Z"),
        (US, "2026-03-08T08:00:00Z", "2026-03-01T00:00:00Z"),
        (US, "2026-11-01T08:00:00Z", "2026-10-25T00:00:00Z"),
        (VA, "2026-03-08T08:00:00Z", "2026-03-01T05:00:00Z"),
        (VA, "2026-03-09T07:00:00Z", "2026-03-02T04:00:00Z"),
        (VA, "2026-03-09T03:59:59Z", "2026-03-01T05:00:00Z"),
        (VA, "2026-11-01T08:00:00Z", "2026-10-25T04:00:00Z"),
        (VA, "2026-11-02T08:00:00Z", "2026-10-26T05:00:00Z"),
    ],
    indirect=["settings_override"],
)
def test_a_night_cuts_off_where_its_platform_does(app, connection, now, cut_off):
    service, cut_off = create_service(connection), datetime.fromisoformat(cut_off)
    with freeze_time(now):
        at = create_notification(connection, service, created_at=cut_off)
        assert (nightly.fan_out("email"), plan().types[0].services, overdue.measure().kept) == ([], [], [])
        before = create_notification(connection, service, created_at=cut_off - MICROSECOND)
        (wake,) = nightly.fan_out("email")
        [planned] = plan().types[0].services
        assert (wake.cutoff, planned.cutoff, planned.rows) == (cut_off, cut_off, 1)
        [kept] = overdue.measure().kept
        assert timedelta() <= kept.past < timedelta(days=1)
        assert move_notifications_to_notification_history("email", service, now) == 1
    assert (live(connection), history(connection)) == ({at}, {before})


@pytest.fixture
def settings_override(request):
    return {**request.param, "FAN_OUT_SPREAD_SECONDS": "0"}


@pytest.mark.parametrize(
    "settings_override", [{**GC, "RETENTION_TIMEZONE": "Asia/Tokyo"}], indirect=["settings_override"]
)
def test_where_nights_are_ahead_of_utc_nothing_goes_that_was_sent_just_now(app, connection):
    service = create_service(connection, email=1)
    with freeze_time("2026-06-14T18:00:00Z"):  # three in the morning of the 15th in Tokyo
        sent_just_now = create_notification(
            connection, service, created_at=datetime.fromisoformat("2026-06-14T17:59:00Z")
        )
        assert move_notifications_to_notification_history("email", service, "2026-06-14T18:00:00Z") == 0
    assert live(connection) == {sent_just_now}
