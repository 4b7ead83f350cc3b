"""Sweeps of policies: begun with the night or the hour, a batch a message, until nothing is left to do.

The sweep's row is the truth, and a message only wakes it: one that is lost, late or delivered twice does no harm.
"""

import time as monotonic
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from app import clock
from app.config import Settings
from app.dao import policy_sweeps_dao
from app.dao.policy_sweeps_dao import BLOCKED, ENDED, SWEEPS
from app.db import db
from app.engine import leases
from app.engine.batch import Refused
from app.engine.leases import BackOff, Lease, LeaseLost
from app.errors import BadArgument
from app.policies import batches, checks
from app.policies.batches import Blocked, Report, Work
from app.policies.binding import Bound
from app.policies.forms import HOUR
from app.policies.reading import Policy
from app.policies.registry import registry
from app.policies.tools import tools
from app.refusals import refusal_of
from app.storage.client import Deadline
from app.storage.errors import BucketRefuses, Stopped

log = structlog.get_logger(__name__)

Wake = tuple[int, int]
"""A sweep's id, and the number of its next step."""
FIRST = timedelta(hours=1)
"""A policy that never was done begins so long after its time at most, or else at the next."""
SECONDS_BELIEVED = 15.0
WAKES_AT_MOST = 1000
NOT_IN_REGISTRY = "there is no policy of this name any more"


class UnderWay(BadArgument):
    """The policy is under way already."""


def period_of(policy: Policy, now: datetime, settings: Settings) -> datetime:
    """When the night or the hour began that a policy is due for at a moment: aware, in UTC."""
    if policy.entry.every == HOUR:
        return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    local = now.astimezone(settings.zone)
    begins = datetime.combine(local.date(), settings.retention_nightly_at, settings.zone)
    if begins > local:
        begins = datetime.combine(local.date() - timedelta(days=1), settings.retention_nightly_at, settings.zone)
    return begins.astimezone(UTC)


def begin_due() -> None:
    """Open a sweep of each policy whose night or hour has begun, once, however many ask."""
    policies = registry().policies.values()
    if policies:
        with db.transaction() as connection:
            now = db.bounded_now(connection, clock.now())
            periods = {policy.name: period_of(policy, now, tools().settings) for policy in policies}
            policy_sweeps_dao.begin(connection, periods, now, FIRST)


def begin_now(names: Collection[str]) -> list[Wake]:
    """Open a sweep of each of these policies now; one that is blocked tries again. Returns what to send.

    Raises BadArgument where there is no such policy, or it is under way, and Blocked where it does not fit.
    """
    named = [require(name) for name in names]
    for policy in named:
        problems = _bound(policy).problems
        if problems:
            raise Blocked(str(problems[0]))
    with db.transaction() as connection:
        now = db.bounded_now(connection, clock.now())
        if not policy_sweeps_dao.begin(connection, {policy.name: now for policy in named}, now):
            raise UnderWay(UnderWay.__doc__ or "")
        found = [policy_sweeps_dao.is_open(connection, policy.name) for policy in named]
    return [wake for wake in found if wake is not None]


def require(name: str) -> Policy:
    """The policy of that name. Raises BadArgument."""
    policy = registry().policies.get(name)
    if policy is None:
        raise BadArgument("there is no policy {}; flask retention policies lists them", name)
    return policy


def take_due() -> list[Wake]:
    """Sweeps that are due, or have lost their message or their worker: a message is to be sent for each."""
    with db.transaction() as connection:
        now = db.require_clock(connection).database
        resend = tools().settings.dispatch_every_seconds
        found = leases.take_due(connection, SWEEPS, now=now, resend_seconds=resend, at_most=WAKES_AT_MOST)
        return [(row.id, row.step) for row in found]


