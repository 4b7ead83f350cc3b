"""Which migrations were applied, and where that is written.

In our own database it is in `alembic_version`, wherever the search path finds it; in an adopted one in
`retention.alembic_version`, because the other may be the platform's.
"""

from sqlalchemy import Connection, text

from app import own_schema

# Not to_regclass, which raises where the role may not use the schema.
IS_ADOPTED = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = :schema AND c.relname = 'alembic_version'
    )
    """
)
HAS_REVISIONS = text("SELECT to_regclass('alembic_version') IS NOT NULL")
HAS_BOTH_BRANCHES = text(
    "SELECT to_regclass('notifications') IS NOT NULL AND to_regclass('retention.runs') IS NOT NULL"
)
OF_OURS = text("SELECT version_num FROM alembic_version ORDER BY version_num")
OF_ADOPTED = text("SELECT version_num FROM retention.alembic_version ORDER BY version_num")

LOCK = text("LOCK TABLE alembic_version IN SHARE ROW EXCLUSIVE MODE")
REPLACE_REVISION = text("UPDATE alembic_version SET version_num = :of_platform")
ADD_REVISION = text("INSERT INTO alembic_version VALUES (:of_retention)")
DROP_ATTEMPTS = text("DROP TABLE IF EXISTS login_attempts")

SINGLE_LINE = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0013")
"""Before there were branches: all revisions, one after the other."""
OF_PLATFORM = frozenset({"0001", "0004", "0005", "0006", "0008"})
WITH_ATTEMPTS = ("0008", "0009", "0010")
"""Of the single line: here log-in attempts had a table beside the users, which 0011 then took into `retention`."""


def is_adopted(connection: Connection) -> bool:
    """Whether the pipeline's tables were installed beside a platform's."""
    return bool(connection.execute(IS_ADOPTED, {"schema": own_schema.name(connection)}).scalar_one())


def applied(connection: Connection, *, adopted: bool) -> frozenset[str]:
    """The revisions that the database says it is at. Raises ProgrammingError where there is no such table, or this
    role may not read it.
    """
    return frozenset(connection.execute(OF_ADOPTED if adopted else OF_OURS).scalars())


def has_revisions(connection: Connection) -> bool:
    """Whether there is an `alembic_version`, of ours or of anybody's."""
    return bool(connection.execute(HAS_REVISIONS).scalar_one())


def split_single_line(connection: Connection) -> bool:
    """Give a database that was made by the single line of revisions the two that it is at; says whether it was one.

    Its one row would else stand for one branch, and the other would be made again. A row that is alone because only
    one branch was ever applied is left as it is. Counts of log-in attempts, of minutes, begin anew at WITH_ATTEMPTS.
    """
    if not _at_single_line(connection):
        return False
    connection.execute(LOCK)
    at = _at_single_line(connection)  # somebody else may have come first
    if not at:
        return False
    done = SINGLE_LINE[: SINGLE_LINE.index(at) + 1]
    connection.execute(REPLACE_REVISION, {"of_platform": [one for one in done if one in OF_PLATFORM][-1]})
    connection.execute(ADD_REVISION, {"of_retention": [one for one in done if one not in OF_PLATFORM][-1]})
    if at in WITH_ATTEMPTS:
        connection.execute(DROP_ATTEMPTS)
    return True


def _at_single_line(connection: Connection) -> str | None:
    """Where on the single line the database is; None: it is of branches, adopted, empty or somebody else's."""
    if is_adopted(connection) or not has_revisions(connection):
        return None
    at = applied(connection, adopted=False)
    if len(at) != 1 or not at <= set(SINGLE_LINE[1:]) or not connection.execute(HAS_BOTH_BRANCHES).scalar_one():
        return None
    return min(at)
