"""The pipeline's own tables beside a platform's: made by their own migrations, taken away again whole or not at all.

Nothing here touches a table of the platform's. What is made is in a schema of its own, the table of revisions too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from psycopg2 import errors
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.adopt import concerns
from app.adopt.concerns import Concern
from app.dao import adoption_sql, installation_dao, revisions_dao
from app.db import db
from app.models import RETENTION_SCHEMA, Base
from app.refusals import in_words
from app.revisions import alembic_config, known, newest

TABLE_OF_REVISIONS = "alembic_version"
OWN_TABLES = frozenset(table.name for table in Base.metadata.tables.values() if table.schema == RETENTION_SCHEMA)
FORMER_TABLES = frozenset({"deferred_letters"})
"""Tables that an older revision made, and that a migration renames or drops."""
SECONDS_TO_DROP = 60.0


class Refused(RuntimeError):
    """It can't be done here as things are; nothing was changed. The message says why, and what to do."""


class State(Enum):
    """What there is of the pipeline's tables."""

    ABSENT = "absent"
    INSTALLED = "installed"
    UNFINISHED = "unfinished"
    """At an older revision, or at none, because an installation was interrupted."""


@dataclass(frozen=True)
class Installation:
    """What there is, as it was read."""

    state: State
    schema: str
    role: str
    exists: bool
    """Whether there is the schema."""
    tables: frozenset[str]
    revisions: frozenset[str]
    may_make: bool

    @property
    def at(self) -> str:
        """Where it is, in words."""
        return f"revision {', '.join(sorted(self.revisions))}" if self.revisions else "no revision yet"


def look() -> Installation:
    """What there is. Raises Refused when the schema is somebody else's, or from a newer version of the product."""
    with _in_words(), db.transaction(read_only=True) as connection:
        schema = installation_dao.schema(connection)
        if TABLE_OF_REVISIONS not in schema.tables:
            if schema.tables:
                is_ours = revisions_dao.has_revisions(connection) and is_of_single_database(connection)
                raise Refused(OURS if is_ours else _not_ours(schema.name, schema.tables))
            state, revisions = State.ABSENT, frozenset[str]()
        else:
            revisions = revisions_dao.applied(connection, adopted=True)
            state = State.INSTALLED if revisions == newest(adopted=True) else State.UNFINISHED
    if not revisions <= known(adopted=True):
        raise Refused(
            f"The tables in the schema {schema.name} are at revision {', '.join(sorted(revisions))}, which this "
            "version does not know: they are a newer version's. Use that one."
        )
    strangers = schema.tables - OWN_TABLES - FORMER_TABLES - {TABLE_OF_REVISIONS}
    if strangers:
        raise Refused(_not_ours(schema.name, strangers))
    return Installation(state, schema.name, schema.role, schema.exists, schema.tables, revisions, schema.may_make)


OURS = (
    "The pipeline's tables are here already: flask db upgrade made them together with the platform's. They are kept up "
    "with flask db upgrade, and not adopted."
)


def _not_ours(schema: str, tables: frozenset[str]) -> str:
    listed = ", ".join(sorted(tables))
    return (
        f"There is a schema {schema} with what is not the pipeline's: {listed}. Have the pipeline's tables in another, "
        "named by RETENTION_SCHEMA."
    )


def is_of_single_database(connection: Connection) -> bool:
    """Whether our own migrations made the platform's tables, too. Reads the table of revisions that is there."""
    return bool(revisions_dao.applied(connection, adopted=False) & known())


def check_may_install(found: Installation) -> None:
    """Raise Refused unless our role may make what is missing."""
    if found.may_make:
        return
    give = adoption_sql.give_schema(found.schema, found.role, exists=found.exists)
    raise Refused(f"Role {found.role} may not make the pipeline's tables. As the database's owner: {give}")


def install(database_url: str, schema: str) -> None:
    """Make the tables in this schema, or bring them to this version's. Interrupted, it goes on where it was when it is
    run again.
    """
    from alembic import command  # for this command alone

    try:
        command.upgrade(alembic_config(database_url, adopted=True, schema=schema), "retention@head")
    except DBAPIError as error:
        why = in_words(error)
        raise Refused(
            f"It was not finished ({why}). Run it again, and it goes on where it was; or take away what is there with "
            "--uninstall."
        ) from None


def nights(found: Installation) -> int:
    """Of how many nights there are records."""
    if "runs" not in found.tables:
        return 0
    with _in_words(), db.transaction(read_only=True) as connection:
        return installation_dao.nights(connection)


def not_over(found: Installation) -> list[Concern]:
    """What would be forgotten; nothing: the tables can go."""
    with _in_words(), db.transaction(read_only=True) as connection:
        return concerns.of(connection, found.tables, clock.now())


def uninstall(found: Installation, *, force: bool = False) -> None:
    """Drop the tables and their schema, in one transaction. Raises Refused, and drops nothing, when something is not
    over (unless forced), when something outside depends on a table, or when our role may not.
    """
    with _in_words(), db.transaction(statement_seconds=SECONDS_TO_DROP) as connection:
        installation_dao.lock(connection, found.tables)
        left = [] if force else concerns.of(connection, found.tables, clock.now())
        if left:
            raise Refused(" ".join(f"{concern.sentence}." for concern in left))
        installation_dao.drop(connection, found.tables)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, errors.DependentObjectsStillExist):
            raise Refused(f"Something else depends on the tables: {error.orig.diag.message_detail}") from None
        if isinstance(error.orig, errors.InsufficientPrivilege):
            why = in_words(error)
            raise Refused(f"{why}: use the role that installed the tables") from None
        raise
