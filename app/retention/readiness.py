"""Whether the database is one that the pipeline can work on: asked when a worker starts and before a plan."""

from psycopg2 import errors
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app import own_schema, revisions
from app.config import Settings
from app.dao import adoption_sql, platform_dao, revisions_dao
from app.dao.catalogue import Sight
from app.dao.platform import HistoryNotCovered
from app.db import db

LEAST_VERSION = 140_000
"""Of the PostgreSQL server, as it numbers itself."""
OF_SESSIONS = ("users", "user_sessions")
OF_ACCOUNTS = ("users", "user_sessions", "user_deletions", "user_exports", "email_rate", "retention.login_attempts")
MISSING = text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NULL ORDER BY name")
EXPORTS_TO_DO = text(
    "SELECT EXISTS (SELECT FROM user_exports WHERE state IN ('requested', 'running')) "
    "OR EXISTS (SELECT FROM user_exports WHERE state IN ('ready', 'failed') AND expires_at IS NOT NULL)"
)

MAKE_TABLES = "Make the tables with: flask db upgrade; beside a platform's own with: flask retention adopt --install"

GRANT = "Apply deploy/postgres/retention_worker.sql again; in an adopted database, what flask retention adopt prints."


class DatabaseNotReady(RuntimeError):
    """The database lacks what a step needs. The message says what, and how to mend it."""


def check_database() -> None:
    """Raise DatabaseNotReady when tables are missing or may not be used, when history has columns that live rows lack,
    or when rows of the platform's are hidden from our role: they would neither be moved nor be missed, and one that
    refers to a notification would stop its whole batch, since the key is checked as the table's owner.
    """
    try:
        with db.transaction(read_only=True) as connection:
            platform = platform_dao.usable(connection)
            connection.exec_driver_sql("SELECT FROM retention.chains LIMIT 0")
    except HistoryNotCovered as error:
        raise DatabaseNotReady(str(error)) from None
    except ProgrammingError as error:
        if isinstance(error.orig, errors.UndefinedTable):
            raise DatabaseNotReady(f"{error.orig.diag.message_primary}. {MAKE_TABLES}") from None
        if isinstance(error.orig, errors.InsufficientPrivilege):
            raise DatabaseNotReady(f"The database says: {error.orig.diag.message_primary}. {GRANT}") from None
        raise
    for table in platform.catalogue.tables.values():
        if table.row_security.ours.hides_rows:
            raise _hidden(table.row_security.ours, table.schema, table.name, "what it hides would be kept for ever")
    for key in (plan.key for plan in platform.deferring + platform.deleting):
        if key.row_security.ours.hides_rows:
            raise _hidden(
                key.row_security.ours, key.schema, key.table, "a notification that they refer to would stop its batch"
            )


def _hidden(ours: Sight, schema: str, table: str, follows: str) -> DatabaseNotReady:
    mend = (
        f"No further policy shows what a restrictive one hides. As an administrator: {adoption_sql.exempt(ours.role)}"
        if ours.is_restricted
        else f"As the table's owner: {adoption_sql.show_every_row(schema, table, ours.role)}"
    )
    return DatabaseNotReady(f"Row-level security may hide rows of {table} from role {ours.role}: {follows}. {mend}")


def check_accounts(settings: Settings) -> None:
    """Raise DatabaseNotReady when tables of what is switched on for accounts and sessions are missing.

    Also when there are exports to be built or removed, and no bucket is set for them.
    """
    names = {*(OF_SESSIONS if settings.sessions_enabled else ()), *(OF_ACCOUNTS if settings.accounts_enabled else ())}
    with db.transaction(read_only=True) as connection:
        called = [own_schema.as_called(connection, name) for name in sorted(names)]
        missing = connection.execute(MISSING, {"names": called}).scalars().all()
    if missing:
        raise DatabaseNotReady(
            f"Accounts and sessions are switched on, but there is no table {', '.join(missing)}. Make the tables with: "
            "flask db upgrade; or set ACCOUNTS_ENABLED=false and SESSIONS_ENABLED=false where there are none"
        )
    if settings.accounts_enabled and settings.s3_bucket_exports is None:
        with db.transaction(read_only=True) as connection:
            is_wanted = connection.execute(EXPORTS_TO_DO).scalar_one()
        if is_wanted:
            raise DatabaseNotReady(
                "There are exports of users' data to be built or removed, and no bucket for them. Set "
                "S3_BUCKET_EXPORTS to the one that the API and the other workers have"
            )


def check_migrations() -> None:
    """Raise DatabaseNotReady unless the database is at the newest migration that this version has, in each branch.

    An adopted database has one branch: what the platform's own migrations are at is nothing to us.
    """
    try:
        with db.transaction(read_only=True) as connection:
            adopted = revisions_dao.is_adopted(connection)
            at = revisions_dao.applied(connection, adopted=adopted)
    except ProgrammingError as error:
        if isinstance(error.orig, errors.UndefinedTable):
            raise DatabaseNotReady(f"No migration was applied. {MAKE_TABLES}") from None
        if isinstance(error.orig, errors.InsufficientPrivilege):
            raise DatabaseNotReady(f"The database's role may not read alembic_version. {GRANT}") from None
        raise
    newest = revisions.newest(adopted=adopted)
    if at == newest:
        return
    if at and not adopted and not at & revisions.known():
        raise DatabaseNotReady(
            "The migrations in alembic_version are another program's. Install the pipeline's tables beside its tables "
            "with: flask retention adopt --install"
        )
    raise DatabaseNotReady(
        f"The database is at migration {', '.join(sorted(at)) or 'none'}, this version needs "
        f"{', '.join(sorted(newest))}. Apply what is missing with: "
        f"{'flask retention adopt --install' if adopted else 'flask db upgrade'}"
    )
