"""The preconditions asked of the database: which policies are blocked now, and why. What must be so is `preconditions`.

Who does the work asks, by its own role. What was found is kept in `retention.blocked_policies`, for the ops page and
the metrics, whose role may see less.
"""

import time
from collections.abc import Collection
from datetime import datetime

import structlog
from flask import current_app
from sqlalchemy import URL, Connection

from app import own_schema
from app.config import Settings
from app.dao import blocked_dao, people_dao, platform_dao, preconditions_dao
from app.dao.catalogue import HISTORY, NOTIFICATIONS, Catalogue
from app.db import db
from app.state import people, preconditions
from app.state.findings import ACCOUNTS, DELETIONS, SESSIONS, Finding
from app.state.preconditions import ALL_AHEAD, Facts

log = structlog.get_logger(__name__)

SECONDS_BELIEVED = 15.0
"""How long a process goes by what it found: triggers, publications and sequences change without a stamp."""
OF_PEOPLE = frozenset({ACCOUNTS, DELETIONS, SESSIONS})

_clear: dict[URL, tuple[str, float]] = {}
"""By database: the stamp of the catalogue under which nothing was blocked, and until when that is believed."""
_people_seen: dict[URL, tuple[float, frozenset[str]]] = {}
"""By database: until when what was found of accounts and sessions is believed, and what of them was blocked."""


class PolicyBlocked(RuntimeError):
    """Something is not as a policy needs it, so that nothing of it is done. The message says what, and what to do."""


def facts(connection: Connection, catalogue: Catalogue, *, asks_for_itself: bool) -> Facts:
    """What is so now, beside what the catalogue says."""
    moved = [(table.schema, table.name) for name in (NOTIFICATIONS, HISTORY) if (table := catalogue.tables.get(name))]
    server = preconditions_dao.server(connection)
    return Facts(
        catalogue=catalogue,
        server=server,
        unidentified=preconditions_dao.unidentified(connection, moved),
        # A standby refuses to read what is not logged, and takes nothing that a sequence could be behind for.
        sequences=ALL_AHEAD if server.is_replica else preconditions_dao.sequences(connection),
        own_schema=own_schema.name(connection),
        asks_for_itself=asks_for_itself,
    )


def findings(connection: Connection) -> list[Finding]:
    """Everything that there is to say of notifications now. Raises ProgrammingError where our own tables are not
    there, or not ours to read.
    """
    catalogue = platform_dao.read_anew(connection).catalogue
    connection.exec_driver_sql("SELECT FROM retention.chains LIMIT 0")
    return list(preconditions.check(facts(connection, catalogue, asks_for_itself=True), _settings()))


def findings_of_people(connection: Connection) -> list[Finding]:
    """Everything that there is to say of accounts and sessions now, as far as they are switched on."""
    settings = _settings()
    found = people_dao.read(connection, people.names(settings), people.privileges(settings))
    return list(preconditions.check_people(found, preconditions_dao.server(connection), settings))


def blocking(connection: Connection, policy: str) -> Finding | None:
    """What blocks a policy. That nothing does is believed for SECONDS_BELIEVED, and of notifications no longer than the
    catalogue stays the same.
    """
    if policy in OF_PEOPLE:
        return _blocking_people(connection, policy)
    stamp, until = _clear.get(connection.engine.url, ("", 0.0))
    if stamp == platform_dao.known(connection).stamp and time.monotonic() < until:
        return None
    found = findings(connection)
    if not any(finding.blocks for finding in found):
        _clear[connection.engine.url] = platform_dao.known(connection).stamp, time.monotonic() + SECONDS_BELIEVED
    return preconditions.blocking(found, policy)


def _blocking_people(connection: Connection, policy: str) -> Finding | None:
    until, blocked = _people_seen.get(connection.engine.url, (0.0, frozenset()))
    if policy not in blocked and time.monotonic() < until:
        return None
    found = findings_of_people(connection)
    blocked = frozenset().union(*(finding.blocks for finding in found))
    _people_seen[connection.engine.url] = time.monotonic() + SECONDS_BELIEVED, blocked
    return preconditions.blocking(found, policy)


def is_blocked(connection: Connection, policy: str) -> bool:
    """Whether something blocks the policy, which is said."""
    found = blocking(connection, policy)
    if found is not None:
        log.error("precondition-failed", why=found.in_full, blocks=sorted(found.blocks))
    return found is not None


def require(policy: str) -> None:
    """Raise PolicyBlocked where something blocks the policy."""
    with db.transaction(read_only=True) as connection:
        found = blocking(connection, policy)
    if found is not None:
        raise PolicyBlocked(found.in_full)


def require_anew(connection: Connection, policy: str) -> None:
    """The same, whatever was believed: for what would take a row that it can't see for one that is not there."""
    found = preconditions.blocking(findings(connection), policy)
    if found is not None:
        raise PolicyBlocked(found.in_full)


def blocked_policies(connection: Connection) -> set[str]:
    """The notifications' policies of which nothing may be done now."""
    return {policy for finding in findings(connection) for policy in finding.blocks}


def note(policies: Collection[str], now: datetime) -> None:
    """Keep for those who only look what blocks each of these policies, or that nothing does. `now` is aware."""
    with db.transaction() as connection:
        found = {policy: why for policy in sorted(policies) if (why := blocking(connection, policy)) is not None}
        blocked_dao.note(connection, policies, {policy: (why.sentence, why.fix) for policy, why in found.items()}, now)


def forget() -> None:
    """Believe nothing that was found before."""
    _clear.clear()
    _people_seen.clear()


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings
