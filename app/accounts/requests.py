"""The mark that starts a deletion. A trigger captures it in `user_deletions`, whoever sets it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import Connection

from app.accounts.conditions import require_other_managers, require_planned
from app.accounts.errors import GhostUser, UnknownUser
from app.dao import user_deletions_dao
from app.dao.deletion_plan import PLAN, Child
from app.db import ISOLATION, db
from app.models import GHOST_USER_ID
from app.storage.client import Deadline

log = structlog.get_logger(__name__)

SIGNED_OUT_AT_ONCE = 10_000
"""Sessions beyond so many are refused for the mark, and go with the first table of the plan."""
LEAST_STATEMENT_SECONDS = 0.05
"""What is left to a statement when the time is used up: zero would mean no limit."""


class WrongIsolation(RuntimeError):
    """The caller's transaction reads from a snapshot that may be older than its locks: it must be READ COMMITTED."""


def mark_for_deletion(
    connection: Connection,
    user_id: UUID,
    *,
    by: str,
    by_id: UUID | None,
    now: datetime,
    deadline: Deadline | None = None,
    plan: Sequence[Child] = PLAN,
) -> bool:
    """Mark the account, sign every session of it out and note who asked, in the caller's transaction.

    `by` is `user`, `administrator`, `operator`, `zombie-sweep` or `inactivity`. Returns False if it was marked
    already; a deletion that was blocked goes on then. Raises UnknownUser, GhostUser, UnplannedReference, OnlyManager,
    and WrongIsolation; with a deadline also the database's error for a statement, or a lock, that takes longer than is
    left.
    """
    if connection.get_isolation_level() != ISOLATION:
        raise WrongIsolation(WrongIsolation.__doc__)
    if user_id == GHOST_USER_ID:
        raise GhostUser
    limit_to(connection, deadline)
    user = user_deletions_dao.lock_user(connection, user_id)
    if user is None:
        raise UnknownUser(user_id)
    limit_to(connection, deadline)
    if not user.is_in_deletion:
        require_planned(connection, plan)
        require_other_managers(connection, user_id)
        limit_to(connection, deadline)
        user_deletions_dao.mark(connection, user_id, by=by, by_id=by_id, now=now)
        limit_to(connection, deadline)
        user_deletions_dao.sign_out(connection, user_id, SIGNED_OUT_AT_ONCE)
        log.info("account-marked", user_id=str(user_id), by=by, by_id=str(by_id) if by_id else None)
        return True
    record = user_deletions_dao.find(connection, user_id)
    if record is not None and record.state == "blocked":
        require_other_managers(connection, user_id)
        user_deletions_dao.reopen(connection, user_id, by=by, by_id=by_id, now=now)
    return False


def limit_to(connection: Connection, deadline: Deadline | None) -> None:
    """No statement from here on takes longer than is left, waits for locks included; without a deadline nothing new."""
    if deadline is not None:
        db.limit_statements(connection, max(LEAST_STATEMENT_SECONDS, deadline.remaining()))
