"""What operators do: holds, pauses, accepting missing files, trying deferred letters again, starting work.

Who did it is written down in the transaction that does it.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog

from app import clock
from app.dao import chains_dao, deferred_dao, holds_dao, ops_dao, runs_dao
from app.dao.chains_dao import Wake
from app.db import db
from app.retention import nightly
from app.retention.arguments import checked_cutoff, checked_types
from app.retention.cutoffs import require_service
from app.retention.tools import tools

log = structlog.get_logger(__name__)

SOMEBODY = "somebody"
HOLD, LIFT, PAUSE, RESUME = "hold", "lift", "pause", "resume"
ACCEPT_MISSING, RETRY, RUN = "accept missing files", "retry", "run"
"""Actions, as they are recorded."""


def hold(service_id: UUID, reason: str, placed_by: str, wait_seconds: float | None = None) -> bool:
    """Put a service on hold: once this returns, nothing of it is deleted until the hold is lifted.

    Waits for the service's running step to end, unless told how long (PostgreSQL's LockNotAvailable after that).
    Returns False when there was a hold. Raises UnknownService.
    """
    wait = wait_seconds or _longest_wait()
    now = clock.now()
    with db.transaction(lock_seconds=wait, statement_seconds=wait) as connection:
        require_service(connection, service_id)
        placed = holds_dao.place(connection, str(service_id), reason, placed_by, now)
        if placed:
            ops_dao.record_action(connection, HOLD, placed_by, now, service_id=service_id, detail=reason)
    log.warning("hold-placed", service_id=str(service_id), placed_by=placed_by, new=placed)
    return placed


def pause(reason: str, placed_by: str) -> bool:
    """Pause the pipeline: each chain rests after its current step. Returns False when it was paused already."""
    now = clock.now()
    with db.transaction() as connection:
        placed = holds_dao.place(connection, holds_dao.PIPELINE, reason, placed_by, now)
        if placed:
            ops_dao.record_action(connection, PAUSE, placed_by, now, detail=reason)
    log.warning("pipeline-paused", placed_by=placed_by, new=placed)
    return placed


def lift(scope: str, lifted_by: str) -> tuple[bool, int]:
    """Lift a service's hold, or the pause (`pipeline`). Returns whether there was one, and how many chains go on."""
    now = clock.now()
    with db.transaction() as connection:
        lifted = holds_dao.lift(connection, scope)
        woken = chains_dao.wake_rested(connection, now)
        if lifted and scope == holds_dao.PIPELINE:
            ops_dao.record_action(connection, RESUME, lifted_by, now, count=woken)
        elif lifted:
            ops_dao.record_action(connection, LIFT, lifted_by, now, service_id=UUID(scope), count=woken)
    log.warning("hold-lifted", scope=scope, lifted_by=lifted_by, chains=woken)
    return lifted, woken


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
    """Make deferred letters due now: all, or these, of this service, with this reason. Returns how many records.

    The dispatcher opens their chains at its next look.
    """
    now = clock.now()
    with db.transaction() as connection:
        count = deferred_dao.retry_now(connection, now=now, ids=ids, service_id=service_id, reason=reason)
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
        for service in found:
            if service_id in (None, service.service_id):
                cutoff = service.cutoff if before is None else min(before, service.cutoff)
                chosen = nightly.Overdue(service.service_id, cutoff)
                wakes += nightly.open_chains(night, notification_type, chosen, now, now, by_dispatcher=by_dispatcher)
    return wakes


def _longest_wait() -> float:
    """Seconds within which any running step has ended."""
    return tools().settings.lease_seconds
