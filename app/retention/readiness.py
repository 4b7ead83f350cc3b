"""Whether the database is one that the pipeline can work on: asked when a worker starts, before a plan and by steps.

What must be so is `app.state.preconditions`, and asked for by `app.state.asked`.
"""

from psycopg2 import errors
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app import own_schema, revisions
from app.config import Settings
from app.dao import revisions_dao
from app.db import db
from app.refusals import in_words
from app.state import asked
from app.state.findings import MOVES, Finding
from app.state.server import TAKES_NO_CHANGES

OF_SESSIONS = ("users", "user_sessions", "deferred_sessions")
OF_ACCOUNTS = ("users", "user_sessions", "user_deletions", "user_exports", "email_rate", "retention.login_attempts")
MISSING = text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NULL ORDER BY name")
EXPORTS_TO_DO = text(
    "SELECT EXISTS (SELECT FROM user_exports WHERE state IN ('requested', 'running')) "
    "OR EXISTS (SELECT FROM user_exports WHERE state IN ('ready', 'failed') AND expires_at IS NOT NULL)"
)

MAKE_TABLES = "Make the tables with: flask db upgrade; beside a platform's own with: flask retention adopt --install"

GRANT = "Apply deploy/postgres/retention_worker.sql again; in an adopted database, what flask retention adopt prints."


class DatabaseNotReady(RuntimeError):
    """The database lacks what a step needs. The message says what, and how to fix it."""


def blockers() -> list[Finding]:
    """What blocks some policy now. Raises DatabaseNotReady where our own tables are not there, or not ours to read."""
    try:
        with db.transaction(read_only=True) as connection:
            found = [*asked.findings(connection), *asked.findings_of_people(connection)]
            return [finding for finding in dict.fromkeys(found) if finding.blocks]
    except ProgrammingError as error:
        if isinstance(error.orig, errors.UndefinedTable):
            raise DatabaseNotReady(f"{in_words(error)}. {MAKE_TABLES}") from None
        if isinstance(error.orig, errors.InsufficientPrivilege):
            raise DatabaseNotReady(f"The database says: {in_words(error)}. {GRANT}") from None
        raise


def check_database(*, to_plan: bool = False) -> None:
    """Raise DatabaseNotReady when no notification can move. A plan can also be made of a standby."""
    for finding in blockers():
        if finding.blocks >= MOVES and not (to_plan and finding.about == TAKES_NO_CHANGES):
            raise DatabaseNotReady(finding.in_full)


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
