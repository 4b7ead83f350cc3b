"""A platform's catalogue as tests make it up, without a database: the tables of PLATFORM_TABLES with nothing wrong."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from app.dao.catalogue import (
    HISTORY,
    NOTIFICATIONS,
    RETENTIONS,
    SERVICES,
    Catalogue,
    Column,
    ForeignKey,
    Index,
    RowSecurity,
    Table,
    Type,
)

TYPES = {
    "uuid": Type("pg_catalog", "uuid", "uuid", width=16),
    "varchar": Type("pg_catalog", "varchar", "character varying"),
    "timestamp": Type("pg_catalog", "timestamp", "timestamp without time zone", width=8),
    "int4": Type("pg_catalog", "int4", "integer", width=4),
    "types": Type("public", "types", "types", ("email", "sms", "letter"), 4),
}
OF_BOTH = {
    "id": "uuid",
    "service_id": "uuid",
    "notification_type": "types",
    "key_type": "varchar",
    "notification_status": "varchar",
    "created_at": "timestamp",
    "updated_at": "timestamp",
}
COLUMNS = {
    SERVICES: {"id": "uuid"},
    RETENTIONS: {"service_id": "uuid", "notification_type": "types", "days_of_retention": "int4"},
    NOTIFICATIONS: {
        **OF_BOTH,
        "sent_at": "timestamp",
        "reference": "varchar",
        "postage": "varchar",
    },
    HISTORY: OF_BOTH,
}
INDEXES = {
    SERVICES: [("id",)],
    RETENTIONS: [("service_id", "notification_type")],
    NOTIFICATIONS: [("id",), ("service_id", "notification_type", "created_at"), ("reference",)],
    HISTORY: [("id",)],
}
OF_SERVICE = ForeignKey(
    "of_service",
    "public",
    NOTIFICATIONS,
    ("service_id",),
    "public",
    SERVICES,
    ("id",),
    "NO ACTION",
    rows=None,
    bytes=0,
    is_indexed=True,
    is_validated=True,
)


def index(*columns: str, is_unique: bool = False) -> Index:
    return Index(f"ix_{'_'.join(columns)}", columns, "btree", None, columns == ("id",), is_unique, is_valid=True)


def table(name: str, **changes: Any) -> Table:
    """A table of the platform's, or any other one that is like notifications but for its name."""
    of = name if name in COLUMNS else NOTIFICATIONS
    columns = {
        column: Column(column, place, TYPES[kind], False, None, generated=False, always_identity=False)
        for place, (column, kind) in enumerate(COLUMNS[of].items(), start=1)
    }
    made = Table(
        schema="public",
        name=name,
        kind="r",
        columns=MappingProxyType(columns),
        indexes=tuple(index(*one, is_unique=len(one) < 3 and one != ("reference",)) for one in INDEXES[of]),
        triggers=(),
        rules=(),
        checks=frozenset(),
        has_children=False,
        row_security=RowSecurity(),
        rows=None,
        bytes=0,
        columns_to_select=frozenset(),
        columns_to_update=frozenset(),
    )
    return replace(made, **changes)


def with_column(of: Table, name: str, **changes: Any) -> Table:
    """The table with this column changed."""
    return replace(of, columns=MappingProxyType({**of.columns, name: replace(of.columns[name], **changes)}))


def catalogue(*tables: Table, **changes: Any) -> Catalogue:
    """The platform's four tables, these among them."""
    made = {name: table(name) for name in COLUMNS} | {one.name: one for one in tables}
    whole = Catalogue(
        database="notify",
        role="someone",
        where="search path public",
        server_version=170_000,
        tables=MappingProxyType(made),
        from_notifications=(OF_SERVICE,),
        types=("email", "sms", "letter"),
    )
    return replace(whole, **changes)
