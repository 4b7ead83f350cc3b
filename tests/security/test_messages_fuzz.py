"""A fuzzing target: whatever JSON a message's arguments are, a task refuses it quietly and changes nothing.

Quietly: with a ValueError or Ignore, and no log that shows what came in. More of it:

    FUZZ_EXAMPLES=5000 python -m pytest tests/security/test_messages_fuzz.py

Seen to fail: `chain` and `step` as they come, a night as it comes, an argument put into the log.
"""

import json
import logging
import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery.exceptions import Ignore
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.celery import celery, nightly_tasks
from tests.factories import chains, create_letter, create_notification, create_service, days_ago, keys
from tests.security.hostile import HOSTILE, contents, shows

SECRET = "secret-of-the-message"
MEGABYTES = 5
# What a forged message may leave behind: the record of a night, which holds no more than its date, and its count.
NOTED = ("retention.runs", "retention.run_types", "retention.heartbeats", "retention.totals")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=6,
)
DATES = st.dates().map(str) | st.datetimes().map(lambda one: one.isoformat())
LIKELY = JSON | DATES | st.sampled_from(["email", "letter"]) | st.uuids().map(str) | st.integers(-2, 3)
NAMES = st.sampled_from(
    ["night", "service_id", "notification_type", "datetime_to_delete_before", "chain", "step", "self", SECRET]
)
# By name: a task is made when it is first used, and wants the environment then.
NIGHT_TASKS = [
    "delete_notifications_older_than_retention",
    "delete_email_notifications_older_than_retention",
    "delete_sms_notifications_older_than_retention",
    "delete_letter_notifications_older_than_retention",
]
STEP_TASKS = ["delete_notifications_for_service_and_type", "delete_test_notifications_for_service_and_type"]
# The suite tries the same few each time, so that it says the same each time; who asks for more gets others.
MORE = int(os.environ.get("FUZZ_EXAMPLES", "0"))
ONE_APPLICATION = {
    "max_examples": MORE or 30,
    "derandomize": not MORE,
    "phases": tuple(Phase) if MORE else (Phase.explicit, Phase.generate),
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    "deadline": None,
}
# Known gaps of the product; strict, so that each mark must go with its fix.
SOME_ID = "00000000-0000-0000-0000-00000000dead"


@pytest.fixture
def bait(app, connection, s3) -> Iterator[dict[str, str]]:
    """Rows of each kind that no message can make overdue. What was there before."""
    service = create_service(connection)
    for notification_type in ("email", "sms"):
        create_notification(connection, service, notification_type, days_ago(1))
    create_letter(connection, s3, service, days_ago(1))
    create_letter(connection, s3, service, days_ago(1), key_type="test")
    yield world(connection, s3)
    celery.control.purge()


def world(connection: Any, s3: Any) -> dict[str, str]:
    """Every row but the records of nights and of the dispatcher having looked, and every file."""
    buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    rows = {table: sum_ for table, sum_ in contents(connection).items() if table not in NOTED}
    return {**rows, "files": json.dumps(sorted(keys(s3, *buckets)))}


def deliver(task: str, arguments: Any, named: Any, caplog: Any) -> tuple[BaseException | None, str]:
    """Run the task as a worker does, with what JSON makes of its arguments. What it raised, and what was logged."""
    sent = json.loads(json.dumps([arguments, named]))
    caplog.clear()
    with capture_logs() as said, caplog.at_level(logging.INFO):
        ended = getattr(nightly_tasks, task).apply(args=sent[0], kwargs=sent[1])
    raised = ended.result if isinstance(ended.result, BaseException) else None
    return raised, caplog.text + json.dumps(said, default=str)


def complaints(raised: BaseException | None, logged: str, sent: Any) -> list[str]:
    found = []
    if raised is not None and not isinstance(raised, ValueError | Ignore):
        found.append(f"raised {type(raised).__name__}: {str(raised)[:120]}")
    if shows(sent, logged):
        found.append("what came in is in the log")
    if len(logged) > 20_000:
        found.append(f"{len(logged)} characters were logged")
    return found


