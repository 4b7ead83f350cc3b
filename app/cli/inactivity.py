"""`flask accounts plan`: whom the daily sweeps would warn or mark, and why."""

from collections import Counter
from datetime import datetime

import click

from app import clock
from app.accounts.tonight import Planned, plan
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED, WARN

WHAT = {
    WARN: "warn: has not visited since {since}, {days} days",
    MARK: "mark for deletion: was warned, and has not visited since {since}, {days} days",
    NEVER_COMPLETED: "mark for deletion: never completed, made {since}, {days} days ago",
}


@click.command("plan")
@click.option("--kept", is_flag=True, help="Also list who is kept, and by what.")
def plan_command(kept: bool) -> None:
    """Who would be warned or marked for deletion tonight, and why. Ids only; nothing is changed."""
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
