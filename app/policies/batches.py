"""One batch of a policy: rows chosen once, the database asked first, files, and the end of exactly those rows.

Without files it is one transaction. Rows with files take three, since S3's listing must not be waited for under locks:

    1. look at the oldest rows that are due, and find their objects
    2. write down, in the sweep's row, whose objects are about to go: the intent
    3. lock those rows, as far as they are still due and have the same object; have the database accept their end;
       delete the objects; commit for exactly the rows whose objects are confirmed gone

A row that the database refuses, or whose object can't be deleted, is held back, and the others go. Whatever a killed
worker left is done again: its objects are gone, which the intent says, so that they do not count as missing.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app import clock
from app.config import Settings
from app.dao import policy_rows_dao, policy_sweeps_dao
from app.dao.policy_rows_dao import Due, Removal, Row
from app.dao.policy_sweeps_dao import Held
from app.dao.policy_tables import PolicyTable
from app.db import db
from app.engine import leases, stops
from app.engine.batch import Prepared, prepare
from app.engine.isolation import MOST_REFUSED
from app.engine.leases import Lease
from app.policies.due import due
from app.policies.reading import Policy
from app.policies.tools import Tools
from app.refusals import Refusal
from app.storage import keyed
from app.storage.client import Deadline, Requests
from app.storage.errors import OUT_OF_TIME
from app.storage.listing import StoredFile

ROWS_WITH_FILES = 10
"""Rows with files are so many times fewer in a batch."""
LONG_STATEMENTS = 3
"""The choice, the copy and the end of the rows share a batch's budget."""


class Blocked(RuntimeError):
    """Something that a person must see to. Nothing was done; the text has no value of a row."""


@dataclass(frozen=True)
class Work:
    """A batch of a sweep under a lease. `seen_to` and `seen_key`: the row that the sweep has come to."""

    tools: Tools
    policy: Policy
    table: PolicyTable
    lease: Lease
    sweep: int
    step: int
    began: datetime
    seen_to: str | None
    seen_key: str | None
    intent: tuple[str, ...]
    deadline: Deadline
    started: float = field(default_factory=time.monotonic)

    @property
    def settings(self) -> Settings:
        return self.tools.settings

    @property
    def limit(self) -> int:
        """Rows of this batch: fewer after attempts that came to nothing."""
        rows = self.settings.policy_rows_per_batch // (ROWS_WITH_FILES if self.table.file else 1)
        return max(1, rows >> (self.lease.attempts - 1))

    @property
    def requests(self) -> Requests:
        return self.tools.requests(self.deadline)

    @property
    def bucket(self) -> str:
        files = self.policy.entry.files
        if files is None:
            raise LookupError("the policy has no files")
        return files.bucket


@dataclass
class Report:
    """What a batch did. `last`: the last row that it looked at; None: it need not look further from there."""

    rows: int = 0
    files: int = 0
    missing: int = 0
    is_more: bool = False
    paused: bool = False
    last: Row | None = None
    held: dict[str, Held] = field(default_factory=dict)
    services: list[tuple[UUID, int]] = field(default_factory=list)
    stopped: str | None = None
    """Why S3 can't be asked any further now."""
    blocked: str | None = None
    """What was not refused is done; a person must see to the rest."""


@dataclass(frozen=True)
class _Objects:
    """Rows whose objects were looked for, and these, by the rows' keys."""

    rows: Mapping[str, Row]
    files: Mapping[str, tuple[StoredFile, ...]]
    last: Row | None
    is_more: bool
    stopped: str | None


def take(work: Work) -> Report:
    """Do one batch, and give the sweep's lease back with it. Raises Blocked, Refused, BucketRefuses, LeaseLost."""
    objects = _find(work) if work.table.file else None
    if isinstance(objects, Report):
        with _transaction(work) as connection:
            return _end(connection, work, objects, db.bounded_now(connection, clock.now()))
    with _transaction(work) as connection:
        now = db.bounded_now(connection, clock.now())
        standing = _standing(connection, work)
        if standing.is_paused:
            return _end(connection, work, Report(paused=True), now)
        which = _due(connection, work, now, standing)
        if objects is None:
            report = _without_files(connection, work, which)
        else:
            report = _with_files(connection, work, replace(which, seen_to=None, seen_key=None), objects)
        return _end(connection, work, report, now)


