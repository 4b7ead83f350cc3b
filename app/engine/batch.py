"""A batch: rows leave a table only after the database has agreed, and files only after that.

    prepared = prepare(connection, rows, is_time_up=...)     the database has accepted; nothing is visible to anyone
    …delete the files of prepared.accepted, read the answers…
    prepared.keep_only(ids)                                  where some files did not go
    commit

The rows are locked by the caller's transaction, READ COMMITTED, before `prepare`. Everything that the database could
refuse (constraints, deferred ones too, triggers, types, the counts) is refused within `prepare`, where it costs
nothing. Rows that it refuses are isolated; the others are accepted. What remains for the commit to lose is the
connection or the disk, and the intent that was written ahead covers that (docs/adr/0047).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Generic, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.engine.isolation import Key, isolate
from app.refusals import CountsDiffer, Refusal, refusal_of

SAVEPOINT = "SAVEPOINT before_removal"
BACK = "ROLLBACK TO SAVEPOINT before_removal"
AS_A_COMMIT_WOULD = "SET CONSTRAINTS ALL IMMEDIATE"
"""Check now what is otherwise checked at the commit. A rollback to the savepoint undoes it: repeat it."""


class Rows(Protocol[Key]):
    """A kind's rows, chosen and locked. Statements run in the transaction that locked them."""

    def ids(self) -> list[Key]:
        """The chosen rows, oldest first."""
        ...

    def remove(self, only: Collection[Key] | None) -> int:
        """Remove these rows, or all of the batch: move, delete or redact them. Returns how many rows went.

        Raises DBAPIError for what the database refuses, and CountsDiffer when other rows went than were chosen.
        """
        ...


class Refused(RuntimeError):
    """The database refused a removal, and not because of single rows. Nothing has happened; roll back."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal

    def __str__(self) -> str:
        return str(self.refusal)


@dataclass
class Prepared(Generic[Key]):
    """Rows whose removal the database has accepted, in the transaction, invisible until its commit."""

    connection: Connection
    rows: Rows[Key]
    removed: int = 0
    accepted: list[Key] | None = None
    """Their ids where single rows were looked for; None: every row of the batch."""
    refused: dict[Key, Refusal] = field(default_factory=dict)
    undecided: list[Key] = field(default_factory=list)
    """Rows that were not tried to the end: the search for refused ones has its bounds."""
    everything: Refusal | None = None
    """Why nothing was accepted: every row meets the same refusal."""

    def accepted_ids(self) -> list[Key]:
        """The ids of the accepted rows, oldest first."""
        if self.accepted is None:
            self.accepted = self.rows.ids()
        return self.accepted

    def keep_only(self, ids: Collection[Key]) -> None:
        """Undo the preparation and prepare exactly these of the accepted rows again. Their locks stay.

        Raises Refused if the database no longer accepts them: roll everything back, the intent stands.
        """
        self.connection.exec_driver_sql(BACK)
        self.accepted, self.removed = list(ids), 0
        if self.accepted:
            self._remove_for_good(self.accepted)

    def _remove_for_good(self, only: Collection[Key] | None) -> None:
        refusal = self._attempt(only)
        if refusal is not None:
            raise Refused(refusal)

    def _attempt(self, only: Collection[Key] | None) -> Refusal | None:
        """Remove these; undone when the database refuses, and then the refusal."""
        try:
            self.removed = self.rows.remove(only)
            self.connection.exec_driver_sql(AS_A_COMMIT_WOULD)
        except CountsDiffer as error:
            refusal = error.refusal
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            refusal = refusal_of(error)
        else:
            return None
        self.removed = 0
        self.connection.exec_driver_sql(BACK)
        return refusal

    def _trial(self, only: Collection[Key]) -> Refusal | None:
        refusal = self._attempt(only)
        if refusal is not None and not refusal.may_be_one_row:
            raise Refused(refusal)
        if refusal is None:
            self.removed = 0
            self.connection.exec_driver_sql(BACK)
        return refusal


def prepare(
    connection: Connection, rows: Rows[Key], *, is_time_up: Callable[[], bool] = lambda: False
) -> Prepared[Key]:
    """Have the database accept the removal of as many of these locked rows as it will.

    `is_time_up` bounds the search for rows that it refuses. Raises Refused where no single row can be the cause, such
    as a missing privilege or a lock that was not to be had.
    """
    prepared = Prepared(connection, rows)
    connection.exec_driver_sql(SAVEPOINT)
    refusal = prepared._attempt(None)
    if refusal is None:
        return prepared
    if not refusal.may_be_one_row:
        raise Refused(refusal)
    found = isolate(rows.ids(), prepared._trial, is_time_up=is_time_up)
    prepared.accepted, prepared.refused = found.good, found.refused
    prepared.undecided, prepared.everything = found.undecided, found.everything
    if found.good:
        prepared._remove_for_good(found.good)
    return prepared
