"""The hourly clean-up of sessions. One message removes one batch, and sends the next."""

import random
from datetime import datetime
from typing import Any

import structlog
from kombu.exceptions import OperationalError

from app import clock
from app.accounts import session_cleanup
from app.accounts.session_cleanup import Progress
from app.accounts.tools import tools
from app.celery import celery

log = structlog.get_logger(__name__)

LONGEST_PAUSE_SECONDS = 0.5
"""Between two batches, at random: several workers don't fall into step, and live traffic gets its turn."""


@celery.task(name="cleanup-user-sessions", bind=True)
def cleanup_user_sessions(
    self: Any, expired_from: datetime | str | None = None, anonymous_from: datetime | str | None = None
) -> int | None:
    """Remove a batch of dead sessions; while there is something, send the next, which begins where this one ended.

    A plain call removes one batch, and returns how many that were. Nothing to remove is as good.
    """
    settings = tools().settings
    if not (settings.sessions_enabled or self.request.called_directly):
        log.info("sessions-clean-up-is-off")
        return None
    bounds = [None if bound is None else clock.as_utc(bound) for bound in (expired_from, anonymous_from)]
    progress = session_cleanup.step(clock.now(), settings.sessions_per_step, bounds[0], bounds[1], self.request.id)
    if self.request.called_directly:
        return progress.rows
    if progress.is_more:
        _send_next(progress)
    return None


def _send_next(progress: Progress) -> None:
    """Should the broker be away, the next hour begins anew."""
    bounds = {"expired_from": progress.expired_from, "anonymous_from": progress.anonymous_from}
    try:
        cleanup_user_sessions.apply_async(
            kwargs={name: None if bound is None else bound.isoformat() for name, bound in bounds.items()},
            countdown=random.uniform(0, LONGEST_PAUSE_SECONDS),  # noqa: S311 - jitter
        )
    except OperationalError as error:
        log.error("message-not-sent", task=cleanup_user_sessions.name, error=type(error).__name__, mend="the next hour")
