"""Users, their sessions and what users own: whether the tables are what deletions, sweeps, exports and the clean-up of
sessions take them for. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import DateTime

from app.config import Settings
from app.dao import adoption_sql
from app.dao.deletion_plan import PLAN
from app.dao.people_dao import OfPeople, People
from app.dao.preconditions_dao import Reference
from app.dao.user_children_dao import Owned
from app.models import Base
from app.state import hidden
from app.state.findings import ACCOUNTS, DELETIONS, SESSIONS, Finding, Level, missing
from app.state.privileges import FIX_ACCOUNTS, OF_ACCOUNTS, OF_SESSIONS, PRIVILEGES, pairs

OF_THE_PLATFORM = ("notifications", "notification_history")
"""Their rows name users, too; whether they are there is asked elsewhere."""
DECIDE_BY_TIME = ("users", "user_sessions", "deferred_sessions", "user_deletions", "user_exports")
"""Tables whose times decide what ends."""
WITH_ZONE = "timestamp with time zone"
WHAT_HIDES = {
    ACCOUNTS: "what it hides would outlive its user's account",
    SESSIONS: "what it hides would never end",
}


def names(settings: Settings) -> list[str]:
    """The tables that matter with these settings."""
    wanted = {*(OF_SESSIONS if settings.sessions_enabled else ())}
    if settings.accounts_enabled:
        wanted |= {*OF_ACCOUNTS, *OF_THE_PLATFORM}
    return sorted(wanted)


def privileges(settings: Settings) -> Mapping[str, Sequence[tuple[str, str]]]:
    """By policy, the tables and privileges without which nothing of it is done."""
    wanted = {}
    if settings.accounts_enabled:
        wanted[ACCOUNTS] = pairs(OF_ACCOUNTS)
    if settings.sessions_enabled:
        wanted[SESSIONS] = pairs({table: OF_ACCOUNTS[table] for table in OF_SESSIONS})
    return wanted


def check(found: People, settings: Settings) -> Iterator[Finding]:
    """What blocks accounts or sessions."""
    for policy, lacking in found.lacking.items():
        if lacking:
            listed = ", ".join(lacking)
            yield missing(PRIVILEGES, f"role {found.role} lacks {listed}", FIX_ACCOUNTS, frozenset({policy}))
    for name in names(settings):
        blocks = _policies(name, settings)
        table = found.tables.get(name)
        if table is not None:
            yield from _table(table, found.role, blocks)
        elif name not in OF_THE_PLATFORM:
            yield missing(name, f"there is no table {name}", "make it with: flask db upgrade", blocks)
    if settings.accounts_enabled:
        yield from check_references(unplanned(found.references))


def unplanned(references: Iterable[Reference], plan: Iterable[Owned] = PLAN) -> list[Reference]:
    """The foreign keys to `users` of which the plan does not say what becomes of their rows."""
    planned = {(child.table, (child.column,)) for child in plan}
    return [reference for reference in references if (reference.table, reference.columns) not in planned]


def refused_deletions(columns: Sequence[str]) -> str:
    """Why no account can be deleted while the plan does not name these columns."""
    refer = "refers" if len(columns) == 1 else "refer"
    return (
        f"no account can be deleted: the plan of deletions does not name {', '.join(columns)}, which {refer} to users"
    )


def check_references(found: Sequence[Reference]) -> Iterator[Finding]:
    """What blocks deletions alone. `found`: foreign keys to `users` that the plan does not name."""
    if found:
        yield Finding(
            Level.LOOK,
            "users",
            refused_deletions([reference.name for reference in found]),
            "say in the plan (app/dao/deletion_plan.py) what becomes of those rows, or drop the foreign key; where no "
            "accounts are to be deleted, set ACCOUNTS_ENABLED=false",
            frozenset({DELETIONS}),
        )


def _policies(name: str, settings: Settings) -> frozenset[str]:
    of_sessions = {SESSIONS} if settings.sessions_enabled and name in OF_SESSIONS else set()
    return frozenset(of_sessions | ({ACCOUNTS} if settings.accounts_enabled else set()))


def _table(table: OfPeople, role: str, blocks: frozenset[str]) -> Iterator[Finding]:
    for column in _times(table.name):
        kind = table.types.get(column)
        if kind != WITH_ZONE:
            is_now = f"is {kind}, not {WITH_ZONE}" if kind else "is not there"
            yield missing(
                f"{table.name}.{column}",
                f"column {column} of table {table.name} {is_now}: what ends is decided by it",
                f"make it {WITH_ZONE}",
                blocks,
            )
    follows = WHAT_HIDES[ACCOUNTS if ACCOUNTS in blocks else SESSIONS]
    seen_by_us = replace(table.row_security, workers=(table.row_security.ours,))
    for finding in hidden.check(table.schema, table.name, seen_by_us, follows, role):
        yield replace(finding, blocks=blocks)
    published = table.unidentified
    done = OF_ACCOUNTS.get(table.name, "UPDATE")
    if published and ((published.updates and "UPDATE" in done) or (published.deletes and "DELETE" in done)):
        yield missing(
            table.name,
            f"table {table.name} has no replica identity, and publication {published.names} sends on what happens to "
            "its rows: PostgreSQL refuses to change or to delete them",
            adoption_sql.identify(table.schema, published.table),
            blocks,
        )


def _times(name: str) -> list[str]:
    if name not in DECIDE_BY_TIME:
        return []
    return [column.name for column in Base.metadata.tables[name].columns if isinstance(column.type, DateTime)]
