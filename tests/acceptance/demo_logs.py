"""`python -m dev`, watched: its processes' logs are searched for everything private that it was seeded with.

    python -m tests.acceptance.demo_logs FOUND.json demo --scale 0.4

prints what the demo prints, and writes what was searched for and found to FOUND.json.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from dev import demo_accounts
from dev.__main__ import main
from dev.stack import Stack
from dev.verify import Verification

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


class Watch:
    """Notes what the demo seeds and, before its directory is removed, what its processes have logged."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self.log = ""

    def begin(self) -> None:
        before, seed_accounts, close = Verification.before, demo_accounts.seed_accounts, Stack.close

        def seeded(verification: Verification, *arguments: Any) -> Any:
            due = before(verification, *arguments)
            self.values += _values(verification._database_url, OF_ROWS)
            return due

        def with_accounts(connection: Any, people: Any, *arguments: Any, **named: Any) -> None:
            seed_accounts(connection, people, *arguments, **named)
            self.values += [value for person in people for value in (f"{person.email_address}", person.token)]

        def ended(stack: Stack) -> None:
            if stack.processes:
                self.values += _values(stack.postgres.url, OF_USERS)
                stack.stop_processes()
                self.log = "\n".join((stack.directory / f"{name}.log").read_text() for name in PRODUCT)
                stack.processes.clear()
            close(stack)

        Verification.before, demo_accounts.seed_accounts = seeded, with_accounts  # type: ignore[method-assign]
        Stack.close = ended  # type: ignore[method-assign]

    def found(self) -> dict[str, Any]:
        wanted, lines = private(self.values), self.log.splitlines()
        return {
            "values": len(wanted),
            "events": sorted({json.loads(line)["event"] for line in lines if line.startswith("{")}),
            "lines": len(lines),
            "not_json": [line for line in lines if line.strip() and not line.startswith("{")][:20],
            "found": sorted(search(self.log, wanted)),
            "secrets": [secret for secret in SECRETS if secret in self.log],
            "an_example_is_found": len(search(f'"{max(self.values, key=len)}"', wanted)),
        }


def _values(url: str, statement: str) -> list[str]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return [row[0] for row in cursor.fetchall()]


if __name__ == "__main__":
    watch = Watch()
    watch.begin()
    status = main(sys.argv[2:])
    if status == 0:
        Path(sys.argv[1]).write_text(json.dumps(watch.found()))
    sys.exit(status)
