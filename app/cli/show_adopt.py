"""What `flask retention adopt` found, in the terminal: sentences a person can act on, statements that can be copied."""

from collections.abc import Iterator, Sequence

import click

from app.adopt.concerns import Concern
from app.adopt.installation import OWN_TABLES, Installation
from app.adopt.report import Adoption
from app.dao import adoption_sql
from app.dao.adoption_sql import quoted
from app.dao.catalogue import WORKERS
from app.dao.copying import How
from app.state.findings import Finding, Level, amount, size

TITLES = {
    Level.MISSING: "Missing: the pipeline can't work here before this is fixed",
    Level.LOOK: "To decide before a first night",
    Level.NOTE: "Good to know",
}
FOR_API = (
    "it must record the status of a notification through this function once\n"
    "the pipeline runs, wherever the row is by then. After the installation, and once on\n"
    "the server: CREATE ROLE status_writer NOLOGIN;"
)
CAN_RUN = "Nothing was changed, and nothing is missing."
CAN_NOT_RUN = "Nothing was changed. The pipeline can't work on this database yet: see what is missing above."


def adoption(found: Adoption) -> None:
    """Tables, columns, referring tables, letters, findings by their weight, and the GRANT statements."""
    for line in _lines(found):
        click.echo(line)


def _lines(found: Adoption) -> Iterator[str]:
    yield f"Database {found.catalogue.database}, as role {found.catalogue.role}, {found.catalogue.where}"
    yield f"Platform{f' {found.preset}' if found.preset else ''}: {found.preset_means}"
    for table in found.catalogue.tables.values():
        rows = "rows not known" if table.rows is None else f"about {amount(table.rows, 'row')}"
        yield (
            f"  {quoted(table.schema, table.name)}: {amount(len(table.columns), 'column')}, {rows}, {size(table.bytes)}"
        )
    if found.copies:
        moved = (copy.column if copy.how is How.AS_IT_IS else copy.expression for copy in found.copies)
        yield f"\nInto history, by name, {amount(len(found.copies), 'column')}: {', '.join(moved)}"
        yield f"Gone for good with the row, {amount(len(found.stays), 'column')}: {', '.join(found.stays)}"
    if found.referring:
        yield "\nTables that point at notifications, and the plan for each:"
    for plan in found.referring:
        key = plan.key
        yield f"  {quoted(key.schema, key.table)} ({', '.join(key.columns)}), ON DELETE {key.on_delete}: {plan.action}"
    yield f"\nLetters: {found.letters}"
    for level, title in TITLES.items():
        of_level = [finding for finding in found.findings if finding.level is level]
        if of_level:
            yield f"\n{title}:"
        for finding in of_level:
            yield from _finding(finding)
    if found.for_api:
        yield f"\nFor your API: {FOR_API}"
        yield from (f"  {line}" for statement in found.for_api for line in statement.splitlines())
    if found.grants:
        yield from _grants(found.grants)
    yield f"\n{CAN_RUN if found.can_run else CAN_NOT_RUN}"


def _grants(grants: Sequence[str]) -> Iterator[str]:
    yield f"\nThe least that the pipeline's role needs (once on the server: CREATE ROLE {WORKERS} NOLOGIN;):"
    yield from (f"  {statement}" for statement in grants)


def before_installing(found: Installation) -> None:
    """What will be made."""
    made = f"{amount(len(OWN_TABLES), 'table')} of the pipeline's own in the schema {found.schema}"
    if found.tables:
        click.echo(f"\nWill be brought to this version, from {found.at}: {made}, by role {found.role}.")
    else:
        click.echo(f"\nWill be made: {made}, by role {found.role}.")
    click.echo("Nothing outside of that schema is made or changed, and no table of the platform's is locked.")


def installed(found: Installation, grants: Sequence[str]) -> None:
    """That it is done, and what is to be granted now."""
    click.echo(f"Installed, at {found.at}.")
    for line in _grants(grants):
        click.echo(line)


def nothing_to_uninstall(found: Installation) -> None:
    """That there are no tables; an empty schema may be somebody else's."""
    click.echo("There is nothing to take away: the pipeline's tables are not installed here.")
    if found.exists:
        click.echo(
            f"There is a schema {found.schema} without a table. If an installation left it, and nobody else uses it: "
            f"{adoption_sql.drop_schema(found.schema)}"
        )


def before_uninstalling(found: Installation, nights: int, concerns: Sequence[Concern]) -> None:
    """What will be dropped, and what is not over."""
    click.echo(
        f"Will be dropped: the schema {found.schema} with {amount(len(found.tables), 'table')}, the records of "
        f"{amount(nights, 'night')}. No table of the platform's is touched."
    )
    if concerns:
        click.echo("\nNot over:")
    for concern in concerns:
        click.echo(f"  {concern.sentence}\n    → {concern.fix}")


def taken_back(statements: Sequence[str]) -> None:
    """What takes back what was granted on the platform's tables, which nobody but its team does."""
    if statements:
        click.echo(f"\nWhat was granted to {WORKERS} on the platform's tables is taken back with:")
    for statement in statements:
        click.echo(f"  {statement}")
    click.echo("With pg_read_all_stats revoked, too, where it was granted, the role and its logins can be dropped.")


def _finding(finding: Finding) -> Iterator[str]:
    yield f"  {finding.about}: {finding.sentence}"
    if finding.fix:
        yield f"    → {finding.fix}"
