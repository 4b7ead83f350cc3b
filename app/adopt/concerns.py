"""What is not over, so that it would be forgotten with the pipeline's tables: each with what to do about it first."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from app.dao import installation_dao
from app.state.findings import amount


@dataclass(frozen=True)
class Concern:
    """Something that would be forgotten with the tables, and what to do about it first."""

    sentence: str
    fix: str


SPOKEN: dict[str, tuple[str, str, str]] = {
    "workers": (
        "worker",
        "at work in the last minute",
        "stop workers, beat and the web process first; one that was killed counts for a minute",
    ),
    "types_not_begun": (
        "notification type",
        "of a night that has begun, and whose chains are yet to be made",
        "let the night end: flask retention status",
    ),
    "chains_waiting": ("chain", "of a night under way", "let the night end: flask retention status"),
    "chains_resting": (
        "chain",
        "resting until a person decides, as `flask retention status` says",
        "lift what they rest for, and let the night end",
    ),
    "intents": (
        "step",
        "begun to delete files and not come to say so: letters whose files are gone are still in notifications",
        "let the workers take these steps again, which finishes them",
    ),
    "deferred_rows": (
        "row",
        "held back because a file could not be deleted or the database refused it; without the record nobody knows "
        "which, and why",
        "flask retention deferred lists them, flask retention retry tries them again",
    ),
    "deferred_buckets": (
        "bucket",
        "passed over for a service, because it was missing or refused everything",
        "flask retention status lists them, flask retention retry tries them again",
    ),
    "holds": (
        "hold",
        "on a service or a user; whatever deletes next knows nothing of it",
        "see that it is held there, too, then flask retention lift",
    ),
    "audits": ("audit", "under way", "let it end: flask retention audit --resume"),
}
"""By the names of installation_dao.GOING_ON: of what there is a number, what about it, and what to do."""


def of(connection: Connection, tables: Collection[str], now: datetime) -> list[Concern]:
    """What is not over in these tables, now (aware)."""
    counts = installation_dao.going_on(connection, tables, now)
    spoken = ((count, *SPOKEN[name]) for name, count in counts.items())
    return [Concern(f"{amount(count, one)} {rest}", fix) for count, one, rest, fix in spoken]
