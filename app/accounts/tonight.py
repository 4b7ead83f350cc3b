"""What the daily sweeps would do now: the same pages and the same verdicts, and nothing is changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app import clock
from app.accounts.conditions import look_for_other_managers
from app.accounts.errors import OnlyManager
from app.accounts.inactivity import ONLY_MANAGER
from app.accounts.sweeps import SWEEPS, candidates
from app.accounts.tools import tools
from app.dao.inactive_users_dao import WARN
from app.db import db


@dataclass(frozen=True)
class Planned:
    """A user whom a sweep looks at: what it would do, since when the user has been away, and what keeps the user."""

    sweep: str
    """`warn`, `mark` (inactive and warned) or `never-completed` (marked, too)."""
    user_id: UUID
    since: datetime
    """The last visit, or the creation of an account without one; aware."""
    kept_by: str | None
    """None: the sweep would act."""


def plan(now: datetime | None = None) -> Iterator[Planned]:
    """Everyone whom the sweeps would look at if they began at `now` (aware), this moment by default."""
    settings = tools().settings
    now = now or clock.now()
    for sweep in SWEEPS:
        for candidate in candidates(settings, sweep, now):
            kept_by = candidate.kept_by
            if kept_by is None and sweep != WARN and _is_only_manager(candidate.user_id):
                kept_by = ONLY_MANAGER
            yield Planned(sweep, candidate.user_id, candidate.position.at, kept_by)


def _is_only_manager(user_id: UUID) -> bool:
    try:
        with db.transaction(read_only=True) as connection:
            look_for_other_managers(connection, user_id)
    except OnlyManager:
        return True
    return False
