"""Drives a night without a broker: opens chains, and does the steps that their wake-ups ask for."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from app.dao.chains_dao import Wake
from app.retention import chains, nightly

MOST_STEPS = 200


def drain(wakes: Iterable[Wake]) -> list[Wake]:
    """Do every step that is asked for, and those that they ask for. Returns all wake-ups in order."""
    waiting, done = deque(wakes), []
    while waiting:
        wake = waiting.popleft()
        done.append(wake)
        assert len(done) <= MOST_STEPS, "the chains do not end"
        waiting.extend(chains.run_step(wake.chain, wake.step, f"task-{wake.chain}-{wake.step}"))
    return done


def run_night(notification_type: str = "letter") -> list[Wake]:
    """Fan a type out tonight, and do all steps that are not to wait."""
    return drain(nightly.fan_out(notification_type))


def dispatch() -> list[Wake]:
    """One look of the dispatcher, and all steps that are not to wait."""
    wakes, _ = nightly.dispatch()
    return drain(wakes)


def make_due(connection: Connection) -> None:
    """As if time had passed: every waiting chain and every deferral is due, every lease has run out."""
    connection.execute(
        text(
            "UPDATE retention.chains SET due_at = now() - interval '1 second', sent_at = NULL, "
            "lease_until = least(lease_until, now() - interval '1 second') WHERE state = 'waiting'"
        )
    )
    for table in ("deferred_rows", "deferred_buckets"):
        connection.execute(text(f"UPDATE retention.{table} SET next_attempt_at = now() - interval '1 second'"))


def until_rows_count_as_old(connection: Connection) -> None:
    """Other tests write on the same server: while one that began before our rows goes on, they count as young.

    To be called when the rows are there and no folder is indexed yet.
    """
    last = connection.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")).scalar_one()
    oldest = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    for _ in range(600):
        if connection.execute(oldest).scalar_one() >= last:
            return
        time.sleep(0.05)
    raise TimeoutError("a transaction has been writing for half a minute")


def states(connection: Connection) -> list[tuple[str, str, str | None]]:
    """Stage, state and reason of each chain, in order of opening."""
    rows = connection.execute(text("SELECT stage, state, reason FROM retention.chains ORDER BY id"))
    return [tuple(row) for row in rows]


def deferrals(connection: Connection) -> dict[UUID, Any]:
    """The records of letters that are held back, by letter, with the seconds between failure and next attempt."""
    rows = connection.execute(
        text("SELECT *, extract(epoch FROM next_attempt_at - last_failed_at) AS pause FROM retention.deferred_rows")
    )
    return {row["notification_id"]: row for row in rows.mappings()}


def broken_buckets(connection: Connection) -> list[tuple[str, str, str]]:
    """Bucket, kind and reason of each record of a broken bucket."""
    rows = connection.execute(text("SELECT bucket, kind, reason FROM retention.deferred_buckets ORDER BY 1, 2"))
    return [tuple(row) for row in rows]
