"""The demo's second part: accounts and sessions of every kind, cleaned up by the same workers, and verified."""

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg2
from psycopg2 import extensions
from rich.console import Console
from rich.table import Table

from dev import verify_accounts
from dev.processes import StartError
from dev.seed_accounts import BY_SQL, Person, cast, seed_accounts
from dev.stack import Stack

DEAD_SESSIONS = 20_000
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_LINES = 3
SECONDS_FOR_ALL = 300
DAILY = ("mark-never-completed-accounts", "warn-inactive-users", "mark-inactive-users", "cleanup-user-sessions")
MARK = "UPDATE users SET flags = to_jsonb('{\"in_deletion\": true}'::text) WHERE id = %s"

SETTINGS = {"ACCOUNT_ROWS_PER_BATCH": "500", "SESSIONS_PER_STEP": "2000", "ACCOUNT_RETRY_SECONDS": "1"}


@dataclass(frozen=True)
class Answer:
    """What the API said to somebody who asked for something."""

    status: int
    body: dict[str, object]


def run(stack: Stack, out: Console, site: str) -> list[str]:
    """All of it, with the workers and the web process at `site` (its URL) that run already.

    Returns what verification found wrong, a line each.
    """
    now = datetime.now(UTC)
    people = cast(now)
    out.print(f"\nAccounts and sessions: {len(people)} kinds of users and {DEAD_SESSIONS:,} dead sessions")
    with closing(psycopg2.connect(stack.postgres.url)) as connection:
        seed_accounts(connection, people, now, dead_sessions=DEAD_SESSIONS)
        connection.autocommit = True
        with connection.cursor() as cursor:
            answers_given = _ask(cursor, people, site)
            _send_as_beat_would(DAILY)
            _watch(stack, out, cursor, people)
            found = verify_accounts.verify(cursor, people, stack.s3.sent_emails(), stack.environment)
    _say(out, people, answers_given, found)
    return found.wrong


def _ask(cursor: "extensions.cursor", people: list[Person], site: str) -> dict[Person, list[Answer]]:
    """What the people ask for, over HTTP; and an operator's UPDATE."""
    given: dict[Person, list[Answer]] = {}
    for person in people:
        given[person] = []
        if "export" in person.asks:
            given[person].append(_call("POST", f"{site}/users/me/export", person))
        if person.asks == BY_SQL:
            cursor.execute(MARK, (str(person.id),))
        elif "deletion" in person.asks:
            given[person].append(_call("DELETE", f"{site}/users/me", person))
    return given


def _call(method: str, url: str, person: Person) -> Answer:
    request = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {person.token}"})  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return Answer(response.status, json.load(response))
    except urllib.error.HTTPError as error:
        return Answer(error.code, json.load(error))


def _send_as_beat_would(tasks: tuple[str, ...]) -> None:
    from app.celery import celery  # not before the environment is the stack's

    entries = {entry["task"]: entry for entry in celery.conf.beat_schedule.values()}
    with celery.connection_for_write() as connection:
        for task in tasks:
            celery.send_task(task, connection=connection, **entries[task].get("options", {}))


def _watch(stack: Stack, out: Console, cursor: "extensions.cursor", people: list[Person]) -> None:
    """Say what is left until nothing is, or time is up: verification then says what is missing."""
    began = last = time.monotonic()
    while (left := verify_accounts.left(cursor, people)) and time.monotonic() - began < SECONDS_FOR_ALL:
        for child in stack.processes.values():
            if not child.running:
                raise StartError(f"{child.name} ended with status {child.status}. Its log:\n{child.log_tail()}")
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            out.print(f"  left: {', '.join(f'{count:,} {what}' for what, count in left.items())}")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    out.print(f"  done in {time.monotonic() - began:.1f} s")


def _say(out: Console, people: list[Person], given: dict[Person, list[Answer]], found: verify_accounts.Found) -> None:
    table = Table(title="What became of the users")
    for title in ("user", "the API said", "account", "emails"):
        table.add_column(title)
    for person in people:
        said = ", ".join(str(answer.status) for answer in given[person])
        emails = ", ".join(found.subjects[person]) or ""
        table.add_row(person.case, said, found.fates[person], emails)
    out.print(table)
    fates = Counter(found.fates.values())
    out.print(
        f"{found.sessions_left} living sessions left; {fates['deleted']} accounts deleted, {fates['warned']} warned, "
        f"{fates['blocked']} blocked, {fates['stays']} untouched; {len(found.wrong)} wrong"
    )
    for line in found.wrong:
        out.print(line, style="red", markup=False, soft_wrap=True)
