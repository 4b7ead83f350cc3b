"""What is said of rows that policies hide from the pipeline's role: nobody would miss them."""

from collections.abc import Iterator

from app.adopt.findings import Finding, look
from app.dao import adoption_sql
from app.dao.catalogue import EVERYBODY, WORKERS, RowSecurity

OF_PLATFORM = "what it hides would neither be moved nor be reported as overdue"
OF_REFERRING = "a notification that such a row refers to would stop its whole batch, night after night"

AGAINST_RESTRICTIVE = (
    "give the workers' login BYPASSRLS, since no further policy shows what a restrictive one hides: "
    "ALTER ROLE … BYPASSRLS;"
)


def check(schema: str, table: str, found: RowSecurity, follows: str) -> Iterator[Finding]:
    """Whether the table's policies hide rows from the workers. `follows`: what rows that can't be seen lead to."""
    roles = [one.role for one in found.workers if one.hides_rows]
    if roles:
        is_known = EVERYBODY not in roles
        hides = f"hides rows from role {', '.join(roles)}" if is_known else "may hide rows from the pipeline's role"
        is_restricted = any(one.is_restricted for one in found.workers)
        yield look(
            table,
            f"row-level security on table {table} {hides}: {follows}, so that workers do not start",
            AGAINST_RESTRICTIVE
            if is_restricted
            else f"{adoption_sql.show_every_row(schema, table, WORKERS)} -- or give the workers' login BYPASSRLS",
        )
