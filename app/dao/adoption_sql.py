"""Statements for a person to run, printed by `flask retention adopt` and `flask doctor`, never run here: those that
fix, and those that count what no catalogue tells.

Identifiers are quoted. No connection is asked to quote them, so that they can be written from what was read before.
"""

from collections.abc import Sequence
from datetime import datetime

from psycopg2 import sql
from sqlalchemy.dialects import postgresql

GRANT_ON_DATABASE = "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role};"
GRANT_ON_SCHEMA = "GRANT USAGE ON SCHEMA {schema} TO {role};"
GRANT_ON_TABLE = "GRANT {privileges} ON {table} TO {role};"
GRANT_ON_SEQUENCES = "GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role};"
REVOKE_ON_DATABASE = "REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM {role};"
REVOKE_ON_SCHEMA = "REVOKE USAGE ON SCHEMA {schema} FROM {role};"
REVOKE_ON_TABLE = "REVOKE ALL ON {table} FROM {role};"
CREATE_SCHEMA = "CREATE SCHEMA {schema} AUTHORIZATION {role};"
DROP_SCHEMA = "DROP SCHEMA {schema};"
GIVE_SCHEMA = "ALTER SCHEMA {schema} OWNER TO {role};"
CREATE_INDEX = "CREATE INDEX CONCURRENTLY {index} ON {table} ({columns});"
CREATE_INDEX_LIKE = "CREATE {unique}INDEX CONCURRENTLY ON {table} ({columns}){where};"
BY_PARTITION = (
    "made partition by partition, since PostgreSQL makes none CONCURRENTLY for all of them: one of the table alone, "
    "then CREATE INDEX CONCURRENTLY on each partition and ALTER INDEX … ATTACH PARTITION with it. It begins with "
)
CREATE_INDEX_OF_PARENT = "CREATE INDEX {index} ON ONLY {table} ({columns});"
DROP_INDEX = "DROP INDEX CONCURRENTLY {index};"
SHOW_EVERY_ROW = "CREATE POLICY {role} ON {table} TO {role} USING (true);"
EXEMPT = "ALTER ROLE {role} BYPASSRLS;"
IDENTIFY = "ALTER TABLE {table} REPLICA IDENTITY FULL; -- or USING INDEX, with a unique one"
SET_SEQUENCE = "SELECT setval({sequence}, (SELECT max({column}) FROM {table}));"
VACUUM_SOONER = "ALTER TABLE {table} SET (autovacuum_enabled = on, autovacuum_vacuum_scale_factor = {share});"
ANALYZE = "ANALYZE {table};"
COUNT_OF_NO_SERVICE = (
    "SELECT count(*) FROM {live} AS n WHERE NOT EXISTS (SELECT FROM {services} AS s WHERE s.id = n.service_id) "
    "AND n.service_id IS NOT NULL;"
)
COUNT_NULLS = "SELECT count(*) FROM {table} WHERE {column} IS NULL;"
WORDS = "SELECT DISTINCT {column} FROM {table};"
TWICE = "SELECT {columns}, count(*) FROM {table} GROUP BY {columns} HAVING count(*) > 1;"
ANY_PRIVILEGE = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"})

# named: the other parameter styles would double a percent sign.
_PREPARER = postgresql.dialect(paramstyle="named").identifier_preparer


NEXT_PARTITION = "CREATE TABLE {partition} PARTITION OF {table} FOR VALUES FROM ('{begins}') TO ('{ends}');"


def next_partition(schema: str, table: str, name: str, begins: datetime, ends: datetime) -> str:
    """A partition of a table whose key is a timestamp in UTC, between two times (aware)."""
    bounds = {"begins": f"{begins:%Y-%m-%d %H:%M:%S}", "ends": f"{ends:%Y-%m-%d %H:%M:%S}"}
    return _rendered(NEXT_PARTITION, partition=quoted(schema, name), table=quoted(schema, table), **bounds)


def quoted(*names: str) -> str:
    """The name, with its schema before it if two are given, quoted where SQL needs that."""
    return ".".join(_PREPARER.quote(name) for name in names)


def give_schema(schema: str, role: str, *, exists: bool) -> str:
    """A schema of the role's own: the one that is there, or a new one."""
    return _rendered(GIVE_SCHEMA if exists else CREATE_SCHEMA, schema=quoted(schema), role=quoted(role))


def drop_schema(schema: str) -> str:
    """A schema with nothing in it; with anything, the statement is refused."""
    return _rendered(DROP_SCHEMA, schema=quoted(schema))


def grant_on_database(database: str, role: str) -> str:
    """To connect, and to make temporary tables, which a step's batch is."""
    return _rendered(GRANT_ON_DATABASE, database=quoted(database), role=quoted(role))


def grant_on_schema(schema: str, role: str) -> str:
    """To find the tables of a schema."""
    return _rendered(GRANT_ON_SCHEMA, schema=quoted(schema), role=quoted(role))


