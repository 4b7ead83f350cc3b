"""A step that is undone: what history would have of a batch, and what would be in the way, before anything moves.

By the statements and under the privileges of a real step, but for S3: no file is looked for, and none is deleted. The
batch's rows are locked as long as it lasts, within a step's time-outs.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.dao import letter_statuses, notifications_dao, rehearsal_dao
from app.dao.notifications_dao import REAL, Batch, Removal, Scope
from app.db import db
from app.engine.batch import AS_A_COMMIT_WOULD, Refused, prepare
from app.refusals import CountsDiffer, Refusal, refusal_of
from app.retention.arguments import checked_types
from app.retention.cutoffs import RetentionRefused, effective_cutoff
from app.retention.nightly import find_overdue
from app.retention.readiness import check_database
from app.retention.steps import LONG_STATEMENTS_PER_STEP
from app.retention.tools import tools
from app.storage.client import Deadline

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

    `refused`: what stood in the way of all of it, in words that hold no row's values.
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
    refused_rows: Mapping[str, int] = field(default_factory=dict)
    """What refuses single rows, in such words, and how many; the others would go."""
    not_tried: int = 0
    """Rows of which that is not known: the search for refused ones has its bounds."""

    @property
    def going(self) -> int:
        """The rows that would go."""
        return self.rows - sum(self.refused_rows.values()) - self.not_tried

    @property
    def is_well(self) -> bool:
        """Whether history would have all rows as they are."""
        return not self.differences and self.refused is None and not self.refused_rows


@dataclass
class Rehearsed(Removal):
    """The removal of real rows, compared before they are deleted. What refuses it is kept in words."""

    differences: Mapping[str, int] = field(default_factory=dict)
    words: dict[Refusal, str] = field(default_factory=dict)

    def delete(self, batch: Batch) -> int:
        self.differences = rehearsal_dao.differences(self.connection, batch)
        return super().delete(batch)

    def remove(self, only: Collection[UUID] | None) -> int:
        try:
            removed = super().remove(only)
            self.connection.exec_driver_sql(AS_A_COMMIT_WOULD)
        except CountsDiffer as error:
            self.words[error.refusal] = str(error)
            raise
        except DBAPIError as error:
            self.words[refusal_of(error)] = _refusal(error)
            raise
        return removed

    def said(self, refusal: Refusal) -> str:
        """The refusal in words."""
        return self.words.get(refusal, str(refusal))


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
            if batch.rows:
                found = _prepared(connection, batch, found, Deadline(settings.step_budget_seconds))
            connection.rollback()
    except (CountsDiffer, RetentionRefused) as error:
        found = replace(found, refused=str(error))
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) is None:  # the server is away
            raise
        found = replace(found, refused=_refusal(error))
    return replace(found, seconds=time.monotonic() - started)


def _prepared(connection: Connection, batch: Batch, found: Rehearsal, deadline: Deadline) -> Rehearsal:
    """As a step has it accepted, refused rows one by one."""
    rows = Rehearsed(connection, batch, REAL)
    try:
        prepared = prepare(connection, rows, is_time_up=lambda: deadline.remaining() <= 0)
    except Refused as error:
        return replace(found, refused=rows.said(error.refusal))
    if prepared.everything is not None:
        return replace(found, refused=rows.said(prepared.everything))
    reasons = Counter(rows.said(refusal) for refusal in prepared.refused.values())
    if not prepared.removed and not prepared.undecided:
        return replace(found, refused="; ".join(reasons))
    return replace(found, differences=rows.differences, refused_rows=dict(reasons), not_tried=len(prepared.undecided))


def _scope_now(connection: Connection, notification_type: str, service_id: UUID) -> Scope:
    now = clock.now()
    cutoff = effective_cutoff(
        connection, tools().settings, service_id=service_id, notification_type=notification_type, argument=now, now=now
    )
    return _scope(notification_type, service_id, cutoff, now)


def _scope(notification_type: str, service_id: UUID, cutoff: datetime, now: datetime) -> Scope:
    final = letter_statuses.of(tools().settings).final_of(REAL)
    return Scope(service_id, notification_type, REAL, cutoff, now=now, statuses_final=final)


def _taken(connection: Connection, scope: Scope) -> Batch:
    """As many as a step takes."""
    settings = tools().settings
    limit = settings.rows_per_step(scope.notification_type)
    if not (scope.is_letter and settings.letters_have_files):
        return notifications_dao.take_messages(connection, scope, limit)
    candidates = notifications_dao.choose_letters(connection, scope, limit)
    chosen = notifications_dao.lock_letters(connection, candidates)
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
