"""`flask retention rehearse`: move a batch, look at what came of it, and undo it."""

from collections.abc import Sequence
from uuid import UUID

import click

from app.errors import BadArgument
from app.models.types import NOTIFICATION_TYPES
from app.retention.rehearsal import Rehearsal, rehearse
from app.state.findings import amount


@click.command("rehearse")
@click.option(
    "--service", type=click.UUID, help="Of this service, by its id; else of the first with something that can go."
)
@click.option("--type", "types", type=click.Choice(NOTIFICATION_TYPES), multiple=True, help="Only this type.")
def rehearse_command(service: UUID | None, types: Sequence[str]) -> None:
    """Move a batch to history as a step would, compare it column by column, and undo it. Nothing stays changed, and no
    file is touched. Exits with 1 when something is in the way, and when there is nothing that could be rehearsed though
    something is past its retention.
    """
    rehearsed = []
    try:
        for one in rehearse(service, types):
            _show(one)
            rehearsed.append(one)
    except BadArgument as error:
        raise click.ClickException(str(error)) from None
    if not all(one.is_well for one in rehearsed):
        raise SystemExit(1)
    if not rehearsed:
        click.echo("Nothing is past its retention, so that nothing could be rehearsed.")
    elif not any(one.rows for one in rehearsed):
        raise click.ClickException("Nothing was rehearsed. What stays, and why, is in flask retention plan.")


def _show(one: Rehearsal) -> None:
    what = f"{one.notification_type} of service {one.service_id}"
    if one.refused:
        batch = amount(one.rows, "row") if one.rows else "a batch"
        click.echo(f"{what}: {batch} could not be {'moved' if one.rows else 'taken'}: {one.refused}.")
        return
    if not one.rows:
        click.echo(f"{what}: nothing can go now.")
        return
    for words, rows in one.refused_rows.items():
        click.echo(f"{what}: {amount(rows, 'row')} could not be moved: {words}.")
    if one.not_tried:
        click.echo(f"{what}: whether {amount(one.not_tried, 'more row')} could be moved was not tried.")
    others = "the other " if one.refused_rows else ""
    click.echo(
        f"{what}: {others}{amount(one.going, 'row')} from {one.first:%Y-%m-%d} to {one.last:%Y-%m-%d} moved and "
        f"deleted in {one.seconds:.1f} s, and undone."
    )
    for column, rows in one.differences.items():
        click.echo(f"  {column}: of {amount(rows, 'row')} history would have another value than notifications.")
    if one.is_well:
        click.echo("  History would have every column as it is.")
