"""Reads what the pipeline needs to know of the platform's tables, from pg_catalog alone and without a lock to speak of.

A table is looked for in one schema, or wherever the role's search_path finds it. Nothing of a table's rows is read, but
for the names in the tables of statuses and of types, if the role may read them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, RowMapping, text

from app.dao.catalogue import (
    HISTORY,
    NOTIFICATIONS,
    PLATFORM_TABLES,
    WORKERS,
    Casts,
    Catalogue,
    Column,
    ForeignKey,
    Index,
    RowSecurity,
    Rule,
    Sight,
    Table,
    Trigger,
    Type,
)

WHERE = text(
    """
    SELECT current_database() AS database, current_user AS role, current_setting('search_path') AS path,
           current_setting('server_version_num')::integer AS server_version
    """
)

# Not to_regclass: it raises where the role may not use a schema that is named. A partitioned table that was analysed
# has -1 pages.
RELATIONS = text(
    """
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind,
           CASE WHEN c.relkind = 'p' THEN of_partitions.rows ELSE nullif(c.reltuples, -1)::bigint END AS rows,
           CASE WHEN c.relkind = 'p' THEN of_partitions.pages ELSE greatest(c.relpages, 0)::bigint END
               * current_setting('block_size')::bigint AS bytes,
           CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
           EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid) AS has_children,
           ARRAY(SELECT a.attname::text FROM pg_attribute AS a
                 WHERE a.attrelid = c.oid AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'SELECT'))
               AS columns_to_select
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
        SELECT sum(nullif(leaf.reltuples, -1))::bigint AS rows,
               coalesce(sum(greatest(leaf.relpages, 0)), 0)::bigint AS pages
        FROM pg_partition_tree(CASE WHEN c.relkind = 'p' THEN c.oid END) AS t
        JOIN pg_class AS leaf ON leaf.oid = t.relid
        WHERE t.isleaf
    ) AS of_partitions
    WHERE c.relname = ANY (:names) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = :schema END
    """
)

COLUMNS = text(
    """
    SELECT a.attrelid AS oid, a.attname AS name, a.attnum AS position, NOT a.attnotnull AS nullable,
           a.attgenerated <> '' AS generated, a.attidentity = 'a' AS always_identity,
           pg_get_expr(d.adbin, d.adrelid) AS default,
           format_type(a.atttypid, a.atttypmod) AS formatted,
           n.nspname AS type_schema, base.typname AS type_name, base.typlen AS width, base.typtype = 'e' AS is_enum,
           a.atttypid <> base.oid AS is_domain,
           ARRAY(SELECT e.enumlabel::text FROM pg_enum AS e WHERE e.enumtypid = base.oid ORDER BY e.enumsortorder)
               AS labels,
           has_column_privilege(a.attrelid, a.attnum, 'UPDATE') AS may_update
    FROM pg_attribute AS a
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    CROSS JOIN LATERAL (
        WITH RECURSIVE made_of (oid, typtype, typbasetype) AS (
            SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t WHERE t.oid = a.atttypid
            UNION ALL
            SELECT t.oid, t.typtype, t.typbasetype
            FROM made_of JOIN pg_type AS t ON t.oid = made_of.typbasetype
            WHERE made_of.typtype = 'd'
        )
        SELECT oid FROM made_of WHERE typtype <> 'd'
    ) AS bottom
    JOIN pg_type AS base ON base.oid = bottom.oid
    JOIN pg_namespace AS n ON n.oid = base.typnamespace
    WHERE a.attrelid = ANY (CAST(:oids AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
    """
)

INDEXES = text(
    """
    SELECT i.indrelid AS oid, c.relname AS name, am.amname AS method, i.indisprimary AS is_primary,
           i.indisunique AS is_unique, i.indisvalid AND i.indisready AS is_valid,
           pg_get_expr(i.indpred, i.indrelid) AS predicate,
           ARRAY(
               SELECT a.attname::text
               FROM unnest(i.indkey) WITH ORDINALITY AS key (number, nth)
               LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = key.number AND key.number > 0
               WHERE key.nth <= i.indnkeyatts
               ORDER BY key.nth
           ) AS columns
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_am AS am ON am.oid = c.relam
    WHERE i.indrelid = ANY (CAST(:oids AS oid[]))
    ORDER BY c.relname
    """
)

TRIGGERS = text(
    """
    SELECT t.tgrelid AS oid, t.tgname AS name, t.tgenabled <> 'D' AS is_enabled,
           ARRAY(
               SELECT event
               FROM (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE'), (32, 'TRUNCATE')) AS e (bit, event)
               WHERE t.tgtype & e.bit > 0
               ORDER BY e.bit
           ) AS events
    FROM pg_trigger AS t
    WHERE t.tgrelid = ANY (CAST(:oids AS oid[])) AND NOT t.tgisinternal
    ORDER BY t.tgname
    """
)

RULES = text(
    """
    SELECT ev_class AS oid, rulename AS name,
           CASE ev_type WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' ELSE 'DELETE' END AS event
    FROM pg_rewrite
    WHERE ev_class = ANY (CAST(:oids AS oid[])) AND rulename <> '_RETURN' AND ev_enabled <> 'D'
    ORDER BY rulename
    """
)

CHECKS = text(
    """
    SELECT conrelid AS oid, pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE contype = 'c' AND conrelid = ANY (CAST(:oids AS oid[]))
    """
)

# A partition's copy of its parent's key has a parent of its own, and is left out.
FOREIGN_KEYS = text(
    """
    SELECT k.conname AS name, n.nspname AS schema, c.relname AS table, c.relkind AS kind, k.conrelid AS oid,
           k.confrelid AS referred_oid, referred_schema.nspname AS referred_schema, referred.relname AS referred,
           nullif(c.reltuples, -1)::bigint AS rows,
           greatest(c.relpages, 0)::bigint * current_setting('block_size')::bigint AS bytes,
           k.convalidated AS is_validated,
           CASE k.confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'
                              WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END AS on_delete,
           ARRAY(
               SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS key (number, nth)
               JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = key.number ORDER BY key.nth
           ) AS columns,
           ARRAY(
               SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS key (number, nth)
               JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = key.number ORDER BY key.nth
           ) AS referred_columns,
           EXISTS (
               SELECT FROM pg_index AS i
               WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indpred IS NULL
                 AND (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey
           ) AS is_indexed,
           (
               WITH RECURSIVE gone (oid) AS (
                   SELECT k.conrelid
                   UNION
                   SELECT y.conrelid FROM pg_constraint AS y JOIN gone ON y.confrelid = gone.oid
                   WHERE y.contype = 'f' AND y.confdeltype = 'c'
               )
               SELECT min(stopping.relname::text)
               FROM pg_constraint AS z JOIN gone ON z.confrelid = gone.oid
               JOIN pg_class AS stopping ON stopping.oid = z.conrelid
               WHERE z.contype = 'f' AND z.confdeltype IN ('a', 'r')
           ) AS stopped_by
    FROM pg_constraint AS k
    JOIN pg_class AS c ON c.oid = k.conrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_class AS referred ON referred.oid = k.confrelid
    JOIN pg_namespace AS referred_schema ON referred_schema.oid = referred.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND (k.confrelid = ANY (CAST(:referred AS oid[])) OR k.conrelid = ANY (CAST(:oids AS oid[])))
    ORDER BY c.relname, k.conname
    """
)

# What the role that asks, the workers' and everybody may see of each table. `distance`: how far a role is from being
# the workers'. That is a login of their group, or the group where it has none, or whoever asks where there is no group.
# An owner or a superuser, who is exempt, tells nothing of them: then it is what everybody may see. A policy for INSERT
# alone has no expression for rows that are there.
ROW_SECURITY = text(
    """
    WITH judged AS (
        SELECT r.oid, r.rolname AS role, r.rolsuper, r.rolbypassrls, r.rolcanlogin,
               EXISTS (
                   SELECT FROM pg_roles AS g WHERE g.rolname = :workers AND pg_has_role(r.oid, g.oid, 'USAGE')
               ) AS is_worker
        FROM pg_roles AS r
        UNION ALL
        SELECT 0, 'public', false, false, false, false
    )
    SELECT c.oid, r.role, r.role = current_user AS is_current,
           CASE WHEN r.oid = 0 THEN 3 WHEN r.rolsuper OR owner.is_owner THEN NULL
                WHEN r.is_worker AND r.rolcanlogin THEN 0 WHEN r.is_worker THEN 1 ELSE 2 END AS distance,
           r.rolsuper OR r.rolbypassrls OR (owner.is_owner AND NOT c.relforcerowsecurity) AS is_exempt,
           policies.show_all, policies.restrict
    FROM pg_class AS c
    CROSS JOIN judged AS r
    CROSS JOIN LATERAL (
        SELECT CASE WHEN r.oid = 0 THEN false ELSE pg_has_role(r.oid, c.relowner, 'USAGE') END AS is_owner
    ) AS owner
    CROSS JOIN LATERAL (
        SELECT coalesce(bool_or(p.polpermissive AND p.polcmd = '*' AND shown.rows = 'true'), false) AS show_all,
               coalesce(bool_or(NOT p.polpermissive AND shown.rows <> 'true'), false) AS restrict
        FROM pg_policy AS p
        CROSS JOIN LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid) AS rows) AS shown
        WHERE p.polrelid = c.oid AND EXISTS (
            SELECT FROM unnest(p.polroles) AS role
            WHERE CASE WHEN role = 0 THEN true WHEN r.oid = 0 THEN false ELSE pg_has_role(r.oid, role, 'USAGE') END
        )
    ) AS policies
    WHERE c.oid = ANY (CAST(:oids AS oid[])) AND c.relrowsecurity
      AND (r.role = current_user OR r.is_worker OR r.oid = 0)
    ORDER BY r.role
    """
)

PRIVILEGES = text(
    """
    SELECT n.nspname AS schema, c.relname AS name,
           ARRAY(
               SELECT privilege FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
               WHERE has_table_privilege(c.oid, privilege)
           ) AS privileges
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (CAST(:oids AS oid[]))
    """
)
USABLE = text(
    "SELECT nspname::text FROM pg_namespace WHERE nspname = ANY (:names) AND has_schema_privilege(oid, 'USAGE')"
)

# Casts that an INSERT makes by itself are those in the context of an assignment, or anywhere.
CASTS = text(
    """
    SELECT source_schema.nspname AS source_schema, source.typname AS source,
           target_schema.nspname AS target_schema, target.typname AS target, k.castcontext <> 'e' AS by_itself
    FROM pg_cast AS k
    JOIN pg_type AS source ON source.oid = k.castsource
    JOIN pg_namespace AS source_schema ON source_schema.oid = source.typnamespace
    JOIN pg_type AS target ON target.oid = k.casttarget
    JOIN pg_namespace AS target_schema ON target_schema.oid = target.typnamespace
    WHERE source.typname = ANY (:names) AND target.typname = ANY (:names)
    """
)

SHARES = text(
    """
    SELECT value, frequency
    FROM pg_stats AS s,
         unnest(CAST(CAST(s.most_common_vals AS text) AS text[]), s.most_common_freqs) AS known (value, frequency)
    WHERE s.schemaname = :schema AND s.tablename = :table AND s.attname = 'notification_type'
      AND s.inherited = :inherited
    """
)

OF_TABLE = ("schema", "name", "kind", "rows", "bytes", "has_children", "partition_key")
MAY_READ = text(
    "SELECT has_table_privilege(oid, 'SELECT') AND has_schema_privilege(relnamespace, 'USAGE') "
    "FROM pg_class WHERE oid = CAST(:oid AS oid)"
)
NAMES = "SELECT {column} FROM {table} ORDER BY 1 LIMIT 1000"


PARTS = {"columns": COLUMNS, "indexes": INDEXES, "triggers": TRIGGERS, "rules": RULES, "checks": CHECKS}


def read(connection: Connection, schema: str | None = None) -> Catalogue:
    """The catalogue of the platform's tables in `schema`, or where the search path finds them.

    Tables that are not there are left out; nothing is raised for them.
    """
    where = connection.execute(WHERE).mappings().one()
    found = connection.execute(RELATIONS, {"names": list(PLATFORM_TABLES), "schema": schema}).mappings().all()
    oids = [row["oid"] for row in found]
    of_tables = {"oids": oids}
    parts = {
        name: _by_oid(connection.execute(statement, of_tables).mappings().all()) for name, statement in PARTS.items()
    }
    oid_of = {row["name"]: row["oid"] for row in found}
    referred = [oid_of[name] for name in (NOTIFICATIONS,) if name in oid_of]
    keys = connection.execute(FOREIGN_KEYS, {"referred": referred, **of_tables}).mappings().all()
    policies = row_security(connection, {*oids, *(row["oid"] for row in keys)})
    tables = {
        row["name"]: _table(
            row,
            row_security=policies[row["oid"]],
            **{name: of_oid[row["oid"]] for name, of_oid in parts.items()},
        )
        for row in found
    }
    live, history = (oid_of.get(name) for name in (NOTIFICATIONS, HISTORY))
    statuses, types = (
        _words(connection, tables.get(NOTIFICATIONS), name, [row for row in keys if row["oid"] == live])
        for name in ("notification_status", "notification_type")
    )
    return Catalogue(
        database=where["database"],
        role=where["role"],
        server_version=where["server_version"],
        where=f"schema {schema}" if schema is not None else f"search path {where['path']}",
        tables=MappingProxyType({name: tables[name] for name in PLATFORM_TABLES if name in tables}),
        referring=tuple(
            _foreign_key(row, policies) for row in keys if live is not None and row["referred_oid"] == live
        ),
        from_history=tuple(_foreign_key(row, policies) for row in keys if row["oid"] == history),
        from_notifications=tuple(_foreign_key(row, policies) for row in keys if row["oid"] == live),
        held_on=_held(connection, {*oids, *(oid for row in keys for oid in (row["oid"], row["referred_oid"]))}),
        usable_schemas=_usable(connection, tables.values(), keys),
        casts=_casts(connection, tables.values()),
        statuses=statuses,
        types=types,
        type_shares=_shares(connection, tables.get(NOTIFICATIONS)),
    )


@dataclass(frozen=True)
class OtherTables:
    """Tables that are asked for by name, their foreign keys in either direction, and what the role may do."""

    role: str
    tables: tuple[Table, ...]
    keys: tuple[ForeignKey, ...]
    held_on: Mapping[tuple[str, str], frozenset[str]]
    usable_schemas: frozenset[str]
    casts: Casts


def others(connection: Connection, names: Collection[str], schema: str | None) -> OtherTables:
    """Those of these tables that there are, in `schema` or where the search path finds them."""
    found = connection.execute(RELATIONS, {"names": sorted(names), "schema": schema}).mappings().all()
    oids = [row["oid"] for row in found]
    parts = {
        name: _by_oid(connection.execute(statement, {"oids": oids}).mappings().all())
        for name, statement in PARTS.items()
    }
    keys = connection.execute(FOREIGN_KEYS, {"referred": oids, "oids": oids}).mappings().all()
    policies = row_security(connection, {*oids, *(row["oid"] for row in keys)})
    tables = tuple(
        _table(row, policies[row["oid"]], **{name: of_oid[row["oid"]] for name, of_oid in parts.items()})
        for row in found
    )
    return OtherTables(
        role=connection.execute(WHERE).mappings().one()["role"],
        tables=tables,
        keys=tuple(_foreign_key(row, policies) for row in keys),
        held_on=_held(connection, {*oids, *(oid for row in keys for oid in (row["oid"], row["referred_oid"]))}),
        usable_schemas=_usable(connection, tables, keys),
        casts=_casts(connection, tables),
    )


def _by_oid(rows: Iterable[RowMapping]) -> defaultdict[int, list[RowMapping]]:
    grouped: defaultdict[int, list[RowMapping]] = defaultdict(list)
    for row in rows:
        grouped[row["oid"]].append(row)
    return grouped


def _table(
    row: RowMapping,
    row_security: RowSecurity,
    columns: Sequence[RowMapping],
    indexes: Sequence[RowMapping],
    triggers: Sequence[RowMapping],
    rules: Sequence[RowMapping],
    checks: Sequence[RowMapping],
) -> Table:
    return Table(
        **{name: row[name] for name in OF_TABLE},
        row_security=row_security,
        columns=MappingProxyType({column["name"]: _column(column) for column in columns}),
        indexes=tuple(_index(index) for index in indexes),
        triggers=tuple(Trigger(one["name"], tuple(one["events"]), one["is_enabled"]) for one in triggers),
        rules=tuple(Rule(rule["name"], rule["event"]) for rule in rules),
        checks=frozenset(check["definition"] for check in checks),
        columns_to_select=frozenset(row["columns_to_select"]),
        columns_to_update=frozenset(column["name"] for column in columns if column["may_update"]),
    )


def _column(row: RowMapping) -> Column:
    labels = tuple(row["labels"]) if row["is_enum"] else None
    return Column(
        type=Type(row["type_schema"], row["type_name"], row["formatted"], labels, row["width"], row["is_domain"]),
        **{name: row[name] for name in ("name", "position", "nullable", "default", "generated", "always_identity")},
    )


def _index(row: RowMapping) -> Index:
    rest = ("name", "method", "predicate", "is_primary", "is_unique", "is_valid")
    return Index(columns=tuple(row["columns"]), **{name: row[name] for name in rest})


def _foreign_key(row: RowMapping, policies: Mapping[int, RowSecurity]) -> ForeignKey:
    made: dict[str, Any] = {name: tuple(row[name]) for name in ("columns", "referred_columns")}
    made["row_security"] = policies[row["oid"]]
    rest = [field.name for field in fields(ForeignKey) if field.name not in made]
    return ForeignKey(**made, **{name: row[name] for name in rest})


def row_security(connection: Connection, oids: Collection[int]) -> Mapping[int, RowSecurity]:
    """What policies leave of these tables for whom to see."""
    judged = connection.execute(ROW_SECURITY, {"oids": list(oids), "workers": WORKERS}).mappings()
    by_table = _by_oid(judged)
    return dict.fromkeys(oids, RowSecurity()) | {oid: _of_policies(rows) for oid, rows in by_table.items()}


def _of_policies(judged: Sequence[RowMapping]) -> RowSecurity:
    nearest = min(row["distance"] for row in judged if row["distance"] is not None)
    [ours] = [_sight(row) for row in judged if row["is_current"]]
    return RowSecurity(True, ours, tuple(_sight(row) for row in judged if row["distance"] == nearest))


def _sight(row: RowMapping) -> Sight:
    restricted = not row["is_exempt"] and row["restrict"]
    return Sight(row["role"], restricted or not (row["is_exempt"] or row["show_all"]), restricted)


def _held(connection: Connection, oids: Iterable[int]) -> Mapping[tuple[str, str], frozenset[str]]:
    rows = connection.execute(PRIVILEGES, {"oids": list(oids)}).mappings()
    return MappingProxyType({(row["schema"], row["name"]): frozenset(row["privileges"]) for row in rows})


def _usable(connection: Connection, tables: Iterable[Table], keys: Iterable[RowMapping]) -> frozenset[str]:
    names = {key[schema] for key in keys for schema in ("schema", "referred_schema")}
    for table in tables:
        names |= {table.schema, *(column.type.schema for column in table.columns.values())}
    return frozenset(connection.execute(USABLE, {"names": sorted(names)}).scalars())


def _casts(connection: Connection, tables: Iterable[Table]) -> Mapping[Any, bool]:
    names = {column.type.name for table in tables for column in table.columns.values()}
    return MappingProxyType(
        {
            ((row["source_schema"], row["source"]), (row["target_schema"], row["target"])): row["by_itself"]
            for row in connection.execute(CASTS, {"names": sorted(names)}).mappings()
        }
    )


def _words(connection: Connection, live: Table | None, name: str, keys: Sequence[RowMapping]) -> tuple[str, ...] | None:
    """What the column may be: the labels of its enum, or what is in the table that it refers to."""
    column = live.columns.get(name) if live else None
    if column is None:
        return None
    if column.type.labels is not None:
        return column.type.labels
    for key in keys:
        if key["columns"] == [name]:
            if not connection.execute(MAY_READ, {"oid": key["referred_oid"]}).scalar():
                return None
            return tuple(connection.exec_driver_sql(_names(connection, key)).scalars())
    return None


def _names(connection: Connection, key: RowMapping) -> str:
    composed = sql.SQL(NAMES).format(
        column=sql.Identifier(key["referred_columns"][0]),
        table=sql.Identifier(key["referred_schema"], key["referred"]),
    )
    return composed.as_string(connection.connection.dbapi_connection).replace("%", "%%")


def _shares(connection: Connection, live: Table | None) -> Mapping[str, float]:
    if live is None:
        return MappingProxyType({})
    rows = connection.execute(SHARES, {"schema": live.schema, "table": live.name, "inherited": live.kind == "p"})
    return MappingProxyType({value: float(frequency) for value, frequency in rows})
