"""The least privileges that the pipeline needs: on the platform's tables, as they are found to be, and on its own."""

from collections.abc import Iterator

from app.config import Settings
from app.dao import adoption_sql
from app.dao.catalogue import Catalogue
from app.state.findings import Finding, look
from app.state.privileges import OF_ARCHIVE, OF_OWN_TABLES, OF_REVISIONS, Grant, on_platform, schemas_of_platform


def of_own_tables(schema: str, *, archives: bool = False) -> list[Grant]:
    """What it must be granted on its own tables, where they are installed."""
    tables = OF_OWN_TABLES + (OF_ARCHIVE if archives else ())
    own = [Grant(schema, table, tuple(listed.split()), columns) for table, listed, columns in tables]
    return [*own, Grant(schema, "alembic_version", (OF_REVISIONS,))]


def statements(catalogue: Catalogue, settings: Settings, role: str, *, installed: bool) -> list[str]:
    """The GRANT statements for `role`, in the order in which they can be run; those on its own tables once they are
    installed.
    """
    own = of_own_tables(settings.retention_schema, archives=settings.archives_history) if installed else []
    schemas = [*schemas_of_platform(catalogue, settings), *(grant.schema for grant in own)]
    return [
        adoption_sql.grant_on_database(catalogue.database, role),
        *(adoption_sql.grant_on_schema(schema, role) for schema in dict.fromkeys(schemas)),
        *(
            adoption_sql.grant_on_table(grant.privileges, grant.schema, grant.table, role, grant.columns)
            for grant in on_platform(catalogue, settings) + own
        ),
        *([adoption_sql.grant_on_sequences(settings.retention_schema, role)] if installed else []),
    ]


def taken_back(catalogue: Catalogue, settings: Settings, role: str) -> list[str]:
    """The REVOKE statements for what was granted on the platform's tables; on its own it is gone with them."""
    tables = dict.fromkeys((grant.schema, grant.table) for grant in on_platform(catalogue, settings))
    return [
        *(adoption_sql.revoke_on_table(schema, table, role) for schema, table in tables),
        *(adoption_sql.revoke_on_schema(schema, role) for schema in schemas_of_platform(catalogue, settings)),
        adoption_sql.revoke_on_database(catalogue.database, role),
    ]


def check(catalogue: Catalogue, settings: Settings) -> Iterator[Finding]:
    """What the role that asks lacks on the platform's own tables."""
    fix = "run the GRANT statements below for the role that the workers use"
    for schema in schemas_of_platform(catalogue, settings):
        if schema not in catalogue.usable_schemas:
            yield look(schema, f"role {catalogue.role} may not use the names in schema {schema}", fix)
    for grant in on_platform(catalogue, settings):
        lacking = grant.lacking(catalogue)
        if lacking:
            yield look(grant.table, f"role {catalogue.role} may not {', '.join(lacking)} on table {grant.table}", fix)
