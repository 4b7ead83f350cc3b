"""Work under a lease: the rules that hold for every kind of leased row.

The row is the truth; a message only wakes it. Whoever takes the lease has the row to itself until the lease runs out,
and writes only with the lease's token: a worker that outlived its lease finds LeaseLost and rolls back. A worker that
dies leaves the lease, which runs out. The dispatcher sends a message for every row that is due and that nobody has.
What fails is tried again later and later, and what kills its worker can't spin, since attempts are counted before they
begin. What a person must see to is blocked, with a reason.

A kind is a table with the columns of `app.models.base.Leased` and a `LeasedTable` that says what is special to it:

    held = leases.acquire(connection, DELETIONS, user_id, holder=task_id, now=now, seconds=300, retry=BackOff(60))
    leases.lock(connection, lease)                           in each transaction that does something
    leases.change(connection, lease, add={"rows_done": 12})  what was done, in the same transaction
    leases.give_back(connection, lease, due_at=now, state="complete")
    leases.take_due(connection, DELETIONS, now=now, resend_seconds=60, at_most=1000)     for the dispatcher
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from app.dao import leases as statements
from app.dao.leases import Lease, LeasedTable, LeaseLost, change, give_back, lock, unblock
from app.engine.singly import act_on_each

__all__ = [
    "LONGEST_BACK_OFF_SECONDS",
    "BackOff",
    "Lease",
    "LeaseLost",
    "LeasedTable",
    "acquire",
    "change",
    "give_back",
    "lock",
    "take_due",
    "unblock",
]

LONGEST_BACK_OFF_SECONDS = 3600


@dataclass(frozen=True)
class BackOff:
    """How long to wait after failures in a row: so many seconds, doubled each time to an hour, less up to a quarter."""

    seconds: float

    def after(self, failures: int) -> timedelta:
        """The time to wait after the last of so many failures."""
        doubled = min(LONGEST_BACK_OFF_SECONDS, self.seconds * 2 ** min(max(failures, 1) - 1, 20))
        return timedelta(seconds=doubled * random.uniform(0.75, 1))  # noqa: S311 - jitter


def acquire(
    connection: Connection,
    table: LeasedTable,
    key: object,
    *,
    now: datetime,
    seconds: float,
    retry: BackOff,
    holder: str | None = None,
    step: int | None = None,
) -> tuple[Lease, dict[str, Any]] | None:
    """Take the lease of a row for so long, and read the row; None if there is nothing to do or somebody does it.

    `holder` names the task, which may take its own lease again when its message comes twice. Should this attempt come
    to nothing, as the last one did, the next must wait.
    """
    until = now + timedelta(seconds=seconds)
    taken = statements.take(connection, table, key, holder=holder or str(uuid4()), now=now, until=until, step=step)
    if taken is not None and taken[0].attempts > 1:
        change(connection, taken[0], progress=False, due_at=now + retry.after(taken[0].attempts - 1))
    return taken


def take_due(
    connection: Connection,
    table: LeasedTable,
    *,
    now: datetime,
    resend_seconds: float,
    at_most: int,
    messages_wait: bool = False,
) -> list[Any]:
    """The rows for each of which the caller sends a message now; see `app.dao.leases.due`.

    A row that the database refuses to mark keeps none of the others waiting.
    """
    found = statements.due(
        connection, table, now=now, resend_seconds=resend_seconds, at_most=at_most, messages_wait=messages_wait
    )
    mark = partial(_mark_sent, table=table, now=now)
    marked = set(act_on_each(connection, [row[0] for row in found], mark, f"the wake-up of a row of {table.name}"))
    return [row for row in found if row[0] in marked]


def _mark_sent(connection: Connection, keys: Sequence[object], *, table: LeasedTable, now: datetime) -> None:
    statements.mark_sent(connection, table, keys, now)
