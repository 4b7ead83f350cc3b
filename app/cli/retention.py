"""`flask retention …`: look before, run, look after, and step in."""

import json
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import click
from rich.console import Console

from app import clock
from app.cli import show
from app.cli.audit import audit_command
from app.cli.errors import SentencesGroup
from app.cli.history import history_command
from app.cli.rehearse import rehearse_command
from app.cli.words import Words, operator
from app.dao import overview_dao
from app.dao.chains_dao import Wake
from app.dao.holds_dao import PIPELINE
from app.db import db
from app.models.types import NOTIFICATION_TYPES
from app.retention import operations, overdue
from app.retention.plan import (
    COUNT_NO_FURTHER,
    SECONDS_TO_COUNT,
    SECONDS_TO_COUNT_EXACTLY,
    STATEMENTS_OF_A_TYPE,
    Plan,
    plan,
)

SECONDS_BETWEEN_LOOKS = 1.0

retention = SentencesGroup("retention", help="Personal data past its retention: plan, run, status, and stepping in.")
retention.add_command(audit_command)
retention.add_command(history_command)
retention.add_command(rehearse_command)


class Instant(click.ParamType):
    """An ISO 8601 date and time, UTC unless it says otherwise."""

    name = "instant"

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> datetime:
        try:
            return clock.as_utc(value)  # type: ignore[arg-type]
        except clock.NotATime as error:
            self.fail(str(error), param, context)


service_option = click.option("--service", type=click.UUID, help="Only this service, by its id.")
type_option = click.option(
    "--type",
    "types",
    type=click.Choice(NOTIFICATION_TYPES),
    multiple=True,
    help="Only this type; may be given more than once.",
)


@retention.command("plan")
@click.option("--exact", is_flag=True, help=f"Count every row, not {COUNT_NO_FURTHER:,} of a service and type at most.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, every service and type.")
def plan_command(exact: bool, as_json: bool) -> None:
    """What tonight would do: per service and type, cut-off, what goes, and what stays and why. Writes nothing. Exits
    with 1 when the database gave up on some of it.
    """
    tonight = _planned(exact)
    if as_json:
        click.echo(json.dumps(tonight.as_json(), default=str, indent=2))
    else:
        show.plan(tonight)
    _require_whole(tonight, NOTIFICATION_TYPES)


def _planned(exact: bool = False) -> Plan:
    with Console(stderr=True).status("counting") as status:
        return plan(
            exact=exact,
            watch=lambda of_type: status.update(
                f"counting {of_type.notification_type}: {len(of_type.services):,} services done"
            ),
        )


def _require_whole(tonight: Plan, types: Sequence[str]) -> None:
    """Fail where something of these types could not be counted."""
    lacking = [
        f"{one.notification_type} ({one.stopped})"
        for one in tonight.types
        if one.stopped and one.notification_type in types
    ]
    if lacking:
        raise click.ClickException(
            f"Not everything is in the plan for {' and '.join(lacking)}. A statement may take "
            f"{SECONDS_TO_COUNT:.0f} s, with --exact {SECONDS_TO_COUNT_EXACTLY:.0f} s, and a type "
            f"{STATEMENTS_OF_A_TYPE} times as long. Ask again when the database is quieter, or ask a replica of it "
            "(DATABASE_URL); flask retention adopt names indexes that are missing."
        )


@retention.command("run")
@type_option
@service_option
@click.option("--before", type=Instant(), help="An earlier cut-off than the services' own, in ISO 8601.")
@click.option("--wait", is_flag=True, help="Stay until the chains that were started have ended.")
@click.option("--dry-run", is_flag=True, help="Show the plan and start nothing.")
@click.option("--force", is_flag=True, help="Take a cut-off after the start of today. Retentions still hold.")
def run_command(
    types: Sequence[str], service: UUID | None, before: datetime | None, wait: bool, dry_run: bool, force: bool
) -> None:
    """Start what is overdue now, through the workers. Starting twice does no harm."""
    if dry_run:
        tonight, asked = _planned(), types or NOTIFICATION_TYPES
        show.plan(tonight, asked, service)
        click.echo("Dry run: nothing was started.")
        _require_whole(tonight, asked)
        return
    try:
        wakes = operations.run(types or None, service, before, force=force, started_by=operator())
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    from app.celery.nightly_tasks import send_wakes

    send_wakes(wakes)
    click.echo(f"{len(wakes)} chains started." if wakes else "Nothing to start: nothing overdue, or under way.")
    if wait and wakes:
        _wait(wakes)


