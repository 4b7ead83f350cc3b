"""What the catalogue says of the tables of users and sessions: facts for `app.state.people`. No row is read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from app import own_schema
from app.dao import catalogue_dao, doctor_dao, preconditions_dao
from app.dao.catalogue import RowSecurity
from app.dao.preconditions_dao import Reference, Unidentified

TABLES = text(
    """
    SELECT wanted.name, c.oid, n.nspname AS schema, c.relname AS table,
           ARRAY(
               SELECT a.attname::text FROM pg_attribute AS a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
           ) AS columns,
           ARRAY(
               SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
           ) AS types
    FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_class AS c ON c.oid = to_regclass(wanted.name)
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    ORDER BY wanted.place
    """
)


@dataclass(frozen=True)
class OfPeople:
    """A table that is there."""

    name: str
    """As statements of ours call it."""
    schema: str
    types: Mapping[str, str]
    """Of its columns: `timestamp with time zone`."""
    row_security: RowSecurity
    unidentified: Unidentified | None


@dataclass(frozen=True)
class People:
    """The tables that there are of those that were asked for, by name, and what our role lacks for each policy:
    `DELETE ON users`.
    """

    role: str
    tables: Mapping[str, OfPeople]
    lacking: Mapping[str, Sequence[str]]
    references: Sequence[Reference] = ()
    """Every foreign key to `users`."""


def read(connection: Connection, names: Collection[str], privileges: Mapping[str, Sequence[tuple[str, str]]]) -> People:
    """The tables of these names, and what our role has not of each policy's tables and privileges."""
    called = {own_schema.as_called(connection, name): name for name in names}
    rows = connection.execute(TABLES, {"names": list(called)}).all()
    policies = catalogue_dao.row_security(connection, [row.oid for row in rows])
    published = preconditions_dao.unidentified(connection, [(row.schema, row.table) for row in rows])
    unidentified = {(one.schema, one.table): one for one in published}
    tables = {
        called[row.name]: OfPeople(
            called[row.name],
            row.schema,
            dict(zip(row.columns, row.types, strict=True)),
            policies[row.oid],
            unidentified.get((row.schema, row.table)),
        )
        for row in rows
    }
    lacking = {policy: doctor_dao.lacking(connection, wanted) for policy, wanted in privileges.items()}
    role = connection.exec_driver_sql("SELECT current_user").scalar_one()
    return People(role, tables, lacking, preconditions_dao.references_to_users(connection))
