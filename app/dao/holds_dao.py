"""Holds: nothing of a service, or of a user, is deleted or rewritten while it has one. The pause is one on everything.

A hold is a row. Work locks a row of its own and then reads the holds; whoever places one commits it and then waits
for the rows of the work that was under way (docs/adr/0041).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from app.dao.turns_dao import ARCHIVE, BY_HAND, EXPORTS, FOLDERS, INACTIVITY, RECORDS, SESSIONS

PIPELINE = "pipeline"
USER = "user:"
"""What the scope of a hold on a user begins with; that of one on a service is the service's id."""

STANDING = text(
    """
    SELECT current_setting('transaction_isolation'),
           ARRAY(SELECT scope FROM retention.holds WHERE CAST(:scopes AS text[]) IS NULL OR scope = ANY (:scopes))
    """
)
PLACE = text(
    """
    INSERT INTO retention.holds (scope, reason, placed_by, placed_at)
    VALUES (:scope, :reason, :placed_by, :now)
    ON CONFLICT (scope) DO NOTHING
    """
)
LIFT = text("DELETE FROM retention.holds WHERE scope = :scope")
# Whatever kept them: what is still on hold finds that out by itself.
WAKE_DELETIONS = text(
    """
    UPDATE user_deletions SET due_at = :now, sent_at = NULL
    WHERE state = 'running' AND reason IN ('paused', 'on-hold') AND due_at > :now AND lease_token IS NULL
    """
)
ALL = text("SELECT scope, reason, placed_by, placed_at FROM retention.holds ORDER BY placed_at")

# A role that is not for accounts does no work on them, and can't see who does.
SEES_ACCOUNTS = text("SELECT coalesce(has_table_privilege(to_regclass('user_deletions'), 'SELECT, UPDATE'), false)")


# Also one whose account has gone: exports and the record of the deletion outlive it.
KNOWS_USER = text(
    """
    SELECT EXISTS (SELECT FROM users WHERE id = :id)
        OR EXISTS (SELECT FROM user_deletions WHERE user_id = :id)
        OR EXISTS (SELECT FROM user_exports WHERE user_id = :id)
    """
)


@dataclass(frozen=True)
class Kind:
    """A kind of work that a hold or a pause waits for.

    `name` has a place for the id of a piece of it. `under_way` finds the rows that work may have locked by now; `row`
    waits for the one with an id. `stops_for` are the kinds of scope that it heeds.
    """

    name: str
    stops_for: Collection[str]
    under_way: TextClause
    row: TextClause
    of_accounts: bool = False


@dataclass(frozen=True)
class Unit:
    """Something that was under way when a hold was placed: what it is, and its id."""

    kind: Kind
    id: str

    def __str__(self) -> str:
        return self.kind.name.format(id=self.id)


OF_PIPELINE, OF_SERVICE, OF_USER = "pipeline", "service", "user"

# A lease that has run out counts as well: its worker may still be in the middle of it.
BATCHES = Kind(
    "batch {id}",
    {OF_PIPELINE, OF_SERVICE},
    text(
        """
        SELECT id FROM retention.chains
        WHERE state = 'waiting' AND lease_token IS NOT NULL
          AND (:of_all OR CAST(service_id AS text) = :id OR service_id IS NULL)
        ORDER BY id
        """
    ),
    text("SELECT FROM retention.chains WHERE id = CAST(:id AS bigint) FOR SHARE"),
)
AUDITS = Kind(
    "audit {id}",
    {OF_PIPELINE, OF_SERVICE},
    text("SELECT id FROM retention.audits WHERE deletes AND finished_at IS NULL AND NOT abandoned"),
    text("SELECT FROM retention.audits WHERE id = CAST(:id AS bigint) FOR SHARE"),
)
# Any account's: which services a deletion rewrites something of is known to itself alone.
DELETIONS = Kind(
    "deletion of account {id}",
    {OF_PIPELINE, OF_SERVICE, OF_USER},
    text("SELECT user_id FROM user_deletions WHERE state = 'running' AND lease_token IS NOT NULL ORDER BY user_id"),
    text("SELECT FROM user_deletions WHERE user_id = CAST(:id AS uuid) FOR SHARE"),
    of_accounts=True,
)