def _wait(wakes: Sequence[Wake]) -> None:
    ids = [wake.chain for wake in wakes]
    with Console(stderr=True).status("working") as status:
        while True:
            with db.transaction(read_only=True) as connection:
                left, resting = overview_dao.chains_left(connection, ids)
            if not left:
                break
            status.update(f"{len(ids) - left} of {len(ids)} chains done, {left} to go")
            time.sleep(SECONDS_BETWEEN_LOOKS)
    click.echo(f"{len(ids) - resting} chains ended.")
    if resting:
        raise click.ClickException(f"{resting} chains rest; see: flask retention status")


@retention.command("status")
@click.option("--nights", type=click.IntRange(1, 400), default=3, show_default=True, help="How many nights.")
def status_command(nights: int) -> None:
    """Runs, chains and steps of the last nights, what rests and why, and what is left."""
    show.status(clock.now().date() - timedelta(days=nights))


@retention.command("overdue")
def overdue_command() -> None:
    """What is past its retention and still there, measured from the data. Exits with 1 when a person must act."""
    state = overdue.measure()
    show.overdue(state)
    if state.is_red:
        raise SystemExit(1)


@retention.command("deferred")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The most to list.")
def deferred_command(limit: int) -> None:
    """Letters held back because their files could not be deleted, the longest first."""
    show.deferred(limit)


@retention.command("retry")
@click.option("--id", "ids", type=click.UUID, multiple=True, help="This letter; may be given more than once.")
@service_option
@click.option("--reason", type=Words(), help="Those with this reason, such as AccessDenied.")
def retry_command(ids: Sequence[UUID], service: UUID | None, reason: str | None) -> None:
    """Try deferred letters again now: all, or those named. The dispatcher starts them within its minute."""
    count = operations.retry(list(ids) or None, service, reason, retried_by=operator())
    click.echo(f"{count} are due now." if count else "No deferred letter fits.")


@retention.command("hold")
@click.argument("service", type=click.UUID)
@click.option("--reason", type=Words(), required=True, help="Why, for the record. No personal data.")
def hold_command(service: UUID, reason: str) -> None:
    """Put a service on hold: once this returns, nothing of it is deleted until `flask retention lift`."""
    try:
        placed = operations.hold(service, reason, operator())
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Service {service} is on hold." if placed else f"Service {service} was on hold already.")


@retention.command("lift")
@click.argument("service", type=click.UUID)
def lift_command(service: UUID) -> None:
    """Lift a service's hold; its chains go on."""
    lifted, woken = operations.lift(str(service), operator())
    if not lifted:
        raise click.ClickException(f"service {service} is not on hold")
    click.echo(f"The hold is lifted; {woken} chains go on.")


@retention.command("pause")
@click.option("--reason", type=Words(), required=True, help="Why, for the record.")
def pause_command(reason: str) -> None:
    """Pause everything: each chain rests after its current step, until `flask retention resume`."""
    placed = operations.pause(reason, operator())
    click.echo("The pipeline is paused." if placed else "The pipeline was paused already.")


@retention.command("resume")
def resume_command() -> None:
    """End the pause; chains go on where they were."""
    lifted, woken = operations.lift(PIPELINE, operator())
    click.echo(f"The pipeline goes on, with {woken} chains." if lifted else "The pipeline was not paused.")


@retention.command("accept-missing")
@click.confirmation_option(
    prompt="Letters without a file will be moved as they are. If the bucket or the time zone is set wrong, their "
    "files stay behind for good. Accept?"
)
def accept_missing_command() -> None:
    """Accept that many letters have no file; the chains that rest for it go on."""
    woken = operations.accept_missing(operator())
    click.echo(f"Accepted; {woken} chains go on." if woken else "No chain rests for missing files.")
