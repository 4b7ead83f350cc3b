"""A wrong bucket, prefix or time zone "confirms" that no letter has a file: then nothing may move.

Each test was seen to fail with its guard taken out: `too_many` returning None; the run's earlier looks, the share,
the night of the looks or of the acceptance left out; the intent written before the files were looked for; the
decision `rest` made `later`.
"""

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.retention import chains, move_notifications_to_notification_history, nightly, operations
from app.storage.files import LetterFiles
from tests.factories import chains as chain_rows
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
)
from tests.integration.night import dispatch, drain, make_due, run_night, states

RESTS = ("real", "resting", "missing-files")
ENDED = [("real", "ended", None)]


@pytest.fixture
def settings_override():
    return {"FAN_OUT_SPREAD_SECONDS": "0"}


@pytest.fixture
def service(connection):
    return create_service(connection)


def letters(connection, s3, service, count, days=60, **more):
    """So many letters, an hour apart."""
    return {create_letter(connection, s3, service, days_ago(days, hours=-n), **more) for n in range(count)}


@pytest.mark.parametrize(
    ("found", "missing", "moves"),
    [(0, 19, True), (0, 20, False), (16, 4, True), (15, 5, False), (20, 5, True), (19, 5, False)],
)
def test_nothing_moves_when_more_than_a_fifth_of_at_least_twenty_have_no_file(
    app, connection, s3, service, settings, found, missing, moves
):
    with_file = letters(connection, s3, service, found)
    its = with_file | letters(connection, s3, service, missing, days=50, file=False)
    run_night()
    assert (live(connection), history(connection)) == ((set(), its) if moves else (its, set()))
    assert len(keys(s3, settings.s3_bucket_letters_pdf)) == (0 if moves else found)
    assert states(connection) == (ENDED if moves else [RESTS])


def test_the_sum_is_over_the_steps_and_services_of_a_night(app, connection, s3, settings):
    first = letters(connection, s3, create_service(connection), 19, file=False)
    run_night()
    assert (live(connection), history(connection)) == (set(), first)
    second = letters(connection, s3, create_service(connection), 1, file=False)
    run_night()
    assert (live(connection), history(connection)) == (second, first)
    assert states(connection)[-1] == RESTS


def test_another_nights_missing_files_do_not_count(app, connection, s3, service):
    first = letters(connection, s3, service, 19, file=False)
    run_night()
    connection.execute(text("UPDATE retention.letter_looks SET night = night - 1"))
    second = letters(connection, s3, service, 1, file=False)
    assert move_notifications_to_notification_history("letter", service, days_ago(0)) == 1
    assert history(connection) == first | second


def test_only_the_bucket_concerned_rests(app, connection, s3, settings):
    stuck_service, other_service = create_service(connection), create_service(connection)
    stuck = letters(connection, s3, stuck_service, 20, file=False, notification_status="validation-failed")
    ok = letters(connection, s3, other_service, 20)
    run_night()
    assert (live(connection), history(connection)) == (stuck, ok)
    resting = {chain["service_id"] for chain in chain_rows(connection) if chain["state"] == "resting"}
    assert resting == {stuck_service}


def test_emails_go_on_while_letters_rest(app, connection, s3, service):
    stuck = letters(connection, s3, service, 20, file=False)
    email = create_notification(connection, service, "email")
    run_night()
    run_night("email")
    assert (live(connection), history(connection)) == (stuck, {email})


def test_a_letter_without_a_reference_is_not_looked_for_and_counts_in_no_bucket(app, connection, s3, service):
    its = letters(connection, s3, service, 25, file=False, reference=None)
    run_night()
    assert (live(connection), history(connection)) == (set(), its)


def test_a_chain_that_rests_is_woken_by_nobody_but_an_operator(app, connection, s3, service, settings):
    its = letters(connection, s3, service, 20, file=False)
    run_night()
    make_due(connection)
    assert dispatch() == []
    assert run_night() == []
    assert (live(connection), states(connection)) == (its, [RESTS])


def test_an_operator_accepts_and_it_goes_on(app, connection, s3, service):
    its = letters(connection, s3, service, 20, file=False)
    run_night()
    assert operations.accept_missing("an operator") == 1
    dispatch()
    assert (live(connection), history(connection)) == (set(), its)
    assert states(connection) == ENDED
    assert sum(step["without_file"] for step in steps(connection)) == 20


