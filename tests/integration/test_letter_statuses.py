"""A letter goes only in a status that is known to be its last; any other word, and none, keeps it and is told of.

Seen to fail: a list of what stays instead of what goes (the unknown word and `pending` moved); our own list taken in
the choice, in the count of a step, in the plan, in what is overdue and in the audit.
"""

import pytest
from sqlalchemy import text

from app.doctor import work
from app.doctor.finding import Level
from app.ops.collector import REASONS
from app.presets import FINAL
from app.retention import overdue
from app.retention.overdue import NOT_FINAL, OVERDUE, UNKNOWN_STATUS
from app.retention.plan import plan
from tests.audits import run
from tests.factories import create_letter, create_notification, create_service, history, keys, live, steps, where
from tests.integration.night import run_night

NEW_WORD = "queued-for-print"
UNDER_WAY = ("created", "sending", "pending", "pending-virus-check")


@pytest.fixture
def settings_override():
    return {"FAN_OUT_SPREAD_SECONDS": "0", "MISSING_FILES_LEAST": "100"}


@pytest.fixture
def new_word(connection):
    """The platform has a status that nobody has told the pipeline of."""
    connection.execute(text("INSERT INTO notification_status_types (name) VALUES (:word)"), {"word": NEW_WORD})
    yield
    connection.execute(text("TRUNCATE notifications, notification_history"))
    connection.execute(text("DELETE FROM notification_status_types WHERE name = :word"), {"word": NEW_WORD})


@pytest.fixture
def service(connection):
    return create_service(connection)


@pytest.fixture
def letters(connection, s3, new_word, service):
    """By status, an overdue letter with its file; of each, a test letter, too."""
    statuses = (*FINAL, *UNDER_WAY, NEW_WORD, None)
    return {
        (status, key_type): create_letter(connection, s3, service, notification_status=status, key_type=key_type)
        for status in statuses
        for key_type in ("normal", "test")
    }


def those(letters, *statuses):
    return {id_ for (status, _), id_ in letters.items() if status in statuses}


def test_only_letters_in_a_final_status_go_and_the_others_keep_their_files(app, connection, s3, settings, letters):
    stay = those(letters, *UNDER_WAY, NEW_WORD, None)
    files = {where(connection, id_)[1] for id_ in stay}
    run_night()
    assert live(connection) == stay
    assert history(connection) == {id_ for (status, key), id_ in letters.items() if status in FINAL and key == "normal"}
    buckets = {getattr(settings, name) for name in settings.letter_buckets}
    assert keys(s3, *buckets) == files
    assert {step["stage"]: step["not_final"] for step in steps(connection)} == {"real": 6, "test": 6}


def test_messages_go_in_any_status(app, connection, new_word, service):
    ids = {
        create_notification(connection, service, kind, notification_status=status)
        for kind in ("email", "sms")
        for status in ("created", NEW_WORD, None)
    }
    run_night("email")
    run_night("sms")
    assert (live(connection), history(connection)) == (set(), ids)


def test_the_plan_the_overdue_and_the_metric_tell_the_unknown_from_what_is_under_way(app, letters):
    [planned] = next(of.services for of in plan().types if of.notification_type == "letter")
    assert (planned.rows, planned.test_rows) == (len(FINAL), len(FINAL))
    assert (planned.not_final, planned.unknown_status) == (2 * len(UNDER_WAY), 4)
    state = overdue.measure()
    assert {one.kind: one.rows for one in state.kept} == {
        OVERDUE: 2 * len(FINAL),
        NOT_FINAL: 2 * len(UNDER_WAY),
        UNKNOWN_STATUS: 4,
    }
    assert {one.kind for one in state.waiting} <= REASONS.keys()


def test_the_doctor_names_the_unknown_ones(app, settings, letters):
    [finding] = work.letters_statuses(settings)
    assert (finding.level, finding.says.partition(": ")[2]) == (Level.WARNING, f"none at all, {NEW_WORD}.")


def test_an_audit_expects_files_of_letters_in_a_final_status_alone(app, connection, s3, service, new_word):
    without_file = {
        status: create_letter(connection, s3, service, notification_status=status, file=False)
        for status in ("returned-letter", "delivered", "sending", "pending", NEW_WORD, None)
    }
    _, found = run()
    missing = {id_ for kind, id_ in found if kind == "row-without-file"}
    assert missing == {without_file["returned-letter"], without_file["delivered"]}


@pytest.mark.usefixtures("app")
class TestOfAPlatform:
    """Whose last status has another name, and whose letters wait in one."""

    @pytest.fixture
    def settings_override(self, settings_override):
        final, under_way = f'["delivered", "{NEW_WORD}"]', '["sent"]'
        return {**settings_override, "LETTER_STATUSES_FINAL": final, "LETTER_STATUSES_UNFINISHED": under_way}

    def test_its_own_lists_count(self, connection, letters):
        [planned] = next(of.services for of in plan().types if of.notification_type == "letter")
        assert (planned.rows, planned.not_final) == (2, 2)
        run_night()
        assert live(connection) == set(letters.values()) - those(letters, "delivered", NEW_WORD)


@pytest.mark.usefixtures("app")
class TestInAnyStatus:
    """Of a platform that never asked for one."""

    @pytest.fixture
    def settings_override(self, settings_override):
        return {**settings_override, "LETTERS_IN_ANY_STATUS": "true"}

    def test_every_letter_goes(self, connection, letters):
        [planned] = next(of.services for of in plan().types if of.notification_type == "letter")
        assert (planned.rows, planned.not_final, planned.unknown_status) == (len(letters) / 2, 0, 0)
        assert {one.kind for one in overdue.measure().kept} == {OVERDUE}
        run_night()
        assert live(connection) == set()


@pytest.mark.usefixtures("app")
class TestTestLettersInAnyStatus:
    """Of a platform that waits for the end of real letters alone."""

    @pytest.fixture
    def settings_override(self, settings_override):
        return {**settings_override, "TEST_LETTERS_IN_ANY_STATUS": "true"}

    def test_test_letters_go_and_others_wait(self, connection, s3, settings, letters):
        [planned] = next(of.services for of in plan().types if of.notification_type == "letter")
        assert (planned.rows, planned.test_rows) == (len(FINAL), len(letters) / 2)
        assert (planned.not_final, planned.unknown_status) == (len(UNDER_WAY), 2)
        kept = {one.kind: one.rows for one in overdue.measure().kept}
        assert kept == {OVERDUE: len(FINAL) + len(letters) / 2, NOT_FINAL: len(UNDER_WAY), UNKNOWN_STATUS: 2}
        run_night()
        assert live(connection) == {
            id_ for (status, key), id_ in letters.items() if status not in FINAL and key == "normal"
        }
        assert keys(s3, settings.s3_bucket_test_letters) == set()
