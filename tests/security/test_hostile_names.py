"""No string, wherever it comes in, reaches another letter's file or becomes SQL.

Seen to fail: the check of references and that of a key's form taken out of naming (either alone is enough to save the
other letter's file; without the first, letters are no longer deferred), a reason put into the statement of `holds_dao`
instead of bound, an id that was not checked before it was bound.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from app.celery import celery, nightly_tasks
from app.dao import notifications_dao
from app.retention import (
    chains,
    delete_test_notifications,
    move_notifications_to_notification_history,
    operations,
)
from app.retention.tools import tools
from app.storage.client import Deadline
from app.storage.naming import AmbiguousReference, Letter
from tests.factories import (
    create_letter,
    create_notification,
    create_service,
    days_ago,
    deferred,
    history,
    keys,
    live,
    where,
)
from tests.security.hostile import HOSTILE, contents, is_a_sentence

VICTIM = "K7QWERTY12345678"
NOON = datetime(2026, 1, 20, 12, tzinfo=UTC)
STATUSES = ("delivered", "validation-failed", "virus-scan-failed", "technical-failure", "returned-letter", None)
AROUND = [VICTIM, VICTIM[:-1], f"{VICTIM}1", f"{VICTIM}-", f"_{VICTIM}"]

# What an attacker would try, made of pieces that mean something in a key.
PIECES = [
    VICTIM,
    VICTIM[:4],
    VICTIM.lower(),
    ".",
    "/",
    "..",
    "NOTIFY.",
    "D.2.C.",
    "FAILURE/",
    "2026-01-20/",
    "\x00",
    "İ",
]
REFERENCES = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join),
    st.sampled_from(HOSTILE),
    st.text(max_size=40),
)
ONE_APPLICATION = {
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "deadline": None,
}


def letter(reference: str | None, status: str | None = "delivered", key_type: str = "normal") -> Letter:
    return Letter(uuid4(), reference, NOON, status, key_type, "second")


def files_around(naming: Any) -> dict[tuple[str, str], str]:
    """Bucket and key of files of several letters whose names are close, in every place, with whose they are."""
    found = {}
    for reference in AROUND:
        for status in STATUSES:
            for key_type in ("normal", "test"):
                of_letter = letter(reference, status, key_type)
                rest = naming.key(of_letter).removeprefix(naming.places(of_letter)[0].prefix)
                found |= {(place.bucket, place.prefix + rest): reference for place in naming.places(of_letter)}
    return found


@given(reference=REFERENCES, status=st.sampled_from(STATUSES), key_type=st.sampled_from(["normal", "test"]))
@example(reference=f"{VICTIM}.D.2.C.20260120120000.PDF", status="delivered", key_type="normal")
@example(reference=f"{VICTIM}.D.2.C", status="delivered", key_type="normal")
@example(reference=VICTIM[:-1], status="delivered", key_type="normal")
@settings(max_examples=300, **ONE_APPLICATION)
def test_a_reference_names_its_own_files_or_none(app, reference, status, key_type):
    naming = tools().naming
    try:
        places = naming.places(letter(reference, status, key_type))
    except AmbiguousReference:
        return
    for (bucket, key), owner in files_around(naming).items():
        is_claimed = any(place.bucket == bucket and naming.is_file_of(key, place) for place in places)
        assert not is_claimed or owner.upper() == reference.upper()


@given(references=st.lists(REFERENCES, min_size=1, max_size=4), status=st.sampled_from(STATUSES))
@example(references=[f"{VICTIM}.D.2.C", f"{VICTIM}.D", "", "."], status="delivered")
@example(references=["../NOTIFY", f"{VICTIM}.D.2"], status="virus-scan-failed")
@settings(max_examples=25, **ONE_APPLICATION)
def test_on_a_server_no_reference_deletes_another_letters_file(app, s3, references, status):
    files = set(files_around(tools().naming))
    assume(not {reference.upper() for reference in references} & set(AROUND))
    present = {(bucket, key) for bucket in {of for of, _ in files} for key in keys(s3, bucket)}
    for bucket, key in files - present:
        s3.put_object(Bucket=bucket, Key=key, Body=b"%PDF")
    search = tools().files.find([letter(reference, status) for reference in references], Deadline(600))
    tools().files.delete(search.files, Deadline(600))
    assert {(bucket, key) for bucket in {of for of, _ in files} for key in keys(s3, bucket)} == files


def test_rows_with_hostile_references_are_dealt_with_and_nothing_else_goes(app, connection, s3, caplog):
    """They came from outside; PostgreSQL keeps all but NUL and halves of characters."""
    service, others = create_service(connection), create_service(connection)
    kept = create_letter(connection, s3, others, days_ago(1), reference=VICTIM)
    overdue = create_letter(connection, s3, service, reference="HONEST0123456789")
    stored = [one for one in HOSTILE if "\x00" not in one and "\ud800" not in one]
    made = {
        create_letter(connection, s3, service, reference=one, file=False): one
        for one in [*stored, f"{VICTIM}.", f"../{VICTIM}", VICTIM[:-1]]
    }
    with capture_logs() as said:
        moved = move_notifications_to_notification_history("letter", service, days_ago(0))
    unambiguous = {id_ for id_, one in made.items() if one.isascii() and one.replace("-", "").isalnum()}
    unambiguous -= {id_ for id_, one in made.items() if len(one) > 128}
    assert set(deferred(connection).values()) == {"AmbiguousReference"}
    assert (live(connection), history(connection)) == ({kept, *made} - unambiguous, {overdue, *unambiguous})
    assert moved == 1 + len(unambiguous)
    assert keys(s3, *{where(connection, kept)[0]}) == {where(connection, kept)[1]}
    logged = json.dumps(said, default=str) + caplog.text
    assert not [one for one in made.values() if len(one) > 8 and one[:100] in logged]


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Callable[[str], Any]:
    """A call in which the hostile string stands where HERE does."""
    return lambda value: function(
        *(value if one is HERE else one for one in arguments),
        **{name: value if one is HERE else one for name, one in named.items()},
    )


HERE = object()
SOME_ID = "00000000-0000-0000-0000-00000000dead"
REFUSING = {
    "move: type": call(move_notifications_to_notification_history, HERE, SOME_ID, "2026-01-01"),
    "move: service": call(move_notifications_to_notification_history, "email", HERE, "2026-01-01"),
    "move: cut-off": call(move_notifications_to_notification_history, "email", SOME_ID, HERE),
    "delete test: type": call(delete_test_notifications, HERE, SOME_ID, "2026-01-01"),
    "delete test: service": call(delete_test_notifications, "email", HERE, "2026-01-01"),
    "delete test: cut-off": call(delete_test_notifications, "email", SOME_ID, HERE),
    "task: service": call(nightly_tasks.delete_notifications_for_service_and_type, HERE, "email", "2026-01-01"),
    "task: type": call(nightly_tasks.delete_notifications_for_service_and_type, SOME_ID, HERE, "2026-01-01"),
    "task: cut-off": call(nightly_tasks.delete_notifications_for_service_and_type, SOME_ID, "email", HERE),
    "test task: service": call(
        nightly_tasks.delete_test_notifications_for_service_and_type, HERE, "email", "2026-01-01"
    ),
    "night task": call(nightly_tasks.delete_notifications_older_than_retention, HERE),
    "type's task": call(nightly_tasks.delete_letter_notifications_older_than_retention, HERE),
    "run: type": lambda value: operations.run([value]),
    "status: status": call(notifications_dao.update_notification_status, SOME_ID, HERE),
}
KEEPING = {
    "pause": (lambda value: operations.pause(value, value), "SELECT reason FROM retention.holds"),
    "lift": (lambda value: operations.lift(value, value), None),
    "retry: reason": (lambda value: operations.retry(reason=value), None),
    "accept": (lambda value: operations.accept_missing(value), None),
    "a step's task": (lambda value: chains.run_step(1, 0, value), None),
}


@pytest.fixture
def bait(app, connection):
    """A row that must stay; the queue is emptied afterwards."""
    create_notification(connection, create_service(connection), "sms", days_ago(1))
    yield
    celery.control.purge()


# Known gaps of the product, each to be taken out of here with its fix.
@pytest.mark.parametrize("name", REFUSING)
def test_a_hostile_string_is_refused_with_a_sentence_and_changes_nothing(bait, connection, name):
    before, wrong = contents(connection), []
    for value in HOSTILE:
        try:
            REFUSING[name](value)
        except ValueError as error:
            if not is_a_sentence(str(error)):
                wrong.append((value[:40], "no sentence", str(error)[:200]))
        except Exception as error:
            wrong.append((value[:40], type(error).__name__, str(error)[:200]))
        else:
            wrong.append((value[:40], "not refused", ""))
        assert contents(connection) == before
    assert wrong == []


@pytest.mark.parametrize("name", KEEPING)
def test_a_hostile_string_that_may_be_any_words_is_bound_as_it_is_or_refused(bait, connection, name):
    do, question = KEEPING[name]
    wrong = []
    for value in HOSTILE:
        try:
            do(value)
        except ValueError as error:
            if not is_a_sentence(str(error)):
                wrong.append((value[:40], "no sentence", str(error)[:200]))
        except DBAPIError as error:
            wrong.append((value[:40], type(error).__name__, str(error)[:200]))
        else:
            if question:
                assert connection.execute(text(question)).scalars().all() == [value]
        connection.execute(text("DELETE FROM retention.holds"))
    assert wrong == []
    assert len(live(connection)) == 1


COMMANDS = [
    ["run", "--type", HERE],
    ["run", "--service", HERE],
    ["run", "--before", HERE],
    ["hold", HERE, "--reason", "why"],
    ["hold", SOME_ID, "--reason", HERE],
    ["lift", HERE],
    ["retry", "--id", HERE],
    ["retry", "--service", HERE],
    ["deferred", "--limit", HERE],
    ["status", "--nights", HERE],
    [HERE],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(map(str, command)).split("<")[0])
def test_a_command_refuses_a_hostile_option_with_a_sentence_and_changes_nothing(bait, app, connection, command):
    before, wrong, runner = contents(connection), [], app.test_cli_runner()
    for value in HOSTILE:
        ended = runner.invoke(args=["retention", *(value if one is HERE else one for one in command)])
        said = (ended.stderr.strip().splitlines() or [""])[-1].replace(value, value[:40])
        if ended.exit_code == 0 or not isinstance(ended.exception, SystemExit):
            wrong.append((value[:40], ended.exit_code, repr(ended.exception)[:200]))
        elif not is_a_sentence(said) or "Traceback" in ended.stderr:
            wrong.append((value[:40], "no sentence", f"{len(said)}: {said[:200]!r}"))
        assert contents(connection) == before
    assert wrong == []


@pytest.mark.parametrize("command", [["pause", "--reason", HERE], ["retry", "--reason", HERE]], ids=lambda one: one[0])
def test_a_command_takes_any_words_as_words(bait, app, connection, command):
    wrong, runner = [], app.test_cli_runner()
    for value in HOSTILE:
        ended = runner.invoke(args=["retention", *(value if one is HERE else one for one in command)])
        if not (ended.exit_code == 0 or isinstance(ended.exception, SystemExit)):
            wrong.append((value[:40], repr(ended.exception)[:200]))
        connection.execute(text("DELETE FROM retention.holds"))
    assert wrong == []
    assert len(live(connection)) == 1
