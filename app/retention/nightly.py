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
from app.dao import chains_dao, counting_dao, deferred_dao, holds_dao, many_services_dao, runs_dao, services_dao
from app.dao.chains_dao import CHAINS, REAL, WHOLE, Group, Slice, Wake
from app.dao.notifications_dao import Scope
from app.db import db
from app.engine import leases
from app.models.types import LETTER
from app.retention import folder_index, records
from app.retention.chains import open_deferred
from app.retention.cutoffs import cutoff, cutoff_of_days
from app.retention.report import DATABASE_REFUSES, ROWS_REFUSED
from app.retention.tools import tools
from app.state import asked

log = structlog.get_logger(__name__)

COUNT_NO_FURTHER = 10_000
WAKES_PER_LOOK = 5_000
SERVICES_PER_LOOK = 500
SERVICES_PER_SLICE = 500
NIGHTS_TO_LOOK_BACK = timedelta(days=7)
"""A type whose task was lost is fanned out again for so long; after that its rows are later nights' work."""
BEAT_IS_LATE_AFTER = timedelta(minutes=10)


@dataclass(frozen=True)
class Overdue:
    """A service that has something of a type past its cut-off (aware), which it keeps for `days`."""

    service_id: UUID
    cutoff: datetime
    days: int


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
        db.require_clock(connection)
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
    """Open the chains that reach every service with something overdue.

    Emails and text messages of services that keep them equally long go together; large services, and all for their
    letters, get chains of their own, due over the settings' spread of seconds. `night` is the date from which
    retentions are counted back, tonight's by default: a task executed the next morning keeps its night's. Of a type
    that the platform does not have nothing is looked for. Returns wake-ups of the chains that are due. When some chains
    can't be opened the others go on, and the type counts as not fanned out: the dispatcher sends its task again.
    """
    settings = tools().settings
    now = clock.now()
    night = night or clock.local_date(now, settings.zone)
    with db.transaction() as connection:
        db.require_clock(connection)
        runs_dao.start_run(connection, night, now)
        runs_dao.mark_type_sent(connection, night, notification_type, now)
        if notification_type not in tools().notification_types:
            _close(connection, night, notification_type, services=0, without_service=0)
            return []
        chains_dao.end_refused(connection, (DATABASE_REFUSES, ROWS_REFUSED), notification_type, night, now)
        services = find_overdue(connection, settings, notification_type, night)
        without_service = count_without_service(connection, settings, notification_type, night)
        refused = [r for r in services_dao.refused(connection) if r.notification_type == notification_type]
    spread = settings.fan_out_spread_seconds
    wakes, are_all_open = open_all(night, notification_type, services, now, spread_seconds=spread)
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


def open_all(
    night: date,
    notification_type: str,
    services: Sequence[Overdue],
    now: datetime,
    *,
    spread_seconds: float = 0,
    by_dispatcher: bool = False,
) -> tuple[list[Wake], bool]:
    """Open the chains that reach these services, in a handful of statements, however many they are.

    Those of single services are due over so many seconds. Returns wake-ups of the chains that are due, for the caller
    to send unless it says that the dispatcher shall, and whether all could be opened: what could not is in the log, and
    keeps nobody else waiting. Opened again, what is under way is left as it is.
    """
    due = list(_spread(services, now, spread_seconds))
    with db.transaction() as connection:
        apart = _apart(connection, tools().settings, notification_type, night, services)
    together = [(one, due_at) for one, due_at in due if one.service_id not in apart]
    one_by_one = [(one, due_at) for one, due_at in due if one.service_id in apart]
    wakes: list[Wake] = []
    are_all_open = True
    try:
        open_them = open_chains_of_each if notification_type == LETTER else open_chains_of_many
        wakes += open_them(night, notification_type, together, now, by_dispatcher=by_dispatcher)
    except DBAPIError as error:
        if notification_type == LETTER:
            one_by_one = due  # one service's may be what the database refuses
        else:
            are_all_open = False
            _say_not_opened(None, notification_type, error)
    for service, due_at in one_by_one:
        try:
            wakes += open_chains(night, notification_type, service, due_at, now, by_dispatcher=by_dispatcher)
        except DBAPIError as error:
            are_all_open = False
            _say_not_opened(service.service_id, notification_type, error)
    return wakes, are_all_open


def _apart(
    connection: Connection, settings: Settings, notification_type: str, night: date, services: Sequence[Overdue]
) -> set[UUID]:
    """Of these services, those whose chains are opened one by one: with more than a batch, of which several workers do
    several at a time, and with chains from an earlier start of this night.
    """
    # A service on hold may have any number of rows, and none of them goes now.
    _, held = holds_dao.standing(connection)
    pairs = [(one.service_id, one.cutoff) for one in services if holds_dao.of_service(one.service_id) not in held]
    batch = min(settings.rows_per_step(notification_type), settings.rows_per_slice)
    large = many_services_dao.large(connection, notification_type, pairs, batch)
    return large | chains_dao.services_with_own(connection, night, notification_type)


