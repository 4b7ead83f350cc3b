"""`flask retention status`: what is wrong first, then runs, batches and sweeps of the last nights."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import click
from flask.cli import with_appcontext
from rich.console import Console
from rich.padding import Padding

from app import clock
from app.cli import show
from app.cli.errors import could_not_ask
from app.cli.words import plain
from app.dao import deferred_dao, failures_dao, holds_dao, overview_dao, policy_sweeps_dao, services_dao
from app.dao.failures_dao import Failure
from app.db import db
from app.retention import facts, overdue
from app.retention.readiness import blockers

Told = dict[str, Any]


@click.command("status")
@click.option("--nights", type=click.IntRange(1, 400), default=3, show_default=True, help="How many nights.")
@click.option("--json", "as_json", is_flag=True, help="As JSON; docs/operations.md has the schema.")
@with_appcontext
def status_command(nights: int, as_json: bool) -> None:
    """What is wrong, the worst first; then runs, batches and sweeps of the last nights. Exits as `overdue` does."""
    with could_not_ask(), Console(stderr=True).status("measuring"):
        found = facts.judgement_now(overdue.measure())
        told = _look(clock.now().date() - timedelta(days=nights))
    if as_json:
        click.echo(json.dumps({**found.as_json(), **told}, default=plain, indent=2))
    else:
        show.judgement(found)
        _print(told)
    raise SystemExit(found.exit_code)


def _look(since: date) -> Told:
    """The schema is in docs/operations.md, "As JSON"."""
    with db.transaction(read_only=True) as connection:
        counts = deferred_dao.count_rows(connection).values()
        told: Told = {
            "runs": overview_dao.runs_since(connection, since),
            "batches": overview_dao.steps_since(connection, since),
            "sweeps": overview_dao.chains_since(connection, since),
            "folders": overview_dao.folders_since(connection, since),
            "policies": [vars(one) for one in policy_sweeps_dao.latest(connection)],
            "held_back": {"rows": sum(rows for rows, _ in counts), "needing_person": sum(need for _, need in counts)},
            "buckets": [vars(bucket) for bucket in deferred_dao.buckets(connection)],
            "refused_retentions": [vars(one) for one in services_dao.refused(connection)],
            "holds": [
                dict(zip(("scope", "reason", "placed_by", "placed_at"), hold, strict=True))
                for hold in holds_dao.all_holds(connection)
            ],
        }
    told["blocked"] = [{"policies": sorted(one.blocks), "why": one.in_full} for one in blockers()]
    return told


def _print(told: Told) -> None:
    console = Console(width=show.NARROW, markup=False, highlight=False)
    if not told["runs"]:
        console.print(
            Padding("No run yet. Beat starts one every night; by hand: flask retention run", (1, 0, 0, 0), expand=False)
        )
    for title, lines in (
        ("Runs", _runs(told["runs"], told["batches"])),
        ("Sweeps", _sweeps(told["sweeps"])),
        ("Policies", _policies(told["policies"])),
        ("Needs a look", _needs_a_look(told)),
    ):
        found = list(lines)
        if found:
            console.print(Padding(title, (1, 0, 0, 0), expand=False))
        for line in found:
            console.print(Padding(line, (0, 0, 0, 2), expand=False))


def _runs(runs: Sequence[Mapping[str, Any]], batches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    did = {(one["night"], one["notification_type"]): one for one in batches}
    for run in runs:
        of_type = run["notification_type"]
        if of_type is None:
            yield f"{run['night']}: begun at {show.instant(run['started_at'])}, by hand."
            continue
        if run["fanned_out_at"] is None:
            yield f"{run['night']} {of_type}: its sweeps are not opened yet."
        elif (run["night"], of_type) not in did:
            yield f"{run['night']} {of_type}: nothing done, for {show.amount(run['services'] or 0, 'service')}."
        if run["rows_without_service"]:
            yield f"{run['night']} {of_type}: {show.amount(run['rows_without_service'], 'row')} without a service."
    for (night, of_type), one in did.items():
        parts = [f"moved {show.amount(one['moved'], 'row')}"]
        parts += [f"deleted {show.amount(one['deleted'], 'test row')}"] if one["deleted"] else []
        parts += [f"deleted {show.amount(one['files_deleted'], 'file')}"] if one["files_deleted"] else []
        parts += [f"held back {one['deferred']:,}"] if one["deferred"] else []
        parts += [f"left {one['not_final']:,} that are not final"] if one["not_final"] else []
        yield f"{night} {of_type}: {show.amount(one['steps'], 'batch', 'batches')} {', '.join(parts)}, the last at " + (
            f"{show.instant(one['last_at'])}."
        )


def _sweeps(sweeps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Those that wait for a person first, then those that go on, then those that have ended."""
    order = {"resting": 0, "waiting": 1, "ended": 2}
    for one in sorted(sweeps, key=lambda it: (order[it["state"]], -it["attempts"])):
        what = f"{one['night']} {one['notification_type']}, {one['stage']}: {one['chains']:,} {one['state']}"
        why = f" ({one['reason']})" if one["reason"] else ""
        error = {name: one[name] for name in failures_dao.COLUMNS}
        failed = ""
        if one["state"] != "ended" and error["error_class"]:
            failed = f", failed up to {show.amount(one['attempts'], 'time')} in a row: {Failure(**error)}"
        due = f", the next attempt at {show.instant(one['due_at'])}" if one["state"] == "waiting" else ""
        yield f"{what}{why}{failed}{due}."


def _policies(sweeps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of each policy that is data, its newest sweep."""
    for one in sweeps:
        done = [f"{show.amount(one['rows'], 'row')} and {show.amount(one['files'], 'file')} gone"]
        done += [f"{one['missing']:,} without a file"] if one["missing"] else []
        done += [f"{one['deferred']:,} held back"] if one["deferred"] else []
        why = f" ({one['reason']})" if one["reason"] else ""
        yield f"{one['policy']}: {one['state']}{why}, begun at {show.instant(one['started_at'])}, {', '.join(done)}."


def _needs_a_look(told: Told) -> Iterator[str]:
    for hold in told["holds"]:
        since = show.instant(hold["placed_at"])
        yield f"On hold: {hold['scope']} ({hold['reason']}), by {hold['placed_by']} since {since}."
    for blocked in told["blocked"]:
        yield f"Blocked: {', '.join(blocked['policies'])}. {blocked['why']}"
    held = told["held_back"]
    if held["rows"]:
        yield f"{show.amount(held['rows'], 'row')} held back, {held['needing_person']:,} need a person: " + (
            "flask retention deferred"
        )
    for bucket in told["buckets"]:
        yield (
            f"Bucket {bucket['bucket']}: {bucket['reason']} since {show.instant(bucket['first_failed_at'])}, for "
            f"{show.amount(bucket['services'], 'service')}; next attempt {show.instant(bucket['next_attempt_at'])}."
        )
    if any(one["reason"] == "missing-files" for one in told["sweeps"]):
        yield (
            "Sweeps wait because too many letters have no file. Check the buckets' names and LETTER_FOLDER_TIMEZONE; "
            "if they are right: flask retention accept-missing"
        )
    for folder in told["folders"]:
        if folder["without_row"]:
            yield (
                f"{folder['night']}: {folder['without_row']:,} of {show.amount(folder['files'], 'file')} in "
                f"{folder['bucket']} have no row. No retention will ever delete them: flask retention audit"
            )
    for refused in told["refused_retentions"]:
        yield (
            f"Service {refused['service_id']}, {refused['notification_type']}: nothing of it goes, {refused['why']}."
        )
