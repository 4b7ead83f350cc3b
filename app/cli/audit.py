"""`flask retention audit`: the letter buckets, compared with the tables, with a bar while it runs."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli import show
from app.cli.errors import CouldNotAsk
from app.cli.words import Words, operator
from app.dao.audit_dao import Audit
from app.errors import BadArgument
from app.retention import audit
from app.retention.audit_progress import Finding, Sink, nobody
from app.retention.tools import tools

SECONDS_BETWEEN_ATTEMPTS = 5.0
ATTEMPTS = 5
LEAST_FILES_FOR_A_SHARE = 20
DAY = click.DateTime(["%Y-%m-%d"])


@click.command("audit")
@click.option("--bucket", help="Only this bucket.")
@click.option("--since", type=DAY, metavar="DAY", help="Only the letters' day folders from this one.")
@click.option("--until", type=DAY, metavar="DAY", help="Only the letters' day folders up to this one.")
@click.option("--resume", is_flag=True, help="Go on with the audit that has not ended.")
@click.option("--delete", is_flag=True, help="After the audit, ask, and delete the files without a row.")
@click.option("--yes", is_flag=True, help="With --delete: don't ask.")
@click.option("--by", type=Words(), default=operator, help="Who asks for it, for the record; else who is logged in.")
@click.option("--keys", type=click.Path(dir_okay=False), metavar="FILE",
              help="Write each finding with its key to this file, for your eyes only; - prints them.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def audit_command(
    bucket: str | None,
    since: datetime | None,
    until: datetime | None,
    resume: bool,
    delete: bool,
    yes: bool,
    by: str,
    keys: str | None,
    as_json: bool,
) -> None:
    """Compare what lies in the letter buckets with the tables. Exits with 1 when something is not as it should be,
    with 2 when it can't be asked to the end.
    """
    try:
        with _sink(keys) as tell:
            found = _resumed(delete) if resume else None
            if found is None:
                found = audit.begin(by, bucket=bucket, since=_day(since), until=_day(until))
            found = _run(found, tell)
            if delete and not found.deletes and found.files_without_row:
                _ask(found, yes, as_json)
                found = _run(_begin_to_delete(found, by), tell)
    except audit.NothingToAudit as error:
        click.echo(str(error))
        return
    except BadArgument as error:
        raise click.UsageError(str(error)) from None
    except (audit.AuditUnderWay, audit.Overtaken, audit.PipelinePaused) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(found.as_json(), default=str, indent=2))
    else:
        show.audit(found)
    if found.files_without_row or found.rows_without_file or found.refused:
        raise SystemExit(1)


def _begin_to_delete(found: Audit, by: str) -> Audit:
    """An audit of the same scope, which deletes."""
    return audit.begin(by, deletes=True, bucket=found.only_bucket, since=found.since, until=found.until)


def _day(value: datetime | None) -> date | None:
    return value.date() if value else None


def _resumed(delete: bool) -> Audit:
    found = audit.under_way()
    if found is None:
        raise click.ClickException("no audit is to be gone on with; begin one: flask retention audit")
    if found.deletes and not delete:
        raise click.ClickException(f"audit {found.id} deletes; go on with it: flask retention audit --resume --delete")
    return found


def _run(found: Audit, tell: Sink) -> Audit:
    """To its end. While S3 asks for fewer requests, or is away, it waits, a few times in a row."""
    with _bar(found) as watch:
        failures = 0
        while found.finished_at is None:
            turn = audit.go_on(found, tell, watch)
            failures = failures + 1 if turn.stopped and turn.audit.step == found.step else 0
            found = turn.audit
            if failures == ATTEMPTS:
                raise CouldNotAsk(
                    f"S3 can't be asked any further now ({turn.stopped}). Go on later: flask retention audit --resume"
                )
            if turn.stopped:
                time.sleep(SECONDS_BETWEEN_ATTEMPTS * 2**failures)
    return found


def _ask(found: Audit, yes: bool, as_json: bool) -> None:
    """Show what was found, and make sure that it is meant."""
    if not as_json:
        show.audit(found)
    if found.rows_in_mixed_case:
        raise click.ClickException(
            f"{found.rows_in_mixed_case:,} letters have references in mixed case, which no index finds by a key. "
            "Nothing is deleted: a file of theirs could be among those without a row."
        )
    if yes and _are_suspiciously_many(found):
        raise click.ClickException(
            f"{found.files_without_row:,} of {found.files_seen:,} files have no row, more than MISSING_FILES_SHARE. "
            "That looks like the wrong database or bucket: nothing is deleted without being asked (leave --yes out)."
        )
    if not yes:
        click.confirm(f"Delete {found.files_without_row:,} files without a row, for good?", abort=True, err=True)


def _are_suspiciously_many(found: Audit) -> bool:
    share = tools().settings.missing_files_share or 1
    return found.files_seen >= LEAST_FILES_FOR_A_SHARE and found.files_without_row > share * found.files_seen


@contextmanager
def _bar(found: Audit) -> Iterator[Callable[[Audit], None]]:
    """Where it is and how much it has seen; out of what, only the last audit of the same scope can tell."""
    last = audit.last_finished()
    same = last is not None and (last.only_bucket, last.since, last.until) == (
        found.only_bucket,
        found.since,
        found.until,
    )
    total = last.files_seen + last.rows_seen if last is not None and same else None
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[seen]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task("audit", total=total, seen="")

        def watch(now: Audit) -> None:
            where = now.place if now.phase == "files" else f"letters: {now.place}"
            seen = f"{now.files_seen:,} files, {now.rows_seen:,} letters"
            done = now.files_seen + now.rows_seen
            bars.update(bar, description=where, completed=done, total=max(total, done) if total else None, seen=seen)

        watch(found)
        yield watch


@contextmanager
def _sink(path: str | None) -> Iterator[Sink]:
    """Writes findings with their keys where the operator wants them, a JSON object a line; else nowhere."""
    if path is None:
        yield nobody
        return
    if path == "-":
        yield lambda findings: _write(sys.stdout, findings)
        return
    # Keys hold letters' references: nobody else may read them. Appended to, since a resumed audit goes on with it.
    with open(path, "a", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        yield lambda findings: _write(file, findings)


def _write(file: TextIO, findings: Sequence[Finding]) -> None:
    for finding in findings:
        stored = finding.stored
        line = {
            "kind": finding.kind,
            "bucket": stored.bucket if stored else None,
            "key": stored.key if stored else None,
            "notification_id": finding.notification_id,
        }
        file.write(json.dumps(line, default=str) + "\n")
    file.flush()
