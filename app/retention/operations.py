"""What operators do: holds, pauses, accepting missing files, trying deferred letters again, starting work."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog

from app import clock
from app.dao import chains_dao, deferred_dao, holds_dao, runs_dao
from app.dao.chains_dao import Wake
from app.db import db
from app.models.types import NOTIFICATION_TYPES
from app.retention import nightly
from app.retention.arguments import checked_cutoff, checked_types
from app.retention.cutoffs import require_service
from app.retention.tools import tools

log = structlog.get_logger(__name__)


def hold(service_id: UUID, reason: str, placed_by: str) -> bool:
    """Put a service on hold: once this returns, nothing of it is deleted until the hold is lifted.

    Waits for the service's running step to end. Returns False when there was a hold. Raises UnknownService.
    """
    with db.transaction(lock_seconds=_longest_wait(), statement_seconds=_longest_wait()) as connection:
        require_service(connection, service_id)
        placed = holds_dao.place(connection, str(service_id), reason, placed_by, clock.now())
    log.warning("hold-placed", service_id=str(service_id), placed_by=placed_by, new=placed)
    return placed


def pause(reason: str, placed_by: str) -> bool:
    """Pause the pipeline: each chain rests after its current step. Returns False when it was paused already."""
    with db.transaction() as connection:
        placed = holds_dao.place(connection, holds_dao.PIPELINE, reason, placed_by, clock.now())
    log.warning("pipeline-paused", placed_by=placed_by, new=placed)
    return placed


def lift(scope: str, lifted_by: str) -> tuple[bool, int]:
    """Lift a service's hold, or the pause (`pipeline`). Returns whether there was one, and how many chains go on."""
    with db.transaction() as connection:
        lifted = holds_dao.lift(connection, scope)
        woken = chains_dao.wake_rested(connection, clock.now())
    log.warning("hold-lifted", scope=scope, lifted_by=lifted_by, chains=woken)
    return lifted, woken


def accept_missing(accepted_by: str) -> int:
    """Accept that many letters have no file, for the nights and buckets that chains rest for. How many go on."""
    now = clock.now()
    woken = 0
    with db.transaction() as connection:
        for night, bucket in chains_dao.resting_for_missing_files(connection):
            runs_dao.accept_missing(connection, night, bucket, accepted_by, now)
            woken += chains_dao.wake_accepted(connection, night, bucket, now)
            log.warning("missing-files-accepted", night=str(night), bucket=bucket, by=accepted_by)
    return woken


def retry(ids: Sequence[UUID] | None = None, service_id: UUID | None = None, reason: str | None = None) -> int:
    """Make deferred letters due now: all, or these, of this service, with this reason. Returns how many records.

    The dispatcher opens their chains at its next look.
    """
    with db.transaction() as connection:
        return deferred_dao.retry_now(connection, now=clock.now(), ids=ids, service_id=service_id, reason=reason)


def run(
    notification_types: Sequence[str] = NOTIFICATION_TYPES,
    service_id: UUID | None = None,
    before: datetime | None = None,
    *,
    force: bool = False,
) -> list[Wake]:
    """Start chains now, all at once: for all services with something overdue, or one; for some types, or all.

    `before` (aware) is a cut-off of one's own; where a service's own is earlier, that counts. Returns the wake-ups
    to send. Raises BadArgument, and CutoffInFuture unless forced.
    """
    settings = tools().settings
    now = clock.now()
    night = clock.local_date(now, settings.zone)
    types = checked_types(notification_types)
    if before is not None:
        before = checked_cutoff(before, settings, force=force)
    if service_id is not None:
        with db.transaction() as connection:
            require_service(connection, service_id)
    wakes = []
    for notification_type in types:
        with db.transaction() as connection:
            found = nightly.find_overdue(connection, settings, notification_type, night)
        for service in found:
            if service_id in (None, service.service_id):
                cutoff = service.cutoff if before is None else min(before, service.cutoff)
                chosen = nightly.Overdue(service.service_id, cutoff)
                wakes += nightly.open_chains(night, notification_type, chosen, now, now)
    return wakes


def _longest_wait() -> float:
    """Seconds within which any running step has ended."""
    return tools().settings.lease_seconds