def _transaction(work: Work) -> Any:
    settings = work.settings
    return db.transaction(
        statement_seconds=settings.step_budget_seconds / LONG_STATEMENTS,
        lock_seconds=settings.lock_timeout_seconds,
        idle_seconds=settings.lease_seconds,
    )


def _standing(connection: Connection, work: Work) -> stops.Standing:
    """Lock the sweep's row, then read the holds."""
    return stops.standing(connection, partial(leases.lock, lease=work.lease))


def _due(connection: Connection, work: Work, now: datetime, standing: stops.Standing) -> Due:
    retention = work.policy.entry.retention
    found = due(connection, work.settings, work.table, retention, began=work.began, now=now, standing=standing)
    return replace(found, seen_to=work.seen_to, seen_key=work.seen_key)


def _without_files(connection: Connection, work: Work, which: Due) -> Report:
    chosen = policy_rows_dao.choose(connection, work.table, which, work.limit)
    report = Report(is_more=len(chosen.rows) == work.limit, last=_last(chosen.rows.values()))
    prepared = _prepare(connection, work, chosen, report)
    report.rows = prepared.removed if prepared else 0
    report.services = chosen.by_service() if report.rows else []
    _forget(connection, work, prepared)
    return report


def _last(rows: Collection[Row]) -> Row | None:
    return list(rows)[-1] if rows else None


def _prepare(connection: Connection, work: Work, chosen: Removal, report: Report) -> Prepared[str] | None:
    """Have the database accept what it will; what it refuses is in the report."""
    if not chosen.rows:
        return None
    budget = work.settings.step_budget_seconds
    prepared = prepare(connection, chosen, is_time_up=lambda: work.deadline.remaining() < budget / 2)
    if prepared.everything is not None:
        raise Blocked(f"the database refuses every row: {prepared.everything}")
    report.held |= {key: _refused(chosen.rows[key], why) for key, why in prepared.refused.items()}
    if len(prepared.refused) > MOST_REFUSED:
        report.blocked = f"the database refuses more than {MOST_REFUSED} rows: {next(iter(prepared.refused.values()))}"
    if prepared.undecided:
        report.last, report.is_more = None, True
        if not (prepared.removed or prepared.refused):
            report.stopped = OUT_OF_TIME
    return prepared


def _refused(row: Row, why: Refusal) -> Held:
    return Held(row.service_id, why.kind, why.sqlstate, why.where or None)


def _forget(connection: Connection, work: Work, prepared: Prepared[str] | None) -> None:
    if prepared is not None and prepared.removed:
        policy_sweeps_dao.forget(connection, work.policy.name, prepared.accepted_ids())


def _find(work: Work) -> _Objects | Report:
    """Look at rows and for their objects, and write the intent; or the report that there is nothing to do."""
    with _transaction(work) as connection:
        now = db.bounded_now(connection, clock.now())
        standing = _standing(connection, work)
        if standing.is_paused:
            return Report(paused=True)
        rows = policy_rows_dao.look(connection, work.table, _due(connection, work, now, standing), work.limit)
    if not rows:
        return Report()
    wanted = {row.file for row in rows if row.file}
    looked = keyed.find(work.tools.s3, work.requests, work.bucket, wanted)
    found = {row.key: row for row in rows if row.file in looked.files}
    files = {row.key: looked.files[row.file] for row in found.values() if row.file}
    if not found:
        return Report(is_more=True, stopped=looked.stopped)
    _require_files(work, files)
    with _transaction(work) as connection:
        leases.lock(connection, work.lease)
        leases.change(connection, work.lease, progress=False, intent=list({*work.intent, *found}))
    whole = looked.stopped is None
    return _Objects(found, files, _last(rows) if whole else None, len(rows) == work.limit or not whole, looked.stopped)


