"""A demo whose processes' logs are searched for everything private that it was seeded with.

    python -m tests.acceptance.demo_logs        prints what was searched, and what was found, as JSON

A process of its own: the demo's environment must be there before Celery is imported.
"""

import io
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg2
from rich.console import Console

from app.local import demo, demo_accounts, product
from app.local.environment import replaced_environment
from app.local.seed import Plan
from app.local.seed_accounts import cast
from app.local.seed_model import Buckets
from app.local.stack import Stack
from app.local.verify import Verification

SCALE = 0.1
PRODUCT = ("worker", "beat", "web")
WORD = re.compile(r"[^\W_]+")
LEAST_LETTERS = 6
LEAST_DIGITS = 9
"""Shorter numbers are counts and fractions of seconds in every log."""
OF_ROWS = """
SELECT v FROM notifications,
    unnest(ARRAY["to", normalised_to, reference, client_reference, reply_to_text, unsubscribe_link, _personalisation]) v
WHERE v IS NOT NULL
"""
OF_USERS = "SELECT v FROM users, unnest(ARRAY[name, email_address]) AS v WHERE state <> 'inactive'"
SECRETS = ("X-Amz-Signature", "Bearer ", "password")

Words = tuple[str, ...]


def words(text: str) -> Words:
    """The text's words, in small letters: however it is quoted or put together, these stay side by side."""
    return tuple(word.lower() for word in WORD.findall(text))


def private(values: Iterable[str]) -> set[Words]:
    """What must not be found; of JSON objects each value. Too short to mean anything is left out."""
    found = set()
    for value in values:
        for one in _parts(value):
            made = words(one)
            joined = "".join(made)
            if len(joined) >= (LEAST_DIGITS if joined.isdigit() else LEAST_LETTERS):
                found.add(made)
    return found


def _parts(value: str) -> Iterator[str]:
    yield from (str(one) for one in json.loads(value).values()) if value.startswith("{") else (value,)


def search(log: str, wanted: set[Words]) -> set[str]:
    """Which of these the log has."""
    by_first: dict[str, list[Words]] = defaultdict(list)
    for one in wanted:
        by_first[one[0]].append(one)
    said = words(log)
    return {
        " ".join(one)
        for place, word in enumerate(said)
        for one in by_first.get(word, ())
        if said[place : place + len(one)] == one
    }


def run() -> dict[str, Any]:
    """The demo's night, accounts and sessions; what the logs were searched for, and what was found."""
    out = Console(file=io.StringIO())
    now = datetime.now(UTC)
    with Stack() as stack, replaced_environment(stack.isolated_environment() | demo.SETTINGS):
        site = demo.start_product(stack, out)
        buckets = Buckets.from_environment(stack.environment)
        with closing(stack.s3.client()) as s3:
            demo._seed(stack, s3, buckets, out, Plan(now, scale=SCALE))
            verification = Verification(stack.postgres.url, s3, buckets, zone=demo.ZONE.key, folder_zone=demo.ZONE.key)
            due = verification.before(now)
            values = _values(stack, OF_ROWS)
            stack.start_process("beat", product.beat(stack.directory), demo.SETTINGS, product.ROOT)
            demo._send_the_nightly_task(now.astimezone(demo.ZONE).date())
            demo._watch(stack, out, due, 300)
        people = [f"{person.email_address}" for person in cast(now)] + [person.token for person in cast(now)]
        wrong = demo_accounts.run(stack, out, site)
        values += people + _values(stack, OF_USERS)
        stack.stop_processes()
        log = "\n".join((stack.directory / f"{name}.log").read_text() for name in PRODUCT)
    wanted = private(values)
    return {
        "wrong": wrong,
        "values": len(wanted),
        "events": sorted({json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")}),
        "lines": len(log.splitlines()),
        "not_json": [line for line in log.splitlines() if line.strip() and not line.startswith("{")][:20],
        "found": sorted(search(log, wanted)),
        "secrets": [secret for secret in SECRETS if secret in log],
        "an_example_is_found": len(search(f'"{max(values, key=len)}"', wanted)),
    }


def _values(stack: Stack, statement: str) -> list[str]:
    with closing(psycopg2.connect(stack.postgres.url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return [row[0] for row in cursor.fetchall()]


if __name__ == "__main__":
    json.dump(run(), sys.stdout)
