"""`flask retention …`: look before, run, look after, and step in."""

import json
import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import click
from rich.console import Console

from app import clock
from app.cli import show
from app.cli.archive import archive_commands
from app.cli.audit import audit_command
from app.cli.errors import SentencesGroup, could_not_ask
from app.cli.history import history_command
from app.cli.policies import (
    planned_policies,
    policies_command,
    policies_in_plan,
    retry_policy,
    run_policies,
)
from app.cli.rehearse import rehearse_command
from app.cli.status import status_command
from app.cli.words import Words, operator, plain
from app.dao import deferred_dao, overview_dao, policy_sweeps_dao
from app.dao.chains_dao import Wake
from app.dao.holds_dao import PIPELINE, of_service, of_user
from app.db import db
from app.models.types import NOTIFICATION_TYPES
from app.retention import facts, operations, overdue
from app.retention.plan import (
    COUNT_NO_FURTHER,
    SECONDS_TO_COUNT,
    SECONDS_TO_COUNT_EXACTLY,
    STATEMENTS_OF_A_TYPE,
    Plan,
    plan,
)
from app.retention.readiness import blockers
from app.state.findings import policy_of
from app.state.judgement import EXIT_CODES, Severity

SECONDS_BETWEEN_LOOKS = 1.0

retention = SentencesGroup("retention", help="Personal data past its retention: plan, run, status, and stepping in.")
retention.add_command(audit_command)
retention.add_command(archive_commands)
retention.add_command(history_command)
retention.add_command(policies_command)
retention.add_command(rehearse_command)
retention.add_command(status_command)


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
        click.echo(json.dumps({**tonight.as_json(), "policies": planned_policies()}, default=str, indent=2))
    else:
        show.plan(tonight)
        policies_in_plan()
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
@click.option("--policy", "policies", multiple=True, help="A policy that is data, by its name; may be given again.")
@click.option("--wait", is_flag=True, help="Stay until the chains that were started have ended.")
@click.option("--dry-run", is_flag=True, help="Show the plan and start nothing.")
@click.option("--force", is_flag=True, help="Take a cut-off after the start of today. Retentions still hold.")
def run_command(
    types: Sequence[str],
    service: UUID | None,
    before: datetime | None,
    policies: Sequence[str],
    wait: bool,
    dry_run: bool,
    force: bool,
) -> None:
    """Start what is overdue now, through the workers. Starting twice does no harm."""
    if policies:
        if types or service or before or force:
            raise click.UsageError("--policy goes with --wait and --dry-run alone")
        run_policies(policies, wait=wait, dry_run=dry_run)
        return
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

    if not send_wakes(wakes):
        raise click.ClickException(
            f"{len(wakes)} chains are open, but the broker takes no messages. The dispatcher starts them when it does: "
            'docs/operations.md, "The broker refuses".'
        )
    click.echo(f"{len(wakes)} chains started." if wakes else "Nothing to start: nothing overdue, or under way.")
    blocked = [why.in_full for why in blockers() if why.blocks & _policies(types or NOTIFICATION_TYPES)]
    if blocked:
        raise click.ClickException(" ".join(["Chains of what is blocked rest, and go on when it is fixed.", *blocked]))
    if wait and wakes:
        _wait(wakes)


def _policies(types: Sequence[str]) -> set[str]:
    return {policy_of(one, is_test=is_test) for one in types for is_test in (False, True)}


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


@retention.command("overdue")
@click.option("--json", "as_json", is_flag=True, help="As JSON; docs/operations.md has the schema.")
def overdue_command(as_json: bool) -> None:
    """The morning check: what is wrong, the worst first, and what is past its retention, measured from the data.

    Exits with 0 when all is well, 1 when a person must act, 3 when somebody should look, 2 when it can't be asked.
    """
    with could_not_ask(), Console(stderr=True).status("measuring"):
        state = overdue.measure()
    found = facts.judgement_now(state)
    if as_json:
        click.echo(json.dumps({**found.as_json(), "kept": [_as_json(one, state) for one in state.kept]}, indent=2))
    else:
        show.judgement(found)
        show.overdue(state)
    raise SystemExit(found.exit_code)


def _as_json(one: overdue.Kept, state: overdue.State) -> dict[str, object]:
    return {
        "kind": one.kind,
        "type": one.notification_type,
        "service_id": one.service_id and str(one.service_id),
        "rows": one.rows,
        "more": one.more,
        "past_seconds": one.past and one.past.total_seconds(),
        "why": list(one.why),
        "is_alarm": state.is_alarm(one),
    }


