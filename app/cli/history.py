"""`flask retention history`: what went, when."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from app.cli import show
from app.errors import BadArgument
from app.models.types import NOTIFICATION_TYPES
from app.retention.history import history


@click.command("history")
@click.option("--service", required=True, metavar="ID", help="Of this service.")
@click.option("--day", metavar="DAY", help="Of the night that began on this day (YYYY-MM-DD).")
@click.option("--from", "first", metavar="DAY", help="From this night …")
@click.option("--to", "last", metavar="DAY", help="… to this one, included.")
@click.option("--type", "types", type=click.Choice(NOTIFICATION_TYPES), multiple=True,
              help="Only this type; may be given more than once.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def history_command(
    service: str, day: str | None, first: str | None, last: str | None, types: Sequence[str], as_json: bool
) -> None:
    """What was moved and deleted of a service, night by night, from the records of steps. No personal data."""
    if (day is None) == (first is None) or (last is not None and first is None):
        raise click.UsageError("give --day, or --from and perhaps --to")
    try:
        days = history(service, day or first or "", last if first else None, types or NOTIFICATION_TYPES)
    except BadArgument as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps([asdict(one) for one in days], default=str, indent=2))
    else:
        show.history(days)
