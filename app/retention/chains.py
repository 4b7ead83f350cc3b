"""The night's steps. A chain's row is the truth; a message only wakes it.

Take the lease, do one step, and in the step's own transaction decide what comes next and advance the row. What is
returned must be sent as messages; should that fail, the dispatcher finds the row due and sends it again.
"""

import random
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection

from app import clock
from app.config import Settings
from app.dao import chains_dao, deferred_dao, failures_dao, many_services_dao, notifications_dao, runs_dao
from app.dao.chains_dao import CHAINS, DEFERRED, WHOLE, Chain, Group, Wake
from app.dao.deferred_dao import Whose
from app.dao.notifications_dao import REAL, TEST, Scope
from app.db import db
from app.engine import leases
from app.engine.leases import BackOff, LeaseLost
from app.models.types import LETTER
from app.observability import tracing
from app.retention import failures, many_services, traffic
from app.retention.alone import Alone
from app.retention.cutoffs import require_service
from app.retention.many_services import Many
from app.retention.next_step import Next, next_batch_rows, what_comes_next
from app.retention.report import INDEX_AWAITED, PRECONDITION, StepReport
from app.retention.steps import Step, StepFailed, Work, take_step
from app.retention.tools import Tools, tools
from app.state import asked
from app.state.findings import policy_of

log = structlog.get_logger(__name__)

ATTEMPTS_BEFORE_HAND_OVER = 3
"""A batch of many services that failed so often is broken up: its services get chains of their own."""


def run_step(chain_id: int, step: int, task_id: str | None) -> list[Wake]:
    """Do this step of this chain, unless someone else does or did. Returns the wake-ups to send at once.

    Raises whatever stopped the step, after giving the lease back and noting the error on the chain's row.
    """
    the_tools = tools()
    chain = _lease(the_tools.settings, chain_id, step, task_id)
    if chain is None:
        return []
    try:
        with tracing.step(trace(chain), {"chain.step": chain.step, "task.id": task_id or ""}) as span:
            wakes, report, decision = _do(the_tools, chain, task_id)
            if span is not None:
                span.set_attributes(counts(report))
    except LeaseLost:
        log.warning("lease-lost", chain=chain.id, step=chain.step, task_id=task_id)
        return []
    except Exception as error:
        _give_back(the_tools.settings, chain, error)
        raise
    if (failure := failures.of_report(report)) is not None:
        failures.note(chain, failure)
    if decision.what == "end":
        tracing.chain_ended(trace(chain), clock.now())
    return wakes


def trace(chain: Chain) -> tracing.Trace:
    """What makes the chain's trace: the same on every worker, and another one in every other database."""
    identity = f"{chain.id} {chain.night} {chain.service_id} {chain.notification_type} {chain.stage} {chain.slice}"
    attributes: tracing.Attributes = {
        "chain.id": chain.id,
        "chain.night": chain.night.isoformat(),
        "chain.stage": chain.stage,
        "chain.slice": chain.slice,
        "service.id": str(chain.service_id),
        "notification.type": chain.notification_type,
    }
    return tracing.Trace(identity, chain.created_at, attributes)


def counts(report: StepReport) -> dict[str, str | int]:
    """What a step's span says of it."""
    return {
        "step.outcome": report.outcome,
        "step.chosen": report.chosen,
        "step.moved": report.moved,
        "step.deleted": report.deleted,
        "step.files_deleted": report.files_deleted,
        "step.without_file": report.without_file,
        "step.deferred": report.deferred,
    }


def _lease(settings: Settings, chain_id: int, step: int, task_id: str | None) -> Chain | None:
    """The chain under lease; None if the message is stale, someone else has it, or live traffic comes first."""
    now = clock.now()
    with db.transaction() as connection:
        db.require_clock(connection)
        taken = leases.acquire(
            connection,
            CHAINS,
            chain_id,
            step=step,
            holder=task_id,
            now=now,
            seconds=settings.lease_seconds,
            retry=BackOff(settings.retry_after_seconds),
        )
        if taken is None:
            return None
        lease, row = taken
        chain = Chain(**row, lease=lease)
        if _is_blocked(connection, chain) or _yields(connection, settings, chain):
            return None
        return chain


def _is_blocked(connection: Connection, chain: Chain) -> bool:
    """Let the chain rest while something is not as its policy needs it. Nothing else is written: that may be it."""
    policy = policy_of(chain.notification_type, is_test=chain.stage == TEST)
    if not asked.is_blocked(connection, policy):
        return False
    leases.give_back(connection, chain.lease, due_at=chain.due_at, state="resting", reason=PRECONDITION)
    return True