def run_step(sweep: int, step: int, task_id: str | None = None) -> Wake | None:
    """Do the next batch of a sweep, if the message is not stale. Returns what to send next, if anything.

    Raises DBAPIError and others; the sweep is tried again later.
    """
    the_tools = tools()
    taken = _lease(the_tools.settings, sweep, step, task_id)
    if taken is None:
        return None
    lease, row = taken
    name = row["policy"]
    policy = registry().policies.get(name)
    if policy is None:
        _give_back(lease, state=ENDED, reason=NOT_IN_REGISTRY, finished_at=clock.now(), next_step=True)
        return None
    try:
        bound = _bound(policy)
        if bound.table is None or bound.problems:
            raise Blocked(str(bound.problems[0]))
        work = Work(
            tools=the_tools,
            policy=policy,
            table=bound.table,
            lease=lease,
            sweep=sweep,
            step=step,
            began=row["started_at"],
            seen_to=row["seen_to"],
            seen_key=row["seen_key"],
            intent=tuple(row["intent"] or ()),
            deadline=Deadline(the_tools.settings.step_budget_seconds),
        )
        report = batches.take(work)
    except LeaseLost:
        log.warning("policy-lease-lost", policy=name, sweep=sweep, step=step, task_id=task_id)
        return None
    except (Blocked, Refused, BucketRefuses) as error:
        _block(lease, name, error)
        return None
    except Stopped as error:
        _put_off(the_tools.settings, lease, name, error.reason)
        return None
    except Exception as error:
        _put_off(the_tools.settings, lease, name, _cause(error))
        raise
    _say(name, sweep, step, report, task_id)
    return (sweep, step + 1) if report.is_more and not (report.paused or report.stopped or report.blocked) else None


def _lease(settings: Settings, sweep: int, step: int, task_id: str | None) -> tuple[Lease, dict[str, Any]] | None:
    now = clock.now()
    with db.transaction() as connection:
        db.require_clock(connection)
        return leases.acquire(
            connection,
            SWEEPS,
            sweep,
            step=step,
            holder=task_id,
            now=now,
            seconds=settings.lease_seconds,
            retry=BackOff(settings.retry_after_seconds),
        )


_believed: dict[tuple[str, int], tuple[float, Bound]] = {}


def _bound(policy: Policy) -> Bound:
    """What the database says of the policy. That it fits is believed for SECONDS_BELIEVED."""
    until, known = _believed.get((str(db.engine.url), id(policy)), (0.0, None))
    if known is not None and known.policy is policy and monotonic.monotonic() < until:
        return known
    with db.transaction(read_only=True) as connection:
        [found] = checks.check(connection, [policy])
    if not found.problems:
        _believed[str(db.engine.url), id(policy)] = monotonic.monotonic() + SECONDS_BELIEVED, found
    return found


def _block(lease: Lease, policy: str, error: Exception) -> None:
    why = f"the bucket refuses: {error}" if isinstance(error, BucketRefuses) else str(error)
    log.error("policy-blocked", policy=policy, why=why)
    _give_back(lease, state=BLOCKED, reason=why, next_step=True)


def _put_off(settings: Settings, lease: Lease, policy: str, why: str) -> None:
    due_at = clock.now() + BackOff(settings.retry_after_seconds).after(lease.attempts)
    log.error("policy-step-failed", policy=policy, error=why, next_attempt=due_at.isoformat())
    _give_back(lease, due_at=due_at, failed=True, reason=why)


def _give_back(lease: Lease, due_at: datetime | None = None, **changes: Any) -> None:
    with suppress(LeaseLost, DBAPIError), db.transaction() as connection:
        leases.give_back(connection, lease, due_at=due_at or clock.now(), **changes)


def _cause(error: Exception) -> str:
    """What stopped a batch, without a value of any row."""
    return str(refusal_of(error)) if isinstance(error, DBAPIError) else type(error).__name__


def _say(policy: str, sweep: int, step: int, report: Report, task_id: str | None) -> None:
    log.info(
        "policy-step",
        policy=policy,
        sweep=sweep,
        step=step,
        task_id=task_id,
        rows=report.rows,
        files=report.files,
        missing=report.missing,
        deferred=len(report.held),
        more=report.is_more,
        why="paused" if report.paused else report.stopped,
    )
    if report.held:
        first = next(iter(report.held.values())).reason
        log.warning("policy-rows-deferred", policy=policy, rows=len(report.held), first=first)
    if report.blocked:
        log.error("policy-blocked", policy=policy, why=report.blocked)
