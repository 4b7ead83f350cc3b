"""What this process knows of the platform's tables: read once for each database, and again when they have changed.

The engine says in which schema they are (`db.init_app`). A change is noticed by a stamp over what statements are built
from, which the statement that every choice begins with brings along: no statement more, and no step that moves a column
less than history has.
"""

from sqlalchemy import URL, Connection

from app.dao import catalogue_dao
from app.dao.catalogue import NOTIFICATIONS, PLATFORM_TABLES
from app.dao.platform import Platform
from app.db import PLATFORM, PlatformTables

STAMP = """
    SELECT md5(coalesce(string_agg(
        concat_ws(
            ' ', c.oid, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated,
            (SELECT string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder) FROM pg_enum AS e
             WHERE e.enumtypid = a.atttypid)
        ), ',' ORDER BY c.oid, a.attnum
    ), '') || coalesce((
        SELECT string_agg(concat_ws(' ', k.oid, k.conrelid::regclass, pg_get_constraintdef(k.oid)), ',' ORDER BY k.oid)
        FROM pg_constraint AS k
        WHERE k.contype = 'f' AND k.confrelid IN (
            SELECT oid FROM pg_class WHERE relname = %(notifications)s
            UNION ALL
            SELECT r.conrelid FROM pg_constraint AS r JOIN pg_class AS n ON n.oid = r.confrelid
            WHERE r.contype = 'f' AND n.relname = %(notifications)s
        )
    ), ''))
    FROM pg_class AS c
    JOIN pg_namespace AS s ON s.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relname = ANY (%(tables)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND CASE WHEN %(schema)s::text IS NULL THEN pg_table_is_visible(c.oid) ELSE s.nspname = %(schema)s END
"""

# For the transaction: the planner counts tuples instead of pages and does not sort (docs/adr/0005).
READ_IN_INDEX_ORDER = """
SELECT set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'on', true),
       set_config('seq_page_cost', '0', true), set_config('random_page_cost', '0', true)
"""
READ_IN_INDEX_ORDER_AND_STAMP = READ_IN_INDEX_ORDER + ", (" + STAMP + ")"

IN_ORDER = "read-in-index-order"
"""In a connection's info: the transaction that has those settings."""

ALL_TABLES = "SELECT FROM {notifications}, {history}, {services}, {retentions} LIMIT 0"

_known: dict[tuple[URL, PlatformTables], Platform] = {}


def known(connection: Connection) -> Platform:
    """The platform as it was read last; read now if it never was."""
    return _known.get(_key(connection)) or checked(connection)


def checked(connection: Connection) -> Platform:
    """The platform as it is now, for one statement if nothing has changed."""
    stamp = connection.exec_driver_sql(STAMP, _values(connection)).scalar_one()
    return _with(connection, stamp)


def read_anew(connection: Connection) -> Platform:
    """The platform as it is now, also where a table of words has a new row, which no stamp tells."""
    _known.pop(_key(connection), None)
    return checked(connection)


def checked_in_index_order(connection: Connection) -> Platform:
    """The platform as it is now; what follows in this transaction reads indexes in order."""
    *_, stamp = connection.exec_driver_sql(READ_IN_INDEX_ORDER_AND_STAMP, _values(connection)).one()
    _note_order(connection)
    return _with(connection, stamp)


def known_in_index_order(connection: Connection) -> Platform:
    """The platform as it was read last; what follows in this transaction reads indexes in order."""
    transaction = connection.get_transaction()
    if transaction is None or connection.info.get(IN_ORDER) is not transaction:
        connection.exec_driver_sql(READ_IN_INDEX_ORDER)
        _note_order(connection)
    return known(connection)


def _note_order(connection: Connection) -> None:
    """The settings hold for the transaction; behind a savepoint they may be undone with it, and are made each time."""
    if not connection.in_nested_transaction():
        connection.info[IN_ORDER] = connection.get_transaction()


def usable(connection: Connection) -> Platform:
    """The platform as it is now, with the policies that no stamp tells, if rows can be moved. Raises HistoryNotCovered,
    and ProgrammingError where a table is not there.
    """
    platform = read_anew(connection)
    connection.exec_driver_sql(platform.driver(ALL_TABLES))
    platform.moving  # noqa: B018 - it raises
    return platform


def _with(connection: Connection, stamp: str) -> Platform:
    """The stamp was taken before the catalogue is read: what changes in between is noticed next time."""
    key = _key(connection)
    platform = _known.get(key)
    if platform is None or platform.stamp != stamp:
        platform = Platform(catalogue_dao.read(connection, key[1].schema), key[1], stamp)
        if platform.is_whole:
            _known[key] = platform
    return platform


def _values(connection: Connection) -> dict[str, object]:
    return {"tables": list(PLATFORM_TABLES), "notifications": NOTIFICATIONS, "schema": _key(connection)[1].schema}


def _key(connection: Connection) -> tuple[URL, PlatformTables]:
    return connection.engine.url, connection.get_execution_options().get(PLATFORM) or PlatformTables()