def grant_on_table(privileges: Sequence[str], schema: str, table: str, role: str, columns: Sequence[str] = ()) -> str:
    """Privileges (of ANY_PRIVILEGE) on a table, or on these columns of it."""
    if not set(privileges) <= ANY_PRIVILEGE:
        raise ValueError(f"no such privileges: {privileges}")
    of_columns = f" ({', '.join(quoted(column) for column in columns)})" if columns else ""
    listed = ", ".join(privilege + of_columns for privilege in privileges)
    return _rendered(GRANT_ON_TABLE, privileges=listed, table=quoted(schema, table), role=quoted(role))


def grant_on_sequences(schema: str, role: str) -> str:
    """To see whether a sequence is behind its table."""
    return _rendered(GRANT_ON_SEQUENCES, schema=quoted(schema), role=quoted(role))


def revoke_on_database(database: str, role: str) -> str:
    """What `grant_on_database` granted."""
    return _rendered(REVOKE_ON_DATABASE, database=quoted(database), role=quoted(role))


def revoke_on_schema(schema: str, role: str) -> str:
    """What `grant_on_schema` granted."""
    return _rendered(REVOKE_ON_SCHEMA, schema=quoted(schema), role=quoted(role))


def revoke_on_table(schema: str, table: str, role: str) -> str:
    """All privileges on a table and on its columns."""
    return _rendered(REVOKE_ON_TABLE, table=quoted(schema, table), role=quoted(role))


def create_index(index: str, schema: str, table: str, columns: Sequence[str]) -> str:
    """An index made beside live traffic."""
    return _rendered(CREATE_INDEX, index=quoted(index), table=quoted(schema, table), columns=_listed(columns))


def create_index_of_parent(index: str, schema: str, table: str, columns: Sequence[str]) -> str:
    """An index of a partitioned table, made at once: it is used when each partition has one that is attached to it."""
    return _rendered(CREATE_INDEX_OF_PARENT, index=quoted(index), table=quoted(schema, table), columns=_listed(columns))


def index_by_partition(index: str, schema: str, table: str, columns: Sequence[str]) -> str:
    """How an index of a partitioned table is made beside live traffic, for the end of a sentence."""
    return BY_PARTITION + create_index_of_parent(index, schema, table, columns)


def create_index_like(table: str, columns: Sequence[str], is_unique: bool = False, predicate: str | None = None) -> str:
    """An index made beside live traffic, named by PostgreSQL. The table is given as SQL writes it; the predicate is one
    of the code's own.
    """
    where = f" WHERE {predicate}" if predicate else ""
    unique = "UNIQUE " if is_unique else ""
    return _rendered(CREATE_INDEX_LIKE, unique=unique, table=table, columns=_listed(columns), where=where)


def drop_index(schema: str, index: str) -> str:
    """An index taken away beside live traffic."""
    return _rendered(DROP_INDEX, index=quoted(schema, index))


def show_every_row(schema: str, table: str, role: str) -> str:
    """A policy under which the role sees every row of a table, and may write any."""
    return _rendered(SHOW_EVERY_ROW, role=quoted(role), table=quoted(schema, table))


def exempt(role: str) -> str:
    """What lets a login see every row of every table, and write any. Members of a group do not inherit it."""
    return _rendered(EXEMPT, role=quoted(role))


def identify(schema: str, table: str) -> str:
    """What a publication needs to send on a table's updates and deletes."""
    return _rendered(IDENTIFY, table=quoted(schema, table))


def set_sequence(schema: str, sequence: str, table: str, column: str) -> str:
    """A sequence that goes on after what its table has."""
    name = "'" + quoted(schema, sequence).replace("'", "''") + "'"
    return _rendered(SET_SEQUENCE, sequence=name, column=quoted(column), table=quoted(schema, table))


def analyze(schema: str, table: str) -> str:
    """Statistics of a table made anew."""
    return _rendered(ANALYZE, table=quoted(schema, table))


def count_of_no_service(live: Sequence[str], services: Sequence[str]) -> str:
    """How many notifications name a service that is not there. Tables: schema and name."""
    return _rendered(COUNT_OF_NO_SERVICE, live=quoted(*live), services=quoted(*services))


def count_nulls(schema: str, table: str, column: str) -> str:
    """How many rows have no value in the column."""
    return _rendered(COUNT_NULLS, table=quoted(schema, table), column=quoted(column))


def words(schema: str, table: str, column: str) -> str:
    """What there is in the column."""
    return _rendered(WORDS, table=quoted(schema, table), column=quoted(column))


def vacuum_sooner(schema: str, table: str, share: float) -> str:
    """Have a table vacuumed once so large a share of its rows is dead."""
    return _rendered(VACUUM_SOONER, table=quoted(schema, table), share=str(share))


def twice(schema: str, table: str, columns: Sequence[str]) -> str:
    """What more than one row has in these columns."""
    return _rendered(TWICE, table=quoted(schema, table), columns=_listed(columns))


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(quoted(column) for column in columns)


def _rendered(statement: str, **parts: str) -> str:
    return sql.SQL(statement).format(**{name: sql.SQL(part) for name, part in parts.items()}).as_string(None)
