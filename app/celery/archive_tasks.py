"""The archive of history, a turn a message. Who is at which file is in the manifest: a message that is lost costs an
hour, one that comes twice finds the file taken.
"""

from typing import Any

import structlog

from app import clock
from app.archive import upkeep, work
from app.archive.tools import tools
from app.celery import celery
from app.celery.sending import send

log = structlog.get_logger(__name__)

THE_NEXT = "beat's next message goes on"
LEAST_SECONDS = 1


@celery.task(name="archive-history")
def archive_history() -> None:
    """Archive a file of the oldest closed window of history, or go on with one; send the next message while there is
    more.
    """
    if not tools().settings.archives_history:
        return
    turn = work.take_turn(tools())
    if not turn.more:
        upkeep.delete_left_over(tools())
        upkeep.expire(tools())
        return
    message: dict[str, Any] = {}
    if turn.not_before is not None:
        message["countdown"] = max(LEAST_SECONDS, (turn.not_before - clock.now()).total_seconds())
    send(archive_history, THE_NEXT, **message)


@celery.task(name="verify-archives")
def verify_archives() -> None:
    """Read a sample of the archived files again, those first that were not read for longest."""
    if tools().settings.archives_history:
        upkeep.verify_sample(tools())
