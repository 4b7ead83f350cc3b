"""What operators do: holds, pauses, accepting missing files, trying deferred letters again, starting work.

Who did it is written down in the transaction that does it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog

from app import clock
from app.dao import chains_dao, deferred_dao, holds_dao, ops_dao, runs_dao
from app.dao.chains_dao import Wake
from app.dao.holds_dao import PIPELINE, USER, Unit
from app.db import db
from app.engine import stops
from app.errors import BadArgument
from app.retention import nightly
from app.retention.arguments import checked_cutoff, checked_types, checked_words
from app.retention.cutoffs import require_service
from app.retention.report import DATABASE_REFUSES, ROWS_REFUSED
from app.retention.tools import tools

log = structlog.get_logger(__name__)

SOMEBODY = "somebody"
HOLD, LIFT, PAUSE, RESUME = "hold", "lift", "pause", "resume"
ACCEPT_MISSING, RETRY, RUN = "accept missing files", "retry", "run"
"""Actions, as they are recorded."""


class UnknownUser(BadArgument):
    """There is no such user, nor was there one of whom anything is left."""


@dataclass(frozen=True)
class Placed:
    """A hold, or the pause, that stands. It is confirmed when nothing is still running that had begun before it."""

    is_new: bool
    still_running: tuple[Unit, ...] = ()

    @property
    def is_confirmed(self) -> bool:
        """Whether nothing is going on any more that had begun before it."""
        return not self.still_running

    def says(self) -> str:
        """What is still running, as the end of a sentence; empty when it is confirmed."""
        return f"; still running: {', '.join(map(str, self.still_running))}" if self.still_running else ""


def hold(service_id: UUID, reason: str, placed_by: str, wait_seconds: float | None = None) -> Placed:
    """Put a service on hold: what begins now leaves it alone. Waits for what was under way to end, a lease's time or
    as long as told; what has not ended by then is named. Raises UnknownService.
    """
    with db.transaction() as connection:
        require_service(connection, service_id)
    return _place(holds_dao.of_service(service_id), HOLD, reason, placed_by, wait_seconds, service_id=service_id)


def hold_user(user_id: UUID, reason: str, placed_by: str, wait_seconds: float | None = None) -> Placed:
    """Put a user on hold: neither the account nor its sessions, exports and records are deleted. Waits as `hold` does.

    What the user asks for is recorded, and waits. Raises UnknownUser.
    """
    with db.transaction(read_only=True) as connection:
        if not holds_dao.knows_user(connection, user_id):
            raise UnknownUser("there is no user {}", user_id)
    return _place(holds_dao.of_user(user_id), HOLD, reason, placed_by, wait_seconds)


def pause(reason: str, placed_by: str, wait_seconds: float | None = None) -> Placed:
    """Pause the pipeline: nothing that deletes or rewrites begins. Waits as `hold` does."""
    return _place(PIPELINE, PAUSE, reason, placed_by, wait_seconds)


def _place(
    scope: str, action: str, reason: str, placed_by: str, wait_seconds: float | None, *, service_id: UUID | None = None
) -> Placed:
    """Commit it first, so that what begins now sees it; then wait for what had begun. Asked again, it waits again."""
    checked_words(reason)
    now = clock.now()
    with db.transaction() as connection:
        is_new = holds_dao.place(connection, scope, reason, placed_by, now)
        if is_new:
            detail = f"{scope}: {reason}" if scope.startswith(USER) else reason
            ops_dao.record_action(connection, action, placed_by, now, service_id=service_id, detail=detail)
    running = stops.still_running(scope, _longest_wait() if wait_seconds is None else wait_seconds)
    log.warning(
        "pipeline-paused" if scope == PIPELINE else "hold-placed",
        scope=scope,
        placed_by=placed_by,
        new=is_new,
        still_running=[str(unit) for unit in running],
    )
    return Placed(is_new, tuple(running))


def lift(scope: str, lifted_by: str) -> tuple[bool, int]:
    """Lift a hold, or the pause, by its scope. Returns whether there was one, and how many chains go on."""
    now = clock.now()
    with db.transaction() as connection:
        if not holds_dao.lift(connection, scope):
            return False, 0  # chains that rest for one that was lifted before are the dispatcher's
        woken = chains_dao.wake_rested(connection, now)
        holds_dao.wake_deletions(connection, now)
        is_user = scope.startswith(USER)
        ops_dao.record_action(
            connection,
            RESUME if scope == PIPELINE else LIFT,
            lifted_by,
            now,
            service_id=None if is_user or scope == PIPELINE else UUID(scope),
            detail=scope if is_user else None,
            count=woken,
        )
    log.warning("hold-lifted", scope=scope, lifted_by=lifted_by, chains=woken)
    return True, woken


def accept_missing(accepted_by: str) -> int:
    """Accept that many letters have no file, for the nights and buckets that chains rest for. How many go on."""
    now = clock.now()
    woken = 0
    with db.transaction() as connection:
        for night, bucket in chains_dao.resting_for_missing_files(connection):
            runs_dao.accept_missing(connection, night, bucket, accepted_by, now)
            go_on = chains_dao.wake_accepted(connection, night, bucket, now)
            woken += go_on
            ops_dao.record_action(
                connection, ACCEPT_MISSING, accepted_by, now, detail=f"{bucket}, night of {night}", count=go_on
            )
            log.warning("missing-files-accepted", night=str(night), bucket=bucket, by=accepted_by)
    return woken


def retry(
    ids: Sequence[UUID] | None = None,
    service_id: UUID | None = None,
    reason: str | None = None,
    *,
    retried_by: str = SOMEBODY,
) -> int:
    """Make deferred rows due now: all, or these, of this service, with this reason. Returns how many records.

    Chains that are blocked because the database refuses rows go on, too, unless `ids` or a reason are given, and count.
    The dispatcher opens the rows' chains at its next look.
    """
    if reason is not None:
        checked_words(reason)
    now = clock.now()
    with db.transaction() as connection:
        count = deferred_dao.retry_now(connection, now=now, ids=ids, service_id=service_id, reason=reason)
        if ids is None and reason is None:
            count += chains_dao.wake_refused(connection, (DATABASE_REFUSES, ROWS_REFUSED), service_id, now)
        if count:
            ops_dao.record_action(connection, RETRY, retried_by, now, service_id=service_id, detail=reason, count=count)
    return count


def run(
    notification_types: Sequence[str] | None = None,
    service_id: UUID | None = None,
    before: datetime | None = None,
    *,
    force: bool = False,
    started_by: str = SOMEBODY,
    by_dispatcher: bool = False,
) -> list[Wake]:
    """Start chains now, all at once: for all services with something overdue, or one; for some types, or all (None).

    For all services they are opened as the night opens them. Run again, it goes on: what is under way stays as it is.

    `before` (aware) is a cut-off of one's own; where a service's own is earlier, that counts. Returns the wake-ups
    to send; with `by_dispatcher` it sends them, at its next look. Raises BadArgument, and CutoffInFuture unless forced.
    """
    settings = tools().settings
    now = clock.now()
    night = clock.local_date(now, settings.zone)
    known = tools().notification_types
    types = checked_types(notification_types or known, known)
    if before is not None:
        before = checked_cutoff(before, settings, force=force)
    with db.transaction() as connection:
        if service_id is not None:
            require_service(connection, service_id)
        ops_dao.record_action(connection, RUN, started_by, now, service_id=service_id, detail=", ".join(types))
    wakes = []
    for notification_type in types:
        with db.transaction() as connection:
            found = nightly.find_overdue(connection, settings, notification_type, night)
        if service_id is None and before is None:
            opened, _ = nightly.open_all(night, notification_type, found, now, by_dispatcher=by_dispatcher)
            wakes += opened
            continue
        for service in found:
            if service_id in (None, service.service_id):
                cutoff = service.cutoff if before is None else min(before, service.cutoff)
                chosen = replace(service, cutoff=cutoff)
                wakes += nightly.open_chains(night, notification_type, chosen, now, now, by_dispatcher=by_dispatcher)
    return wakes


def _longest_wait() -> float:
    """Seconds within which any running step has ended."""
    return tools().settings.lease_seconds
