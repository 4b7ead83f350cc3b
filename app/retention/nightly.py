"""The night: give every service that has something overdue its chains, and keep them awake.

Beat starts a run; each type fans out over its services; the dispatcher, every minute, wakes what is due, what has
lost its worker or its message, and deferred letters whose next attempt has come.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.config import Settings
from app.dao import chains_dao, counting_dao, deferred_dao, runs_dao, services_dao
from app.dao.chains_dao import REAL, Group, Wake
from app.dao.notifications_dao import Scope
from app.db import db
from app.models.types import LETTER
from app.retention import folder_index, records
from app.retention.chains import WHOLE, open_deferred
from app.retention.cutoffs import cutoff, cutoff_of_days
from app.retention.tools import tools

log = structlog.get_logger(__name__)

COUNT_NO_FURTHER = 10_000
WAKES_PER_LOOK = 5_000
SERVICES_PER_LOOK = 500
NIGHTS_TO_MEND = timedelta(days=7)
"""A type whose task was lost is fanned out again for so long; after that its rows are later nights' work."""
BEAT_IS_LATE_AFTER = timedelta(minutes=10)


@dataclass(frozen=True)
class Overdue:
    """A service that has something of a type past its cut-off (aware)."""

    service_id: UUID
    cutoff: datetime


def start_run(night: date | None = None, *, once: bool = False) -> date | None:
    """Start a night, tonight's unless another is given, by noting that its types' tasks are about to be sent.

    Returns the night. Starting it twice does no harm, but looks at every service again; with `once` a night that was
    begun is left alone, and None returned. Of several that ask for it at the same moment one gets it: they wait for
    each other at the night's rows, which are unique.
    """
    settings, types = tools().settings, tools().notification_types
    now = clock.now()
    night = night or clock.local_date(now, settings.zone)
    with db.transaction() as connection:
        runs_dao.start_run(connection, night, now)
        if once and not runs_dao.begin_types(connection, night, types, now):
            return None
        for notification_type in types:
            runs_dao.mark_type_sent(connection, night, notification_type, now)
    records.purge(now)
    return night


def missed_night() -> date | None:
    """The last night that should have begun and did not: beat was down, or its message was lost. None if none is.

    Not before a first night has begun: whoever has just installed the pipeline looks at its plan first.
    """
    settings = tools().settings
    latest = (clock.now() - BEAT_IS_LATE_AFTER).astimezone(settings.zone)
    night = latest.date() if latest.time() >= settings.retention_nightly_at else latest.date() - timedelta(days=1)
    with db.transaction(read_only=True) as connection:
        begun, any_before = runs_dao.nights_begun(connection, night, tools().notification_types)
    return night if any_before and not begun else None


def fan_out(notification_type: str, night: date | None = None) -> list[Wake]:
    """Open the chains of every service with something overdue, due over the settings' spread of seconds.

    `night` is the date from which retentions are counted back, tonight's by default: a task executed the next
    morning keeps its night's. Of a type that the platform does not have nothing is looked for. Returns wake-ups of the
    chains that are due. When the chains of a service can't be
    opened the others go on, and the type counts as not fanned out: the dispatcher sends its task again.
    """
    settings = tools().settings
    now = clock.now()
    night = night or clock.local_date(now, settings.zone)
    with db.transaction() as connection:
        runs_dao.start_run(connection, night, now)
        runs_dao.mark_type_sent(connection, night, notification_type, now)
        if notification_type not in tools().notification_types:
            _close(connection, night, notification_type, services=0, without_service=0)
            return []
        services = find_overdue(connection, settings, notification_type, night)
        without_service = count_without_service(connection, settings, notification_type, night)
        refused = [r for r in services_dao.refused(connection) if r.notification_type == notification_type]
    wakes: list[Wake] = []
    are_all_open = True
    for service, due_at in _spread(services, now, settings.fan_out_spread_seconds):
        try:
            wakes += open_chains(night, notification_type, service, due_at, now)
        except DBAPIError as error:
            are_all_open = False
            _say_not_opened(service.service_id, notification_type, error)
    if are_all_open:
        with db.transaction() as connection:
            _close(connection, night, notification_type, len(services), without_service)
    _say_what_stays(notification_type, refused, without_service)
    log.info("fanned-out", night=night.isoformat(), notification_type=notification_type, services=len(services))
    return wakes


def _close(connection: Connection, night: date, notification_type: str, services: int, without_service: int) -> None:
    """Note that the type is fanned out, so that the dispatcher does not send its task again."""
    runs_dao.mark_fanned_out(
        connection,
        night,
        notification_type,
        now=clock.now(),
        services=services,
        rows_without_service=without_service,
    )


