"""`flask accounts plan`: how many the coming nights would warn or mark, or whom tonight's would, and why."""

import json
import sys
from collections import Counter
from datetime import datetime

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from app import clock
from app.accounts.forecast import NIGHTS, Forecast, forecast
from app.accounts.tonight import Planned, plan
from app.cli.show import LEAST_WIDTH
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED, WARN

WHAT = {
    WARN: "warn: has not visited since {since}, {days} days",
    MARK: "mark for deletion: was warned, and has not visited since {since}, {days} days",
    NEVER_COMPLETED: "mark for deletion: never completed, made {since}, {days} days ago",
}
COLUMNS = {WARN: "warned", MARK: "marked: inactive", NEVER_COMPLETED: "marked: not completed"}


@click.command("plan")
@click.option("--ids", is_flag=True, help="List who would be warned or marked tonight instead, and why.")
@click.option("--kept", is_flag=True, help="The same, and who is kept, and by what.")
@click.option("--json", "as_json", is_flag=True, help="The nights for programs.")
def plan_command(ids: bool, kept: bool, as_json: bool) -> None:
    """How many users each of the next 60 nights would warn or mark for deletion, if nobody came back, and what protects
    the rest. Nothing is changed.
    """
    if ids or kept:
        _list_tonight(kept)
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("Counting users"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        progress.add_task("", total=None)
        found = forecast()
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        _show(found)


def _show(found: Forecast) -> None:
    table = Table(title=f"If nobody comes back: the next {NIGHTS} nights")
    table.add_column("night")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for one in found.nights:
        counts = [f"{one.users[sweep]:,}{' !' if sweep in one.blocked else ''}" for sweep in COLUMNS]
        table.add_row(f"{one.night:%a %Y-%m-%d}", *counts)
    totals = {sweep: sum(one.users[sweep] for one in found.nights) for sweep in COLUMNS}
    table.add_section()
    table.add_row("together", *(f"{total:,}" for total in totals.values()))
    Console(width=LEAST_WIDTH).print(table)
    if any(one.blocked for one in found.nights):
        click.echo("! More than INACTIVE_SHARE allows: it waits for flask accounts accept-share.")
    for sweep, reason in found.stopped.items():
        click.echo(f"Tonight's sweep {sweep} would be blocked: {reason}.")
    if found.kept:
        click.echo("Kept: " + ", ".join(f"{count:,} {reason}" for reason, count in found.kept.items()) + ".")
    click.echo("Who alone can manage a live service is kept, too, when it comes to the mark.")


def _list_tonight(kept: bool) -> None:
    now = clock.now()
    counts: Counter[str] = Counter()
    kept_by: Counter[str] = Counter()
    for planned in plan(now):
        if planned.kept_by is None:
            counts[planned.sweep] += 1
            click.echo(_described(planned, now))
        else:
            kept_by[planned.kept_by] += 1
            if kept:
                click.echo(f"{planned.user_id}  not {planned.sweep}: {planned.kept_by}")
    marked = counts[MARK] + counts[NEVER_COMPLETED]
    click.echo(f"{counts[WARN]:,} to be warned, {marked:,} to be marked for deletion.")
    if kept_by:
        click.echo("Kept: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(kept_by.items())) + ".")


def _described(planned: Planned, now: datetime) -> str:
    what = WHAT[planned.sweep].format(since=f"{planned.since:%Y-%m-%d}", days=(now - planned.since).days)
    return f"{planned.user_id}  {what}"
