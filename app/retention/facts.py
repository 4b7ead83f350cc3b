"""The facts that the judgement of state is made from, read from the database. It asks neither S3 nor the broker."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app import clock
from app.config import Settings
from app.dao import (
    blocked_dao,
    heartbeats_dao,
    holds_dao,
    metrics_dao,
    state_dao,
    user_sessions_dao,
    user_sweeps_dao,
)
from app.dao.holds_dao import PIPELINE
from app.db import db
from app.retention import overdue
from app.retention.overdue import State
from app.retention.tools import tools
from app.state import archive, judgement, user_sweeps
from app.state.findings import policy_of
from app.state.judgement import Facts, Judgement

log = structlog.get_logger(__name__)

SECONDS_A_PART = 3.0
SECONDS_OF_A_LOCK = 1.0
UNDER_WAY = ("requested", "running", "blocked")


def judgement_now(measured: State | None, why_not: str | None = None) -> Judgement:
    """What there is to say now, with what is overdue as it was measured; None: it could not be, and why."""
    return judgement.judge(read(tools().settings, measured, why_not, clock.now()))


def read(settings: Settings, measured: State | None, why_not: str | None, now: datetime) -> Facts:
    """Every part, each in a transaction with a time limit of its own. One that can't be had is named in `unknown`."""
    found: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    if measured is None:
        unknown["what is overdue"] = (why_not or "it was not measured").rstrip(".")
    else:
        found["kept"] = [_kept(one, measured) for one in measured.kept]
    for name, part in _parts(settings, now).items():
        try:
            with db.transaction(
                statement_seconds=SECONDS_A_PART, lock_seconds=SECONDS_OF_A_LOCK, read_only=True
            ) as connection:
                found |= part(connection)
        except SQLAlchemyError as error:
            unknown[name] = type(getattr(error, "orig", None) or error).__name__
            log.warning("fact-not-known", part=name, error=unknown[name])
    return Facts(now=now, dispatch_every_seconds=settings.dispatch_every_seconds, unknown=unknown, **found)


def _parts(settings: Settings, now: datetime) -> dict[str, Callable[[Connection], dict[str, Any]]]:
    parts: dict[str, Callable[[Connection], dict[str, Any]]] = {
        "workers": lambda connection: _workers(connection, settings, now),
        "sweeps": _sweeps,
        "held-back rows": _held_back,
        "holds": _paused,
        "blocked policies": _blocked_policies,
    }
    if settings.letters_have_files:
        parts["audit"] = _audit
    if settings.accounts_enabled:
        parts["accounts"] = _accounts
    if settings.sessions_enabled:
        parts["sessions"] = lambda connection: _sessions(connection, settings, now)
    if settings.archives_history:
        parts["the archive"] = lambda connection: {"archive": archive.read(connection, settings, now)}
    return parts


def _kept(one: overdue.Kept, measured: State) -> judgement.Kept:
    return judgement.Kept(
        one.kind,
        one.notification_type,
        one.rows,
        measured.is_alarm(one),
        one.kind == overdue.OVERDUE,
        one.past,
        one.why,
    )


def _workers(connection: Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    seen = heartbeats_dao.relays_seen(connection)
    return {
        "workers": len(heartbeats_dao.workers_there(connection, now)),
        "dispatcher_seen_at": seen.get(heartbeats_dao.CHAINS),
        "has_accounts": settings.accounts_enabled,
        "accounts_relay_seen_at": seen.get(heartbeats_dao.ACCOUNTS),
    }


def _sweeps(connection: Connection) -> dict[str, Any]:
    blocked = [
        judgement.BlockedSweeps(
            policy_of(one.notification_type, is_test=one.is_test), one.reason, one.sweeps, one.since, one.failure
        )
        for one in state_dao.blocked(connection)
    ]
    return {"failing": failing(connection), "blocked_sweeps": blocked, "run_is_going": state_dao.is_going(connection)}


def failing(connection: Connection) -> list[judgement.Failing]:
    """Sweeps whose last batch failed, by policy and reason."""
    return [
        judgement.Failing(
            policy_of(one.notification_type, is_test=one.is_test),
            one.failure,
            one.sweeps,
            one.attempts,
            one.next_attempt.astimezone(clock.UTC),
        )
        for one in state_dao.failing(connection)
    ]


def _held_back(connection: Connection) -> dict[str, Any]:
    return {"held_back": state_dao.held_back(connection)}


def _paused(connection: Connection) -> dict[str, Any]:
    for scope, reason, placed_by, placed_at in holds_dao.all_holds(connection):
        if scope == PIPELINE:
            return {"paused": (reason, placed_by, placed_at)}
    return {}


def _blocked_policies(connection: Connection) -> dict[str, Any]:
    found = blocked_dao.blocked(connection)
    return {"blocked_policies": [(one.policy, one.sentence, one.fix, one.since) for one in found]}


def _audit(connection: Connection) -> dict[str, Any]:
    last = metrics_dao.last_audit(connection)
    return {} if last is None else {"audit": (last.files_without_row, last.rows_without_file, last.unrecognised_files)}


def _accounts(connection: Connection) -> dict[str, Any]:
    found = metrics_dao.deletions_by_state(connection)
    asked = [row.oldest for row in found if row.state in UNDER_WAY and row.oldest is not None]
    stopped = [
        (of.sweep, finding.sentence, finding.fix)
        for of in user_sweeps_dao.latest(connection)
        if (finding := user_sweeps.stopped(of)) is not None
    ]
    return {
        "deletions_blocked": sum(row.deletions for row in found if row.state == "blocked"),
        "deletion_asked_for_at": min(asked, default=None),
        "user_sweeps": stopped,
    }


def _sessions(connection: Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    before = now - timedelta(hours=settings.anonymous_session_hours)
    dead = user_sessions_dao.dead_to_cap(connection, now, before, judgement.DEAD_SESSIONS_AT_MOST)
    return {"dead_sessions": sum(dead)}
