"""A step: one locked set of rows, one short transaction, and a report of what it did.

`move_notifications_to_notification_history` and `delete_test_notifications` do one step for a person, without a
chain. `app.retention.chains` does the steps of the night. Both go through `take_step`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.config import Settings
from app.dao import counting_dao, letter_statuses, notifications_dao, runs_dao, turns_dao
from app.dao.notifications_dao import REAL, TEST, Scope
from app.db import db
from app.engine import stops
from app.engine.batch import Refused
from app.errors import BadArgument
from app.models.types import LETTER
from app.refusals import CountsDiffer, Refusal, refusal_of
from app.retention import letter_search, letters, many_services, messages
from app.retention.alone import NOBODY, Alone
from app.retention.arguments import checked_id, checked_type
from app.retention.cutoffs import RetentionRefused, UnknownService, effective_cutoff
from app.retention.letter_search import Attempt, Found
from app.retention.many_services import Many
from app.retention.report import StepReport
from app.retention.tools import Tools, tools
from app.state import asked
from app.state.findings import policy_of
from app.storage.client import Deadline

log = structlog.get_logger(__name__)

BY_HAND = stops.turn(turns_dao.BY_HAND)
"""What a hold waits for while somebody does a step without a chain."""
COUNT_NO_FURTHER = 10_000
LONG_STATEMENTS_PER_STEP = 3
"""The choice, the copy into history and the delete share a step's budget."""


class StepFailed(RuntimeError):
    """The database refused a step, which was rolled back. The message holds no value of any row."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal

    def __str__(self) -> str:
        return str(self.refusal)

    @property
    def may_do_with_fewer_rows(self) -> bool:
        """Whether a smaller batch may succeed: a time-out cut this one, or rows were refused only together."""
        return self.refusal.was_cut or self.refusal.may_be_one_row


@dataclass(frozen=True)
class Work:
    """What a step is asked to do: rows of one service, type and kind, past the cut-off, within bounds (aware); or, with
    `many`, of many services.

    `lower_bound` is where the chain's last step stopped; without it the step chooses from the whole slice. `alone` is
    the letter that S3 failed at in the last step. `own` locks the row of the work.
    """

    night: date
    service_id: UUID | None
    notification_type: str
    kind: str
    cutoff: datetime
    rows: int
    many: Many | None = None
    stage: str = REAL
    slice: int = 0
    slice_from: datetime | None = None
    slice_before: datetime | None = None
    lower_bound: datetime | None = None
    chain_id: int | None = None
    step: int = 0
    task_id: str | None = None
    own: stops.Own = BY_HAND
    alone: Alone = NOBODY

    @property
    def service(self) -> UUID:
        """The one service. Raises LookupError where there are many."""
        if self.service_id is None:
            raise LookupError("this work is for many services")
        return self.service_id


@dataclass(frozen=True)
class Step:
    """A step that was done, in its transaction, still open. `chose_at` is when its rows were chosen (aware)."""

    connection: Connection
    report: StepReport
    chose_at: datetime


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
    checked_type(notification_type, tools().notification_types)
    rows = settings.rows_per_step(notification_type) if limit is None else limit
    if rows < 1:
        raise BadArgument("limit must be 1 or more, not {}", rows)
    work = Work(
        night=clock.local_date(clock.now(), settings.zone),
        service_id=checked_id(service_id),
        notification_type=notification_type,
        kind=kind,
        stage=kind,
        cutoff=clock.as_utc(timestamp),
        rows=rows,
    )
    asked.require(policy_of(notification_type, is_test=kind == TEST))
    with take_step(tools(), work) as step:
        return step.report


@contextmanager
def database_errors() -> Iterator[None]:
    """What the database refuses becomes StepFailed, without the rows' values."""
    try:
        yield
    except (DBAPIError, Refused, CountsDiffer) as error:
        # Not chained: PostgreSQL's detail quotes the row, and a log would show it.
        raise StepFailed(refusal_of(error) if isinstance(error, DBAPIError) else error.refusal) from None


@contextmanager
def step_transaction(settings: Settings) -> Iterator[Connection]:
    """The step's own transaction. Raises StepFailed for what the database refuses, its commit included."""
    with (
        database_errors(),
        db.transaction(
            statement_seconds=settings.step_budget_seconds / LONG_STATEMENTS_PER_STEP,
            lock_seconds=settings.lock_timeout_seconds,
            idle_seconds=settings.lease_seconds,  # above the budget, within which S3 is waited for
        ) as connection,
    ):
        yield connection


@contextmanager
def take_step(tools: Tools, work: Work) -> Iterator[Step]:
    """Do one step, record it, and hand over its report and its transaction, which commits at the end.

    Letters' files are looked for before that transaction begins. Raises StepFailed, and what `work.own` raises.
    """
    started = time.monotonic()
    deadline = Deadline(tools.settings.step_budget_seconds)
    found = _find_letters(tools, work, deadline)
    with step_transaction(tools.settings) as connection:
        now = db.bounded_now(connection, clock.now())
        reserved = None
        if found is not None and found.intent is not None:
            reserved = runs_dao.reserve_step(connection, _record(work, StepReport(), now, 0))
        report = _attempt(connection, tools, work, now, found, deadline)
        seconds = time.monotonic() - started
        report.past_budget = seconds > tools.settings.step_budget_seconds
        record = _record(work, report, now, seconds)
        if reserved is None:
            runs_dao.record_step(connection, record)
        else:
            runs_dao.complete_step(connection, reserved, record)
        _say(record, report)
        yield Step(connection, report, now if found is None else found.chose_at)


