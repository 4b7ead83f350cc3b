"""What each night's sweeps over users may do: `retention.user_sweeps`, and the counts from which that follows."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, text

from app.dao.inactive_users_dao import FACTS, KEPT_BY, MARK, NEVER_COMPLETED, VISITED, WARN, Limits
from app.dao.leases import LeasedTable
from app.models import GHOST_USER_ID

USERS = text(
    """
    SELECT count(*) AS users, count(*) FILTER (WHERE state = 'active') AS active,
        count(last_visit_at) FILTER (WHERE state = 'active') AS visited,
        count(*) FILTER (WHERE state = 'active' AND last_visit_at > :lately) AS visited_lately
    FROM users WHERE id <> :ghost
    """
)
# For all at once, who signed in when is read from the tables of it as a whole.
SEEN_USERS = f"""
    SELECT {FACTS}, greatest({VISITED}, of_session.signed_in_at, of_event.signed_in_at) AS seen_at
    FROM users
    LEFT JOIN (SELECT user_id, max(created_at) FROM user_sessions WHERE user_id IS NOT NULL GROUP BY user_id)
        AS of_session (user_id, signed_in_at) ON of_session.user_id = users.id
    LEFT JOIN (SELECT user_id, max(created_at) FROM login_events GROUP BY user_id)
        AS of_event (user_id, signed_in_at) ON of_event.user_id = users.id
"""  # noqa: S608 - constants
ABSENT = f"{SEEN_USERS} WHERE {VISITED} <= :until AND state = 'active'"
INCOMPLETE = f"SELECT {FACTS} FROM users WHERE state = 'pending' AND created_at <= :until"  # noqa: S608
OF_SWEEP = {WARN: ABSENT, MARK: ABSENT, NEVER_COMPLETED: INCOMPLETE}
FOUND = {
    sweep: text(f"SELECT count(*) FROM ({OF_SWEEP[sweep]}) AS users WHERE ({KEPT_BY[sweep]}) IS NULL")  # noqa: S608
    for sweep in KEPT_BY
}

COLUMNS = (
    "id, sweep, night, users, found, allowed, acted, refused, blocked_by, blocked_at, accepted_by, mail_failure, "
    "mail_failed_at"
)
# What is not done within the day is the next day's.
SWEEPS = LeasedTable(
    "retention.user_sweeps",
    "id",
    open=("ended_at IS NULL AND blocked_by IS NULL AND began_at > :now - interval '20 hours'",),
    returns=("seen_to", "seen_to_id", "pauses"),
    wake=("id", "sweep"),
)
FIND = text(f"SELECT {COLUMNS} FROM retention.user_sweeps WHERE sweep = :sweep AND night = :night")  # noqa: S608
LATEST = text(
    f"SELECT DISTINCT ON (sweep) {COLUMNS} FROM retention.user_sweeps ORDER BY sweep, night DESC"  # noqa: S608
)
IS_READABLE = text("SELECT coalesce(has_table_privilege(to_regclass('retention.user_sweeps'), 'SELECT'), false)")
OPEN = text(
    """
    INSERT INTO retention.user_sweeps
        (sweep, night, began_at, due_at, sent_at, users, found, allowed, blocked_by, blocked_at)
    VALUES (:sweep, :night, :now, :now, :now, :users, :found, :allowed, CAST(:blocked_by AS text),
            CASE WHEN CAST(:blocked_by AS text) IS NOT NULL THEN CAST(:now AS timestamptz) END)
    ON CONFLICT DO NOTHING
    """
)
FORGET = text("DELETE FROM retention.user_sweeps WHERE night < :before")

TAKE = text(
    """
    UPDATE retention.user_sweeps SET acted = acted + 1
    WHERE sweep = :sweep AND night = :night AND blocked_by IS NULL AND (allowed IS NULL OR acted < allowed)
    """
)
GIVE_BACK = text(
    """
    UPDATE retention.user_sweeps
    SET acted = greatest(acted - 1, 0), mail_failure = :failure, mail_failed_at = coalesce(mail_failed_at, :now)
    WHERE sweep = :sweep AND night = :night
    """
)
TAKEN = text(
    """
    UPDATE retention.user_sweeps SET mail_failure = NULL, mail_failed_at = NULL
    WHERE sweep = :sweep AND night = :night AND mail_failure IS NOT NULL
    """
)
REFUSED = text(
    """
    UPDATE retention.user_sweeps
    SET refused = refused + 1,
        blocked_by = CASE WHEN refused + 1 > greatest(:least, CAST(:share AS float) * acted) THEN :reason
                          ELSE blocked_by END,
        blocked_at = CASE WHEN refused + 1 > greatest(:least, CAST(:share AS float) * acted) THEN :now
                          ELSE blocked_at END
    WHERE sweep = :sweep AND night = :night
    """
)
BLOCK = text(
    """
    UPDATE retention.user_sweeps SET blocked_by = :reason, blocked_at = :now, found = :found
    WHERE sweep = :sweep AND night = :night AND blocked_by IS NULL
    """
)
ACCEPT = text(
    """
    UPDATE retention.user_sweeps
    SET night = :tonight, allowed = acted + found, blocked_by = NULL, blocked_at = NULL, accepted_by = :by,
        accepted_at = :now, began_at = :now, due_at = :now, sent_at = NULL, wakes = 0,
        seen_to = NULL, seen_to_id = NULL, pauses = 0, ended_at = NULL
    WHERE sweep = :sweep AND night = :night AND blocked_by = :blocked_by AND found = :found
    """
)

REOPEN = text(
    """
    UPDATE retention.user_sweeps
    SET ended_at = NULL, seen_to = NULL, seen_to_id = NULL, pauses = 0, due_at = :now
    WHERE id = :id AND ended_at IS NOT NULL
    """
)

# Sorting who signed in when by user, or reading it in that order from an index, takes several times as long as hashing.
ROOM = text("SELECT set_config('work_mem', '64MB', true)")


@dataclass(frozen=True)
class Survey:
    """How many users there are, how many of them are active, and how many of those ever visited, and did so lately;
    on how many a sweep would act.
    """

    users: int
    active: int
    visited: int
    visited_lately: int
    found: int


@dataclass(frozen=True)
class UserSweep:
    """One night's sweep, as `retention.user_sweeps` has it."""

    id: int
    sweep: str
    night: date
    users: int
    found: int
    allowed: int | None
    acted: int
    refused: int
    blocked_by: str | None
    blocked_at: datetime | None
    accepted_by: str | None
    mail_failure: str | None
    mail_failed_at: datetime | None

    @property
    def key(self) -> dict[str, object]:
        return {"sweep": self.sweep, "night": self.night}