def _yields(connection: Connection, settings: Settings, chain: Chain) -> bool:
    """Put the step off while live traffic needs the database, but not for ever."""
    waits = chain.setbacks if chain.reason in traffic.REASONS else 0
    if waits >= settings.yield_times:
        return False
    reason = traffic.reason_to_yield(connection, settings)
    if reason is None:
        return False
    due_at = clock.now() + timedelta(seconds=settings.yield_seconds * random.uniform(0.75, 1.25))  # noqa: S311
    leases.give_back(connection, chain.lease, due_at=due_at, reason=reason, setbacks=waits + 1)
    log.warning("yielded", chain=chain.id, step=chain.step, reason=reason, next_attempt=due_at.isoformat())
    return True


def _do(the_tools: Tools, chain: Chain, task_id: str | None) -> tuple[list[Wake], StepReport, Next]:
    """The step in its transaction: what to send, what it did, and what was decided."""
    work = _work(the_tools.settings, chain, task_id)
    with take_step(the_tools, work) as step:
        return _decide(step, the_tools, chain, work)


def _decide(step: Step, the_tools: Tools, chain: Chain, work: Work) -> tuple[list[Wake], StepReport, Next]:
    """Decide what comes next and advance the chain, in the step's transaction."""
    connection, report = step.connection, step.report
    now = clock.now()  # a back-off counts from here: the step may have waited for S3
    decision = what_comes_next(chain.stage, report, moving_bound=chain.lower_bound is not None)
    wakes = chains_dao.hand_over(connection, chain.group, report.handed_over, now)
    if decision.what == "end":
        wakes += _end(connection, chain, decision, step.chose_at, now)
    _advance(connection, the_tools.settings, chain, work, report, decision, now)
    if decision.what in ("again", "look-again"):
        wakes.append(chain.wake(chain.step + 1))
    if report.index_is_news:
        wakes += chains_dao.wake_waiting(connection, INDEX_AWAITED, now)
    return wakes, report, decision


def _work(settings: Settings, chain: Chain, task_id: str | None) -> Work:
    rows = chain.rows_per_step or settings.rows_per_step(chain.notification_type)
    return Work(
        night=chain.night,
        service_id=chain.service_id,
        notification_type=chain.notification_type,
        kind=TEST if chain.stage == TEST else REAL,
        cutoff=chain.cutoff,
        # A step that killed its worker is tried again with fewer rows, down to the one that does it.
        rows=max(1, rows >> (chain.lease.attempts - 1)),
        stage=chain.stage,
        slice=chain.slice,
        slice_from=chain.slice_from,
        slice_before=chain.slice_before,
        lower_bound=chain.lower_bound,
        chain_id=chain.id,
        step=chain.step,
        task_id=task_id,
        own=partial(leases.lock, lease=chain.lease),
        alone=Alone(chain.alone_letter, chain.alone_failures),
        many=_many(chain),
    )


def _many(chain: Chain) -> Many | None:
    if chain.days is None:
        return None
    return Many(
        chain.days,
        chain.first_service,
        chain.last_service,
        chain.after_service,
        hand_over=chain.lease.attempts > ATTEMPTS_BEFORE_HAND_OVER,
        refusals=0 if chain.reason in traffic.REASONS else chain.setbacks,
    )


def _end(connection: Connection, chain: Chain, decision: Next, chose_at: datetime, now: datetime) -> list[Wake]:
    """The chain has nothing left. The last slice of the real ones opens the test chain, once, where there is a row
    for it, be it one that is not final: its chain says so.
    """
    if chain.service_id is not None:
        _forget(connection, chain, chain.service_id, chose_at)
    if not decision.may_start_test_chain or not chains_dao.is_last_of_group(connection, chain):
        return []
    if not _are_test_rows_left(connection, chain, now):
        return []
    return chains_dao.open_group(connection, replace(chain.group, stage=TEST), WHOLE, now, now, sent=True)


def _forget(connection: Connection, chain: Chain, service_id: UUID, chose_at: datetime) -> None:
    """Records of deferred rows, and of letters' intents, that a service's chain leaves behind."""
    kind = TEST if chain.stage == TEST else REAL
    whose = Whose(service_id, chain.notification_type, kind, chain.cutoff)
    deferred_dao.forget_vanished(connection, whose)
    if chain.stage != REAL:
        # Due when this step chose, and not chosen: the chain covers the whole service, so it is not eligible.
        deferred_dao.put_off(connection, whose, chose_at)
    if chain.notification_type == LETTER:
        runs_dao.finish_intents_of_chain(connection, chain.id)


def _are_test_rows_left(connection: Connection, chain: Chain, now: datetime) -> bool:
    if chain.service_id is None:
        of_all = many_services.scope_of(
            tools().settings,
            Many(chain.days or 0),
            night=chain.night,
            notification_type=chain.notification_type,
            kind=TEST,
            cutoff=chain.cutoff,
            now=now,
        )
        return bool(many_services_dao.with_rows(connection, of_all, 1, all_that_stays=True))
    of_tests = Scope(chain.service_id, chain.notification_type, TEST, chain.cutoff, now=now, statuses_final=None)
    return notifications_dao.is_any_left(connection, of_tests)