def test_what_was_accepted_counts_for_its_own_night_only(app, connection, s3, service):
    letters(connection, s3, service, 20, file=False)
    run_night()
    operations.accept_missing("an operator")
    dispatch()
    for table in ("letter_looks", "accepted_missing"):
        connection.execute(text(f"UPDATE retention.{table} SET night = night - 1"))
    again = letters(connection, s3, service, 20, file=False)
    run_night()
    assert live(connection) == again
    assert states(connection)[0] == RESTS


def test_accepting_when_nothing_rests_accepts_nothing(app, connection, s3, service):
    assert operations.accept_missing("an operator") == 0
    its = letters(connection, s3, service, 20, file=False)
    run_night()
    assert (live(connection), states(connection)) == (its, [RESTS])


class TestOff:
    @pytest.fixture
    def settings_override(self):
        return {"FAN_OUT_SPREAD_SECONDS": "0", "MISSING_FILES_SHARE": "off"}

    def test_a_platform_that_keeps_no_files_moves_its_letters(self, connection, s3, service):
        its = letters(connection, s3, service, 25, file=False)
        run_night()
        assert (live(connection), history(connection)) == (set(), its)


class TestWrongBucket:
    """The letters' files are in one bucket, and the settings name another that exists and is empty."""

    @pytest.fixture
    def right_bucket(self, environment):
        return environment["S3_BUCKET_LETTERS_PDF"]

    @pytest.fixture
    def settings_override(self, s3, environment):
        region = {"LocationConstraint": environment["AWS_REGION"]}
        s3.create_bucket(Bucket="empty-and-wrong", CreateBucketConfiguration=region)
        yield {"FAN_OUT_SPREAD_SECONDS": "0", "S3_BUCKET_LETTERS_PDF": "empty-and-wrong"}
        s3.delete_bucket(Bucket="empty-and-wrong")

    @pytest.fixture
    def misplaced(self, connection, s3, service, right_bucket):
        its = letters(connection, s3, service, 25, file=False)
        for number in range(25):
            s3.put_object(
                Bucket=right_bucket, Key=f"2026-01-20/NOTIFY.R{number}.D.2.C.20260120120000.PDF", Body=b"%PDF"
            )
        return its

    def test_nothing_moves_no_file_goes_and_it_is_said_aloud(self, connection, s3, right_bucket, misplaced):
        with capture_logs() as events:
            run_night()
        assert (live(connection), history(connection), deferred(connection)) == (misplaced, set(), {})
        assert len(keys(s3, right_bucket)) == 25
        assert states(connection) == [RESTS]
        loud = [event for event in events if event["event"] == "too-many-letters-without-file"]
        assert [(e["log_level"], e["bucket"], e["looked"], e["missing"]) for e in loud] == [
            ("error", "empty-and-wrong", 25, 25)
        ]

    def test_a_call_by_hand_moves_nothing_either(self, connection, service, misplaced):
        assert move_notifications_to_notification_history("letter", service, days_ago(0)) == 0
        assert live(connection) == misplaced

    def test_a_worker_killed_before_the_files_does_not_make_the_next_one_move(self, connection, misplaced, monkeypatch):
        (wake,) = nightly.fan_out("letter")
        find = LetterFiles.find

        def find_and_die(*arguments):
            find(*arguments)
            raise MemoryError

        with monkeypatch.context() as broken:
            broken.setattr(LetterFiles, "find", find_and_die)
            with pytest.raises(MemoryError):
                chains.run_step(wake.chain, wake.step, "task")
        make_due(connection)
        dispatch()
        assert (live(connection), history(connection)) == (misplaced, set())
        assert states(connection) == [RESTS]

    def test_nineteen_letters_are_too_few_to_tell_and_the_twentieth_rests(self, connection, s3, service):
        few = letters(connection, s3, service, 19, file=False)
        drain(nightly.fan_out("letter"))
        more = letters(connection, s3, service, 19, file=False)
        drain(nightly.fan_out("letter"))
        assert (live(connection), history(connection)) == (more, few)