POLICIES = Kind(
    "batch {id} of a policy",
    {OF_PIPELINE, OF_SERVICE, OF_USER},
    text("SELECT id FROM retention.policy_sweeps WHERE state = 'waiting' AND lease_token IS NOT NULL ORDER BY id"),
    text("SELECT FROM retention.policy_sweeps WHERE id = CAST(:id AS bigint) FOR SHARE"),
)


def _turn(turn: str, name: str, *stops_for: str) -> Kind:
    return Kind(
        name,
        stops_for,
        text("SELECT name FROM retention.turns WHERE name = :turn").bindparams(turn=turn),
        text("SELECT FROM retention.turns WHERE name = :id FOR UPDATE"),  # who works has it FOR SHARE
    )


KINDS = (
    BATCHES,
    AUDITS,
    DELETIONS,
    POLICIES,
    _turn(BY_HAND, "batch by hand", OF_PIPELINE, OF_SERVICE),
    _turn(ARCHIVE, "archiving of history", OF_PIPELINE, OF_SERVICE),
    _turn(RECORDS, "purge of old records", OF_PIPELINE, OF_SERVICE, OF_USER),
    _turn(EXPORTS, "removal of expired exports", OF_PIPELINE, OF_USER),
    _turn(INACTIVITY, "look at inactive users", OF_PIPELINE, OF_USER),
    _turn(SESSIONS, "clean-up of sessions", OF_PIPELINE, OF_USER),
    _turn(FOLDERS, "clean-up of the folder index", OF_PIPELINE),
)


def of_service(service_id: UUID) -> str:
    """The scope of a hold on a service."""
    return str(service_id)


def of_user(user_id: UUID) -> str:
    """The scope of a hold on a user."""
    return f"{USER}{user_id}"


def standing(connection: Connection, scopes: Iterable[str] | None = None) -> tuple[str, set[str]]:
    """The transaction's isolation level, and which of these scopes, or of all, are on hold or paused."""
    isolation, held = connection.execute(STANDING, {"scopes": None if scopes is None else list(scopes)}).one()
    return isolation, set(held)


def knows_user(connection: Connection, user_id: UUID) -> bool:
    """Whether there is, or was, such a user."""
    return bool(connection.execute(SEES_ACCOUNTS).scalar() and connection.execute(KNOWS_USER, {"id": user_id}).scalar())


def place(connection: Connection, scope: str, reason: str, placed_by: str, now: datetime) -> bool:
    """Place a hold, or pause the pipeline. Returns False when there is one already. Waits for nothing."""
    values = {"scope": scope, "reason": reason, "placed_by": placed_by, "now": now}
    return bool(connection.execute(PLACE, values).rowcount)


def lift(connection: Connection, scope: str) -> bool:
    """Lift a hold. Returns False when there is none."""
    return bool(connection.execute(LIFT, {"scope": scope}).rowcount)


def wake_deletions(connection: Connection, now: datetime) -> None:
    """Make the deletions of accounts due that a hold, or the pause, has put off."""
    if connection.execute(SEES_ACCOUNTS).scalar():
        connection.execute(WAKE_DELETIONS, {"now": now})


def all_holds(connection: Connection) -> list[tuple[str, str, str, datetime]]:
    """Scope, reason, who placed it and when, oldest first."""
    return [tuple(row) for row in connection.execute(ALL)]


def under_way(connection: Connection, scope: str) -> list[Unit]:
    """What may be at work, by now, on what the scope is about. Asked after the hold was committed."""
    of = OF_PIPELINE if scope == PIPELINE else OF_USER if scope.startswith(USER) else OF_SERVICE
    sees_accounts = connection.execute(SEES_ACCOUNTS).scalar()
    values = {"of_all": of == OF_PIPELINE, "id": scope}
    return [
        Unit(kind, str(id_))
        for kind in KINDS
        if of in kind.stops_for and (sees_accounts or not kind.of_accounts)
        for id_ in connection.execute(kind.under_way, values).scalars()
    ]


def wait_for(connection: Connection, unit: Unit) -> None:
    """Return when the transaction that has the unit's row has ended."""
    connection.execute(unit.kind.row, {"id": unit.id})
