"""Users who have not visited for long, and accounts that were never completed.

Each sweep reads `users` in the order of an index, a page at a time. Its verdict is one expression, which pages, the
plan and the statements that act (they look again, at the locked row) all use. NULL means that nothing keeps the user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app.models import GHOST_USER_ID

WARN, MARK, NEVER_COMPLETED = "warn", "mark", "never-completed"

# A user who never visited counts from created_at; the text of ix_users_last_seen.
VISITED = "coalesce(last_visit_at, created_at)"
# A sign-in is a visit, even if nobody writes visits.
SEEN = f"""
    greatest(
        {VISITED},
        (SELECT max(s.created_at) FROM user_sessions AS s WHERE s.user_id = users.id),
        (SELECT max(e.created_at) FROM login_events AS e WHERE e.user_id = users.id)
    )
"""  # noqa: S608 - constants of this module
FACTS = """
    id, last_visit_at, created_at, state, flags, platform_admin, lifetime_deal, subscription, free_trial_end,
    email_address, deletion_warning_sent_at, deletion_warning_address, deletion_warning_attempts,
    deletion_warning_due_at
"""

PROTECTED = """
    WHEN id = :ghost THEN 'ghost'
    WHEN flags <> '{}' AND user_in_deletion(flags) IS NULL THEN 'malformed-flags'
    WHEN flags <> '{}' AND user_in_deletion(flags) THEN 'in-deletion'
    WHEN platform_admin AND NOT EXISTS (
        SELECT FROM public.users AS other
        WHERE other.platform_admin AND other.state = 'active' AND other.id NOT IN (users.id, :ghost)
            AND NOT coalesce(public.user_in_deletion(other.flags), true)
    ) THEN 'last-administrator'
