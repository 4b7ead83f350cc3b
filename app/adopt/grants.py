"""The least privileges that the pipeline needs: on the platform's tables, as they are found to be, and on its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.adopt.findings import Finding, look
from app.config import Settings
from app.dao import adoption_sql
from app.dao.catalogue import HISTORY, NOTIFICATIONS, RETENTIONS, SERVICES, Catalogue
from app.dao.referring import plans
from app.retention.privileges import OF_OWN_TABLES, OF_REVISIONS

STATUS = "notification_status"
WRITTEN_BY_RECEIPTS = (STATUS, "updated_at")
"""Also what lets a step lock rows: FOR UPDATE needs UPDATE of a column."""


@dataclass(frozen=True)
class Grant:
    """Privileges on a table, or on some columns of it."""

    schema: str
    table: str
    privileges: tuple[str, ...]
    columns: tuple[str, ...] = ()


def needed(catalogue: Catalogue, settings: Settings) -> list[Grant]:
    """What the pipeline must be granted on the tables that there are."""
    wanted: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
        (SERVICES, ("SELECT",), ()),
        (RETENTIONS, ("SELECT",), ()),
        # SELECT and INSERT are of whole tables: which columns move is derived, so that one that is added to both
        # tables needs no other grant.
        (NOTIFICATIONS, ("SELECT", "DELETE"), ()),
        (NOTIFICATIONS, ("UPDATE",), WRITTEN_BY_RECEIPTS),
        (HISTORY, ("SELECT", "INSERT", "UPDATE"), ()),
    ]
    found = [
        Grant(catalogue.tables[name].schema, name, privileges, columns)
        for name, privileges, columns in wanted
        if name in catalogue.tables
    ]
    # Which statuses there are: a receipt with one of the platform's own is taken, and any other word is refused.
    found += [
        Grant(key.referred_schema, key.referred, ("SELECT",))
        for key in catalogue.from_notifications
        if key.columns == (STATUS,)
    ]
    for plan in plans(catalogue, settings.tables_deleted_with):
        if plan.action in ("defer", "delete"):
            privileges = ("SELECT", "DELETE") if plan.action == "delete" else ("SELECT",)
            found.append(Grant(plan.key.schema, plan.key.table, privileges))
    return list(dict.fromkeys(found))


def of_own_tables(schema: str) -> list[Grant]:
    """What it must be granted on its own tables, where they are installed."""
    own = [Grant(schema, table, tuple(listed.split()), columns) for table, listed, columns in OF_OWN_TABLES]
    return [*own, Grant(schema, "alembic_version", (OF_REVISIONS,))]


def statements(catalogue: Catalogue, settings: Settings, role: str, *, installed: bool) -> list[str]:
    """The GRANT statements for `role`, in the order in which they can be run; those on its own tables once they are
    installed.
    """
    grants = needed(catalogue, settings) + (of_own_tables(settings.retention_schema) if installed else [])
    return [
        adoption_sql.grant_on_database(catalogue.database, role),
        *(adoption_sql.grant_on_schema(schema, role) for schema in dict.fromkeys(grant.schema for grant in grants)),
        *(
            adoption_sql.grant_on_table(grant.privileges, grant.schema, grant.table, role, grant.columns)
            for grant in grants
        ),
    ]


def taken_back(catalogue: Catalogue, settings: Settings, role: str) -> list[str]:
    """The REVOKE statements for what was granted on the platform's tables; on its own it is gone with them."""
    grants = needed(catalogue, settings)
    tables = dict.fromkeys((grant.schema, grant.table) for grant in grants)
    return [
        *(adoption_sql.revoke_on_table(schema, table, role) for schema, table in tables),
        *(adoption_sql.revoke_on_schema(schema, role) for schema in dict.fromkeys(schema for schema, _ in tables)),
        adoption_sql.revoke_on_database(catalogue.database, role),
    ]


def check(catalogue: Catalogue, settings: Settings) -> Iterator[Finding]:
    """What the role that asks lacks on the platform's own tables."""
    for grant in needed(catalogue, settings):
        table = catalogue.tables.get(grant.table)
        if table is None or table.schema != grant.schema:
            continue
        held = table.privileges
        if grant.columns:
            lacking: Sequence[str] = [
                f"UPDATE ({column})" for column in grant.columns if column not in held.columns_to_update
            ]
        else:
            lacking = [privilege for privilege in grant.privileges if privilege not in held.table]
        if lacking:
            yield look(
                grant.table,
                f"role {catalogue.role} may not {', '.join(lacking)} on table {grant.table}",
                "run the GRANT statements below for the role that the workers use",
            )
