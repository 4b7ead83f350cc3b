"""The database: its tables and migrations, our role, its time-outs, the indexes that the queries read."""

from collections.abc import Iterator
from dataclasses import dataclass

from app import own_schema
from app.config import Settings
from app.dao import adoption_sql, doctor_dao, platform_dao, preconditions_dao, revisions_dao
from app.dao.catalogue import NOTIFICATIONS, PARTITIONED_TABLE, Table
from app.dao.doctor_dao import Index
from app.db import db
from app.doctor import partitions, privileges
from app.doctor.finding import Finding, capitalised, error, ok, warning
from app.retention.readiness import (
    DatabaseNotReady,
    blockers,
    check_accounts,
    check_migrations,
)
from app.state import vacuum
from app.state.privileges import OF_ACCOUNTS, on_platform, pairs, schemas_of_platform
from app.state.privileges import lacking as lacking_on

TABLES, ROLE, SERVER, INDEXES = "database tables", "database role", "database server", "database indexes"
VACUUM = "database vacuum"
GRANTS = "Apply deploy/postgres/retention_worker.sql, and accounts_worker.sql for accounts, as the tables' owner."
GRANTS_OF_ADOPTED = "Run the GRANT statements that flask retention adopt prints, as the tables' owner."


@dataclass(frozen=True)
class Needed:
    """An index that queries read: its first columns, whether it must be unique, and what it may leave out."""

    table: str
    columns: tuple[str, ...]
    what_for: str
    is_unique: bool = False
    predicate: str | None = None
    or_else: tuple[str, ...] = ()
    """First columns of another index that serves, too, if not as well."""

    def is_like(self, index: Index) -> bool:
        """Whether that one will do; a unique one must have these columns and no others."""
        columns = index.columns if self.is_unique else index.columns[: len(self.columns)]
        is_whole = index.predicate in (None, self.predicate)
        return columns == self.columns and is_whole and (index.is_unique or not self.is_unique)

    def is_served_by(self, index: Index) -> bool:
        """Whether that one serves, if not as well."""
        begins = index.columns[: len(self.or_else)] == self.or_else
        return bool(self.or_else) and begins and index.predicate is None

    def is_kept_by_partitions_of(self, table: Table | None) -> bool:
        """Whether it is a unique one, which PostgreSQL makes of partitions with their key alone, and there is that."""
        if table is None or not table.is_partitioned_by_age:
            return False
        return self.is_unique and table.is_unique_by(*self.columns, "created_at")

    def made_by(self, named: str, table: Table | None) -> str:
        """How it is made without harm to live traffic; `named` as SQL writes the table."""
        if table is not None and table.kind == PARTITIONED_TABLE:
            name = f"ix_{table.name}_{'_'.join(self.columns)}"
            return capitalised(adoption_sql.index_by_partition(name, table.schema, table.name, self.columns))
        return adoption_sql.create_index_like(named, self.columns, self.is_unique, self.predicate)


NIGHTLY: tuple[Needed, ...] = (
    Needed(
        "notifications",
        ("service_id", "notification_type", "created_at"),
        "choosing what is overdue",
        or_else=("service_id", "created_at"),
    ),
    Needed("notifications", ("id",), "deleting what was moved", is_unique=True),
    Needed("notification_history", ("id",), "keeping the newer of two versions", is_unique=True),
)
OF_LETTER_FILES = (Needed("notifications", ("reference",), "seeing that two letters share a file"),)
OF_SESSIONS = (
    Needed("user_sessions", ("expires_at",), "finding expired sessions"),
    Needed("user_sessions", ("created_at",), "finding old anonymous sessions", predicate="(user_id IS NULL)"),
)


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything about the database that can be asked without changing it."""
    closed = list(schemas(settings))
    if closed:  # nothing in them can be asked about
        yield from closed
        return
    yield from tables(settings)
    yield from role(settings)
    yield from server()
    yield from indexes(settings)
    yield from partitions.examine()
    yield from vacuumed(settings)


def schemas(settings: Settings) -> Iterator[Finding]:
    """Those whose tables our role can't even name."""
    with db.transaction(read_only=True) as connection:
        adopted = revisions_dao.is_adopted(connection)
        needed = schemas_of_platform(platform_dao.read_anew(connection).catalogue, settings)
        closed = doctor_dao.closed_schemas(connection, [*needed, own_schema.name(connection)])
    for schema in closed:
        yield error(
            ROLE, f"The database's role lacks USAGE ON SCHEMA {schema}.", GRANTS_OF_ADOPTED if adopted else GRANTS
        )


def tables(settings: Settings) -> Iterator[Finding]:
    """Whether every precondition holds, and the tables are there, at the newest migration."""
    found = [*_preconditions()]
    for check in (check_migrations, lambda: check_accounts(settings)):
        try:
            check()
        except DatabaseNotReady as problem:
            found.append(_not_ready(problem))
    yield from found or [ok(TABLES, "All tables are there, at the newest migration, and nothing blocks a policy.")]


