"""What the page shows, section by section. Each fails by itself, with a sentence in its place, and none for long."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from psycopg2 import errors
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, TimeoutError

from app import broker, clock
from app.accounts import brake
from app.accounts.session_cleanup import anonymous_before
from app.broker import BrokerAway
from app.config import Settings
from app.dao import (
    audit_dao,
    blocked_dao,
    deferred_dao,
    failures_dao,
    heartbeats_dao,
    holds_dao,
    ops_dao,
    ops_page_dao,
    user_sessions_dao,
)
from app.dao.audit_dao import Audit
from app.dao.deferred_dao import DeferredBucketRow, DeferredRow
from app.dao.failures_dao import Lately
from app.dao.holds_dao import PIPELINE
from app.dao.ops_page_dao import Deletions, HeldBack, KeptDeletion
from app.dao.user_sweeps_dao import UserSweep
from app.db import db
from app.ops import charts, progress
from app.ops.kept import Kept
from app.ops.progress import Run
from app.retention import facts, overdue
from app.retention.overdue import State
from app.state import archive, user_sweeps
from app.state.archive import Archived
from app.state.findings import Finding
from app.state.judgement import Failing

log = structlog.get_logger(__name__)

A_DAY = timedelta(days=1)
SECONDS_TO_MEASURE = 10.0
SECONDS_A_SECTION = 3.0
SECONDS_FOR_THE_BROKER = 2.0
SECONDS_KEPT = 1.5
SECONDS_HISTORY_IS_KEPT = 20.0
ROWS_SHOWN = 20
SERVICES_SHOWN = 10
ACTIONS_SHOWN = 15
DELETIONS_SHOWN = 10
COUNT_NO_FURTHER = 10_000


@dataclass(frozen=True)
class Section:
    """What was found, or why nothing was."""

    found: Any = None
    failed: str | None = None


@dataclass(frozen=True)
class HeldBackRows:
    """Rows that are held back: how many (and how many need a person) by type and by reason, those held back longest one
    by one, and buckets that refuse everything.
    """

    of_type: dict[str, tuple[int, int]]
    by_reason: list[HeldBack]
    rows: list[DeferredRow]
    buckets: list[DeferredBucketRow]

    @property
    def total(self) -> int:
        """Rows held back, of all types."""
        return sum(rows for rows, _ in self.of_type.values())

    @property
    def needing_person(self) -> int:
        """Of these, the rows that have been tried too often."""
        return sum(rows for _, rows in self.of_type.values())


@dataclass(frozen=True)
class FailedBatches:
    """Sweeps whose last batch failed, and the batches that failed within a day."""

    now: list[Failing]
    lately: list[Lately]


@dataclass(frozen=True)
class Workers:
    """Workers that were seen lately, and when the dispatcher was (None: never)."""

    names: list[str]
    dispatcher_seen_at: datetime | None


@dataclass(frozen=True)
class Stopped:
    """What stops a sweep over users, and whether that is something to accept."""

    of: UserSweep
    finding: Finding

    @property
    def is_acceptable(self) -> bool:
        return self.of.blocked_by in user_sweeps.ACCEPTABLE


@dataclass(frozen=True)
class Sessions:
    """Sessions, each count no further than one above COUNT_NO_FURTHER."""

    expired: int
    anonymous_too_old: int
    alive: int


@dataclass(frozen=True)
class AccountDeletions:
    """Deletions of accounts that are under way, by state, and those that something keeps."""

    by_state: list[Deletions]
    kept: list[KeptDeletion]
    attempts_before_person: int


@dataclass(frozen=True)
class Audits:
    """The audit of the buckets that ended last, and the one that is under way."""

    last: Audit | None
    under_way: Audit | None


@dataclass(frozen=True)
class Hold:
    """A hold on a service, or the pause of the pipeline."""

    scope: str
    reason: str
    placed_by: str
    placed_at: datetime

    @property
    def is_pause(self) -> bool:
        return self.scope == PIPELINE


@dataclass(frozen=True)
class Page:
    """All sections, at one moment (aware)."""

    now: datetime
    judgement: Section
    measured: Section
    run: Section
    history: Section
    queues: Section
    workers: Section
    audit: Section
    archive: Section
    held_back: Section
    backlog: Section
    waiting: Section
    deletions: Section
    sweeps: Section
    sessions: Section
    stops: Section
    blocked: Section
    failing: Section
    actions: Section

    @property
    def is_going(self) -> bool:
        """Whether a run is under way, so that the page looks often."""
        return isinstance(self.run.found, Run) and self.run.found.is_going

    @property
    def alarms(self) -> list[overdue.Kept]:
        """What has been kept too long, service by service, what has a reason first."""
        kept: list[overdue.Kept] = self.measured.found.kept if self.measured.found else []
        return sorted((one for one in kept if self.measured.found.is_alarm(one)), key=lambda one: not one.why)

    @property
    def is_paused(self) -> bool:
        return any(hold.is_pause for hold in self.stops.found or ())


def look(settings: Settings, kept: Kept, now: datetime) -> Page:
    """Look at everything, or take what was seen a moment ago."""

    def section(name: str, find: Callable[[], Any], seconds: float = SECONDS_KEPT) -> Section:
        found: Section = kept.get(name, lambda: _attempt(name, find), seconds)
        return found

    measured = section("measured", lambda: overdue.measure(SECONDS_TO_MEASURE))
    state: State | None = measured.found
    held_back = section("held-back", _in_transaction(_held_back))
    left_alone = held_back.found.of_type if held_back.found else {}
    run = section("run", lambda: progress.look(state, left_alone, SECONDS_A_SECTION, now))
    return Page(
        now=now,
        judgement=section("judgement", lambda: facts.judgement_now(state, measured.failed)),
        measured=measured,
        run=run,
        history=section("history", _in_transaction(lambda it: _history(it, settings, now)), SECONDS_HISTORY_IS_KEPT),
        queues=section("queues", lambda: broker.queue_depths(settings, SECONDS_FOR_THE_BROKER)),
        workers=section("workers", _in_transaction(lambda it: _workers(it, now))),
        audit=section("audit", _in_transaction(lambda it: _audit(it, settings))),
        archive=section("archive", _in_transaction(lambda it: _archive(it, settings, now)), SECONDS_HISTORY_IS_KEPT),
        held_back=held_back,
        backlog=_of(measured, lambda: _backlog(measured.found)),
        waiting=_of(measured, lambda: measured.found.waiting),
        deletions=section("deletions", _in_transaction(lambda it: _deletions(it, settings))),
        sweeps=section("sweeps", lambda: _sweeps(settings)),
        sessions=section("sessions", _in_transaction(lambda it: _sessions(it, settings, now))),
        stops=section("stops", _in_transaction(_stops)),
        blocked=section("blocked", _in_transaction(blocked_dao.blocked)),
        failing=section("failing", _in_transaction(lambda it: _failing(it, now))),
        actions=section("actions", _in_transaction(lambda it: ops_dao.latest_actions(it, ACTIONS_SHOWN))),
    )


def _in_transaction(find: Callable[[Connection], Any]) -> Callable[[], Any]:
    def found() -> Any:
        with db.transaction(statement_seconds=SECONDS_A_SECTION, lock_seconds=1, read_only=True) as connection:
            return find(connection)

    return found


def _attempt(name: str, find: Callable[[], Any]) -> Section:
    try:
        return Section(find())
    except BrokerAway as error:
        log.warning("ops-section-failed", section=name, error=str(error))
        return Section(
            failed=f"The broker can't be asked ({error}). Check that it runs, and that CELERY_BROKER_URL names it."
        )
    except (DBAPIError, TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        log.warning("ops-section-failed", section=name, error=type(cause).__name__)
        return Section(failed=_sentence(cause))


def _sentence(error: BaseException) -> str:
    if isinstance(error, errors.QueryCanceled):
        return "The database took too long to answer, so that this was not looked at. It is tried again."
    if isinstance(error, errors.UndefinedTable):
        return "A table is missing. Make the tables with: flask db upgrade."
    if isinstance(error, errors.InsufficientPrivilege):
        return "The database's role may not read this. Apply the files of deploy/postgres again."
    return f"The database can't answer just now ({type(error).__name__}). It is tried again."


def _of(section: Section, find: Callable[[], Any]) -> Section:
    return section if section.failed else Section(find())


def _history(connection: Connection, settings: Settings, now: datetime) -> charts.History:
    last = clock.local_date(now, settings.zone)
    return charts.history(ops_page_dao.nights(connection, last - timedelta(days=charts.NIGHTS - 1)), last)


def _held_back(connection: Connection) -> HeldBackRows:
    return HeldBackRows(
        deferred_dao.count_rows(connection),
        ops_page_dao.held_back_by_reason(connection),
        deferred_dao.rows(connection, ROWS_SHOWN),
        deferred_dao.buckets(connection),
    )


def _backlog(state: State) -> list[overdue.Kept]:
    return sorted(state.overdue, key=lambda one: (one.more, one.rows), reverse=True)[:SERVICES_SHOWN]


def _deletions(connection: Connection, settings: Settings) -> AccountDeletions | None:
    if not settings.accounts_enabled:
        return None
    kept = ops_page_dao.kept_deletions(connection, DELETIONS_SHOWN)
    return AccountDeletions(ops_page_dao.deletions_in_flight(connection), kept, settings.deferral_attempts)


def _sweeps(settings: Settings) -> list[Stopped]:
    if not settings.accounts_enabled:
        return []
    return [Stopped(of, finding) for of in brake.latest() if (finding := user_sweeps.stopped(of)) is not None]


def _sessions(connection: Connection, settings: Settings, now: datetime) -> Sessions | None:
    if not settings.sessions_enabled:
        return None
    bounds = (now, anonymous_before(settings, now), COUNT_NO_FURTHER)
    alive = user_sessions_dao.alive_to_cap(connection, *bounds)
    return Sessions(*user_sessions_dao.dead_to_cap(connection, *bounds), alive)


def _workers(connection: Connection, now: datetime) -> Workers:
    seen = heartbeats_dao.workers_there(connection, now)
    return Workers(seen, heartbeats_dao.relays_seen(connection).get(heartbeats_dao.CHAINS))


def _failing(connection: Connection, now: datetime) -> FailedBatches:
    return FailedBatches(facts.failing(connection), failures_dao.lately(connection, now - A_DAY))


def _audit(connection: Connection, settings: Settings) -> Audits | None:
    if not settings.letters_have_files:
        return None
    return Audits(audit_dao.last_finished(connection), audit_dao.under_way(connection))


def _archive(connection: Connection, settings: Settings, now: datetime) -> Archived | None:
    return archive.read(connection, settings, now) if settings.archives_history else None


def _stops(connection: Connection) -> list[Hold]:
    return [Hold(*row) for row in holds_dao.all_holds(connection)]