def _find_letters(tools: Tools, work: Work, deadline: Deadline) -> Found | None:
    """What a letter batch finds before it locks anything: nothing where nothing may go; None for what has no files."""
    if work.notification_type != LETTER or not tools.settings.letters_have_files:
        return None
    with step_transaction(tools.settings) as connection:
        now = db.bounded_now(connection, clock.now())
        scope = _permitted(connection, tools, work, now)
        if isinstance(scope, StepReport):
            return Found(now)
        chosen = letter_search.choose(connection, tools, scope, work.rows, now)
    with database_errors():
        return letter_search.find(tools, scope, chosen, _letter_attempt(work, now), deadline)


def _attempt(
    connection: Connection, tools: Tools, work: Work, now: datetime, found: Found | None, deadline: Deadline
) -> StepReport:
    if work.many is not None:
        return _attempt_many(connection, tools, work, work.many, now, deadline)
    scope = _permitted(connection, tools, work, now)
    if isinstance(scope, StepReport):
        return scope
    if found is not None:
        scope = letter_search.within_reach(connection, tools, scope)
        report = letters.remove(letters.Batch(connection, tools, scope, _letter_attempt(work, now), found, deadline))
    else:
        report = messages.remove(
            connection, tools.settings, scope, work.rows, work.cutoff, _is_half_spent(tools.settings, deadline)
        )
    found_less = report.chosen < work.rows or not report.removed
    if found_less and not report.stopped and not report.missing_files:
        _look_around(connection, replace(scope, created_from=work.slice_from), report)
    return report


def _is_half_spent(settings: Settings, deadline: Deadline) -> Callable[[], bool]:
    return lambda: deadline.remaining() < settings.step_budget_seconds / 2


def _attempt_many(
    connection: Connection, tools: Tools, work: Work, many: Many, now: datetime, deadline: Deadline
) -> StepReport:
    resting = stops.stopped(connection, work.own)  # of services on hold nothing is chosen
    if resting:
        return StepReport(resting=resting)
    settings = tools.settings
    scope = many_services.scope_of(
        settings,
        many,
        night=work.night,
        notification_type=work.notification_type,
        kind=work.kind,
        cutoff=work.cutoff,
        now=now,
    )
    return many_services.remove(connection, settings, scope, many, work.rows, _is_half_spent(settings, deadline))


def _permitted(connection: Connection, tools: Tools, work: Work, now: datetime) -> Scope | StepReport:
    """The rows that may go by what holds, the pause and the retention say now, or the report that none may."""
    resting = stops.stopped(connection, work.own, services=[work.service])
    if resting:
        return StepReport(resting=resting)
    if work.notification_type not in tools.notification_types:
        return StepReport(refused=f"there is nothing of type {work.notification_type}: see LETTER_FILES")
    try:
        return _scope(connection, tools.settings, work, now)
    except RetentionRefused as refusal:
        return StepReport(refused=str(refusal))
    except UnknownService as refusal:
        if work.chain_id is None:
            raise
        return StepReport(refused=str(refusal))


def _letter_attempt(work: Work, now: datetime) -> Attempt:
    return Attempt(work.night, work.chain_id, work.step, work.cutoff, now, work.alone)


def _scope(connection: Connection, settings: Settings, work: Work, now: datetime) -> Scope:
    own_cutoff = effective_cutoff(
        connection,
        settings,
        service_id=work.service,
        notification_type=work.notification_type,
        argument=work.cutoff,
        now=now,
    )
    return Scope(
        service_id=work.service,
        notification_type=work.notification_type,
        kind=work.kind,
        created_before=min(own_cutoff, work.slice_before or own_cutoff),
        created_from=work.lower_bound or work.slice_from,
        now=now,
        statuses_final=letter_statuses.of(settings).final_of(work.kind),
    )


def _look_around(connection: Connection, scope: Scope, report: StepReport) -> None:
    """Is something eligible left in the whole slice, and what stays as not final, or because rows refer to it?"""
    report.eligible_left = notifications_dao.is_any_left(connection, scope)
    report.referred_to = counting_dao.count_referred_to(connection, scope, COUNT_NO_FURTHER)
    if scope.notification_type == LETTER:
        report.not_final = counting_dao.count_not_final(connection, scope, COUNT_NO_FURTHER)


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
        services=list(report.removed_of) if work.many is not None else None,
        removed_of=list(report.removed_of.values()) if work.many is not None else None,
    )


def _say(record: runs_dao.StepRecord, report: StepReport) -> None:
    """One event per step, and a loud one for what an operator must know. Ids, counts and times only."""
    facts = {
        "night": record.night.isoformat(),
        "chain": record.chain_id,
        "step": record.step,
        "stage": record.stage,
        "task_id": record.task_id,
        "service_id": record.service_id and str(record.service_id),
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
    if report.handed_over:
        log.info("services-handed-over", **facts, services=len(report.handed_over))
    if report.missing_files:
        log.error(
            "too-many-letters-without-file",
            **facts,
            bucket=report.missing_files.bucket,
            looked=report.missing_files.looked,
            missing=report.missing_files.missing,
            fix="check the buckets and LETTER_FOLDER_TIMEZONE, or accept it: flask retention accept-missing",
        )
    if report.database_refuses or report.refused_rows:
        log.error("rows-refused", **facts, rows=report.refused_rows, everything=str(report.database_refuses or ""))
    if report.refused:
        log.error("retention-refused", **facts, why=report.refused)
    if report.referred_to:
        log.warning("notifications-referred-to", **facts, by_table=report.referred_to)
    if report.not_final:
        log.warning("letters-not-final", **facts, count=report.not_final)
