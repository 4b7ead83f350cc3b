"""The night's steps. A chain's row is the truth; a message only wakes it.

Take the lease, do one step, and in the step's own transaction decide what comes next and advance the row. What is
returned must be sent as messages; should that fail, the dispatcher finds the row due and sends it again.
"""

import random
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection

from app import clock
from app.config import Settings
from app.dao import chains_dao, deferred_dao, notifications_dao, runs_dao
from app.dao.chains_dao import DEFERRED, Chain, Group, LeaseLost, Wake
from app.dao.notifications_dao import REAL, TEST, Scope
from app.db import db
from app.models.types import LETTER
from app.observability import tracing
from app.retention import traffic
from app.retention.alone import Alone
from app.retention.cutoffs import require_service
from app.retention.next_step import Next, next_batch_rows, what_comes_next
from app.retention.report import INDEX_AWAITED, StepReport
from app.retention.steps import StepFailed, Work, step_transaction, take_step
from app.retention.tools import Tools, tools

log = structlog.get_logger(__name__)

LONGEST_BACK_OFF_SECONDS = 3600
WHOLE = [(None, None)]


def run_step(chain_id: int, step: int, task_id: str | None) -> list[Wake]:
    """Do this step of this chain, unless someone else does or did. Returns the wake-ups to send at once.

    Raises whatever stopped the step, after giving the lease back and noting the error on the chain's row.
    """
    the_tools = tools()
    chain = _lease(the_tools.settings, chain_id, step, task_id or str(uuid4()))
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


def _lease(settings: Settings, chain_id: int, step: int, holder: str) -> Chain | None:
    """The chain under lease; None if the message is stale, someone else has it, or live traffic comes first."""
    now = clock.now()
    with db.transaction() as connection:
        chain = chains_dao.lease(
            connection,
            chain_id,
            step,
            holder=holder,
            now=now,
            until=now + timedelta(seconds=settings.lease_seconds),
            retry_base_seconds=settings.retry_after_seconds,
            retry_longest_seconds=LONGEST_BACK_OFF_SECONDS,
        )
        return None if chain is None or _yields(connection, settings, chain) else chain


def _yields(connection: Connection, settings: Settings, chain: Chain) -> bool:
    """Put the step off while live traffic needs the database, but not for ever."""
    waits = chain.setbacks if chain.reason in traffic.REASONS else 0
    if waits >= settings.yield_times:
        return False
    reason = traffic.reason_to_yield(connection, settings)
    if reason is None:
        return False
    due_at = clock.now() + timedelta(seconds=settings.yield_seconds * random.uniform(0.75, 1.25))  # noqa: S311
    chains_dao.postpone(connection, chain, reason, reasons=traffic.REASONS, due_at=due_at)
    log.warning("yielded", chain=chain.id, step=chain.step, reason=reason, next_attempt=due_at.isoformat())
    return True


def _do(the_tools: Tools, chain: Chain, task_id: str | None) -> tuple[list[Wake], StepReport, Next]:
    """The step in its transaction: what to send, what it did, and what was decided."""
    with step_transaction(the_tools.settings) as connection:
        return _step(connection, the_tools, chain, task_id)


def _step(
    connection: Connection, the_tools: Tools, chain: Chain, task_id: str | None
) -> tuple[list[Wake], StepReport, Next]:
    chose_at = clock.now()
    work = _work(the_tools.settings, chain, task_id)
    report = take_step(connection, the_tools, work, chose_at)
    now = clock.now()  # a back-off counts from here: the step may have waited for S3
    decision = what_comes_next(chain.stage, report, moving_bound=chain.lower_bound is not None)
    wakes = _end(connection, chain, decision, chose_at, now) if decision.what == "end" else []
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
        rows=max(1, rows >> (chain.attempts - 1)),
        stage=chain.stage,
        slice=chain.slice,
        slice_from=chain.slice_from,
        slice_before=chain.slice_before,
        lower_bound=chain.lower_bound,
        chain_id=chain.id,
        step=chain.step,
        task_id=task_id,
        alone=Alone(chain.alone_letter, chain.alone_failures),
    )