@retention.command("deferred")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The most to list.")
@click.option("--json", "as_json", is_flag=True, help="As JSON; docs/operations.md has the schema.")
def deferred_command(limit: int, as_json: bool) -> None:
    """Rows held back because a file could not be deleted or the database refused; those that need a person first.

    Exits with 0 when nothing is held back, 1 when something needs a person, 3 when it is tried again by itself.
    """
    with could_not_ask(), db.transaction(read_only=True) as connection:
        counts = deferred_dao.count_rows(connection).values()
        told = {
            "total": sum(rows for rows, _ in counts),
            "needing_person": sum(needing for _, needing in counts),
            "rows": [vars(row) for row in deferred_dao.rows(connection, limit)],
            "buckets": [vars(bucket) for bucket in deferred_dao.buckets(connection)],
            "of_policies": [vars(row) for row in policy_sweeps_dao.deferred(connection, None, limit)],
        }
    if as_json:
        click.echo(json.dumps(told, default=plain, indent=2))
    else:
        show.deferred(told)
    if told["total"] or told["buckets"] or told["of_policies"]:
        raise SystemExit(EXIT_CODES[Severity.ACT if told["needing_person"] else Severity.ATTENTION])


@retention.command("retry")
@click.option("--id", "ids", type=click.UUID, multiple=True, help="This row; may be given more than once.")
@service_option
@click.option("--reason", type=Words(), help="Those with this reason, such as AccessDenied.")
@click.option("--policy", help="The rows that this policy, which is data, holds back; they are due at its next time.")
def retry_command(ids: Sequence[UUID], service: UUID | None, reason: str | None, policy: str | None) -> None:
    """Try deferred letters again now: all, or those named. The dispatcher starts them within its minute."""
    if policy is not None:
        if ids or service or reason:
            raise click.UsageError("--policy goes alone")
        retry_policy(policy)
        return
    count = operations.retry(list(ids) or None, service, reason, retried_by=operator())
    click.echo(f"{count} are due now." if count else "No deferred letter fits.")


service_argument = click.argument("service", type=click.UUID, required=False)
user_option = click.option("--user", type=click.UUID, help="A user instead of a service, by the user's id.")


@retention.command("hold")
@service_argument
@user_option
@click.option("--reason", type=Words(), required=True, help="Why, for the record. No personal data.")
def hold_command(service: UUID | None, user: UUID | None, reason: str) -> None:
    """Put a service, or a user, on hold: once this returns, nothing of it is deleted until `flask retention lift`."""
    named, _scope = _one_of(service, user)
    try:
        if user is not None:
            placed = operations.hold_user(user, reason, operator())
        elif service is not None:
            placed = operations.hold(service, reason, operator())
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    _say_placed(f"{named} is on hold", f"{named} was on hold already", placed)


def _one_of(service: UUID | None, user: UUID | None) -> tuple[str, str]:
    """What to call the service or the user, and the scope of its hold."""
    if service is not None and user is None:
        return f"Service {service}", of_service(service)
    if user is not None and service is None:
        return f"User {user}", of_user(user)
    raise click.UsageError("Name a service, or a user with --user.")


def _say_placed(new: str, known: str, placed: operations.Placed) -> None:
    """Fails when what had begun before did not end in time: the hold stands all the same."""
    click.echo(f"{new if placed.is_new else known}.")
    if not placed.is_confirmed:
        raise click.ClickException(
            f"It is placed, and what begins now heeds it{placed.says()}. Give the command again to wait for that."
        )


@retention.command("lift")
@service_argument
@user_option
def lift_command(service: UUID | None, user: UUID | None) -> None:
    """Lift the hold of a service, or of a user; what rested for it goes on."""
    named, scope = _one_of(service, user)
    lifted, woken = operations.lift(scope, operator())
    if not lifted:
        raise click.ClickException(f"{named} is not on hold")
    click.echo(f"The hold is lifted; {woken} chains go on.")


@retention.command("pause")
@click.option("--reason", type=Words(), required=True, help="Why, for the record.")
def pause_command(reason: str) -> None:
    """Pause everything that deletes or rewrites, once what is under way has ended, until `flask retention resume`."""
    placed = operations.pause(reason, operator())
    _say_placed("The pipeline is paused", "The pipeline was paused already", placed)


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