"""
# Any time in a subscription that is not past, wherever and under whatever name it stands: ISO 8601, Unix seconds or
# milliseconds, or a year in some other notation.
ENDS_LATER = r"""
    EXISTS (
        SELECT FROM jsonb_path_query(user_flags(subscription), 'strict $.**') AS held(value),
            CAST(:now AS timestamptz) AS now, LATERAL (SELECT held.value #>> '{}' AS written) AS read
        WHERE CASE
            WHEN jsonb_typeof(held.value) = 'number' OR written ~ '^\d{10}$' OR written ~ '^\d{13}$' THEN
                CAST(written AS numeric) - extract(epoch FROM now) BETWEEN 0 AND 3e9
                OR CAST(written AS numeric) / 1000 - extract(epoch FROM now) BETWEEN 0 AND 3e9
            WHEN jsonb_typeof(held.value) <> 'string' THEN false
            WHEN written ~ '^\d{4}-\d\d-\d\d' THEN
                left(written, 10) >= to_char((now AT TIME ZONE 'UTC') - interval '1 day', 'YYYY-MM-DD')
            ELSE EXISTS (
                SELECT FROM regexp_matches(written, '\y2\d{3}\y', 'g') AS year(found)
                WHERE year.found[1] >= to_char(now AT TIME ZONE 'UTC', 'YYYY')
            )
        END
    )
"""
# A subscription is an object or a JSON string that holds one, as flags are. Only one that is known to have ended, and
# holds no time to come, does not protect.
SUBSCRIBED = f"""
    WHEN lifetime_deal THEN 'lifetime-deal'
    WHEN subscription IS NOT NULL AND user_flags(subscription) IS NULL THEN 'malformed-subscription'
    WHEN subscription IS NOT NULL AND user_flags(subscription) <> '{{}}' AND (
        coalesce(user_flags(subscription) ->> 'status', '') <> ALL (CAST(:ended AS text[])) OR {ENDS_LATER}
    ) THEN 'subscription'
"""
PAID_FOR = f"""{SUBSCRIBED} WHEN free_trial_end > :now THEN 'free-trial'"""
# Who can't log in can't visit.
CANT_VISIT = """
    WHEN state = 'pending' THEN 'never-completed'
    WHEN state <> 'active' THEN 'not-active'
"""
KEPT_FROM_WARNING = f"""CASE {PROTECTED} {CANT_VISIT} {PAID_FOR}
    WHEN seen_at > :until THEN 'seen'
    WHEN deletion_warning_address = email_address AND deletion_warning_sent_at > seen_at THEN 'warned-already'
    WHEN deletion_warning_due_at > :now THEN 'tried-lately'
    WHEN deletion_warning_address = email_address AND deletion_warning_due_at > seen_at
        AND deletion_warning_attempts >= :attempts THEN 'address-refused'
END"""
KEPT_FROM_MARK = f"""CASE {PROTECTED} {CANT_VISIT} {PAID_FOR}
    WHEN seen_at > :until THEN 'seen'
    WHEN deletion_warning_sent_at IS NULL OR deletion_warning_sent_at <= seen_at
        OR deletion_warning_address IS DISTINCT FROM email_address THEN 'not-warned'
    WHEN deletion_warning_sent_at > :warned_until THEN 'notice'
END"""
KEPT_INCOMPLETE = f"""CASE {PROTECTED} {PAID_FOR}
    WHEN state <> 'pending' THEN 'completed'
    WHEN created_at > :until THEN 'new'
END"""
KEPT_BY = {WARN: KEPT_FROM_WARNING, MARK: KEPT_FROM_MARK, NEVER_COMPLETED: KEPT_INCOMPLETE}

# The inner query is bounded whatever the verdicts are: a page of a million protected users would be no step.
BY_SEEN = f"""
    SELECT {FACTS}, {VISITED} AS at, {SEEN} AS seen_at
    FROM users
    WHERE {VISITED} <= :until AND ({VISITED}, id) > (:after_at, :after_id)
    ORDER BY {VISITED}, id
    LIMIT :rows
"""  # noqa: S608
BY_CREATION = f"""
    SELECT {FACTS}, created_at AS at
    FROM users
    WHERE state = 'pending' AND created_at <= :until AND (created_at, id) > (:after_at, :after_id)
    ORDER BY created_at, id
    LIMIT :rows
"""  # noqa: S608
IN_ORDER = {WARN: BY_SEEN, MARK: BY_SEEN, NEVER_COMPLETED: BY_CREATION}
PAGE = {
    sweep: text(f"SELECT id, at, {KEPT_BY[sweep]} AS kept_by FROM ({IN_ORDER[sweep]}) AS users ORDER BY at, id")  # noqa: S608
    for sweep in KEPT_BY
}

# Whoever marks an administrator holds all of them first, in one order: two must not each count on the other.
LOCK_ADMINISTRATORS = text(
    """
    SELECT FROM users
    WHERE platform_admin AND EXISTS (SELECT FROM users AS marked WHERE marked.id = :id AND marked.platform_admin)
    ORDER BY id FOR UPDATE
    """
)
LOCK = text("SELECT FROM users WHERE id = :id FOR UPDATE")
LOOK_AGAIN = {
    sweep: text(
        f"""
        SELECT email_address, name, seen_at
        FROM (SELECT {FACTS}, name, {SEEN} AS seen_at FROM users WHERE id = :id) AS users
        WHERE ({KEPT_BY[sweep]}) IS NULL
        """  # noqa: S608
    )
    for sweep in KEPT_BY
}

# Attempts of an earlier absence do not count, nor do those at another address. An earlier warning ends with this one.
CLAIM = text(
    """
    UPDATE users
    SET deletion_warning_attempts = CASE
            WHEN deletion_warning_due_at > :seen_at AND deletion_warning_address = email_address
            THEN deletion_warning_attempts + 1 ELSE 1
        END,
        deletion_warning_due_at = :due_at, deletion_warning_address = email_address, deletion_warning_sent_at = NULL
    WHERE id = :id
    RETURNING deletion_warning_attempts AS attempt, greatest(CAST(:now AS timestamptz), clock_timestamp()) AS claimed_at
    """
)

# Each only if the user has not come back since the claim. A clock that is slow must not shorten the notice.
CONFIRM = text(
    f"""
    UPDATE users
    SET deletion_warning_sent_at = greatest(CAST(:now AS timestamptz), clock_timestamp()),
        deletion_warning_failure = NULL
    WHERE id = :id AND {SEEN} = :seen_at
    """  # noqa: S608
)
NOTE_FAILURE = text(
    f"UPDATE users SET deletion_warning_failure = :failure WHERE id = :id AND {SEEN} = :seen_at"  # noqa: S608
)
RELEASE = text(
    f"""
    UPDATE users
    SET deletion_warning_attempts = greatest(deletion_warning_attempts - 1, 0), deletion_warning_due_at = :now
    WHERE id = :id AND {SEEN} = :seen_at
    """  # noqa: S608
)


@dataclass(frozen=True)
class Position:
    """Where a page ends: the user's last visit, or creation (aware), and id."""

    at: datetime
    user_id: UUID


BEGINNING = Position(datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True)
class Limits:
    """What a sweep compares with. What happened exactly at one of the times (aware) is long enough ago."""

    now: datetime
    until: datetime
    """Last visits, or creations, up to here."""
    warned_until: datetime | None = None
    """Warnings up to here."""
    ended: tuple[str, ...] = ()
    """Statuses of subscriptions that do not protect."""
    attempts: int = 1
    """Warnings that an address may refuse."""

    def values(self) -> dict[str, object]:
        return {**self.__dict__, "ended": list(self.ended), "ghost": GHOST_USER_ID}


@dataclass(frozen=True)
class Candidate:
    """A user on a sweep's page, and what keeps the user from it, if anything does."""

    position: Position
    kept_by: str | None

    @property
    def user_id(self) -> UUID:
        return self.position.user_id


@dataclass(frozen=True)
class Claim:
    """A warning that nobody else sends until it is due again."""

    user_id: UUID
    email_address: str
    name: str
    seen_at: datetime
    attempt: int
    claimed_at: datetime
    """By the clock that is ahead, ours or the database's."""


def page(connection: Connection, sweep: str, limits: Limits, after: Position, rows: int) -> Sequence[Candidate]:
    """The next users, at most `rows` of them, in the sweep's order."""
    values = {**limits.values(), "after_at": after.at, "after_id": after.user_id, "rows": rows}
    return [Candidate(Position(at, id_), kept_by) for id_, at, kept_by in connection.execute(PAGE[sweep], values)]


def lock(connection: Connection, sweep: str, limits: Limits, user_id: UUID) -> bool:
    """Lock the user's row until the commit, and look at the user again; False if something keeps the user by now."""
    connection.execute(LOCK_ADMINISTRATORS, {"id": user_id})
    connection.execute(LOCK, {"id": user_id})
    return connection.execute(LOOK_AGAIN[sweep], {**limits.values(), "id": user_id}).one_or_none() is not None


def claim(connection: Connection, limits: Limits, user_id: UUID, due_at: datetime) -> Claim | None:
    """Look at the user again and count an attempt to warn; None if something keeps the user from it by now.

    Unless it is confirmed or released, the next attempt can be claimed at `due_at`.
    """
    connection.execute(LOCK, {"id": user_id})
    found = connection.execute(LOOK_AGAIN[WARN], {**limits.values(), "id": user_id}).one_or_none()
    if found is None:
        return None
    values = {"id": user_id, "now": limits.now, "due_at": due_at, "seen_at": found.seen_at}
    return Claim(user_id, *found, *connection.execute(CLAIM, values).one())


def confirm(connection: Connection, claimed: Claim, now: datetime) -> bool:
    """SES took the warning; False if the user has come back meanwhile."""
    values = {"id": claimed.user_id, "seen_at": claimed.seen_at, "now": now}
    return bool(connection.execute(CONFIRM, values).rowcount)


def note_failure(connection: Connection, claimed: Claim, failure: str) -> None:
    """Keep why the address refused. The attempt counts, and the next one is due when the claim said."""
    connection.execute(NOTE_FAILURE, {"id": claimed.user_id, "seen_at": claimed.seen_at, "failure": failure})


def release(connection: Connection, claimed: Claim, now: datetime) -> None:
    """Take the attempt back: it said nothing of the address. The next one can be claimed at once."""
    connection.execute(RELEASE, {"id": claimed.user_id, "seen_at": claimed.seen_at, "now": now})
