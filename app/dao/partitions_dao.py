"""Partitions of a table that is partitioned by range of created_at, as PostgreSQL's catalogue has them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from app import clock

# A partition's bounds are only to be had as text. One without an end, or the default one, is open.
NEWEST = text(
    r"""
    SELECT max(ends) AS ends, (array_agg(begins ORDER BY ends DESC))[1] AS begins,
           coalesce(bool_or(is_open), false) AS is_open
    FROM (
        SELECT (regexp_match(bound, 'FROM \(''([^'']+)''\)'))[1]::timestamp AS begins,
               (regexp_match(bound, 'TO \(''([^'']+)''\)'))[1]::timestamp AS ends,
               bound = 'DEFAULT' OR bound LIKE '%TO (MAXVALUE)' AS is_open
        FROM (
            SELECT pg_get_expr(child.relpartbound, child.oid) AS bound
            FROM pg_inherits AS i
            JOIN pg_class AS child ON child.oid = i.inhrelid
            JOIN pg_class AS parent ON parent.oid = i.inhparent
            JOIN pg_namespace AS n ON n.oid = parent.relnamespace
            WHERE parent.relname = :table AND n.nspname = :schema AND parent.relkind = 'p'
        ) AS partitions
    ) AS bounds
    """
)


@dataclass(frozen=True)
class Newest:
    """The partition with the latest end (aware, in UTC); None: no partition has one. `is_open`: some partition takes
    whatever no other does.
    """

    begins: datetime | None
    ends: datetime | None
    is_open: bool


def newest(connection: Connection, schema: str, table: str) -> Newest:
    """The newest partition of a table whose key is a timestamp in UTC."""
    row = connection.execute(NEWEST, {"schema": schema, "table": table}).one()
    begins, ends = (None if at is None else clock.from_column(at) for at in (row.begins, row.ends))
    return Newest(begins, ends, row.is_open)
