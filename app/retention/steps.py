"""A step: one locked set of rows, one short transaction, and a report of what it did.

`move_notifications_to_notification_history` and `delete_test_notifications` do one step for a person, without a
chain. `app.retention.chains` does the steps of the night. Both go through `take_step`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.config import Settings
from app.dao import counting_dao, holds_dao, notifications_dao, runs_dao
from app.dao.notifications_dao import REAL, TEST, Scope
from app.db import db
from app.errors import BadArgument
from app.models.types import LETTER
from app.retention import letters, messages
from app.retention.alone import NOBODY, Alone
from app.retention.arguments import checked_id, checked_type
from app.retention.cutoffs import RetentionRefused, UnknownService, effective_cutoff
from app.retention.letters import Attempt
from app.retention.report import StepReport
from app.retention.tools import Tools, tools
from app.storage.client import Deadline

log = structlog.get_logger(__name__)

COUNT_NO_FURTHER = 10_000
LONG_STATEMENTS_PER_STEP = 3
"""The choice, the copy into history and the delete share a step's budget."""
CUT_BY_A_TIMEOUT = ("57014", "25P03", "25P04")
"""SQLSTATEs: a statement was cancelled, an idle transaction or a transaction ran out of time."""


class StepFailed(RuntimeError):
    """The database refused a step, which was rolled back. The message holds no value of any row."""

    def __init__(self, kind: str, sqlstate: str | None) -> None:
        super().__init__(kind, sqlstate)
        self.kind, self.sqlstate = kind, sqlstate

    def __str__(self) -> str:
        return f"{self.kind} {self.sqlstate or ''}".strip()

    @property
    def was_cut(self) -> bool:
        """Whether a time-out of the database ended it: a smaller batch may do."""
        return self.sqlstate in CUT_BY_A_TIMEOUT


@dataclass(frozen=True)
class Work:
    """What a step is asked to do: rows of one service, type and kind, past the cut-off, within bounds (aware).

    `lower_bound` is where the chain's last step stopped; without it the step chooses from the whole slice. `alone` is
    the letter that S3 failed at in the last step.
    """

    night: date
    service_id: UUID
    notification_type: str
    kind: str
    cutoff: datetime
    rows: int
    stage: str = REAL
    slice: int = 0
    slice_from: datetime | None = None
    slice_before: datetime | None = None
    lower_bound: datetime | None = None
    chain_id: int | None = None
    step: int = 0
    task_id: str | None = None
    alone: Alone = NOBODY


def move_notifications_to_notification_history(
    notification_type: str,
    service_id: UUID | str,
    timestamp_to_delete_backwards_from: datetime | str,
    limit: int | None = None,
) -> int:
    """One step for a person: move at most `limit` real notifications (the setting's batch if None) to history.

    The earlier of the timestamp (aware, or naive in UTC, or ISO 8601) and the service's own cut-off counts.
    Letters go after their files. Returns the number of rows moved; 0 when there is nothing, or when a hold, a
    pause or missing files forbid it, which is logged. Raises BadArgument for arguments that make no sense.
    """
    return _by_hand(REAL, notification_type, service_id, timestamp_to_delete_backwards_from, limit).moved


def delete_test_notifications(
    notification_type: str,
    service_id: UUID | str,
    timestamp_to_delete_backwards_from: datetime | str,
    limit: int | None = None,
) -> int:
    """One step for a person: delete at most `limit` test notifications, test letters after their files.

    Arguments and errors as for `move_notifications_to_notification_history`. Returns the number of rows deleted.
    """
    return _by_hand(TEST, notification_type, service_id, timestamp_to_delete_backwards_from, limit).deleted


def _by_hand(
    kind: str, notification_type: str, service_id: UUID | str, timestamp: datetime | str, limit: int | None
) -> StepReport:
    settings = tools().settings
    now = clock.now()
    checked_type(notification_type, tools().notification_types)
    rows = settings.rows_per_step(notification_type) if limit is None else limit
    if rows < 1:
        raise BadArgument("limit must be 1 or more, not {}", rows)
    work = Work(
        night=clock.local_date(now, settings.zone),
        service_id=checked_id(service_id),
        notification_type=notification_type,
        kind=kind,
        stage=kind,
        cutoff=clock.as_utc(timestamp),
        rows=rows,
    )
    with step_transaction(settings) as connection:
        return take_step(connection, tools(), work, now)


@contextmanager
def step_transaction(settings: Settings) -> Iterator[Connection]:
    """The step's own transaction. What the database refuses becomes StepFailed, without the rows' values."""
    try:
        with db.transaction(
            statement_seconds=settings.step_budget_seconds / LONG_STATEMENTS_PER_STEP,
            lock_seconds=settings.lock_timeout_seconds,
            idle_seconds=settings.lease_seconds,  # above the budget, within which S3 is waited for
        ) as connection:
            yield connection
    except DBAPIError as error:
        # Not chained: PostgreSQL's detail quotes the row, and a log would show it.
        raise StepFailed(type(error).__name__, getattr(error.orig, "pgcode", None)) from None


