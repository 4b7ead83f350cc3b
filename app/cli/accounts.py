"""`flask accounts …`: what is being deleted, and deleting."""

import json
from datetime import datetime
from uuid import UUID

import click
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from app import clock
from app.accounts import brake
from app.accounts.conditions import unplanned
from app.accounts.deletion import OUT_OF_PATIENCE, delete_account, find
from app.accounts.errors import AccountError
from app.accounts.preview import COUNT_NO_FURTHER, Preview, preview
from app.accounts.tools import tools
from app.cli.errors import SentencesGroup, could_not_ask
from app.cli.inactivity import plan_command
from app.cli.show import LEAST_WIDTH
from app.cli.words import operator, plain
from app.dao import user_deletions_dao, user_sweeps_dao
from app.dao.deletion_plan import Action
from app.dao.user_deletions_dao import Record
from app.db import db
from app.errors import BadArgument
from app.state import people, user_sweeps

MOST_SHOWN = 100

accounts = SentencesGroup("accounts", help="Accounts: their deletion, and what became of it. Ids only.")
accounts.add_command(plan_command)


@accounts.command("status")
@click.argument("user", type=click.UUID, required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON; docs/operations.md has the schema.")
def status_command(user: UUID | None, as_json: bool) -> None:
    """Deletions that are not over, what keeps them, and how many are, and sweeps that are blocked; or the deletion of
    one user. Exits with 0 when nothing of it needs a person, 1 when something does, 2 when it can't be asked.
    """
    if user is not None:
        record = find(user)
        if record is None:
            raise click.ClickException(f"user {user} was never marked for deletion")
        click.echo(json.dumps(vars(record), default=plain, indent=2) if as_json else _described(record))
        return
    with could_not_ask(), db.transaction(read_only=True) as connection:
        found = [*people.check_references(unplanned(connection))]
        found += user_sweeps.check(user_sweeps_dao.latest(connection))
        counts = user_deletions_dao.count_by_state(connection)
        records = user_deletions_dao.open_records(connection, MOST_SHOWN)
        malformed = user_deletions_dao.malformed(connection, MOST_SHOWN)
    records = sorted(records, key=lambda one: one.state != "blocked")
    needs_person = bool(found) or any(one.state == "blocked" for one in records)
    if as_json:
        told = {
            "counts": dict(counts),
            "findings": [{"sentence": one.sentence, "fix": one.fix} for one in found],
            "deletions": [vars(one) for one in records],
            "unreadable_flags": [{"user_id": user_id, "since": since} for user_id, since in malformed],
        }
        click.echo(json.dumps(told, default=plain, indent=2))
        raise SystemExit(int(needs_person))
    click.echo(", ".join(f"{count:,} {state}" for state, count in counts) or "No account was ever marked for deletion.")
    for finding in found:
        click.echo(f"{finding.in_full}.")
    for record in records:
        click.echo(_described(record))
    for user_id, noticed_at in malformed:
        click.echo(f"{user_id} has flags that can't be read, since {_time(noticed_at)}: nothing follows from them.")
    if needs_person:
        raise SystemExit(1)


@accounts.command("accept-share")
@click.argument("sweep", type=click.Choice(list(user_sweeps.TITLES)))
@click.argument("number", type=click.IntRange(1))
def accept_share_command(sweep: str, number: int) -> None:
    """Let a blocked sweep act on as many users as `flask accounts status` says, for this one night."""
    try:
        brake.accept(sweep, number, operator())
    except BadArgument as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Accepted, for {number:,} users. The workers begin within a minute or two.")


@accounts.command("delete")
@click.argument("user", type=click.UUID)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def delete_command(user: UUID, dry_run: bool, yes: bool) -> None:
    """Delete an account, after showing what that does: at once if it is small, else through the workers."""
    try:
        record = find(user)
        if record is None:
            _show(preview(user))
        elif dry_run or record.state == "blocked":
            click.echo(_described(record))
        if dry_run:
            click.echo("Dry run: nothing was done.")
            return
        goes_on = record is None or record.state == "blocked"
        if goes_on and not yes:
            click.confirm("Delete this account for good?", abort=True)
        delete_account(user, by="operator", by_id=None, now=clock.now())
    except AccountError as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        if not isinstance(error.orig, OUT_OF_PATIENCE):
            raise
        raise click.ClickException(
            "Somebody holds the account's row, so that nothing was changed. Try again."
        ) from None
    record = find(user)
    if record is not None:
        click.echo(_described(record))


def _show(before: Preview) -> None:
    console = Console(width=LEAST_WIDTH, soft_wrap=True)
    for child, rows in before.rows:
        if rows and child.action is not Action.KEEP:
            at_least = "at least " if rows >= COUNT_NO_FURTHER else ""
            console.print(f"{child.name}: {child.action.value} {at_least}{rows:,} ({child.why})", highlight=False)
    if before.forbidden is not None:
        console.print(f"It will be refused: {before.forbidden}", highlight=False)


def _described(record: Record) -> str:
    asked = f"asked for by {record.requested_by} at {_time(record.requested_at)}"
    done = f"{record.rows_done:,} rows and {record.files_done:,} files done"
    parts = [f"{record.user_id} is {record.state}: {asked}; {done}"]
    if record.reason is not None:
        parts.append(record.reason.removesuffix("."))
    if record.attempts > 1:
        person = "; it needs a person" if record.attempts >= tools().settings.deferral_attempts else ""
        parts.append(f"{record.attempts} attempts in a row got nowhere{person}; next attempt {_time(record.due_at)}")
    if record.completed_at is not None:
        parts.append(f"completed at {_time(record.completed_at)}")
    if record.confirmation_failure is not None:
        over = "not confirmed yet" if record.is_unconfirmed else "never confirmed"
        parts.append(f"{over}: {record.confirmation_failure} after {record.confirmation_attempts} attempts")
    return "; ".join(parts) + "."


def _time(instant: datetime) -> str:
    return f"{instant.astimezone(clock.UTC):%Y-%m-%d %H:%M:%S} UTC"