def survey(connection: Connection, sweep: str, limits: Limits, lately: datetime) -> Survey:
    """Count everybody once. `lately` (aware) is since when a visit counts as one of these days."""
    return survey_of(connection, count_found(connection, sweep, limits), lately)


def survey_of(connection: Connection, found: int, lately: datetime) -> Survey:
    """The same where it is known on how many users the sweep would act."""
    counted = connection.execute(USERS, {"ghost": GHOST_USER_ID, "lately": lately}).one()
    return Survey(**counted._mapping, found=found)


def read_everybody(connection: Connection) -> None:
    """From here to the end of the transaction there is room for what is known of everybody."""
    connection.execute(ROOM)


def count_found(connection: Connection, sweep: str, limits: Limits) -> int:
    """On how many users the sweep would act."""
    read_everybody(connection)
    return int(connection.execute(FOUND[sweep], limits.values()).scalar_one())


def find(connection: Connection, sweep: str, night: date) -> UserSweep | None:
    """The sweep of this night, if it has begun."""
    row = connection.execute(FIND, {"sweep": sweep, "night": night}).one_or_none()
    return None if row is None else UserSweep(**row._mapping)


def latest(connection: Connection) -> list[UserSweep]:
    """The last one of each sweep."""
    return [UserSweep(**row._mapping) for row in connection.execute(LATEST)]


def latest_if_readable(connection: Connection) -> list[UserSweep]:
    """The same; none where there is no such table yet, or the role may not read it."""
    return latest(connection) if connection.execute(IS_READABLE).scalar_one() else []


def open_sweep(
    connection: Connection,
    sweep: str,
    night: date,
    now: datetime,
    *,
    users: int,
    found: int,
    allowed: int | None,
    blocked_by: str | None,
) -> None:
    """Begin the night's sweep, unless somebody else just did."""
    values = {"users": users, "found": found, "allowed": allowed, "blocked_by": blocked_by}
    connection.execute(OPEN, {"sweep": sweep, "night": night, "now": now, **values})


def forget(connection: Connection, before: date) -> None:
    """Delete the records of older nights."""
    connection.execute(FORGET, {"before": before})


def take(connection: Connection, of: UserSweep) -> bool:
    """Count one more user whom the sweep acts on, until the commit; False if it may not."""
    return bool(connection.execute(TAKE, of.key).rowcount)


def give_back(connection: Connection, of: UserSweep, failure: str, now: datetime) -> None:
    """That email was not sent, because none can be: `failure` says why."""
    connection.execute(GIVE_BACK, {**of.key, "failure": failure, "now": now})


def email_taken(connection: Connection, of: UserSweep) -> None:
    """Emails can be sent."""
    connection.execute(TAKEN, of.key)


def refused(
    connection: Connection, of: UserSweep, now: datetime, *, least: int, share: float | None, reason: str
) -> None:
    """Count a warning that the address refused. The sweep is blocked if they are more than this share, and `least`."""
    values = {"least": least, "share": float("inf") if share is None else share, "reason": reason, "now": now}
    connection.execute(REFUSED, {**of.key, **values})


def block(connection: Connection, of: UserSweep, now: datetime, *, reason: str, found: int) -> None:
    """Stop the sweep. `found` are those on whom it would still act."""
    connection.execute(BLOCK, {**of.key, "reason": reason, "now": now, "found": found})


def reopen(connection: Connection, of: UserSweep, now: datetime) -> None:
    """Let the night's sweep begin anew, if it has ended."""
    connection.execute(REOPEN, {"id": of.id, "now": now})


def accept(connection: Connection, of: UserSweep, tonight: date, now: datetime, by: str) -> bool:
    """Let the blocked sweep act on as many as were found; False if it has changed meanwhile."""
    values = {"tonight": tonight, "now": now, "by": by, "blocked_by": of.blocked_by, "found": of.found}
    return bool(connection.execute(ACCEPT, {**of.key, **values}).rowcount)