@pytest.mark.parametrize("task", [*NIGHT_TASKS, *STEP_TASKS, "dispatch_retention"])
@given(arguments=st.lists(LIKELY, max_size=6), named=st.dictionaries(NAMES | st.text(max_size=12), LIKELY, max_size=4))
@settings(**ONE_APPLICATION)
def test_whatever_the_arguments_are_nothing_changes_and_nothing_is_said_of_them(
    bait, connection, s3, caplog, task, arguments, named
):
    raised, logged = deliver(task, arguments, named, caplog)
    assert world(connection, s3) == bait
    assert complaints(raised, logged, [arguments, named]) == []


@pytest.mark.parametrize("task", STEP_TASKS)
@given(
    service=st.sampled_from([SOME_ID]) | LIKELY,
    kind=st.sampled_from(["email", "letter"]) | LIKELY,
    cutoff=DATES | LIKELY,
    chain=st.none() | LIKELY,
    step=st.none() | LIKELY,
)
@example(SOME_ID, "email", "9999-12-31T23:59:59-12:00", None, None)
@example(SOME_ID, "email", "2026-01-01", "1; DROP TABLE retention.chains", 0)
@example(SOME_ID, "email", "2026-01-01", 2**63, 0)
@example(SOME_ID, "email", "2026-01-01", 1, -(2**31) - 1)
@example(SOME_ID, "email", "2026-01-01", True, 0)
@example(SOME_ID, "email", "2026-01-01", {"chain": SECRET}, [SECRET])
@settings(**ONE_APPLICATION)
def test_a_forged_step_changes_nothing(bait, connection, s3, caplog, task, service, kind, cutoff, chain, step):
    arguments, named = [service, kind, cutoff], {"chain": chain, "step": step}
    raised, logged = deliver(task, arguments, named, caplog)
    assert world(connection, s3) == bait
    assert complaints(raised, logged, [arguments, named]) == []


FORGED_NIGHTS = ["2999-01-01", "9999-12-31", "0001-01-01", "1969-12-31", "2026-W01-1", "20260101"]
NO_NIGHTS = [SECRET, 1, 1.5, True, [SECRET]]


@pytest.mark.parametrize("task", NIGHT_TASKS)
@pytest.mark.parametrize("night", [*FORGED_NIGHTS, *NO_NIGHTS], ids=str)
def test_a_forged_night_touches_nothing_that_is_not_overdue(bait, connection, s3, caplog, task, night):
    raised, logged = deliver(task, [], {"night": night}, caplog)
    for chain in chains(connection):
        again = {"chain": chain["id"], "step": chain["step"]}
        deliver(STEP_TASKS[0], [str(chain["service_id"]), "email", chain["cutoff"].isoformat()], again, caplog)
    untouched = ("public.notifications", "public.notification_history", "files")
    after = world(connection, s3)
    assert {name: after[name] for name in untouched} == {name: bait[name] for name in untouched}
    assert complaints(raised, logged, [night]) == []


PLACES = ["first argument", "third argument", "one more argument", "night", "chain", "unknown"]


@pytest.mark.parametrize("task", [*NIGHT_TASKS, *STEP_TASKS])
@pytest.mark.parametrize("where", PLACES)
def test_an_oversized_message_is_refused_and_its_content_is_not_logged(bait, connection, s3, caplog, task, where):
    huge = SECRET * (MEGABYTES * 1024 * 1024 // len(SECRET))
    usual = [str(uuid4()), "email", "2026-01-01"]
    arguments, named = {
        "first argument": ([huge, *usual[1:]], {}),
        "third argument": ([*usual[:2], huge], {}),
        "one more argument": ([*usual, None, None, huge], {}),
        "night": ([], {"night": huge}),
        "chain": (usual, {"chain": huge, "step": 0}),
        "unknown": (usual, {huge: 1}),
    }[where]
    raised, logged = deliver(task, arguments, named, caplog)
    assert raised is not None
    assert len(str(raised)) < 1_000
    assert world(connection, s3) == bait
    assert complaints(raised, logged, [huge]) == []
