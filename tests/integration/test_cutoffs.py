"""What is past its cut-off, and whose word on it counts.

Promise 5. Seen to fail: `<` made `<=` in the choice and in the probe of services; the earlier of argument and
retention replaced by either of them; the refusal of retentions of no days; local midnight replaced by
`now - days`; the checks of type, service and limit taken out; the limit of a retention to the calendar.
"""

from datetime import UTC, date, datetime, timedelta

import pytest
from freezegun import freeze_time
from structlog.testing import capture_logs

from app import clock
from app.db import db
from app.retention import delete_test_notifications, move_notifications_to_notification_history, nightly
from app.retention.cutoffs import RetentionRefused, cutoff
from app.retention.tools import tools
from tests.chain_steps import cutoff_tonight, do_all
from tests.factories import (
    chains,
    create_notification,
    create_service,
    days_ago,
    history,
    live,
    set_retention,
    steps,
)

MICROSECOND = timedelta(microseconds=1)
BY_HAND = [move_notifications_to_notification_history, delete_test_notifications]


@pytest.mark.parametrize(
    ("from_the_cutoff", "moves"), [(-MICROSECOND, True), (timedelta(), False), (MICROSECOND, False)]
)
def test_a_row_moves_only_when_it_is_older_than_the_services_cut_off(app, connection, from_the_cutoff, moves):
    service = create_service(connection, email=3)
    email = create_notification(connection, service, created_at=cutoff_tonight(3) + from_the_cutoff)
    assert move_notifications_to_notification_history("email", service, days_ago(0)) == moves
    assert (live(connection), history(connection)) == ((set(), {email}) if moves else ({email}, set()))


@pytest.mark.parametrize(
    ("from_the_cutoff", "moves"), [(-MICROSECOND, True), (timedelta(), False), (MICROSECOND, False)]
)
def test_a_row_moves_only_when_it_is_older_than_the_argument(app, connection, from_the_cutoff, moves):
    service, argument = create_service(connection), days_ago(20)
    email = create_notification(connection, service, created_at=argument + from_the_cutoff)
    assert move_notifications_to_notification_history("email", service, argument) == moves
    assert (email in history(connection)) == moves


@pytest.mark.parametrize(
    ("argument_days", "retention_days", "age_days", "moves"),
    [
        (7, 7, 9, True),
        (7, 30, 9, False),  # lengthened in the meantime: it is kept
        (7, 30, 32, True),
        (7, 3, 5, False),  # shortened in the meantime: the argument still counts, the next night does the rest
        (7, 3, 9, True),
        (0, 7, 5, False),  # a person's cut-off of their own reaches no further than the retention
        (20, 7, 10, False),
    ],
)
def test_the_earlier_of_argument_and_retention_counts(app, connection, argument_days, retention_days, age_days, moves):
    service = create_service(connection, email=argument_days or 7)
    set_retention(connection, service, "email", retention_days)
    create_notification(connection, service, created_at=days_ago(age_days))
    assert move_notifications_to_notification_history("email", service, days_ago(argument_days)) == moves


@pytest.mark.parametrize("days", [0, -1])
@pytest.mark.parametrize("by_hand", BY_HAND)
def test_a_retention_of_no_days_is_refused_loudly_and_nothing_goes(app, connection, by_hand, days):
    service = create_service(connection, email=days)
    ids = {create_notification(connection, service), create_notification(connection, service, key_type="test")}
    with capture_logs() as said:
        assert by_hand("email", service, days_ago(0)) == 0
    assert (live(connection), history(connection)) == (ids, set())
    assert [record["outcome"] for record in steps(connection)] == ["retention-refused"]
    (refusal,) = [event for event in said if event["event"] == "retention-refused"]
    assert (refusal["service_id"], refusal["log_level"]) == (str(service), "error")
    assert f"a retention of {days} days is refused" in refusal["why"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"notification_type": "fax"}, "'fax' is not a notification type; it is one of"),
        ({"notification_type": "Email"}, "'Email' is not a notification type"),
        ({"service": "not-an-id"}, "'not-an-id' is not a service id; it must be a UUID"),
        ({"service": None}, "None is not a service id"),
        ({"service": "00000000-0000-4000-8000-000000000000"}, "there is no service '00000000-0000-4000"),
        ({"timestamp": "last week"}, "'last week' is not a date and time"),
        ({"timestamp": 20260329}, "A int is not a date and time"),
        ({"limit": 0}, "limit must be 1 or more, not 0"),
        ({"limit": -5}, "limit must be 1 or more, not -5"),
    ],
)
@pytest.mark.parametrize("by_hand", BY_HAND)
def test_arguments_that_make_no_sense_are_refused_with_a_sentence_and_nothing_changes(
    app, connection, by_hand, arguments, sentence
):
    service = create_service(connection)
    ids = {create_notification(connection, service), create_notification(connection, service, key_type="test")}
    given = {"notification_type": "email", "service": service, "timestamp": days_ago(0), "limit": None, **arguments}
    with pytest.raises(ValueError, match=sentence):
        by_hand(*given.values())
    assert (live(connection), history(connection), steps(connection)) == (ids, set(), [])


