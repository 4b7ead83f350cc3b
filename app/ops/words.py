"""How the page says times, spans and counts."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.retention.overdue import Kept, spoken
from app.state.judgement import Severity

TYPE_NAMES = {"email": "Emails", "sms": "Text messages", "letter": "Letters"}
REASONS = {
    "on-hold": "on hold",
    "missing-files": "too many letters have no file",
    "precondition": "something is not as it must be: see what is blocked",
    "paused": "the pipeline is paused",
    "database-refuses": "the database refuses every row",
    "rows-refused": "the database refuses too many rows",
}


def clock_time(instant: datetime, zone: ZoneInfo) -> str:
    """Hour and minute, local."""
    return f"{instant.astimezone(zone):%H:%M}"


def date_time(instant: datetime, zone: ZoneInfo) -> str:
    """Day, hour and minute, local."""
    return f"{instant.astimezone(zone):%d %b %H:%M}"


def since(instant: datetime, now: datetime) -> str:
    """How long ago."""
    return spoken(now - instant)


def counted(count: int, cap: int) -> str:
    """A count that was capped."""
    return f"more than {cap:,}" if count > cap else f"{count:,}"


def rows(kept: Kept) -> str:
    """How many rows are kept."""
    return f"{'more than ' if kept.more else ''}{kept.rows:,}"


def why(kept: Kept) -> str:
    """The reasons for which they are kept."""
    return ", ".join(REASONS.get(one, one) for one in kept.why)


def plural(count: int, one: str, many: str) -> str:
    """The count and its noun."""
    return f"{count:,} {one if count == 1 else many}"


BADGES = {
    Severity.HEALTHY: "All is well",
    Severity.WORKING: "Working",
    Severity.ATTENTION: "Attention",
    Severity.ACT: "Act",
}

IN_TEMPLATES: dict[str, Any] = {
    "type_name": lambda name: TYPE_NAMES.get(name, name),
    "reason_in_words": lambda reason: REASONS.get(reason, reason),
    "clock_time": clock_time,
    "date_time": date_time,
    "since": since,
    "counted": counted,
    "rows_of": rows,
    "why_of": why,
    "spoken": spoken,
    "badge": BADGES.get,
    "plural": plural,
}
