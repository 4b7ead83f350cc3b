"""Test notifications: never in history, and only when nothing of the service's real ones is left to move.

Each test was seen to fail with its guard taken out:
promise 4: `let_go` without its branch for test rows; the test chain opened when the real one is `later`, or by a
deferred chain, or before the last slice; `is_last_of_group` always true;
promises 1 and 5 for test letters: `_KIND` swapped, the not-final statuses left out of the choice, `<` made `<=` at the
cut-off, test letters looked for in the letters' bucket, the place where their status left them not looked at.
"""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app import clock
from app.retention import (
    chains,
    delete_test_notifications,
    move_notifications_to_notification_history,
    nightly,
    operations,
)
from tests.factories import (
    create_letter,
    create_notification,
    create_service,
    days_ago,
    deferred,
    history,
    keys,
    live,
    steps,
    where,
)
from tests.integration.night import broken_buckets, dispatch, drain, make_due, run_night, states

NOON = datetime(2024, 1, 20, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def settings_override(proxy):
    return {
        "AWS_ENDPOINT_URL_S3": proxy.url,
        "LETTERS_PER_STEP": "4",
        "MESSAGES_PER_STEP": "4",
        "FAN_OUT_SPREAD_SECONDS": "0",
    }


@pytest.fixture
def service(connection):
    return create_service(connection)


def create_test_letters(connection, s3, service, count):
    return [create_letter(connection, s3, service, days_ago(60, hours=-n), key_type="test") for n in range(count)]


@pytest.mark.parametrize("notification_type", ["email", "sms"])
def test_the_move_leaves_them_and_their_own_task_deletes_them_for_good(app, connection, service, notification_type):
    real = create_notification(connection, service, notification_type)
    team = create_notification(connection, service, notification_type, key_type="team")
    old = create_notification(connection, service, notification_type, key_type="test")
    young = create_notification(connection, service, notification_type, days_ago(1), key_type="test")
    assert delete_test_notifications(notification_type, service, days_ago(0)) == 1
    assert (live(connection), history(connection)) == ({real, team, young}, set())
    old = create_notification(connection, service, notification_type, key_type="test")
    assert move_notifications_to_notification_history(notification_type, service, days_ago(0)) == 2
    assert (live(connection), history(connection)) == ({old, young}, {real, team})


def test_test_letters_lose_the_files_of_their_own_bucket_and_no_others(app, connection, s3, service, settings):
    real = create_letter(connection, s3, service, NOON, reference="SAME")
    create_letter(connection, s3, service, NOON, reference="SAME", key_type="test")
    real_key = where(connection, real)[1]
    others = {"NOTIFY.SAMEAGAIN.D.2.C.20240120120000.PDF", "2024-01-20/NOTIFY.SAME.D.2.C.20240120120000.PDF"}
    for key in (*others, "NOTIFY.SAME.D.1.C.20240120120059.PDF"):
        s3.put_object(Bucket=settings.s3_bucket_test_letters, Key=key, Body=b"%PDF-1.4")
    assert delete_test_notifications("letter", service, days_ago(0)) == 1
    assert (live(connection), history(connection)) == ({real}, set())
    assert keys(s3, settings.s3_bucket_test_letters) == others
    assert keys(s3, settings.s3_bucket_letters_pdf) == {real_key}


@pytest.mark.parametrize(
    ("status", "bucket", "folder"),
    [
        ("validation-failed", "s3_bucket_invalid_pdf", ""),
        ("virus-scan-failed", "s3_bucket_letters_scan", "FAILURE/"),
        ("technical-failure", "s3_bucket_letters_scan", "ERROR/"),
    ],
)
def test_a_test_letter_that_was_set_aside_loses_its_files_in_both_places_or_stays(
    app, connection, s3, service, settings, proxy, status, bucket, folder
):
    letter = create_letter(
        connection, s3, service, NOON, reference="ASIDE", key_type="test", notification_status=status
    )
    set_aside = getattr(settings, bucket)
    s3.put_object(Bucket=set_aside, Key=folder + "NOTIFY.ASIDE.D.2.C.20240120120000.PDF", Body=b"%PDF-1.4")
    create_letter(connection, s3, service, key_type="test")
    proxy.denied_buckets = {set_aside}
    run_night()
    assert (live(connection), broken_buckets(connection)) == ({letter}, [(set_aside, "test", "AccessDenied")])
    assert states(connection)[-1] == ("test", "ended", None)
    proxy.denied_buckets = set()
    make_due(connection)
    dispatch()
    assert (live(connection), history(connection)) == (set(), set())
    assert keys(s3, settings.s3_bucket_test_letters, set_aside) == set()


@pytest.mark.parametrize("status", ["pending-virus-check", "created", "sending", None])
def test_a_test_letter_that_is_not_final_stays_with_its_file(app, connection, s3, service, settings, status):
    letter = create_letter(connection, s3, service, key_type="test", notification_status=status)
    assert delete_test_notifications("letter", service, days_ago(0)) == 0
    assert live(connection) == {letter}
    assert len(keys(s3, settings.s3_bucket_test_letters)) == 1
    assert steps(connection)[-1]["not_final"] == 1


@pytest.mark.parametrize(
    ("from_cutoff", "stays"), [(timedelta(microseconds=-1), False), (timedelta(0), True), (timedelta(seconds=1), True)]
)
def test_a_test_letter_at_the_cut_off_stays_with_its_file(app, connection, s3, service, settings, from_cutoff, stays):
    letter = create_letter(connection, s3, service, NOON + from_cutoff, key_type="test")
    assert delete_test_notifications("letter", service, NOON) == (0 if stays else 1)
    assert live(connection) == ({letter} if stays else set())
    assert len(keys(s3, settings.s3_bucket_test_letters)) == (1 if stays else 0)


def test_a_test_letter_whose_key_is_refused_is_deferred_and_goes_by_a_chain_of_its_own(
    app, connection, s3, service, settings, proxy
):
    refused, _ = create_test_letters(connection, s3, service, 2)
    proxy.refused_keys = {where(connection, refused)[1]: "AccessDenied"}
    run_night()
    assert (live(connection), history(connection)) == ({refused}, set())
    assert deferred(connection) == {refused: "AccessDenied"}
    proxy.refused_keys = {}
    assert dispatch() == []
    make_due(connection)
    dispatch()
    assert (live(connection), history(connection), deferred(connection)) == (set(), set(), {})
    assert keys(s3, settings.s3_bucket_test_letters) == set()
    assert states(connection) == [("real", "ended", None), ("test", "ended", None)]


def test_a_broken_test_bucket_has_one_record_and_the_real_letters_go_on(app, connection, s3, service, settings, proxy):
    stuck = set(create_test_letters(connection, s3, service, 6))
    real = create_letter(connection, s3, service)
    proxy.denied_buckets = {settings.s3_bucket_test_letters}
    run_night()
    assert (live(connection), history(connection), deferred(connection)) == (stuck, {real}, {})
    assert broken_buckets(connection) == [(settings.s3_bucket_test_letters, "test", "AccessDenied")]
    proxy.denied_buckets = set()
    make_due(connection)
    dispatch()
    assert (live(connection), history(connection), broken_buckets(connection)) == (set(), {real}, [])


@pytest.mark.parametrize("notification_type", ["email", "sms", "letter"])
def test_the_test_chain_starts_when_the_move_has_nothing_left_and_once(app, connection, s3, service, notification_type):
    def create(count, **more):
        if notification_type == "letter":
            return {create_letter(connection, s3, service, days_ago(60, hours=-n), **more) for n in range(count)}
        return {create_notification(connection, service, notification_type, **more) for _ in range(count)}

    real = create(9)
    create(5, key_type="test")
    wakes = run_night(notification_type)
    stages = [wake.stage for wake in wakes]
    assert stages == sorted(stages)  # "real" before "test"
    assert (live(connection), history(connection)) == (set(), real)
    moved = [(step["stage"], step["moved"], step["deleted"]) for step in steps(connection)]
    assert moved == [("real", 4, 0), ("real", 4, 0), ("real", 1, 0), ("test", 0, 4), ("test", 0, 1)]
    assert states(connection) == [("real", "ended", None), ("test", "ended", None)]
    assert drain(wakes) == wakes  # each of them stale, none with a successor


def test_with_only_deferred_letters_left_the_test_chain_starts(app, connection, s3, service, settings, proxy):
    held_back = create_letter(connection, s3, service)
    proxy.refused_keys = {where(connection, held_back)[1]: "AccessDenied"}
    create_test_letters(connection, s3, service, 1)
    run_night()
    assert live(connection) == {held_back}
    assert keys(s3, settings.s3_bucket_test_letters) == set()


def test_a_test_letter_that_is_not_final_has_a_chain_that_reports_it_though_it_is_the_only_one(
    app, connection, s3, service
):
    kept = create_letter(connection, s3, service, key_type="test", notification_status="sending")
    run_night()
    assert live(connection) == {kept}
    assert [(step["stage"], step["not_final"]) for step in steps(connection)] == [("real", 0), ("test", 1)]


def test_with_only_letters_left_that_are_not_final_the_test_chain_starts(app, connection, s3, service):
    not_final = create_letter(connection, s3, service, notification_status="sending")
    create_test_letters(connection, s3, service, 1)
    run_night()
    assert live(connection) == {not_final}


@pytest.mark.parametrize("notification_type", ["email", "letter"])
def test_while_an_eligible_row_is_locked_it_does_not_start(app, connection, s3, service, notification_type):
    if notification_type == "letter":
        locked = create_letter(connection, s3, service)
    else:
        locked = create_notification(connection, service)
    test = create_notification(connection, service, notification_type, key_type="test")
    with app.extensions["db.engine"].begin() as other:
        other.execute(text("SELECT FROM notifications WHERE id = :id FOR UPDATE"), {"id": locked})
        run_night(notification_type)
        assert live(connection) == {locked, test}
        assert states(connection)[-1] == ("real", "waiting", "locked")
        assert {stage for stage, _, _ in states(connection)} == {"real"}
    make_due(connection)
    dispatch()
    assert (live(connection), history(connection)) == (set(), {locked})


def test_while_s3_is_slow_it_does_not_start(app, connection, s3, service, settings, proxy):
    real, test = create_letter(connection, s3, service), create_test_letters(connection, s3, service, 1)[0]
    proxy.slow_buckets = {settings.s3_bucket_letters_pdf}
    run_night()
    assert live(connection) == {real, test}
    assert states(connection) == [("real", "waiting", "SlowDown")]


def test_a_chain_of_deferred_letters_starts_none(app, connection, s3, service, proxy):
    held_back = create_letter(connection, s3, service, reference="DEFERRED")
    proxy.refused_keys = {where(connection, held_back)[1]: "AccessDenied"}
    run_night()
    test = create_test_letters(connection, s3, service, 1)[0]
    proxy.refused_keys = {}
    operations.retry()
    dispatch()
    assert (live(connection), history(connection)) == ({test}, {held_back})
    assert states(connection)[-1] == ("deferred", "ended", None)
    assert ("test", "waiting", None) not in states(connection)


class TestSlices:
    @pytest.fixture
    def settings_override(self):
        return {"ROWS_PER_SLICE": "5", "SLICES_PER_SERVICE": "3", "FAN_OUT_SPREAD_SECONDS": "0"}

    def test_the_last_slice_to_end_starts_the_test_chain_and_no_other(self, app, connection, service):
        for n in range(15):
            create_notification(connection, service, created_at=days_ago(60, hours=-n))
        test = create_notification(connection, service, key_type="test")
        wakes = nightly.fan_out("email", clock.local_date(clock.now(), app.extensions["settings"].zone))
        assert len(wakes) == 3
        for wake in wakes[1:]:
            assert {one.stage for one in drain([wake])} == {"real"}
            assert test in live(connection)
        drain(chains.run_step(wakes[0].chain, wakes[0].step, "task"))
        assert live(connection) == set()
        assert [stage for stage, *_ in states(connection)].count("test") == 1
