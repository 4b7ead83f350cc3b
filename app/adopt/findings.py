"""What was found: a level, a sentence, and how to mend it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How much a finding matters."""

    MISSING = "missing"
    """The pipeline can't work on this database before it is mended."""
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
    mend: str = ""
    """What to do about it: a sentence or a statement; empty: nothing."""


def missing(about: str, sentence: str, mend: str) -> Finding:
    """The pipeline can't work without it."""
    return Finding(Level.MISSING, about, sentence, mend)


def look(about: str, sentence: str, mend: str) -> Finding:
    """Somebody should look at it."""
    return Finding(Level.LOOK, about, sentence, mend)


def note(about: str, sentence: str, mend: str = "") -> Finding:
    """So that it is known."""
    return Finding(Level.NOTE, about, sentence, mend)


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