def _require_files(work: Work, files: Mapping[str, tuple[StoredFile, ...]]) -> None:
    """Stop where too many rows have no object: the bucket or the key is most likely not the right one."""
    settings, policy_files = work.settings, work.policy.entry.files
    if policy_files is None or not policy_files.expected or settings.missing_files_share is None:
        return
    looked = [of_row for key, of_row in files.items() if key not in work.intent]
    missing = sum(not of_row for of_row in looked)
    if len(looked) >= settings.missing_files_least and missing > settings.missing_files_share * len(looked):
        raise Blocked(
            f"{missing} of {len(looked)} rows have no object in bucket {work.bucket}: check the bucket and the key, or "
            "set files.expected = false"
        )


def _with_files(connection: Connection, work: Work, which: Due, objects: _Objects) -> Report:
    report = Report(is_more=objects.is_more, last=objects.last, stopped=objects.stopped)
    chosen = policy_rows_dao.choose(connection, work.table, which, work.limit, list(objects.rows))
    moved = [key for key, row in chosen.rows.items() if row.file != objects.rows[key].file]
    if moved:  # the row's object is another one by now: not this time
        chosen.leave(moved)
    prepared = _prepare(connection, work, chosen, report)
    if prepared is None:
        return report
    accepted = prepared.accepted_ids()
    to_delete = {key: objects.files[key] for key in accepted if objects.files[key]}
    without = [key for key in accepted if not objects.files[key]]
    done = keyed.delete(work.tools.s3, work.requests, to_delete)
    gone = [key for key in accepted if key in done.gone or not objects.files[key]]
    if len(gone) < len(accepted):
        prepared.keep_only(gone)
    report.rows, report.files, report.missing = prepared.removed, done.files, len(without)
    report.held |= {key: Held(chosen.rows[key].service_id, code) for key, code in done.failed.items()}
    report.stopped = done.stopped or report.stopped
    if done.stopped:
        report.last, report.is_more = None, True
    report.services = chosen.by_service() if report.rows else []
    _forget(connection, work, prepared)
    return report


def _end(connection: Connection, work: Work, report: Report, now: datetime) -> Report:
    """Write down what the batch did, in its transaction, and give the lease back with what comes next."""
    first_seconds = work.settings.deferral_first_minutes * 60
    policy_sweeps_dao.defer(connection, work.policy.name, report.held, now, first_seconds)
    counts = {"rows": report.rows, "files": report.files, "missing": report.missing, "deferred": len(report.held)}
    if any(counts.values()):
        policy_sweeps_dao.record(
            connection,
            report.services,
            sweep=work.sweep,
            policy=work.policy.name,
            step=work.step,
            began_at=now,
            seconds=time.monotonic() - work.started,
            **counts,
        )
    back_off = leases.BackOff(work.settings.retry_after_seconds).after(work.lease.attempts)
    is_over = not (report.is_more or report.paused or report.blocked)
    if is_over:
        policy_sweeps_dao.forget_vanished(connection, work.policy.name, work.began)
    moved_on: dict[str, Any] = {} if report.paused or report.stopped else {"intent": None}
    if report.last and report.is_more:
        moved_on |= {"seen_to": report.last.age, "seen_key": report.last.key}
    reason = report.blocked or (stops.PAUSED if report.paused else report.stopped)
    state = policy_sweeps_dao.BLOCKED if report.blocked else policy_sweeps_dao.WAITING
    leases.change(connection, work.lease, progress=not report.stopped, add=counts, **moved_on)
    leases.give_back(
        connection,
        work.lease,
        due_at=now + back_off if report.paused or report.stopped else now,
        sent_at=now if report.is_more and not (report.stopped or report.paused or report.blocked) else None,
        failed=bool(report.stopped) and not report.rows,
        next_step=True,
        state=policy_sweeps_dao.ENDED if is_over else state,
        reason=reason,
        finished_at=now if is_over else None,
    )
    return report