def _end(connection: Connection, chain: Chain, decision: Next, chose_at: datetime, now: datetime) -> list[Wake]:
    """The chain has nothing left. The last slice of the real ones opens the test chain, once, where there is a row
    for it, be it one that is not final: its chain says so.
    """
    if chain.notification_type == LETTER and chain.stage != REAL:
        # Due when this step chose, and not chosen: the chain covers the whole service, so it is not eligible.
        kind = TEST if chain.stage == TEST else REAL
        deferred_dao.forget_vanished(connection, chain.service_id, kind)
        deferred_dao.put_off(connection, chain.service_id, kind, chose_at)
    if chain.notification_type == LETTER:
        runs_dao.finish_intents_of_chain(connection, chain.id)
    if not decision.may_start_test_chain or not chains_dao.is_last_of_group(connection, chain):
        return []
    of_tests = Scope(chain.service_id, chain.notification_type, TEST, created_before=chain.cutoff, now=now)
    if not notifications_dao.is_any_left(connection, of_tests):
        return []
    group = Group(chain.night, chain.notification_type, chain.service_id, chain.cutoff, TEST)
    return chains_dao.open_group(connection, group, WHOLE, now, now, sent=True)


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
    lower_bound = chain.lower_bound
    if decision.what in ("look-again", "end"):
        lower_bound = None
    elif decision.what == "again" and report.complete:
        # Fewer rows than asked for, and something is left: it is below the bound, or it was locked.
        lower_bound = report.last if report.chosen >= work.rows else None
    chains_dao.advance(
        connection,
        chain,
        state={"rest": "resting", "end": "ended"}.get(decision.what, "waiting"),
        reason=decision.reason,
        missing_in=report.missing_files.bucket if report.missing_files else None,
        due_at=now + back_off(settings, setbacks) if is_later else now,
        sent_at=now if goes_on else None,
        lower_bound=lower_bound,
        rows_per_step=next_batch_rows(report, work.rows, settings.rows_per_step(chain.notification_type)),
        setbacks=setbacks,
        alone_letter=report.alone.letter,
        alone_failures=report.alone.failures,
        ended_at=now if decision.what == "end" else None,
    )


def _give_back(settings: Settings, chain: Chain, error: Exception) -> None:
    due_at = clock.now() + back_off(settings, chain.attempts)
    rows = chain.rows_per_step
    if isinstance(error, StepFailed) and error.was_cut:
        rows = max(1, (rows or settings.rows_per_step(chain.notification_type)) // 2)
    with db.transaction() as connection:
        chains_dao.fail(connection, chain, type(error).__name__, due_at=due_at, rows_per_step=rows)
    log.error(
        "step-failed",
        chain=chain.id,
        step=chain.step,
        attempts=chain.attempts,
        service_id=str(chain.service_id),
        notification_type=chain.notification_type,
        error=type(error).__name__,
        next_attempt=due_at.isoformat(),
    )


def back_off(settings: Settings, times: int) -> timedelta:
    """How long to wait after so many set-backs in a row: doubled each time up to an hour, less up to a quarter."""
    seconds = min(LONGEST_BACK_OFF_SECONDS, settings.retry_after_seconds * 2 ** min(times - 1, 20))
    return timedelta(seconds=seconds * random.uniform(0.75, 1))  # noqa: S311 - jitter


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


def open_deferred(connection: Connection, whose: deferred_dao.Whose, night_of: datetime) -> list[Wake]:
    """A chain of their own for a service's deferred letters whose time has come; test ones use the test chain's.

    None is opened while one of the service is under way: it meets them on its way.
    """
    stage = TEST if whose.kind == TEST else DEFERRED
    if chains_dao.is_under_way(connection, whose.service_id, LETTER, [stage]):
        return []
    night = clock.local_date(night_of, tools().settings.zone)
    runs_dao.start_run(connection, night, night_of)
    group = Group(night, LETTER, whose.service_id, whose.cutoff, stage)
    return chains_dao.open_group(connection, group, WHOLE, night_of, night_of, sent=True)
