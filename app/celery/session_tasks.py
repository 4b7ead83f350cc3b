"""The hourly clean-up of sessions. One message removes one batch, and sends the next."""

import random
from datetime import datetime
from typing import Any

import structlog

from app import clock
from app.accounts import session_cleanup
from app.accounts.session_cleanup import Progress
from app.accounts.tools import tools
from app.celery import celery
from app.celery.sending import send
from app.state import asked
from app.state.asked import PolicyBlocked
from app.state.findings import SESSIONS

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
    if bounds == [None, None]:
        asked.note([SESSIONS], clock.now())
    try:
        progress = session_cleanup.step(clock.now(), settings.sessions_per_step, bounds[0], bounds[1], self.request.id)
    except PolicyBlocked as blocked:
        if self.request.called_directly:
            raise
        log.error("precondition-failed", why=str(blocked), blocks=[SESSIONS])
        return None
    if self.request.called_directly:
        return progress.rows
    if progress.is_more:
        _send_next(progress)
    return None


def _send_next(progress: Progress) -> None:
    bounds = {"expired_from": progress.expired_from, "anonymous_from": progress.anonymous_from}
    send(
        cleanup_user_sessions,
        "the next hour",
        kwargs={name: None if bound is None else bound.isoformat() for name, bound in bounds.items()},
        countdown=random.uniform(0, LONGEST_PAUSE_SECONDS),  # noqa: S311 - jitter
    )
