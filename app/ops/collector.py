"""What `/metrics` says, told anew from the database and the broker: the same from every process.

In parts, each with a transaction and a time-out of its own: a part that can't be told leaves its metrics out and says
so in `retention_scrape_errors`, and the others are told all the same.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

import structlog
from prometheus_client import registry
from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app import broker, clock
from app.accounts import brake
from app.accounts.session_cleanup import anonymous_before
from app.broker import BrokerAway
from app.config import Settings
from app.dao import blocked_dao, heartbeats_dao, holds_dao, metrics_dao, totals_dao, user_sessions_dao
from app.dao.holds_dao import PIPELINE, USER
from app.dao.totals_dao import Total
from app.db import db
from app.models.types import NOTIFICATION_TYPES
from app.ops import metric_names as metric
from app.retention import facts, failures, overdue
from app.state import archive, user_sweeps
from app.state.findings import ACCOUNTS, DELETIONS, OF_NOTIFICATIONS, SESSIONS

log = structlog.get_logger(__name__)

SECONDS_OF_A_STATEMENT = 3.0
SECONDS_OF_A_LOCK = 0.5
SECONDS_OF_THE_BROKER = 2.0
SECONDS_OF_ALL = 8.0
"""Prometheus itself waits for 10: what was not begun by then is not told."""
DEAD_SESSIONS_NO_FURTHER = 100_000
NIGHTS_LOOKED_BACK = timedelta(days=14)
REASONS = {
    overdue.NOT_FINAL: "not_final",
    overdue.UNKNOWN_STATUS: "unknown_status",
    overdue.ON_HOLD: "on_hold",
    overdue.NO_SERVICE: "no_service",
    overdue.MISSING_FILES: "missing_files",
    overdue.REFERRED_TO: "referred_to",
}
CHAIN_STATES = ("waiting", "running", "resting")
DELETION_STATES = ("requested", "running", "blocked", "unconfirmed")
UNDER_WAY = ("requested", "running")


@dataclass(frozen=True)
class Scrape:
    """One look: the settings and its time (aware)."""

    settings: Settings
    now: datetime

    def age(self, since: datetime | None) -> float:
        """Seconds since then; 0 for None."""
        return 0.0 if since is None else max(0.0, (self.now - since).total_seconds())


Part = Callable[[Scrape], Iterable[Metric]]


class Collector(registry.Collector):
    """What a registry of prometheus_client asks for its metrics."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        """All parts, and which of them could not be told."""
        scrape, end = Scrape(self._settings, clock.now()), time.monotonic() + SECONDS_OF_ALL
        failed: dict[tuple[str, ...], float] = {}
        for name, part in parts(self._settings).items():
            told = _told(name, part, scrape) if time.monotonic() < end else None
            failed[(name,)] = float(told is None)
            yield from told or ()
        yield metric.SCRAPE_ERRORS.family(failed)


def parts(settings: Settings) -> dict[str, Part]:
    """The parts by name, without those that are switched off."""
    found: dict[str, Part] = {
        "overdue": _overdue,
        "held_back": _held_back,
        "totals": _totals,
        "chains": _chains,
        "blocked": _blocked,
        "heartbeats": _heartbeats,
        "queues": _queues,
        "audit": _audit,
    }
    if settings.accounts_enabled:
        found["accounts"] = _accounts
    if settings.sessions_enabled:
        found["sessions"] = _sessions
    if settings.archives_history:
        found["archive"] = _archive
    return found


def _told(name: str, part: Part, scrape: Scrape) -> list[Metric] | None:
    try:
        return list(part(scrape))
    except SQLAlchemyError as error:
        why = type(getattr(error, "orig", None) or error).__name__
    except BrokerAway as error:
        why = str(error)
    log.warning("metrics-part-failed", part=name, error=why)
    return None


@contextmanager
def _reading() -> Iterator[Connection]:
    with db.transaction(
        statement_seconds=SECONDS_OF_A_STATEMENT, lock_seconds=SECONDS_OF_A_LOCK, read_only=True
    ) as connection:
        yield connection


def _overdue(_scrape: Scrape) -> Iterator[Metric]:
    state = overdue.measure(SECONDS_OF_A_STATEMENT)
    rows = dict.fromkeys(((of_type,) for of_type in NOTIFICATION_TYPES), 0.0)
    ages = dict(rows)
    waiting = {(of_type, reason): 0.0 for of_type in NOTIFICATION_TYPES for reason in REASONS.values()}
    for one in state.kept:
        of_type = (one.notification_type,)
        if one.kind == overdue.OVERDUE:
            rows[of_type] += one.rows
            ages[of_type] = max(ages[of_type], (one.past or timedelta()).total_seconds())
        elif one.kind in REASONS:
            waiting[(one.notification_type, REASONS[one.kind])] += one.rows
    yield from _judgement(state)
    yield metric.OVERDUE.family(rows)
    yield metric.OVERDUE_AGE.family(ages)
    yield metric.WAITING.family(waiting)


def _judgement(state: overdue.State) -> Iterator[Metric]:
    """What the ops page and `flask retention overdue` say, too."""
    found = facts.judgement_now(state)
    verdicts = Counter((one.state, one.severity.word) for one in found.verdicts)
    yield metric.SEVERITY.family({(): found.severity})
    yield metric.VERDICTS.family({of: float(count) for of, count in verdicts.items()})


def _held_back(scrape: Scrape) -> Iterator[Metric]:
    with _reading() as connection:
        held = metrics_dao.held_back(connection)
    yield metric.HELD_BACK.family(metric.bounded((row.reason, row.held) for row in held))
    oldest = min((row.oldest for row in held), default=None)
    yield metric.HELD_BACK_AGE.family({(): scrape.age(oldest)})


def _totals(scrape: Scrape) -> Iterator[Metric]:
    with _reading() as connection:
        totals = totals_dao.read(connection)
        nothing_to_do = metrics_dao.nothing_to_do(connection, (scrape.now - NIGHTS_LOOKED_BACK).date())
        last_run = metrics_dao.last_run(connection)
    of_counter: dict[str, list[Total]] = defaultdict(list)
    for total in totals:
        of_counter[total.counter].append(total)
    by_type = dict.fromkeys(NOTIFICATION_TYPES, 0.0)
    for counter, definition in (
        (totals_dao.ROWS_MOVED, metric.ROWS_MOVED),
        (totals_dao.TEST_ROWS_DELETED, metric.TEST_ROWS),
    ):
        amounts = by_type | {total.label: total.amount for total in of_counter[counter]}
        yield definition.family({(label,): amount for label, amount in amounts.items()})
    yield metric.FILES_DELETED.family({(): sum(total.amount for total in of_counter[totals_dao.FILES_DELETED])})
    failed = ((total.label, total.amount) for total in of_counter[totals_dao.FILES_FAILED])
    yield metric.FILES_FAILED.family(metric.bounded(failed))
    for counter, bounds, definition in (
        (totals_dao.STEP_SECONDS, totals_dao.SECONDS_BOUNDS, metric.STEP_SECONDS),
        (totals_dao.STEP_ROWS, totals_dao.ROWS_BOUNDS, metric.STEP_ROWS),
    ):
        yield definition.histogram(_buckets(of_counter[counter], of_counter[counter + totals_dao.SUM], bounds))
    succeeded = by_type | {total.label: total.amount for total in of_counter[totals_dao.LAST_SUCCESS]}
    for of_type, at in nothing_to_do.items():
        succeeded[of_type] = max(succeeded.get(of_type, 0.0), at.timestamp())
    yield metric.LAST_SUCCESS.family({(label,): at for label, at in succeeded.items()})
    yield metric.LAST_RUN.family({(): last_run.timestamp() if last_run else 0.0})
    batches = {total.label: total.amount for total in of_counter[totals_dao.BATCH_FAILURES]}
    yield metric.BATCH_FAILURES.family(failures.by_policy(batches))
    refused = {(total.label,): total.amount for total in of_counter[totals_dao.MESSAGES_REFUSED]}
    yield metric.REFUSED.family({(why,): 0.0 for why in totals_dao.WHY_REFUSED} | refused)
    if scrape.settings.sessions_enabled:
        yield metric.SESSIONS.family({(): sum(total.amount for total in of_counter[totals_dao.SESSIONS_DELETED])})


def _buckets(
    counted: Sequence[Total], sums: Sequence[Total], bounds: Sequence[float]
) -> Mapping[str, tuple[list[tuple[str, float]], float]]:
    """Prometheus's buckets hold everything up to their bound; the database's hold what the one below does not."""
    told: dict[str, tuple[list[tuple[str, float]], float]] = {}
    for total in sums:
        own = {one.bound: one.amount for one in counted if one.label == total.label}
        up_to, buckets = 0.0, []
        for bound in (*bounds, inf):
            up_to += own.get(bound, 0.0)
            buckets.append((floatToGoString(bound), up_to))
        told[total.label] = (buckets, total.amount)
    return told


def _chains(scrape: Scrape) -> Iterator[Metric]:
    with _reading() as connection:
        found = metrics_dao.chains_by_state(connection, scrape.now)
        scopes = {scope for scope, *_ in holds_dao.all_holds(connection)}
    yield metric.CHAINS.family({(state,): found.get(state, 0) for state in CHAIN_STATES})
    yield metric.PAUSED.family({(): float(PIPELINE in scopes)})
    yield metric.ON_HOLD.family({(): sum(not scope.startswith((PIPELINE, USER)) for scope in scopes)})
    yield metric.USERS_ON_HOLD.family({(): sum(scope.startswith(USER) for scope in scopes)})


def _blocked(scrape: Scrape) -> Iterator[Metric]:
    policies = set(OF_NOTIFICATIONS)
    policies |= {ACCOUNTS, DELETIONS} if scrape.settings.accounts_enabled else set()
    policies |= {SESSIONS} if scrape.settings.sessions_enabled else set()
    with _reading() as connection:
        blocked = {one.policy for one in blocked_dao.blocked(connection)}
    yield metric.BLOCKED.family({(policy,): float(policy in blocked) for policy in sorted(policies)})


def _heartbeats(scrape: Scrape) -> Iterator[Metric]:
    with _reading() as connection:
        seen = heartbeats_dao.relays_seen(connection)
        workers = len(heartbeats_dao.workers_there(connection, scrape.now))
    relays = [heartbeats_dao.CHAINS, *([heartbeats_dao.ACCOUNTS] if scrape.settings.accounts_enabled else [])]
    yield metric.RELAY_SEEN.family({(name,): seen[name].timestamp() if name in seen else 0.0 for name in relays})
    yield metric.WORKERS.family({(): workers})


def _queues(scrape: Scrape) -> Iterator[Metric]:
    depths = broker.queue_depths(scrape.settings, SECONDS_OF_THE_BROKER)
    yield metric.QUEUE_DEPTH.family({(queue,): depth for queue, depth in depths.items()})


def _accounts(scrape: Scrape) -> Iterator[Metric]:
    with _reading() as connection:
        found = metrics_dao.deletions_by_state(connection)
    counts = {row.state: row.deletions for row in found}
    oldest = min((row.oldest for row in found if row.state in UNDER_WAY), default=None)
    yield metric.DELETIONS.family({(state,): counts.get(state, 0) for state in DELETION_STATES})
    yield metric.DELETION_AGE.family({(): scrape.age(oldest)})
    stopped = {(of.sweep, reason): 1.0 for of in brake.latest() if (reason := user_sweeps.reason(of)) is not None}
    yield metric.USER_SWEEPS_STOPPED.family(stopped)


def _sessions(scrape: Scrape) -> Iterator[Metric]:
    before = anonymous_before(scrape.settings, scrape.now)
    with _reading() as connection:
        dead = user_sessions_dao.dead_to_cap(connection, scrape.now, before, DEAD_SESSIONS_NO_FURTHER)
    yield metric.DEAD_SESSIONS.family({(): min(sum(dead), DEAD_SESSIONS_NO_FURTHER + 1)})


def _audit(_scrape: Scrape) -> Iterator[Metric]:
    with _reading() as connection:
        last = metrics_dao.last_audit(connection)
    if last is not None:
        yield metric.AUDIT_ORPHANED.family({(): last.files_without_row})
        yield metric.AUDIT_MISSING.family({(): last.rows_without_file})
        yield metric.AUDIT_UNRECOGNISED.family({(): last.unrecognised_files})
        yield metric.AUDIT_AT.family({(): last.finished_at.timestamp()})


def _archive(scrape: Scrape) -> Iterator[Metric]:
    with _reading() as connection:
        found = archive.read(connection, scrape.settings, scrape.now)
    files = found.manifest
    yield metric.ARCHIVE_FILES.family({(): files.files})
    yield metric.ARCHIVE_ROWS.family({(): files.rows})
    yield metric.ARCHIVE_BYTES.family({(): files.bytes})
    if found.ratio is not None:
        yield metric.ARCHIVE_RATIO.family({(): found.ratio})
    yield metric.ARCHIVE_OLDEST.family({(): files.oldest.timestamp() if files.oldest else 0.0})
    yield metric.ARCHIVE_OVERDUE_AGE.family({(): scrape.age(found.due_since)})
    yield metric.ARCHIVE_DAMAGED.family({(): files.damaged})
    yield metric.ARCHIVE_GIVEN_UP.family({(): files.given_up})
    read_again = files.read_again_at or files.first_finished_at
    if read_again and files.longest_unread_at:  # left out while nothing is archived
        yield metric.ARCHIVE_READ_AGAIN.family({(): read_again.timestamp()})
        yield metric.ARCHIVE_LONGEST_UNREAD.family({(): files.longest_unread_at.timestamp()})
