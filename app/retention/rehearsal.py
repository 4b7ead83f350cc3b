"""A step that is undone: what history would have of a batch, and what would be in the way, before anything moves.

By the statements and under the privileges of a real step, but for S3: no file is looked for, and none is deleted. The
batch's rows are locked as long as it lasts, within a step's time-outs.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.dao import notifications_dao, rehearsal_dao
from app.dao.notifications_dao import REAL, Batch, CountsDiffer, Scope
from app.db import db
from app.retention import letters
from app.retention.arguments import checked_types
from app.retention.cutoffs import RetentionRefused, effective_cutoff
from app.retention.nightly import find_overdue
from app.retention.readiness import check_database
from app.retention.steps import LONG_STATEMENTS_PER_STEP
from app.retention.tools import tools

AS_A_COMMIT_WOULD = "SET CONSTRAINTS ALL IMMEDIATE"
"""Check what is only checked at the end of a transaction."""
NAMED_BY_ERRORS = ("table_name", "column_name", "datatype_name", "constraint_name")
"""What PostgreSQL names beside its message."""
OF_NAMES, OF_VALUES = "42", "22"
"""Classes of SQLSTATEs: of what is missing, ambiguous or not allowed; and of values that a type does not take."""
TOO_LONG = "22001"
"""Of the latter, the one whose message names the type alone."""
FUNCTION, OF_ITS_OWN = "PL/pgSQL function", "at RAISE"
"""How PostgreSQL says where a trigger was, and that the message is the trigger's."""


@dataclass(frozen=True)
class Rehearsal:
    """A batch of one service and type; without rows: none that is past its retention can go.

    `refused`: what stood in the way, in words that hold no row's values.
    """

    notification_type: str
    service_id: UUID
    rows: int = 0
    first: datetime | None = None
    last: datetime | None = None
    """The least and largest created_at (aware)."""
    seconds: float = 0.0
    differences: Mapping[str, int] = field(default_factory=dict)
    """Columns of history that came to have another value, and of how many rows."""
    refused: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether history would have the rows as they are."""
        return not self.differences and self.refused is None


def rehearse(service_id: UUID | None = None, types: Sequence[str] = ()) -> Iterator[Rehearsal]:
    """Move a batch of each type (all by default) to history, compare the two, and undo it.

    Of this service, or for each type of the first with anything that can go; where nothing is past its retention,
    nothing comes. Real notifications only. Raises BadArgument, UnknownService and DatabaseNotReady.
    """
    known = tools().notification_types
    wanted = checked_types(types, known) or known
    check_database()
    for notification_type in wanted:
        chosen = service_id or _first_with_a_batch(notification_type)
        if chosen is not None:
            yield _rehearsed(notification_type, chosen)


def _first_with_a_batch(notification_type: str) -> UUID | None:
    """The first service with a row that can go; if none has, the first with any past its retention."""
    settings, now = tools().settings, clock.now()
    with db.transaction(read_only=True) as connection:
        overdue = find_overdue(connection, settings, notification_type, clock.local_date(now, settings.zone))
        for service in overdue:
            if notifications_dao.is_any_left(
                connection, _scope(notification_type, service.service_id, service.cutoff, now)
            ):
                return service.service_id
    return overdue[0].service_id if overdue else None


def _rehearsed(notification_type: str, service_id: UUID) -> Rehearsal:
    settings = tools().settings
    found = Rehearsal(notification_type, service_id)
    started = time.monotonic()
    try:
        with db.transaction(
            statement_seconds=settings.step_budget_seconds / LONG_STATEMENTS_PER_STEP,
            lock_seconds=settings.lock_timeout_seconds,
        ) as connection:
            batch = _taken(connection, _scope_now(connection, notification_type, service_id))
            found = replace(found, rows=batch.rows, first=batch.first, last=batch.last)
            notifications_dao.copy_batch_into_history(connection, batch)
            found = replace(found, differences=rehearsal_dao.differences(connection, batch))
            notifications_dao.delete_batch(connection, batch)
            connection.exec_driver_sql(AS_A_COMMIT_WOULD)
            connection.rollback()
    except (CountsDiffer, RetentionRefused) as error:
        found = replace(found, refused=str(error))
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) is None:  # the server is away
            raise
        found = replace(found, refused=_refusal(error))
    return replace(found, seconds=time.monotonic() - started)


def _scope_now(connection: Connection, notification_type: str, service_id: UUID) -> Scope:
    now = clock.now()
    cutoff = effective_cutoff(
        connection, tools().settings, service_id=service_id, notification_type=notification_type, argument=now, now=now
    )
    return _scope(notification_type, service_id, cutoff, now)


def _scope(notification_type: str, service_id: UUID, cutoff: datetime, now: datetime) -> Scope:
    statuses_kept = tools().settings.letter_statuses_kept
    return Scope(service_id, notification_type, REAL, cutoff, now=now, statuses_kept=statuses_kept)


def _taken(connection: Connection, scope: Scope) -> Batch:
    """As many as a step takes."""
    settings = tools().settings
    limit = settings.rows_per_step(scope.notification_type)
    if not letters.go_after_files(scope, settings):
        return notifications_dao.take_messages(connection, scope, limit)
    chosen = notifications_dao.choose_letters(connection, scope, limit)
    batch = notifications_dao.take_these(connection, [letter.id for letter in chosen])
    return replace(batch, first=chosen[0].created_at, last=chosen[-1].created_at) if chosen else batch


def _refusal(error: DBAPIError) -> str:
    """With the message only where it is PostgreSQL's own, and can't quote a row."""
    original: Any = error.orig
    said, code = original.diag, str(original.pgcode)
    named = [
        f"{name.removesuffix('_name')} {value}" for name in NAMED_BY_ERRORS if (value := getattr(said, name, None))
    ]
    functions = [line for line in (said.context or "").splitlines() if line.startswith(FUNCTION)]
    is_its_own = any(line.endswith(OF_ITS_OWN) for line in functions)
    if (code.startswith(OF_NAMES) or code == TOO_LONG) and not is_its_own:
        named.append(said.message_primary)
    named += functions
    hint = "; flask retention adopt names columns whose values history may refuse" if code.startswith(OF_VALUES) else ""
    return f"{type(original).__name__} ({', '.join([*named, f'SQLSTATE {code}'])}){hint}"
