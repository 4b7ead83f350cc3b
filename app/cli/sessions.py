"""`flask sessions …`: how many there are, and removing the dead at full speed."""

import json
from collections.abc import Sequence

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app import clock
from app.accounts import session_cleanup, session_rebuild
from app.accounts.tools import tools
from app.cli.errors import SentencesGroup, could_not_ask
from app.cli.words import Seconds, plain
from app.dao.user_sessions_dao import Count, Deferred
from app.state.judgement import DEAD_SESSIONS_AT_MOST, EXIT_CODES, Severity

SHARE_FROM_WHICH_A_REBUILD_PAYS = 0.9
"""Of dead rows: docs/adr/0019-dead-sessions.md has what was measured."""
LONGEST_LOCK_SECONDS = 3600
LEAST_ROWS_TO_OFFER_A_REBUILD = 100_000
"""Fewer are drained in seconds."""

sessions = SentencesGroup("sessions", help="Sessions, logged in and anonymous: how many are dead, and removing them.")


@sessions.command("status")
@click.option("--json", "as_json", is_flag=True, help="As JSON; docs/operations.md has the schema.")
def status_command(as_json: bool) -> None:
    """Living and dead sessions, what of the dead is the oldest, and what is refused. Reads the whole table.

    Exits with 0 when the clean-up keeps up, 3 when so many are dead that it does not, 1 when something that is refused
    needs a person, 2 when it can't be asked.
    """
    with could_not_ask(), Console(stderr=True).status("counting"):
        found, refused = session_cleanup.count(clock.now()), session_cleanup.deferred()
    if as_json:
        click.echo(json.dumps({**vars(found), "refused": [vars(one) for one in refused]}, default=plain, indent=2))
    else:
        _show(found)
        _show_refused(refused)
    attempts = tools().settings.deferral_attempts
    if any(one.attempts >= attempts for one in refused):
        raise SystemExit(EXIT_CODES[Severity.ACT])
    if found.dead > DEAD_SESSIONS_AT_MOST:
        raise SystemExit(EXIT_CODES[Severity.ATTENTION])


def _show_refused(refused: Sequence[Deferred]) -> None:
    for one in refused:
        person = "; needs a person" if one.attempts >= tools().settings.deferral_attempts else ""
        click.echo(
            f"Refused: {one.sessions:,}, since {one.since:%Y-%m-%d %H:%M} UTC, tried up to {one.attempts} times"
            f"{person}: {one.reason}"
        )


@sessions.command("purge")
@click.option("--rebuild", is_flag=True, help="Rebuild the table from its living rows, under a short lock.")
@click.option("--longest-lock", type=Seconds(0.1, LONGEST_LOCK_SECONDS), default=10, show_default=True,
              metavar="SECONDS", help="With --rebuild: keep everybody out for no longer.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def purge_command(rebuild: bool, longest_lock: float, dry_run: bool, yes: bool) -> None:
    """Remove all dead sessions, at full speed. Workers may do the same meanwhile, and it may be broken off."""
    found = session_cleanup.count(clock.now())
    _show(found)
    if dry_run:
        click.echo("Dry run: nothing was removed.")
        return
    if not found.dead:
        return
    if rebuild:
        _rebuild(found, longest_lock, yes)
        return
    if _rebuild_pays(found) and _offer_rebuild(yes):
        _rebuild(found, longest_lock, yes=True)
        return
    if not yes:
        click.confirm(f"Remove {found.dead:,} sessions?", abort=True)
    _drain(found.dead)


def _rebuild_pays(found: Count) -> bool:
    is_large = found.total >= LEAST_ROWS_TO_OFFER_A_REBUILD
    return is_large and found.share_of_dead >= SHARE_FROM_WHICH_A_REBUILD_PAYS


def _offer_rebuild(yes: bool) -> bool:
    """Whether somebody is there who wants it. Nothing that nobody was asked about locks a table."""
    click.echo(
        "So many sessions are dead that rebuilding the table from the live ones is faster, and frees its disk space."
    )
    try:
        session_rebuild.check()
    except session_rebuild.CannotRebuild as error:
        click.echo(str(error))
        return False
    return not yes and click.confirm("Rebuild it (it blocks all log-ins meanwhile)?")


def _rebuild(found: Count, longest_lock: float, yes: bool) -> None:
    try:
        session_rebuild.check()
        if not yes:
            if found.share_of_dead < SHARE_FROM_WHICH_A_REBUILD_PAYS:
                click.echo(
                    "Too few are dead to justify a rebuild. It would block all log-ins while it copies the live ones."
                )
            click.confirm(f"Rebuild the table from its {found.total - found.dead:,} living sessions?", abort=True)
        done = session_rebuild.rebuild(longest_lock, say=click.echo)
    except session_rebuild.CannotRebuild as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Rebuilt: {done.living:,} living sessions; others were kept out for {done.locked_seconds:.2f} s.")


def _drain(dead: int) -> None:
    """Until nothing is left. Each batch is a transaction of its own: what is done stays done."""
    limit = tools().settings.sessions_per_step
    removed = 0
    with Progress(
        TextColumn("sessions"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("sessions", total=dead)
        step = session_cleanup.step(clock.now(), limit)
        while True:
            removed += step.rows
            bar.update(task, completed=removed, total=max(dead, removed))
            if not step.is_more:
                break
            step = session_cleanup.step(clock.now(), limit, step.expired_from, step.anonymous_from)
    click.echo(f"{removed:,} sessions removed.")


def _show(found: Count) -> None:
    click.echo(f"{found.total:,} sessions, {found.bytes / 2**20:,.0f} MiB with indexes.")
    click.echo(f"Living: {found.of_users:,} of users, {found.anonymous:,} anonymous.")
    hours = tools().settings.anonymous_session_hours
    click.echo(f"Dead: {found.expired:,} expired, {found.too_old:,} anonymous and older than {hours} h.")
    if found.oldest_dead is not None:
        click.echo(
            f"{found.share_of_dead:.1%} are dead; the oldest was made on {found.oldest_dead:%Y-%m-%d %H:%M} UTC."
        )
