"""The one list of what must be so, and what each failure blocks. Pure: facts in, findings out.

What blocks a policy is certain to fail, or to lose something. What may be refused for a single row is not here: the
database is asked before any file goes, and such a row is put aside.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

from app.config import Settings
from app.dao.catalogue import WORKERS, Catalogue, RowSecurity, Table
from app.dao.people_dao import People
from app.dao.preconditions_dao import Reference, Sequences, Server, Unidentified, Vacuuming
from app.dao.referring import plans
from app.dao.user_sweeps_dao import UserSweep
from app.state import copying, hidden, people, privileges, server, tables, user_sweeps, vacuum, words
from app.state.findings import Finding, missing

ALL_AHEAD = Sequences()


@dataclass(frozen=True)
class Facts:
    """What was found, at one moment."""

    catalogue: Catalogue
    server: Server | None = None
    unidentified: tuple[Unidentified, ...] = ()
    sequences: Sequences = ALL_AHEAD
    own_schema: str = "retention"
    references: tuple[Reference, ...] = ()
    """Every foreign key to `users`, for who looks at a whole database."""
    sweeps: tuple[UserSweep, ...] = ()
    """The last night of each sweep over users."""
    vacuuming: Vacuuming | None = None
    """How `notifications` is vacuumed, for who looks at a whole database."""
    asks_for_itself: bool = False
    """Whether the role that asked is the one that works: then it is its own sight and privileges that count."""


def check(facts: Facts, settings: Settings) -> Iterator[Finding]:
    """Everything that there is to say of them, in the order in which to fix it."""
    catalogue = _as_we_see_it(facts.catalogue) if facts.asks_for_itself else facts.catalogue
    if facts.server is not None:
        yield from server.check(facts.server, settings.lease_seconds)
    yield from tables.check(catalogue, settings, catalogue.role if facts.asks_for_itself else WORKERS)
    if facts.asks_for_itself:
        yield from _privileges(catalogue, settings)
        yield from _hidden_references(catalogue, settings)
    yield from server.check_publications(facts.unidentified)
    yield from server.check_sequences(facts.own_schema, catalogue.role, facts.sequences)
    yield from copying.check(catalogue)
    yield from words.check(catalogue, settings)
    if facts.vacuuming is not None:
        yield from vacuum.check(facts.vacuuming, settings.retention_default_days)
    if settings.accounts_enabled:
        yield from people.check_references(people.unplanned(facts.references))
        yield from user_sweeps.check(facts.sweeps)


def check_people(found: People, of_server: Server, settings: Settings) -> Iterator[Finding]:
    """The same of what is done about accounts and sessions, which may be another role's work."""
    yield from server.check(of_server, settings.lease_seconds)
    yield from people.check(found, settings)


def blocking(findings: Iterable[Finding], policy: str) -> Finding | None:
    """The first that blocks the policy."""
    return next((finding for finding in findings if policy in finding.blocks), None)


def _privileges(catalogue: Catalogue, settings: Settings) -> Iterator[Finding]:
    needed = privileges.of_steps(catalogue, settings)
    lacks = privileges.lacking(catalogue, needed)
    if lacks:
        sentence = f"role {catalogue.role} lacks {', '.join(lacks)}"
        yield missing(privileges.PRIVILEGES, sentence, privileges.statements(catalogue, needed))


def _hidden_references(catalogue: Catalogue, settings: Settings) -> Iterator[Finding]:
    planned = plans(catalogue, settings.tables_deleted_with)
    for key in {plan.table: plan.key for plan in planned if plan.is_read}.values():
        yield from hidden.check(key.schema, key.table, key.row_security, hidden.OF_REFERRING, catalogue.role)


def _as_we_see_it(catalogue: Catalogue) -> Catalogue:
    """The catalogue, where the role that asked stands for the workers."""
    ours = {name: replace(table, row_security=_ours(table.row_security)) for name, table in catalogue.tables.items()}
    keys = tuple(replace(key, row_security=_ours(key.row_security)) for key in catalogue.referring)
    return replace(catalogue, tables=MappingProxyType[str, Table](ours), referring=keys)


def _ours(found: RowSecurity) -> RowSecurity:
    return replace(found, workers=(found.ours,))
