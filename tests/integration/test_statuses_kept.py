"""The letters that stay are those in LETTER_STATUSES_KEPT, for the choice and for everything that tells of them.

Seen to fail: our own list taken in the choice, in the count of a step, in the plan, in what is overdue and in the
audit, and a letter without a status moved.
"""

import pytest

from app.retention import overdue
from app.retention.overdue import NOT_FINAL
from app.retention.plan import plan
from tests.audits import run
from tests.factories import create_letter, create_service, history, live, steps
from tests.integration.night import run_night


@pytest.fixture
def settings_override():
    kept = '["created", "returned-letter", "failed"]'
    return {"LETTER_STATUSES_KEPT": kept, "FAN_OUT_SPREAD_SECONDS": "0", "MISSING_FILES_LEAST": "100"}


@pytest.fixture
def letters(connection, s3):
    """By status, an overdue letter without a file."""
    service = create_service(connection)
    statuses = ("created", "returned-letter", "failed", None, "sending", "pending-virus-check", "delivered")
    return {
        status: create_letter(connection, s3, service, notification_status=status, file=False) for status in statuses
    }


def test_statuses_that_are_named_stay_and_others_go(app, connection, letters):
    run_night()
    stay = {letters[status] for status in ("created", "returned-letter", "failed", None)}
    assert (live(connection), history(connection)) == (stay, set(letters.values()) - stay)
    assert steps(connection)[-1]["not_final"] == len(stay)


def test_the_plan_and_what_is_overdue_tell_of_them(app, letters):
    [of_letters] = next(of.services for of in plan().types if of.notification_type == "letter")
    assert (of_letters.rows, of_letters.not_final) == (3, 4)
    kept = {one.kind: one.rows for one in overdue.measure().kept}
    assert kept == {NOT_FINAL: 4, overdue.OVERDUE: 3}


def test_an_audit_expects_files_of_the_others_alone(app, letters):
    _, found = run()
    assert {id_ for kind, id_ in found if kind == "row-without-file"} == {
        letters[status] for status in ("sending", "pending-virus-check", "delivered")
    }