def _say_not_opened(service_id: UUID, notification_type: str, error: DBAPIError) -> None:
    log.error(
        "chains-not-opened",
        service_id=str(service_id),
        notification_type=notification_type,
        error=type(error.orig).__name__,
        mend="the dispatcher tries again",
    )


def _say_what_stays(
    notification_type: str, refused: Sequence[services_dao.RefusedRetention], without_service: int
) -> None:
    for refusal in refused:
        log.error(
            "retention-refused",
            service_id=str(refusal.service_id),
            notification_type=notification_type,
            why=f"a retention of {refusal.days} days is refused; it must be 1 or more",
        )
    if without_service:
        log.warning("rows-without-service", notification_type=notification_type, count=without_service)


def find_overdue(connection: Connection, settings: Settings, notification_type: str, night: date) -> list[Overdue]:
    """Services with something past their cut-off, found by a probe of the index each. Refused ones are left out."""
    found = services_dao.services_with_overdue(
        connection,
        notification_type,
        cutoff_of_days(connection, settings, notification_type, night),
        settings.retention_default_days,
    )
    return [Overdue(service_id, before) for service_id, before in found]


def count_without_service(
    connection: Connection,
    settings: Settings,
    notification_type: str,
    night: date,
    at_most: int | None = COUNT_NO_FURTHER,
) -> int:
    """Rows that have no service and are past the default retention. They are reported and never touched."""
    before = cutoff(night, settings.retention_default_days, settings)
    return counting_dao.count_without_service(connection, notification_type, before, at_most)


def open_chains(
    night: date,
    notification_type: str,
    service: Overdue,
    due_at: datetime,
    now: datetime,
    *,
    by_dispatcher: bool = False,
) -> list[Wake]:
    """Open a service's chains, one per slice, in a commit of their own. Returns wake-ups of those that are due.

    The caller sends them, unless it says that the dispatcher shall.
    """
    settings = tools().settings
    is_due = due_at <= now
    with db.transaction() as connection:
        runs_dao.start_run(connection, night, now)
        slices = _slices(connection, settings, notification_type, service, now)
        group = Group(night, notification_type, service.service_id, service.cutoff, REAL)
        wakes = chains_dao.open_group(connection, group, slices, due_at, now, sent=is_due and not by_dispatcher)
    return wakes if is_due else []


def dispatch(*, messages_wait: bool = False) -> tuple[list[Wake], list[tuple[date, str]]]:
    """What must be sent now: chains to wake, and (night, type) pairs whose fan-out was lost.

    `messages_wait`: whether there are any in the queue that no worker has taken yet.
    """
    settings = tools().settings
    now = clock.now()
    folder_index.empty_if_done(now)
    resend_seconds = settings.dispatch_every_seconds
    with db.transaction() as connection:
        chains_dao.wake_rested(connection, now)
        unsent = runs_dao.take_unsent_types(
            connection,
            now=now,
            resend_seconds=resend_seconds,
            earliest_night=clock.local_date(now - NIGHTS_TO_MEND, settings.zone),
        )
        due = deferred_dao.due(connection, now, SERVICES_PER_LOOK)
    wakes: list[Wake] = []
    for whose in due:
        try:
            with db.transaction() as connection:
                wakes += open_deferred(connection, whose, now)
        except DBAPIError as error:
            _say_not_opened(whose.service_id, LETTER, error)
    with db.transaction() as connection:
        wakes += chains_dao.take_due(
            connection,
            now=now,
            resend_seconds=resend_seconds,
            at_most=WAKES_PER_LOOK,
            messages_wait=messages_wait,
        )
    return wakes, unsent


def _spread(services: Sequence[Overdue], now: datetime, seconds: float) -> Iterator[tuple[Overdue, datetime]]:
    for number, service in enumerate(services):
        yield service, now + timedelta(seconds=seconds * number / len(services))


def _slices(
    connection: Connection, settings: Settings, notification_type: str, service: Overdue, now: datetime
) -> list[tuple[datetime | None, datetime | None]]:
    """The slices' bounds. Only the first is open downwards; the last ends at the cut-off."""
    scope = Scope(service.service_id, notification_type, REAL, created_before=service.cutoff, now=now)
    try:
        with connection.begin_nested():
            bounds = counting_dao.slice_bounds(connection, scope, settings.rows_per_slice, settings.slices_per_service)
    except DBAPIError as error:  # too slow to count, say: the service has one slice, and is not left out
        log.warning("slicing-failed", service_id=str(service.service_id), error=type(error.orig).__name__)
        return list(WHOLE)
    return list(zip([None, *bounds], [*bounds, None], strict=True))
