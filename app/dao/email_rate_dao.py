"""The one row from which every process takes its turn to send an email."""

from sqlalchemy import Connection, text

FIRST = text("INSERT INTO email_rate (id, next_slot_at) VALUES (1, clock_timestamp()) ON CONFLICT DO NOTHING")
LOCK = text("SELECT id FROM email_rate WHERE id = 1 FOR UPDATE")

# The clock is the database's, the only one that all processes share; read once, with the row locked already.
RESERVE = text(
    """
    UPDATE email_rate
    SET next_slot_at = greatest(next_slot_at, clock.now) + make_interval(secs => :seconds_apart)
    FROM (SELECT clock_timestamp() AS now) AS clock
    WHERE id = 1 AND next_slot_at <= clock.now + make_interval(secs => :longest_wait)
    RETURNING extract(epoch FROM next_slot_at - clock.now)::double precision - :seconds_apart
    """
)


def lock(connection: Connection) -> None:
    """Hold the row until the commit, which must come soon: every email of the product waits for it."""
    if connection.execute(LOCK).scalar() is None:
        connection.execute(FIRST)
        connection.execute(LOCK)


def reserve(connection: Connection, *, seconds_apart: float, longest_wait_seconds: float) -> float | None:
    """Take the next slot of the locked row: in how many seconds it is, or None when none is near enough."""
    values = {"seconds_apart": seconds_apart, "longest_wait": longest_wait_seconds}
    found: float | None = connection.execute(RESERVE, values).scalar()
    return found
