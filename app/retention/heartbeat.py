"""What the relays leave behind when they have run, and the folding of what steps did since."""

from datetime import timedelta

from app import clock
from app.dao import heartbeats_dao, totals_dao
from app.dao.heartbeats_dao import RELAY
from app.db import db

STEPS_PER_FOLD = 20_000
WORKERS_FORGOTTEN_AFTER = timedelta(days=1)


def relay_ran(name: str) -> None:
    """Note that this relay has done its work now."""
    with db.transaction() as connection:
        heartbeats_dao.note(connection, RELAY, name, clock.now())


def fold() -> None:
    """Fold what steps and session batches did into the totals, and forget workers that are long gone."""
    now = clock.now()
    with db.transaction() as connection:
        totals_dao.fold(connection, STEPS_PER_FOLD)
        heartbeats_dao.forget_workers(connection, now - WORKERS_FORGOTTEN_AFTER)
