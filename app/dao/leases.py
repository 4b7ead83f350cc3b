"""Leased rows: each describes a piece of work, one worker at a time has it, and messages only wake it.

The statements are the same for every kind of work; what differs is declared. `app.engine.leases` has the rules.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, TextClause, text


@dataclass(frozen=True)
class LeasedTable:
    """A kind of leased row: a table whose model has the columns of `app.models.base.Leased`, and what is special to it.

    For a new kind, declare one and use `app.engine.leases`:

        DELETIONS = LeasedTable("user_deletions", "user_id", open=("state IN ('requested', 'running')",))

    `key` is the column that names a row. `open` are conditions, in SQL: a row that meets one of them has work to do.
    Each needs an index on `due_at` with it as predicate. `returns` are the columns that whoever gets the lease needs,
    beside the key. `wake` are those that a message needs; the first must be the key (the default: the key alone).

    `step` counts what was done, if the kind has it: a message for another step is stale. `on_lease` are assignments
    made with the lease. `attempts` counts leases in a row that came to nothing. `blocked` and `unblocked` are values of
    `state`: while the row waits for a person, and afterwards. `order` says which due rows are woken first.
    """

    name: str
    key: str
    open: tuple[str, ...]
    returns: tuple[str, ...] = ()
    wake: tuple[str, ...] = ()
    step: str | None = None
    on_lease: str = ""
    attempts: str = "attempts"
    blocked: str | None = None
    unblocked: str | None = None
    order: str = "due_at"


@dataclass(frozen=True)
class Lease:
    """The right to work on a row; `attempts` counts the leases in a row that came to nothing, this one included."""

    table: LeasedTable
    key: object
    token: UUID
    attempts: int

    @property
    def own(self) -> dict[str, object]:
        """What the statements bind that only the holder of the lease may execute."""
        return {"key": self.key, "token": self.token}


class LeaseLost(RuntimeError):
    """Another worker has taken the row over: whatever this one did in its transaction must be rolled back."""


# A worker that is in the middle of its work has the row locked, whatever became of its lease: nothing to take.
# Whoever holds the lease may take it again: a broker that hands a dead worker's message on keeps its id.
TAKE = """
    UPDATE {name}
    SET lease_token = :token, lease_holder = :holder, lease_until = :until, {attempts} = {attempts} + 1 {on_lease}
    WHERE {key} = (SELECT {key} FROM {name}
                   WHERE {this} AND ({open}) AND due_at <= :now
                     AND (lease_until IS NULL OR lease_until <= :now OR lease_holder = :holder)
                   FOR UPDATE SKIP LOCKED)
    RETURNING {returns}, {attempts} AS taken
"""
# A killed worker's connection may keep the row locked a moment longer. The task that had the lease waits for that: its
# message is not sent again.
WAIT_FOR_OWN = "SELECT {key} FROM {name} WHERE {this} AND ({open}) AND lease_holder = :holder FOR UPDATE"
# What a hold that is being placed waits for.
LOCK = "SELECT {key} FROM {name} WHERE {key} = :key AND lease_token = :token FOR NO KEY UPDATE"
CHANGE = "UPDATE {name} SET {changes} WHERE {key} = :key AND lease_token = :token RETURNING {returns}"
GIVEN_BACK = "wakes = 0, lease_token = NULL, lease_holder = NULL, lease_until = NULL"

# Sent again only after a while, ever longer: a deep queue must not fill with the same wake-up. Whoever died under its
# lease had taken its message: that one no longer waits.
MOST_DOUBLINGS = 4
DUE = """
    SELECT {wake} FROM {name}
    WHERE ({condition}) AND due_at <= :now AND (lease_until IS NULL OR lease_until <= :now)
      AND (sent_at IS NULL OR sent_at <= :now - make_interval(secs => :resend * power(2,
          least(:most, greatest(wakes, CASE WHEN :messages_wait AND lease_until IS NULL THEN :most ELSE 0 END)))))
    ORDER BY {order}
    LIMIT :at_most
    FOR UPDATE SKIP LOCKED
"""
SENT = "UPDATE {name} SET sent_at = :now, wakes = wakes + 1 WHERE {key} = ANY (:keys)"

UNBLOCK = """
    UPDATE {name}
    SET state = :unblocked, reason = NULL, due_at = :now, sent_at = NULL, wakes = 0, {attempts} = 0
    WHERE state = :blocked AND ({condition})