def _advance(
    connection: Connection,
    settings: Settings,
    chain: Chain,
    work: Work,
    report: StepReport,
    decision: Next,
    now: datetime,
) -> None:
    goes_on = decision.what in ("again", "look-again")
    earlier = 0 if chain.reason in traffic.REASONS else chain.setbacks
    is_later = decision.what == "later"
    # A letter that S3 fails at is out of the way; whether S3 works shows only when another one goes.
    setbacks = earlier + is_later if is_later or report.deferred_alone else 0
    if report.is_all_refused:
        setbacks = earlier + 1
    lower_bound = chain.lower_bound
    if decision.what in ("look-again", "end"):
        lower_bound = None
    elif decision.what == "again" and report.complete:
        # Fewer rows than asked for, and something is left: it is below the bound, or it was locked.
        lower_bound = report.last if report.chosen >= work.rows else None
    back_off = BackOff(settings.retry_after_seconds)
    failure = failures.of_report(report)
    leases.give_back(
        connection,
        chain.lease,
        next_step=True,
        due_at=now + back_off.after(setbacks) if is_later else now,
        sent_at=now if goes_on else None,
        state={"rest": "resting", "end": "ended"}.get(decision.what, "waiting"),
        reason=decision.reason,
        missing_in=report.missing_files.bucket if report.missing_files else None,
        lower_bound=lower_bound,
        after_service=report.after_service or chain.after_service,
        rows_per_step=next_batch_rows(report, work.rows, settings.rows_per_step(chain.notification_type)),
        setbacks=setbacks,
        alone_letter=report.alone.letter,
        alone_failures=report.alone.failures,
        ended_at=now if decision.what == "end" else None,
        last_error=None if report.database_refuses is None else str(report.database_refuses),
        **(failures_dao.NOTHING if failure is None else failure.columns()),
    )


def _give_back(settings: Settings, chain: Chain, error: Exception) -> None:
    due_at = clock.now() + BackOff(settings.retry_after_seconds).after(chain.lease.attempts)
    rows, failure = chain.rows_per_step, failures.of_error(error)
    if isinstance(error, StepFailed) and error.may_do_with_fewer_rows:
        rows = max(1, (rows or settings.rows_per_step(chain.notification_type)) // 2)
    with suppress(LeaseLost), db.transaction() as connection:
        failed: dict[str, Any] = {"last_error": _cause(error), "rows_per_step": rows, **failure.columns()}
        leases.give_back(connection, chain.lease, failed=True, due_at=due_at, **failed)
    log.error(
        "step-failed",
        chain=chain.id,
        step=chain.step,
        attempts=chain.lease.attempts,
        service_id=chain.service_id and str(chain.service_id),
        notification_type=chain.notification_type,
        error=_cause(error),
        sqlstate=failure.sqlstate,
        refused_by=failure.refused_by,
        s3_code=failure.s3_code,
        next_attempt=due_at.isoformat(),
    )
    failures.note(chain, failure)


def _cause(error: Exception) -> str:
    """What stopped a step, without a value of any row: the database's refusal, or the kind of error."""
    return f"StepFailed: {error}" if isinstance(error, StepFailed) else type(error).__name__


def adopt(notification_type: str, service_id: UUID, cutoff: datetime) -> list[Wake]:
    """Give a task that came without a chain the night's chain for what it asks, open now.

    Returns its wake-ups; none when that chain is under way already. Raises UnknownService.
    """
    now = clock.now()
    night = clock.local_date(now, tools().settings.zone)
    with db.transaction() as connection:
        require_service(connection, service_id)
        runs_dao.start_run(connection, night, now)
        group = Group(night, notification_type, service_id, cutoff, REAL)
        return chains_dao.open_group(connection, group, WHOLE, now, now, sent=True)


def open_deferred(connection: Connection, whose: Whose, night_of: datetime) -> list[Wake]:
    """A chain of their own for a service's deferred rows whose time has come; test ones use the test chain's.

    None is opened while one of the service is under way: it meets them on its way.
    """
    stage = TEST if whose.kind == TEST else DEFERRED
    if chains_dao.is_under_way(connection, whose.service_id, whose.notification_type, [stage]):
        return []
    night = clock.local_date(night_of, tools().settings.zone)
    runs_dao.start_run(connection, night, night_of)
    group = Group(night, whose.notification_type, whose.service_id, whose.cutoff, stage)
    return chains_dao.open_group(connection, group, WHOLE, night_of, night_of, sent=True)
