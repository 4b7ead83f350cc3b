"""What is said of rows that policies hide from the pipeline's role: nobody would miss them."""

from collections.abc import Iterator

from app.adopt.findings import Finding, look
from app.adopt.grants import ROLE
from app.dao import adoption_sql
from app.dao.catalogue import RowSecurity

OF_PLATFORM = "what it hides would neither be moved nor be reported as overdue"
OF_REFERRING = "a notification that such a row refers to would stop its whole batch, night after night"


def check(schema: str, table: str, found: RowSecurity, follows: str) -> Iterator[Finding]:
    """The table's row-level security, if it is on. `follows`: what rows that can't be seen lead to."""
    if found.is_on:
        yield look(
            table,
            f"row-level security on table {table} hides rows from the pipeline's role: {follows}, so that workers do "
            "not start",
            f"{adoption_sql.show_every_row(schema, table, ROLE)} -- or give the workers' login BYPASSRLS",
        )