"""


@cache
def _statement(template: str, table: LeasedTable, **parts: str) -> TextClause:
    """The template with what is declared; nothing that comes from outside gets into it."""
    named = {
        "name": table.name,
        "key": table.key,
        "this": f"{table.key} = :key" + (f" AND {table.step} = :step" if table.step else ""),
        "attempts": table.attempts,
        "open": " OR ".join(f"({condition})" for condition in table.open),
        "on_lease": table.on_lease and f", {table.on_lease}",
        "returns": ", ".join((table.key, *table.returns)),
        "wake": ", ".join(table.wake or (table.key,)),
        "order": table.order,
    }
    return text(template.format(**named, **parts))


def take(
    connection: Connection,
    table: LeasedTable,
    key: object,
    *,
    holder: str,
    now: datetime,
    until: datetime,
    step: int | None = None,
) -> tuple[Lease, dict[str, Any]] | None:
    """Take the lease until then (aware), or None: the message is stale, early, or another worker has it.

    Beside the lease the row as it is now, by column: its key and what the table `returns`. Raises OperationalError
    (LockNotAvailable) when this holder's own earlier attempt keeps the row locked too long.
    """
    token = uuid4()
    values = {"key": key, "step": step, "holder": holder, "token": token, "now": now, "until": until}
    take_it = _statement(TAKE, table)
    row = connection.execute(take_it, values).one_or_none()
    if row is None and connection.execute(_statement(WAIT_FOR_OWN, table), values).one_or_none() is not None:
        row = connection.execute(take_it, values).one_or_none()
    if row is None:
        return None
    found = dict(row._mapping)
    return Lease(table, key, token, found.pop("taken")), found


def lock(connection: Connection, lease: Lease) -> None:
    """Lock the row for a batch, until the commit. Raises LeaseLost."""
    if connection.execute(_statement(LOCK, lease.table), lease.own).one_or_none() is None:
        raise _lost(lease)


def change(
    connection: Connection,
    lease: Lease,
    *,
    progress: bool = True,
    add: Mapping[str, int] | None = None,
    **changes: object,
) -> dict[str, Any]:
    """Set columns of the row, and add to others. With `progress` its attempts begin anew, since it gets somewhere.

    Returns the row as `take` does. Raises LeaseLost.
    """
    return _change(connection, lease, "", changes, add or {}, progress=progress)


def give_back(
    connection: Connection,
    lease: Lease,
    *,
    due_at: datetime,
    sent_at: datetime | None = None,
    failed: bool = False,
    next_step: bool = False,
    **changes: object,
) -> None:
    """End the lease; the row is due again then (aware), if it is still open. Other columns are set with it.

    `sent_at` says that the caller sends the next message; otherwise the dispatcher does, once it is due. After a lease
    that `failed` the attempts count on. `next_step` counts the step as done. Raises LeaseLost.
    """
    fixed = GIVEN_BACK + (f", {lease.table.step} = {lease.table.step} + 1" if next_step else "")
    changes |= {"due_at": due_at, "sent_at": sent_at}
    _change(connection, lease, fixed, changes, {}, progress=not failed)


def _change(
    connection: Connection,
    lease: Lease,
    fixed: str,
    changes: Mapping[str, object],
    add: Mapping[str, int],
    *,
    progress: bool,
) -> dict[str, Any]:
    assignments = [f"{column} = :{column}" for column in changes]
    assignments += [f"{column} = {column} + :{column}" for column in add]
    if progress:
        assignments.append(f"{lease.table.attempts} = 0")
    statement = _statement(CHANGE, lease.table, changes=", ".join(filter(None, [fixed, *assignments])))
    row = connection.execute(statement, {**changes, **add, **lease.own}).one_or_none()
    if row is None:
        raise _lost(lease)
    return dict(row._mapping)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"{lease.table.name} {lease.key} is no longer under this lease")


def due(
    connection: Connection,
    table: LeasedTable,
    *,
    now: datetime,
    resend_seconds: float,
    at_most: int,
    messages_wait: bool = False,
) -> list[Row[Any]]:
    """Rows to be woken: due, not leased, and with no message sent lately. Locks them; returns the columns to `wake`.

    "Lately" is `resend_seconds`, twice as long with each message, up to 16 times; and 16 times at once while messages
    wait in the queue, since a message that is not answered is most likely one of them.
    """
    values = {
        "now": now,
        "resend": resend_seconds,
        "most": MOST_DOUBLINGS,
        "messages_wait": messages_wait,
        "at_most": at_most,
    }
    return [
        row
        for condition in table.open
        for row in connection.execute(_statement(DUE, table, condition=condition), values)
    ]


def mark_sent(connection: Connection, table: LeasedTable, keys: Collection[object], now: datetime) -> None:
    """A message goes out for these rows now."""
    connection.execute(_statement(SENT, table), {"keys": list(keys), "now": now})


def unblock(connection: Connection, table: LeasedTable, condition: str, now: datetime, **values: object) -> int:
    """Let blocked rows that meet the condition, in SQL, go on at once. Returns how many."""
    states = {"blocked": table.blocked, "unblocked": table.unblocked, "now": now}
    return connection.execute(_statement(UNBLOCK, table, condition=condition), {**states, **values}).rowcount
