"""What is said of rows that policies hide from the pipeline's role: nobody would miss them."""

from collections.abc import Iterator

from app.dao import adoption_sql
from app.dao.catalogue import EVERYBODY, WORKERS, RowSecurity
from app.state.findings import Finding, look, missing

OF_PLATFORM = "what it hides would neither be moved nor be reported as overdue"
OF_REFERRING = "a notification that such a row refers to would stop its whole batch, night after night"

AGAINST_RESTRICTIVE = "give the workers' login BYPASSRLS, since no further policy shows what a restrictive one hides: "
OF_WHATEVER_NAME = "ALTER ROLE … BYPASSRLS;"


def check(schema: str, table: str, found: RowSecurity, follows: str, role: str = WORKERS) -> Iterator[Finding]:
    """Whether the table's policies hide rows from the workers. `follows`: what rows that can't be seen lead to. `role`:
    whom to show them.
    """
    roles = [one.role for one in found.workers if one.hides_rows]
    if roles:
        is_known = EVERYBODY not in roles
        hides = f"hides rows from role {', '.join(roles)}" if is_known else "may hide rows from the pipeline's role"
        found_as = missing if is_known else look  # of nobody's sight is known, before there is a role
        yield found_as(
            table,
            f"row-level security on table {table} {hides}: {follows}, so that nothing is done until that is changed",
            _fix(schema, table, found, role),
        )


def _fix(schema: str, table: str, found: RowSecurity, role: str) -> str:
    if any(one.is_restricted for one in found.workers):
        return AGAINST_RESTRICTIVE + (adoption_sql.exempt(role) if role != WORKERS else OF_WHATEVER_NAME)
    return f"{adoption_sql.show_every_row(schema, table, role)} -- or give the workers' login BYPASSRLS"
