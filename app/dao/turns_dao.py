"""Turns: rows to be locked. One for each kind of work that has no row of its own, and one for each service of which a
manager's account was deleted.

A row and not an advisory lock: only who may write to the table can lock it (docs/adr/0041).
"""

from collections.abc import Collection

from sqlalchemy import Connection, text

ARCHIVE, AUDIT, BY_HAND, EXPORTS, FOLDERS, INACTIVITY = (
    *("archive", "audit", "by-hand", "exports", "folders", "inactivity"),
)
RECORDS, SESSIONS, SLICES, TOTALS = "records", "sessions", "slices", "totals"
TURNS = (ARCHIVE, AUDIT, BY_HAND, EXPORTS, FOLDERS, INACTIVITY, RECORDS, SESSIONS, SLICES, TOTALS)

SHARE = text("SELECT name FROM retention.turns WHERE name = :name FOR SHARE")
TAKE = text("SELECT name FROM retention.turns WHERE name = :name FOR UPDATE")
# Made by whoever comes first; who comes second waits here for that one's commit, and else at the lock.
MAKE = text("INSERT INTO retention.turns (name) SELECT * FROM unnest(:names) ON CONFLICT DO NOTHING")
TAKE_ALL = text("SELECT name FROM retention.turns WHERE name = ANY (:names) ORDER BY name FOR UPDATE")
TRY = text("SELECT name FROM retention.turns WHERE name = :name FOR UPDATE SKIP LOCKED")


class NoSuchTurn(RuntimeError):
    """A row of retention.turns is missing. Nothing begins without it: flask db upgrade"""


def share(connection: Connection, name: str) -> None:
    """Work beside others of the kind until the commit; whoever takes the turn waits for all of them."""
    _require(connection.execute(SHARE, {"name": name}).scalar())


def take(connection: Connection, name: str) -> None:
    """Be the only one at it until the commit. Waits for whoever has the turn, or a share of it."""
    _require(connection.execute(TAKE, {"name": name}).scalar())


def take_or_make(connection: Connection, names: Collection[str]) -> None:
    """Take turns that nobody may have had before, always in the same order."""
    if names:
        in_order = sorted(names)
        connection.execute(MAKE, {"names": in_order})
        connection.execute(TAKE_ALL, {"names": in_order})


def try_to_take(connection: Connection, name: str) -> bool:
    """Be the only one at it until the commit, unless somebody is at it already."""
    return connection.execute(TRY, {"name": name}).scalar() is not None


def _require(name: str | None) -> None:
    if name is None:
        raise NoSuchTurn(NoSuchTurn.__doc__)