def take_step(connection: Connection, tools: Tools, work: Work, now: datetime) -> StepReport:
    """Do one step within the caller's transaction, record it, and return its report. Does not commit."""
    started = time.monotonic()
    report = _attempt(connection, tools, work, now)
    seconds = time.monotonic() - started
    report.past_budget = seconds > tools.settings.step_budget_seconds
    record = _record(work, report, now, seconds)
    runs_dao.record_step(connection, record, report.looks)
    _say(record, report)
    return report


def _attempt(connection: Connection, tools: Tools, work: Work, now: datetime) -> StepReport:
    if work.notification_type not in tools.notification_types:
        return StepReport(refused=f"there is nothing of type {work.notification_type}: see LETTER_FILES")
    resting = holds_dao.standing(connection, work.service_id)
    if resting:
        return StepReport(resting=resting)
    try:
        scope = _scope(connection, tools.settings, work, now)
    except RetentionRefused as refusal:
        return StepReport(refused=str(refusal))
    except UnknownService as refusal:
        if work.chain_id is None:
            raise
        return StepReport(refused=str(refusal))
    if letters.go_after_files(scope, tools.settings):
        scope = letters.within_reach(connection, tools, scope, now)
        attempt = Attempt(work.night, work.chain_id, work.step, work.cutoff, now, work.alone)
        deadline = Deadline(tools.settings.step_budget_seconds)
        report = letters.remove(connection, tools, scope, work.rows, attempt, deadline)
    else:
        report = messages.remove(connection, scope, work.rows)
    found_less = report.chosen < work.rows or not report.removed
    if found_less and not report.stopped and not report.missing_files:
        _look_around(connection, tools.settings, replace(scope, created_from=work.slice_from), report)
    return report


def _scope(connection: Connection, settings: Settings, work: Work, now: datetime) -> Scope:
    cutoff = effective_cutoff(
        connection,
        settings,
        service_id=work.service_id,
        notification_type=work.notification_type,
        argument=work.cutoff,
        now=now,
    )
    return Scope(
        service_id=work.service_id,
        notification_type=work.notification_type,
        kind=work.kind,
        created_before=min(cutoff, work.slice_before or cutoff),
        created_from=work.lower_bound or work.slice_from,
        now=now,
        statuses_kept=settings.letter_statuses_kept,
    )


def _look_around(connection: Connection, settings: Settings, scope: Scope, report: StepReport) -> None:
    """Is something eligible left in the whole slice, and what stays as not final, or because rows refer to it?"""
    report.eligible_left = notifications_dao.is_any_left(connection, scope)
    report.referred_to = counting_dao.count_referred_to(connection, scope, COUNT_NO_FURTHER)
    if scope.notification_type == LETTER:
        report.not_final = counting_dao.count_not_final(
            connection, scope, settings.letter_statuses_kept, COUNT_NO_FURTHER
        )


def _record(work: Work, report: StepReport, now: datetime, seconds: float) -> runs_dao.StepRecord:
    return runs_dao.StepRecord(
        night=work.night,
        chain_id=work.chain_id,
        task_id=work.task_id,
        notification_type=work.notification_type,
        service_id=work.service_id,
        cutoff=work.cutoff,
        stage=work.stage,
        slice=work.slice,
        step=work.step,
        started_at=now,
        seconds=seconds,
        outcome=report.outcome,
        chosen=report.chosen,
        moved=report.moved,
        deleted=report.deleted,
        files_deleted=report.files_deleted,
        without_file=report.without_file,
        deferred=report.deferred,
        not_final=report.not_final,
        min_created_at=report.first,
        max_created_at=report.last,
        failures=report.failures,
    )


def _say(record: runs_dao.StepRecord, report: StepReport) -> None:
    """One event per step, and a loud one for what an operator must know. Ids, counts and times only."""
    facts = {
        "night": record.night.isoformat(),
        "chain": record.chain_id,
        "step": record.step,
        "stage": record.stage,
        "task_id": record.task_id,
        "service_id": str(record.service_id),
        "notification_type": record.notification_type,
    }
    log.info(
        "step",
        **facts,
        outcome=record.outcome,
        chosen=record.chosen,
        moved=record.moved,
        deleted=record.deleted,
        files_deleted=record.files_deleted,
        without_file=record.without_file,
        deferred=record.deferred,
        seconds=round(record.seconds, 3),
    )
    if report.missing_files:
        log.error(
            "too-many-letters-without-file",
            **facts,
            bucket=report.missing_files.bucket,
            looked=report.missing_files.looked,
            missing=report.missing_files.missing,
            mend="check the buckets and LETTER_FOLDER_TIMEZONE, or accept it: flask retention accept-missing",
        )
    if report.refused:
        log.error("retention-refused", **facts, why=report.refused)
    if report.referred_to:
        log.warning("notifications-referred-to", **facts, by_table=report.referred_to)
    if report.not_final:
        log.warning("letters-not-final", **facts, count=report.not_final)
