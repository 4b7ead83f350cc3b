"""What was found: a level, a sentence, how to fix it, and the policies that it blocks until then."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from app.models.types import LETTER, NOTIFICATION_TYPES, TEST_KEY

MOVES = frozenset(NOTIFICATION_TYPES)
TESTS = frozenset(f"{TEST_KEY}-{one}" for one in NOTIFICATION_TYPES)
OF_NOTIFICATIONS = MOVES | TESTS
OF_LETTERS = frozenset({LETTER, f"{TEST_KEY}-{LETTER}"})
ACCOUNTS, DELETIONS, SESSIONS = "accounts", "account-deletions", "sessions"
EVERYTHING = OF_NOTIFICATIONS | {ACCOUNTS, DELETIONS, SESSIONS}
"""Policies by name: a type's notifications that move, its test notifications (`test-email`), and what else ends."""


def policy_of(notification_type: str, *, is_test: bool) -> str:
    """The policy of a type's notifications, or of its test notifications."""
    return f"{TEST_KEY}-{notification_type}" if is_test else notification_type


class Level(Enum):
    """How much a finding matters."""

    MISSING = "missing"
    """The pipeline can't work on this database before it is fixed."""
    LOOK = "look"
    """It can, but somebody should decide whether it should."""
    NOTE = "note"
    """How it will be done, or what follows; nothing to decide."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    level: Level
    about: str
    """A table, or a table and a column: `notifications.reference`."""
    sentence: str
    fix: str = ""
    """What to do about it: a sentence or a statement; empty: nothing."""
    blocks: frozenset[str] = frozenset()
    """The policies of which nothing is done before it is fixed."""

    @property
    def in_full(self) -> str:
        """For a log or an error: what is wrong, and what to do."""
        return f"{self.sentence[:1].upper()}{self.sentence[1:]}. {self.fix[:1].upper()}{self.fix[1:]}"


def missing(about: str, sentence: str, fix: str, blocks: frozenset[str] = OF_NOTIFICATIONS) -> Finding:
    """These policies can't work without it."""
    return Finding(Level.MISSING, about, sentence, fix, blocks)


def look(about: str, sentence: str, fix: str) -> Finding:
    """Somebody should look at it."""
    return Finding(Level.LOOK, about, sentence, fix)


def note(about: str, sentence: str, fix: str = "") -> Finding:
    """So that it is known."""
    return Finding(Level.NOTE, about, sentence, fix)


def can_run(findings: Iterable[Finding]) -> bool:
    """Whether nothing is missing."""
    return all(finding.level is not Level.MISSING for finding in findings)


def amount(number: int, one: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def size(count: float) -> str:
    """Bytes as a person says them: `about 4.2 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def span(seconds: float) -> str:
    """Seconds as a person says them, to a few per cent: `3 minutes`."""
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return amount(round(seconds / length), unit)
    return amount(max(1, round(seconds)), "second")
