"""What happens between the two halves of a letter batch, while S3 is asked and nothing is locked, is honoured.

Seen to fail: the version not compared when the rows are locked; the holds, or the retention, read in the first half
alone; letters that another step moved meanwhile counted as missing their files.
"""

import pytest
from sqlalchemy import text

from app.dao import notifications_dao
from app.dao.notifications_dao import update_notification_status
from app.retention import move_notifications_to_notification_history, nightly, operations
from app.storage.files import LetterFiles
from tests.factories import create_letter, create_service, days_ago, history, keys, live, set_retention
from tests.integration.night import dispatch, drain, make_due, states


@pytest.fixture
def settings_override():
    return {"FAN_OUT_SPREAD_SECONDS": "0"}


@pytest.fixture
def service(connection):
    return create_service(connection)


@pytest.fixture
def letters(connection, s3, service):
    return [create_letter(connection, s3, service, days_ago(60, hours=-n)) for n in range(25)]


@pytest.fixture
def between(monkeypatch):
    """Let something happen once, when the files have been found and before the rows are locked."""

    def let(happen):
        lock = notifications_dao.lock_letters

        def lock_afterwards(*arguments):
            monkeypatch.setattr(notifications_dao, "lock_letters", lock)
            happen()
            return lock(*arguments)

        monkeypatch.setattr(notifications_dao, "lock_letters", lock_afterwards)

    return let


def before_the_search(monkeypatch, happen):
    find = LetterFiles.find

    def find_afterwards(*arguments):
        monkeypatch.setattr(LetterFiles, "find", find)
        happen()
        return find(*arguments)

    monkeypatch.setattr(LetterFiles, "find", find_afterwards)


def move(service):
    return move_notifications_to_notification_history("letter", service, days_ago(0))


def test_a_receipt_does_not_wait_for_the_search_and_its_letter_stays_for_the_next_step(
    app, connection, s3, service, letters, settings, between
):
    changed, *others = letters
    between(lambda: update_notification_status(changed, "returned-letter"))
    assert move(service) == 24
    assert (live(connection), history(connection)) == ({changed}, set(others))
    assert len(keys(s3, settings.s3_bucket_letters_pdf)) == 1
    assert move(service) == 1
    status = text("SELECT notification_status FROM notification_history WHERE id = :id")
    assert connection.execute(status, {"id": changed}).scalar() == "returned-letter"
    assert keys(s3, settings.s3_bucket_letters_pdf) == set()


def test_a_hold_that_is_placed_during_the_search_is_honoured(app, connection, s3, service, letters, settings, between):
    files = keys(s3, settings.s3_bucket_letters_pdf)
    before = nightly.fan_out("letter")
    between(lambda: pytest.fail("the rows were locked under a hold"))
    with pytest.MonkeyPatch.context() as patch:
        before_the_search(patch, lambda: operations.hold(service, "an inquiry", "me"))
        drain(before)
    assert (live(connection), keys(s3, settings.s3_bucket_letters_pdf)) == (set(letters), files)
    assert states(connection) == [("real", "resting", "on-hold")]


def test_a_retention_that_is_lengthened_during_the_search_is_honoured(
    app, connection, s3, service, letters, settings, monkeypatch
):
    files = keys(s3, settings.s3_bucket_letters_pdf)
    before_the_search(monkeypatch, lambda: set_retention(connection, service, "letter", 90))
    assert move(service) == 0
    assert (live(connection), keys(s3, settings.s3_bucket_letters_pdf)) == (set(letters), files)


def test_letters_that_another_step_moved_meanwhile_are_not_missing(
    app, connection, s3, service, letters, settings, monkeypatch
):
    (wake,) = nightly.fan_out("letter")
    before_the_search(monkeypatch, lambda: move(service))
    drain([wake])
    assert (live(connection), history(connection)) == (set(), set(letters))
    assert states(connection) == [("real", "ended", None)]
    assert connection.execute(text("SELECT coalesce(sum(missing), 0) FROM retention.letter_looks")).scalar() == 0


def test_letters_without_files_that_no_step_has_touched_still_block_the_chain(app, connection, s3, service):
    never_there = {create_letter(connection, s3, service, days_ago(40, hours=n), file=False) for n in range(30)}
    drain(nightly.fan_out("letter"))
    make_due(connection)
    dispatch()
    assert live(connection) == never_there
    assert states(connection) == [("real", "resting", "missing-files")]


def test_a_letter_that_another_step_held_back_meanwhile_is_not_deleted_by_what_was_found_before(
    app, connection, s3, service, letters, settings, between
):
    """Seen to fail: the files that the other step had deleted were deleted, and counted, once more."""
    held, *others = letters
    statement = text(
        "INSERT INTO retention.deferred_rows VALUES (:id, :service, 'real', now(), 'ObjectLocked', 1, now(), now(), "
        "now() + interval '1 hour', false, 'letter')"
    )
    between(lambda: connection.execute(statement, {"id": held, "service": service}))
    assert move(service) == 24
    assert (live(connection), history(connection)) == ({held}, set(others))
    assert len(keys(s3, settings.s3_bucket_letters_pdf)) == 1
