"""Whether there are partitions ahead of the present: without one, the platform's own inserts fail."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from app import clock
from app.dao import adoption_sql, partitions_dao, platform_dao
from app.dao.catalogue import HISTORY, NOTIFICATIONS
from app.dao.partitions_dao import Newest
from app.db import db
from app.doctor.finding import Finding, error, ok, warning

CHECK = "database partitions"
AHEAD = timedelta(days=7)
"""Time enough for somebody to make the next partition on a working day."""
URGENT = timedelta(days=1)


def examine() -> Iterator[Finding]:
    """Each of the two large tables that is partitioned."""
    now = clock.now()
    with db.transaction(read_only=True) as connection:
        tables = platform_dao.known(connection).catalogue.tables
        for name in (NOTIFICATIONS, HISTORY):
            table = tables.get(name)
            if table is not None and table.is_partitioned_by_age:
                yield judge(table.schema, name, partitions_dao.newest(connection, table.schema, name), now)


def judge(schema: str, name: str, newest: Newest, now: datetime) -> Finding:
    """What there is to say of a table's newest partition. Pure."""
    if newest.ends is None:
        return (
            ok(CHECK, f"{name} has a partition without an end.")
            if newest.is_open
            else error(CHECK, f"{name} has no partition with a time: nothing can be inserted.", "Make one.")
        )
    ahead = newest.ends - now
    if ahead >= AHEAD:
        return ok(CHECK, f"{name} has partitions until {newest.ends:%Y-%m-%d %H:%M} UTC.")
    until = f"{name} has partitions until {newest.ends:%Y-%m-%d %H:%M} UTC and none for later"
    make = make_next(schema, name, newest)
    if newest.is_open:
        return warning(
            CHECK,
            f"{until}: later rows go to the one that takes the rest, and stand in the way of the next partition.",
            make,
        )
    found = error if ahead < URGENT else warning
    return found(CHECK, f"{until}: then the platform's own inserts fail.", make)


def make_next(schema: str, name: str, newest: Newest) -> str:
    """The statement that makes the next partition, as long as the newest; a week where that has no beginning."""
    ends = newest.ends
    if ends is None:
        raise ValueError(f"{name} has no partition that ends")
    length = ends - newest.begins if newest.begins is not None else timedelta(days=7)
    return adoption_sql.next_partition(schema, name, f"{name}_{ends:%Y%m%d%H}", ends, ends + length)
