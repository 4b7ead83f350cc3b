"""Which policies are blocked, as those found it who do the work: one row each."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

FORGOTTEN_AFTER = timedelta(days=1)
"""A policy that nobody asks about any more is not told of for ever."""

UNBLOCK = text(
    """
    DELETE FROM retention.blocked_policies
    WHERE (policy = ANY (CAST(:asked AS text[])) AND policy <> ALL (CAST(:blocked AS text[]))) OR seen_at < :before
    """
)
BLOCK = text(
    """
    INSERT INTO retention.blocked_policies (policy, sentence, fix, since, seen_at)
    VALUES (:policy, :sentence, :fix, :now, :now)
    ON CONFLICT (policy) DO UPDATE SET sentence = :sentence, fix = :fix, seen_at = :now
    """
)
BLOCKED = text("SELECT policy, sentence, fix, since, seen_at FROM retention.blocked_policies ORDER BY policy")


@dataclass(frozen=True)
class Blocked:
    """A policy of which nothing is done, why, what to do, since when, and when that was last seen (aware)."""

    policy: str
    sentence: str
    fix: str
    since: datetime
    seen_at: datetime


def note(connection: Connection, asked: Collection[str], blocked: Mapping[str, tuple[str, str]], now: datetime) -> None:
    """Of these policies, keep those that are blocked, each with a sentence and what to do. `now` is aware."""
    values = {"asked": sorted(asked), "blocked": sorted(blocked), "before": now - FORGOTTEN_AFTER}
    connection.execute(UNBLOCK, values)
    for policy, (sentence, fix) in sorted(blocked.items()):
        connection.execute(BLOCK, {"policy": policy, "sentence": sentence, "fix": fix, "now": now})


def blocked(connection: Connection) -> list[Blocked]:
    """The policies that are blocked."""
    return [Blocked(*row) for row in connection.execute(BLOCKED)]