def _preconditions() -> Iterator[Finding]:
    try:
        for finding in blockers():
            blocks = ", ".join(sorted(finding.blocks))
            yield error(TABLES, f"{capitalised(finding.sentence)} (blocks {blocks}).", capitalised(finding.fix))
    except DatabaseNotReady as problem:
        yield _not_ready(problem)


def _not_ready(problem: DatabaseNotReady) -> Finding:
    sentence, _, fix = str(problem).partition(". ")
    return error(TABLES, f"{sentence}.", fix or "flask db upgrade")


def role(settings: Settings) -> Iterator[Finding]:
    """Whether it may do what it must, and no more."""
    with db.transaction(read_only=True) as connection:
        adopted = revisions_dao.is_adopted(connection)
        platform = platform_dao.known(connection)
        is_needed = pairs(privileges.nightly(adopted=adopted, archives=settings.archives_history))
        is_needed += pairs(OF_ACCOUNTS) if settings.accounts_enabled else []
        ours = doctor_dao.role(connection)
        found = platform.catalogue
        lacking = lacking_on(found, on_platform(found, settings)) if adopted else []
        lacking += doctor_dao.lacking(connection, is_needed)
        too_much = doctor_dao.held(connection, pairs(privileges.too_much(archives=settings.archives_history)))
    grants = GRANTS_OF_ADOPTED if adopted else GRANTS
    if ours.is_superuser:
        yield error(
            ROLE,
            "The pipeline is connected as a superuser: a mistake, or a stolen password, could do anything.",
            f"Make a login of its own and use it in DATABASE_URL. {grants}",
        )
        return
    if lacking:
        yield error(ROLE, f"The database's role lacks {', '.join(lacking)}.", grants)
    if ours.has_attributes:
        yield warning(
            ROLE,
            "The database's role may create roles or databases, or replicate.",
            "ALTER ROLE … NOCREATEROLE NOCREATEDB NOREPLICATION;",
        )
    passes_in_vain = ours.passes_over_policies and not platform.has_row_security
    if passes_in_vain:
        yield warning(
            ROLE,
            "The database's role may pass over row security, though none of the platform's tables has any.",
            "ALTER ROLE … NOBYPASSRLS;",
        )
    if too_much:
        yield warning(
            ROLE,
            f"The database's role may do what it never needs: {', '.join(too_much)}.",
            "Use a login that is a member of the roles in deploy/postgres and of nothing else.",
        )
    if not ours.reads_statistics:
        yield warning(
            ROLE,
            "The database's role can't see others' waiting queries and replicas' lag, so that it never yields to them.",
            "GRANT pg_read_all_stats TO retention_worker;",
        )
    if not (lacking or ours.has_attributes or passes_in_vain or too_much or not ours.reads_statistics):
        yield ok(ROLE, "The database's role may do what it needs, and no more.")


def server() -> Iterator[Finding]:
    """Whether the server keeps what was committed. Whether it takes our work is one of the preconditions."""
    with db.transaction(read_only=True) as connection:
        is_careless = preconditions_dao.server(connection).is_careless
    if is_careless:
        yield warning(SERVER, "fsync is off: a crash of the server loses what was committed.", "Set fsync = on.")
    else:
        yield ok(SERVER, "The server keeps what was committed.")


def indexes(settings: Settings) -> Iterator[Finding]:
    """Whether each query finds the index that it reads, whatever the index is called."""
    missing = False
    all_needed = NIGHTLY
    all_needed += OF_LETTER_FILES if settings.letters_have_files else ()
    all_needed += OF_SESSIONS if settings.sessions_enabled else ()
    with db.transaction(read_only=True) as connection:
        platform = platform_dao.known(connection)
        for needed in all_needed:
            there_are = doctor_dao.indexes(connection, needed.table)
            found = platform.catalogue.tables.get(needed.table)
            if any(needed.is_like(index) for index in there_are) or needed.is_kept_by_partitions_of(found):
                continue
            missing = True
            made_by = needed.made_by(platform.named(needed.table), found)
            lacks = f"{needed.table} has no valid index on ({', '.join(needed.columns)}), for {needed.what_for}"
            if any(needed.is_served_by(index) for index in there_are):
                serves = f"the one on ({', '.join(needed.or_else)}) serves, and reads rows that are passed over."
                yield warning(INDEXES, f"{lacks}: {serves}", made_by)
            else:
                yield error(INDEXES, f"{lacks}: each step would read the whole table.", made_by)
    if not missing:
        yield ok(INDEXES, "Every index that the queries read is there.")


def vacuumed(settings: Settings) -> Iterator[Finding]:
    """Whether the dead rows of a night go before the next one."""
    with db.transaction(read_only=True) as connection:
        there_are = platform_dao.known(connection).catalogue.tables
        found = preconditions_dao.vacuuming(connection, there_are.get(NOTIFICATIONS))
    looks = [] if found is None else list(vacuum.check(found, settings.retention_default_days))
    for one in looks:
        yield warning(VACUUM, f"{capitalised(one.sentence)}.", one.fix)
    if found is not None and not looks:
        yield ok(VACUUM, "The rows that a night deletes are vacuumed before the next one.")