def open_chains_of_many(
    night: date,
    notification_type: str,
    services: Sequence[tuple[Overdue, datetime]],
    now: datetime,
    *,
    by_dispatcher: bool = False,
) -> list[Wake]:
    """Open the chains of services that keep a type equally long, in one commit, due now. Returns their wake-ups."""
    wakes: list[Wake] = []
    if not services:
        return wakes
    ids: dict[Group, list[UUID]] = {}
    for one, _ in services:
        group = Group(night, notification_type, None, one.cutoff, REAL, one.days)
        ids.setdefault(group, []).append(one.service_id)
    with db.transaction() as connection:
        runs_dao.start_run(connection, night, now)
        for group, of_group in ids.items():
            slices = slices_of_many(of_group, tools().settings.slices_per_service)
            wakes += chains_dao.open_group(connection, group, slices, now, now, sent=not by_dispatcher)
    return wakes


def open_chains_of_each(
    night: date,
    notification_type: str,
    services: Sequence[tuple[Overdue, datetime]],
    now: datetime,
    *,
    by_dispatcher: bool = False,
) -> list[Wake]:
    """Open a chain of one slice for each service, in one statement. Returns wake-ups of those that are due."""
    if not services:
        return []
    with db.transaction() as connection:
        runs_dao.start_run(connection, night, now)
        opened = [(one.service_id, one.cutoff, due_at) for one, due_at in services]
        return chains_dao.open_each(connection, night, notification_type, opened, now, sent=not by_dispatcher)


def slices_of_many(services: Sequence[UUID], at_most: int) -> list[Slice]:
    """Ranges of ids that divide these services, which are in order, evenly. The last one has no end."""
    count = min(at_most, -(-len(services) // SERVICES_PER_SLICE))
    bounds = [services[len(services) * number // count - 1] for number in range(1, count)]
    return [
        Slice(first_service=first, last_service=last)
        for first, last in zip([None, *bounds], [*bounds, None], strict=True)
    ]


def _say_not_opened(service_id: UUID | None, notification_type: str, error: DBAPIError) -> None:
    log.error(
        "chains-not-opened",
        service_id=service_id and str(service_id),
        notification_type=notification_type,
        error=type(error.orig).__name__,
        fix="the dispatcher tries again",
    )


def _say_what_stays(
    notification_type: str, refused: Sequence[services_dao.RefusedRetention], without_service: int
) -> None:
    for refusal in refused:
        log.error(
            "retention-refused",
            service_id=str(refusal.service_id),
            notification_type=notification_type,
            why=refusal.why,
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
    return [Overdue(*one) for one in found]


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
        db.require_clock(connection)
        chains_dao.wake_rested(connection, now)
        if chains_dao.rests_for_precondition(connection):
            chains_dao.wake_unblocked(connection, asked.blocked_policies(connection), now)
        unsent = runs_dao.take_unsent_types(
            connection,
            now=now,
            resend_seconds=resend_seconds,
            earliest_night=clock.local_date(now - NIGHTS_TO_LOOK_BACK, settings.zone),
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
        due_chains = leases.take_due(
            connection,
            CHAINS,
            now=now,
            resend_seconds=resend_seconds,
            at_most=WAKES_PER_LOOK,
            messages_wait=messages_wait,
        )
        wakes += [Wake(*row) for row in due_chains]
    return wakes, unsent


def _spread(services: Sequence[Overdue], now: datetime, seconds: float) -> Iterator[tuple[Overdue, datetime]]:
    for number, service in enumerate(services):
        yield service, now + timedelta(seconds=seconds * number / len(services))


def _slices(
    connection: Connection, settings: Settings, notification_type: str, service: Overdue, now: datetime
) -> list[Slice]:
    """The slices' bounds. Only the first is open downwards; the last ends at the cut-off."""
    scope = Scope(service.service_id, notification_type, REAL, created_before=service.cutoff, now=now)
    try:
        with connection.begin_nested():
            bounds = counting_dao.slice_bounds(connection, scope, settings.rows_per_slice, settings.slices_per_service)
    except DBAPIError as error:  # too slow to count, say: the service has one slice, and is not left out
        log.warning("slicing-failed", service_id=str(service.service_id), error=type(error.orig).__name__)
        return list(WHOLE)
    return [Slice(*pair) for pair in zip([None, *bounds], [*bounds, None], strict=True)]