@pytest.mark.parametrize(
    "form",
    [
        lambda instant: instant,
        lambda instant: instant.replace(tzinfo=None),
        lambda instant: instant.isoformat(),
        lambda instant: instant.isoformat().replace("+00:00", "Z"),
        lambda instant: instant.replace(tzinfo=None).isoformat(),
        lambda instant: instant.astimezone(tools().settings.zone).isoformat(),
    ],
    ids=["aware", "naive", "string", "string with Z", "naive string", "string in local time"],
)
def test_a_cut_off_is_the_same_instant_in_every_form(app, connection, form):
    service, argument = create_service(connection), days_ago(20)
    at = create_notification(connection, service, created_at=argument)
    before = create_notification(connection, service, created_at=argument - MICROSECOND)
    assert move_notifications_to_notification_history("email", str(service), form(argument)) == 1
    assert (live(connection), history(connection)) == ({at}, {before})


# Nights in London: the clocks go forward on 29 March 2026 at 01:00 UTC and back on 25 October 2026 at 01:00 UTC.
@pytest.mark.parametrize(
    ("now", "cut_off"),
    [
        ("2026-03-28T03:00:00Z", datetime(2026, 3, 21, 0, tzinfo=UTC)),
        ("2026-03-29T02:00:00Z", datetime(2026, 3, 22, 0, tzinfo=UTC)),
        ("2026-03-30T02:00:00Z", datetime(2026, 3, 23, 0, tzinfo=UTC)),
        ("2026-04-05T02:00:00Z", datetime(2026, 3, 29, 0, tzinfo=UTC)),
        ("2026-04-06T02:00:00Z", datetime(2026, 3, 29, 23, tzinfo=UTC)),
        ("2026-04-05T22:59:59Z", datetime(2026, 3, 29, 0, tzinfo=UTC)),
        ("2026-04-05T23:00:00Z", datetime(2026, 3, 29, 23, tzinfo=UTC)),
        ("2026-10-25T03:00:00Z", datetime(2026, 10, 17, 23, tzinfo=UTC)),
        ("2026-11-01T03:00:00Z", datetime(2026, 10, 24, 23, tzinfo=UTC)),
        ("2026-11-02T03:00:00Z", datetime(2026, 10, 26, 0, tzinfo=UTC)),
    ],
)
def test_a_night_cuts_off_at_local_midnight_whatever_the_clocks_do(app, connection, now, cut_off):
    with freeze_time(now):
        service = create_service(connection)
        at = create_notification(connection, service, created_at=cut_off)
        assert nightly.fan_out("email") == []
        before = create_notification(connection, service, created_at=cut_off - MICROSECOND)
        (wake,) = nightly.fan_out("email")
        assert (wake.service_id, wake.cutoff) == (None, cut_off)
        assert move_notifications_to_notification_history("email", service, wake.cutoff) == 1
    assert (live(connection), history(connection)) == ({at}, {before})


def test_a_service_that_keeps_everything_for_ever_does_not_stop_the_others(app, connection):
    for_ever = create_service(connection, email=999_999)
    ordinary = create_service(connection)
    kept, moves = (create_notification(connection, service) for service in (for_ever, ordinary))
    do_all(nightly.fan_out("email"))
    for service in (for_ever, ordinary):
        move_notifications_to_notification_history("email", service, days_ago(0))
    assert (live(connection), history(connection)) == ({kept}, {moves})
    assert [chain["days"] for chain in chains(connection)] == [7]


@pytest.mark.parametrize("days", [0, -1])
def test_a_retention_of_no_days_has_no_cut_off(app, days):
    with pytest.raises(RetentionRefused, match="it must be 1 or more"):
        cutoff(date(2026, 3, 29), days, tools().settings)


def test_each_service_and_type_has_its_own_cut_off(app, connection):
    night = date(2026, 3, 29)
    short, default, other_type = (
        create_service(connection, email=3),
        create_service(connection),
        create_service(connection, sms=3),
    )
    for service in (short, default, other_type):
        create_notification(connection, service, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    with db.transaction() as own:
        found = nightly.find_overdue(own, tools().settings, "email", night)
    zone = tools().settings.zone
    a_week_before, three_days_before = (clock.first_instant(date(2026, 3, day), zone) for day in (22, 26))
    assert {one.service_id: one.cutoff for one in found} == {
        short: three_days_before,
        default: a_week_before,
        other_type: a_week_before,
    }
