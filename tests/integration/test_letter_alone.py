"""A letter that S3 fails at as a whole request, not key by key: alone often enough, it is deferred.

Promise 7. Seen to fail, each with its guard taken out: no deferral at all; the failures in a row not kept on the
chain's row, counted whoever the letter was, or counted for letters that were not alone; the search's failures not
counted, or the bucket's state counted as one of them; the back-off begun anew after a deferral; steps counted in
which a file of the letter went; the count kept when the letter is gone, and when a group is opened again; reasons
other than Unreachable not counted; a batch of which nothing went halved only; the next letter put off as well; letters
that were deferred before given three failures again.
"""

import pytest
from sqlalchemy import text

from app.retention import operations
from app.retention import steps as retention_steps
from app.retention.alone import FAILURES_IN_A_ROW
from app.storage.client import Deadline
from tests.chain_steps import open_chains
from tests.factories import (
    chains,
    create_letter,
    create_service,
    days_ago,
    deferred,
    history,
    keys,
    live,
    steps,
    where,
)
from tests.integration.night import deferrals, dispatch, make_due, run_night, states

MINUTE = 60
STEPS_TO_ONE_LETTER = 1
"""A batch of eight shrinks to one at once."""


@pytest.fixture
def settings_override(proxy):
    return {
        "AWS_ENDPOINT_URL_S3": proxy.url,
        "LETTERS_PER_STEP": "8",
        "STEP_BUDGET_SECONDS": "10",  # too short for a second attempt of each request
        "FAN_OUT_SPREAD_SECONDS": "0",
        "RETRY_AFTER_SECONDS": "60",
        "DEFERRAL_FIRST_MINUTES": "10",
    }


@pytest.fixture
def service(connection):
    return create_service(connection)


def letters(connection, s3, service, count, **more):
    """So many letters, the oldest first, with their files."""
    return [create_letter(connection, s3, service, days_ago(60, hours=-n), **more) for n in range(count)]


def fail_at(proxy, connection, *failing):
    proxy.failing_deletes |= {where(connection, letter)[1] for letter in failing}


def back_off(connection, times):
    """The chain's next due time comes, so often; no deferral's does."""
    for _ in range(times):
        connection.execute(text("UPDATE retention.chains SET due_at = now(), sent_at = NULL WHERE state = 'waiting'"))
        dispatch()


def alone(connection):
    (chain,) = chains(connection)
    return chain["alone_letter"], chain["alone_failures"]


def let_time_be_up_at_the_second_request(monkeypatch):
    """The first one asks for the bucket's state, the second one for the letter's files."""

    def deadline(seconds):
        moments = iter([0.0, 0.0])
        return Deadline(seconds, clock=lambda: next(moments, 2 * seconds))

    monkeypatch.setattr(retention_steps, "Deadline", deadline)


@pytest.mark.parametrize("key_type", ["normal", "test"])
def test_a_letter_that_s3_fails_at_for_good_is_deferred_and_the_others_go(
    app, connection, s3, service, proxy, key_type
):
    first, *others = its = letters(connection, s3, service, 12, key_type=key_type)
    fail_at(proxy, connection, first)
    run_night()
    back_off(connection, STEPS_TO_ONE_LETTER + FAILURES_IN_A_ROW - 2)
    assert (live(connection), deferred(connection)) == (set(its), {})
    back_off(connection, 1)
    assert (live(connection), deferred(connection)) == ({first}, {first: "Unreachable"})
    record = deferrals(connection)[first]
    assert (record["attempts"], record["pause"], record["kind"]) == (
        1,
        10 * MINUTE,
        "real" if key_type == "normal" else "test",
    )
    assert history(connection) == (set(others) if key_type == "normal" else set())
    assert {state for _, state, _ in states(connection)} == {"ended"}


def test_a_letter_that_is_all_that_is_left_is_deferred_too_and_the_test_letters_go(app, connection, s3, service, proxy):
    (letter,) = letters(connection, s3, service, 1)
    test_letter = create_letter(connection, s3, service, key_type="test")
    fail_at(proxy, connection, letter)
    run_night()
    back_off(connection, FAILURES_IN_A_ROW - 1)
    assert (live(connection), deferred(connection)) == ({letter}, {letter: "Unreachable"})
    assert test_letter not in history(connection)
    assert states(connection) == [("real", "ended", None), ("test", "ended", None)]


def test_letters_in_a_row_that_s3_fails_at_are_deferred_one_after_the_other_ever_later(
    app, connection, s3, service, proxy
):
    *bad, good = letters(connection, s3, service, 3)
    fail_at(proxy, connection, *bad)
    run_night()
    for setbacks in range(2, STEPS_TO_ONE_LETTER + len(bad) * (FAILURES_IN_A_ROW - 1) + 1):
        back_off(connection, 1)
        chain = chains(connection)[0]
        assert (chain["setbacks"], chain["reason"]) == (setbacks, "Unreachable")
    assert deferred(connection) == {bad[0]: "Unreachable"}
    back_off(connection, 1)
    assert deferred(connection) == dict.fromkeys(bad, "Unreachable")
    assert (live(connection), history(connection)) == (set(bad), {good})


def test_a_deferred_letter_is_tried_again_and_goes_when_s3_lets_it(app, connection, s3, service, settings, proxy):
    (letter,) = letters(connection, s3, service, 1)
    fail_at(proxy, connection, letter)
    run_night()
    back_off(connection, FAILURES_IN_A_ROW)
    assert deferrals(connection)[letter]["attempts"] == 1
    make_due(connection)
    dispatch()
    assert deferrals(connection)[letter]["attempts"] == 2
    assert states(connection)[-1] == ("deferred", "ended", None)
    proxy.failing_deletes.clear()
    assert operations.retry(reason="Unreachable") == 1
    dispatch()
    assert (live(connection), history(connection), deferred(connection)) == (set(), {letter}, {})
    assert keys(s3, settings.s3_bucket_letters_pdf) == set()


