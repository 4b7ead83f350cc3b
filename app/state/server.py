"""What the server itself refuses: changes, long transactions, deletes that it can't publish, numbers given twice."""

from collections.abc import Iterable, Iterator

from app.dao import adoption_sql
from app.dao.catalogue import NOTIFICATIONS
from app.dao.preconditions_dao import Sequences, Server, Unidentified
from app.state import privileges
from app.state.findings import EVERYTHING, OF_NOTIFICATIONS, Finding, look, missing

SEQUENCES = "sequences"
TAKES_NO_CHANGES = "server takes no changes"
"""What that finding is about: a plan can be made all the same."""


def check(server: Server, lease_seconds: float) -> Iterator[Finding]:
    """Whether it takes changes, and leaves a step its time."""
    if server.is_replica or server.is_read_only:
        yield missing(
            TAKES_NO_CHANGES,
            f"the database takes no changes: it is {'a standby' if server.is_replica else 'read-only'}",
            "name the primary in DATABASE_URL; of several hosts (host1,host2) the one that takes changes is used",
            EVERYTHING,
        )
    if 0 < server.transaction_timeout_seconds < lease_seconds:
        yield missing(
            "transaction_timeout",
            f"the server's transaction_timeout is {server.transaction_timeout_seconds:g} s, less than a step may take",
            f"set it above {lease_seconds:g} s for this role, or make STEP_BUDGET_SECONDS smaller",
            EVERYTHING,
        )


def check_publications(found: Iterable[Unidentified]) -> Iterator[Finding]:
    """Whether PostgreSQL can publish what happens to the rows."""
    for table in found:
        is_moved_from = table.table == NOTIFICATIONS
        if is_moved_from and not table.deletes:
            continue
        sentence = f"table {table.table} has no replica identity, and publication {table.names} sends on its "
        fix = adoption_sql.identify(table.schema, table.table)
        if is_moved_from:
            yield missing(table.table, f"{sentence}deletes: PostgreSQL refuses each of them", fix)
        elif table.updates:
            yield look(
                table.table, f"{sentence}updates: PostgreSQL refuses a status that arrives late for a row there", fix
            )


def check_sequences(schema: str, role: str, found: Sequences) -> Iterator[Finding]:
    """Whether our own tables get numbers that they have not had."""
    if found.unreadable:
        yield look(
            SEQUENCES,
            f"role {role} may not read sequences of schema {schema} ({', '.join(found.unreadable)}): whether one is "
            "behind its table, as a switch to a logical replica leaves it, is not known",
            privileges.FIX,
        )
    for one in found.behind:
        yield missing(
            f"{schema}.{one.sequence}",
            f"sequence {schema}.{one.sequence} is at {one.last}, and column {one.column} of table {one.table} at "
            f"{one.largest}: what is written there is refused until the sequence has passed it",
            adoption_sql.set_sequence(schema, one.sequence, one.table, one.column),
            OF_NOTIFICATIONS,
        )
