"""Everybody of the demo's accounts gets what is due, and verification sees what does not.

The clean-ups run here in one process, on the same seed. Seen to fail: each look that a test below names, taken out.
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from app import clock
from app.accounts import deletion, export, inactivity, session_cleanup
from app.accounts.errors import OnlyManager
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED
from dev import verify_accounts
from dev.demo_accounts import MARK as MARK_BY_SQL
from dev.s3 import SentEmail
from dev.seed_accounts import BY_SQL, Person, cast, seed_accounts
from tests.fakes.recording_ses import RecordingSes, Refusal, recording_ses


@pytest.fixture
def ses() -> Iterator[RecordingSes]:
    with recording_ses() as running:
        yield running


@pytest.fixture
def settings_override(ses: RecordingSes) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL_SESV2": ses.url, "EMAILS_PER_SECOND": "1000", "ACCOUNT_REQUEST_SECONDS": "60"}


@pytest.fixture
def cursor(app, connection, started_servers, s3) -> Iterator[Any]:
    with closing(psycopg2.connect(started_servers.administrator_url)) as own:
        own.autocommit = True
        with own.cursor() as opened:
            yield opened


@pytest.fixture
def people(app, cursor, ses) -> list[Person]:
    """Seeded, and all that is due done."""
    now = datetime.now(UTC)
    seeded = cast(now)
    with closing(psycopg2.connect(cursor.connection.dsn, password=cursor.connection.info.password)) as own:
        seed_accounts(own, seeded, now, dead_sessions=100)
    for person in seeded:
        if person.is_unreachable:
            ses.refuse[person.email_address] = Refusal(400, "InvalidParameterValue")
        ask(cursor, person)
    for sweep in (MARK, NEVER_COMPLETED):
        inactivity.mark_page(sweep)
    inactivity.warn_page()
    for export_id in export.take_due():
        export.run(export_id)
    cursor.execute("UPDATE user_deletions SET due_at = now() WHERE state = 'requested'")
    for _ in range(2):  # what is due, and the confirmations
        cursor.execute("UPDATE user_deletions SET sent_at = NULL")
        for user_id in deletion.take_due():
            while deletion.run(user_id, str(uuid4())):
                """There is more of it."""
    session_cleanup.step(clock.now(), 1000)
    return seeded


def ask(cursor: Any, person: Person) -> None:
    if "export" in person.asks:
        export.request(person.id, clock.now())
    if person.asks == BY_SQL:
        cursor.execute(MARK_BY_SQL, (str(person.id),))
    elif "deletion" in person.asks:
        try:
            deletion.delete_account(person.id, by="user", by_id=person.id, now=clock.now())
        except OnlyManager:
            assert person.fate == "stays"


def wrong(cursor: Any, people: list[Person], ses: RecordingSes, environment: dict[str, str]) -> list[str]:
    sent = [SentEmail(email.to, email.subject, email.html) for email in ses.emails]
    return verify_accounts.verify(cursor, people, sent, environment).wrong


def case(people: list[Person], words: str) -> Person:
    (person,) = [one for one in people if words in one.case]
    return person


def test_everybody_gets_what_is_due(cursor, people, ses, environment):
    assert wrong(cursor, people, ses, environment) == []
    assert {person.fate for person in people} == {"stays", "warned", "deleted", "blocked"}


@pytest.mark.parametrize(
    ("words", "sabotage", "seen"),
    [
        (
            "marked by SQL, the only manager",
            "UPDATE user_deletions SET state = 'requested' WHERE user_id = %s",
            "stays, not blocked",
        ),
        (
            "marked by SQL, the only manager",
            "UPDATE user_deletions SET reason = NULL WHERE user_id = %s",
            "no reason on record",
        ),
        (
            "its address failed before",
            "UPDATE users SET deletion_warning_failure = NULL WHERE id = %s",
            "no failure of the warning on record",
        ),
        (
            "its address failed before",
            "UPDATE users SET deletion_warning_sent_at = now() WHERE id = %s",
            "warned, not stays",
        ),
        ("flags that can't be read", "DELETE FROM malformed_flags WHERE user_id = %s", "its flags were not noticed"),
        ("flags that can't be read", "UPDATE users SET deletion_warning_sent_at = now() WHERE id = %s", "warned, not"),
        ("visited yesterday", "UPDATE users SET deletion_warning_sent_at = now() WHERE id = %s", "warned, not stays"),
        (
            "asks for an export",
            "UPDATE user_exports SET object_key = 'elsewhere' WHERE user_id = %s",
            "no export lies in its bucket",
        ),
        ("asks to be deleted, 30", "INSERT INTO malformed_flags VALUES (%s)", "still named in malformed_flags.user_id"),
    ],
)
def test_what_went_wrong_with_somebody_is_seen(cursor, people, ses, environment, words, sabotage, seen):
    person = case(people, words)
    cursor.execute(sabotage, (str(person.id),))
    found = wrong(cursor, people, ses, environment)
    assert [line for line in found if line.startswith(f"{person.case}: {seen}")], found


def test_an_email_too_many_is_seen(cursor, people, ses, environment):
    ses.emails.append(ses.emails[0])
    assert [line for line in wrong(cursor, people, ses, environment) if line.endswith("2 emails, not 1")]
