"""Records of what was done have a retention of their own: RECORDS_KEPT_DAYS, never fewer than three.

What counts for ever (metrics) is kept apart from them.
"""

import time
from datetime import datetime, timedelta

import structlog

from app.dao import runs_dao, turns_dao
from app.db import db
from app.engine import stops
from app.retention.tools import tools

log = structlog.get_logger(__name__)

RECORDS_PER_BATCH = 5_000
SECONDS_A_NIGHT = 20.0
"""The night begins with it: what is left goes the next night, or the one after."""


def purge(now: datetime, seconds: float = SECONDS_A_NIGHT) -> int:
    """Delete records older than that at `now` (aware), a batch a transaction, for so long. Returns how many.

    None while the pipeline is paused, and none of a service that is on hold.
    """
    kept = timedelta(days=tools().settings.records_kept_days)
    end = time.monotonic() + seconds
    purged = 0
    for kind in range(len(runs_dao.PURGE)):
        while True:
            with db.transaction() as connection:
                if stops.stopped(connection, stops.turn(turns_dao.RECORDS)):
                    log.info("records-not-purged", why=stops.PAUSED)
                    return purged
                before = db.bounded_now(connection, now) - kept
                batch = runs_dao.purge_records(connection, kind, before, RECORDS_PER_BATCH)
            purged += batch
            if time.monotonic() > end:
                log.info("records-purged", records=purged, is_more=True)
                return purged
            if batch < RECORDS_PER_BATCH:
                break
    if purged:
        log.info("records-purged", records=purged, is_more=False)
    return purged
