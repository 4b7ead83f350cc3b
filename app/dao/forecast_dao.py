"""How many users the next nights would warn and mark, if none of them came back: everybody is read once.

Night 0 is what a sweep that begins now would find.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from app.dao import user_sweeps_dao
from app.dao.inactive_users_dao import PROTECTED, SUBSCRIBED, Limits
from app.dao.user_sweeps_dao import SEEN_USERS

# A user is warned after warn_days, unless that was done; and marked at the earliest when notice_days are over as well.
# A free trial puts both off. What else protects is taken to last. Nights are numbered from :now, each a day later.
# Users are counted by what awaits them before that becomes rows: there are few such groups, however many the users.
FORECAST = text(
    f"""
    WITH judged AS MATERIALIZED (
        SELECT state, created_at, seen_at, free_trial_end, deletion_warning_sent_at AS sent_at,
            CASE {PROTECTED} WHEN state NOT IN ('active', 'pending') THEN 'not-active' {SUBSCRIBED} END AS kept_by,
            CASE WHEN deletion_warning_due_at > :now THEN deletion_warning_due_at END AS tried_until,
            coalesce(deletion_warning_address = email_address AND deletion_warning_sent_at > seen_at, false)
                AS is_warned,
            coalesce(deletion_warning_address = email_address AND deletion_warning_sent_at IS NULL
                AND deletion_warning_due_at > seen_at AND deletion_warning_attempts >= :attempts, false) AS is_refused
        FROM ({SEEN_USERS}) AS users
    ), due AS (
        SELECT state, kept_by, is_warned, is_refused,
            greatest(seen_at + :warn_days * interval '1 day', free_trial_end, tried_until, CAST(:now AS timestamptz))
                AS warn_at,
            greatest(seen_at + :delete_days * interval '1 day', free_trial_end, CAST(:now AS timestamptz)) AS absent_at,
            sent_at + :notice_days * interval '1 day' AS notice_ends,
            greatest(
                created_at + :never_completed_days * interval '1 day', free_trial_end, CAST(:now AS timestamptz)
            ) AS incomplete_at
        FROM judged
    ), numbered AS (
        SELECT state, kept_by, is_warned, is_refused,
            ceil(date_part('epoch', warn_at - :now) / 86400) AS warn_night,
            ceil(date_part('epoch', absent_at - :now) / 86400) AS absent_night,
            ceil(date_part('epoch', notice_ends - :now) / 86400) AS notice_night,
            ceil(date_part('epoch', incomplete_at - :now) / 86400) AS incomplete_night
        FROM due
    ), nights AS (
        SELECT kept_by, is_refused,
            CASE WHEN kept_by IS NULL AND state = 'active' AND NOT is_warned AND NOT is_refused THEN warn_night END
                AS warned,
            CASE WHEN kept_by IS NULL AND state = 'active' AND NOT is_refused
                THEN greatest(absent_night, CASE WHEN is_warned THEN notice_night ELSE warn_night + :notice_days END)
            END AS marked,
            CASE WHEN kept_by IS NULL AND state = 'pending' THEN incomplete_night END AS incomplete,
            count(*) AS users
        FROM numbered
        GROUP BY 1, 2, 3, 4, 5
    )
    SELECT what, CAST(night AS integer) AS night, CAST(sum(users) AS bigint) AS users
    FROM nights, LATERAL (
        VALUES ('warn', warned), ('mark', marked), ('never-completed', incomplete),
            (
                CASE WHEN kept_by IS NOT NULL THEN kept_by
                    WHEN is_refused THEN 'address-refused'
                    WHEN incomplete >= :nights THEN 'new'
                    WHEN least(warned, marked) >= :nights THEN 'seen'
                END,
                -1
            )
    ) AS event (what, night)
    WHERE what IS NOT NULL AND night < :nights
    GROUP BY what, night
    """  # noqa: S608 - constants
)
KEPT = -1
"""The night of those who are kept."""


@dataclass(frozen=True)
class Forecast:
    """How many users what happens to in which night, the first being 0; in the night KEPT, how many what keeps."""

    what: str
    night: int
    users: int


def forecast(
    connection: Connection,
    limits: Limits,
    *,
    nights: int,
    warn_days: int,
    delete_days: int,
    notice_days: int,
    never_completed_days: int,
) -> Sequence[Forecast]:
    """What would become of everybody in so many nights from `limits.now` on."""
    user_sweeps_dao.read_everybody(connection)
    days = {"warn_days": warn_days, "delete_days": delete_days, "notice_days": notice_days}
    values = {**limits.values(), **days, "never_completed_days": never_completed_days, "nights": nights}
    return [Forecast(*row) for row in connection.execute(FORECAST, values)]