def test_known_bad_letters_that_are_due_at_the_head_do_not_hold_up_the_ones_behind(app, connection, s3, service, proxy):
    """Each of them fails once, at once: its time may come again before the chain's next back-off is over."""
    *bad, good = letters(connection, s3, service, 5)
    fail_at(proxy, connection, *bad)
    run_night()
    back_off(connection, STEPS_TO_ONE_LETTER + len(bad) * (FAILURES_IN_A_ROW - 1))
    assert history(connection) == {good}
    another = create_letter(connection, s3, service)
    make_due(connection)
    run_night()
    back_off(connection, STEPS_TO_ONE_LETTER)
    assert (history(connection), live(connection)) == ({good, another}, set(bad))
    assert {record["attempts"] for record in deferrals(connection).values()} == {2}


def test_only_failures_in_a_row_of_the_same_letter_count(app, connection, s3, service, proxy):
    older, letter = letters(connection, s3, service, 2)
    connection.execute(text("UPDATE notifications SET notification_status = 'sending' WHERE id = :id"), {"id": older})
    fail_at(proxy, connection, older, letter)
    run_night()
    back_off(connection, FAILURES_IN_A_ROW - 2)
    assert alone(connection) == (letter, FAILURES_IN_A_ROW - 1)
    connection.execute(text("UPDATE notifications SET notification_status = 'delivered' WHERE id = :id"), {"id": older})
    back_off(connection, 1)
    assert (alone(connection), deferred(connection)) == ((older, 1), {})


def test_a_letter_that_goes_after_all_leaves_nothing_behind(app, connection, s3, service, proxy):
    letter, last = letters(connection, s3, service, 2)
    fail_at(proxy, connection, letter)
    run_night()
    back_off(connection, STEPS_TO_ONE_LETTER + FAILURES_IN_A_ROW - 2)
    assert alone(connection) == (letter, FAILURES_IN_A_ROW - 1)
    proxy.failing_deletes.clear()
    fail_at(proxy, connection, last)
    back_off(connection, 1)
    assert (live(connection), alone(connection), deferred(connection)) == ({last}, (last, 1), {})


def test_a_step_in_which_a_file_of_the_letter_went_does_not_count(app, connection, s3, service, settings, proxy):
    noon = days_ago(60).replace(hour=12)  # later in the day its folder would be the next day's
    letter = create_letter(connection, s3, service, noon, notification_status="virus-scan-failed")
    bucket, first = where(connection, letter)
    last = f"{noon:%Y-%m-%d}/{first.removeprefix('FAILURE/')}"
    s3.put_object(Bucket=settings.s3_bucket_letters_pdf, Key=last, Body=b"%PDF-1.4")
    proxy.failing_deletes = {last}
    run_night()
    assert (keys(s3, bucket), alone(connection)) == (set(), (None, 0))
    back_off(connection, FAILURES_IN_A_ROW)
    assert (live(connection), deferred(connection)) == ({letter}, {letter: "Unreachable"})


def test_a_chain_that_is_opened_again_has_forgotten(app, connection, s3, service, proxy):
    letters(connection, s3, service, 1)
    [wake] = open_chains(service, "letter")
    connection.execute(
        text("UPDATE retention.chains SET state = 'ended', alone_letter = gen_random_uuid(), alone_failures = 2")
    )
    [again] = open_chains(service, "letter")
    assert (again.chain, alone(connection)) == (wake.chain, (None, 0))


@pytest.mark.parametrize("reason", ["Unreachable", "SlowDown", "OutOfTime"])
def test_whatever_stops_a_single_letter_for_good_counts(app, connection, s3, service, proxy, reason, monkeypatch):
    (letter,) = letters(connection, s3, service, 1)
    if reason == "Unreachable":
        proxy.failing_lists = {"prefix="}
    elif reason == "SlowDown":
        proxy.refused_keys = {where(connection, letter)[1]: "SlowDown"}
    else:
        let_time_be_up_at_the_second_request(monkeypatch)
    run_night()
    back_off(connection, FAILURES_IN_A_ROW - 1)
    assert (live(connection), deferred(connection)) == ({letter}, {letter: reason})


def test_an_s3_that_does_not_even_tell_a_buckets_state_defers_nothing(app, connection, s3, service, proxy):
    its = letters(connection, s3, service, 2)
    proxy.failing_lists = {"versioning"}
    run_night()
    back_off(connection, STEPS_TO_ONE_LETTER + 2 * FAILURES_IN_A_ROW)
    assert (live(connection), deferred(connection), alone(connection)) == (set(its), {}, (None, 0))
    assert states(connection) == [("real", "waiting", "Unreachable")]


def test_while_deletes_fail_for_everyone_few_letters_are_deferred(app, connection, s3, service, proxy):
    """One for so many back-offs, which get longer: of 5,000 letters, a few in a day."""
    its = letters(connection, s3, service, 9)
    fail_at(proxy, connection, *its)
    run_night()
    back_off(connection, STEPS_TO_ONE_LETTER + 2 * (FAILURES_IN_A_ROW - 1))
    assert list(deferred(connection)) == its[:2]
    assert [step["chosen"] for step in steps(connection)] == [8] + [1] * (2 * FAILURES_IN_A_ROW + 1)
    proxy.failing_deletes.clear()
    back_off(connection, 1)
    make_due(connection)
    dispatch()
    assert (live(connection), history(connection), deferred(connection)) == (set(), set(its), {})
