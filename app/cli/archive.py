"""`flask retention archive`: what is archived, whether it is intact, where a row is, and how it comes back or goes."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.archive import policy, upkeep, using, windows
from app.archive.files import Differs
from app.archive.parquet import ExtraMissing
from app.archive.tools import tools
from app.archive.windows import Window
from app.dao import archives_dao
from app.dao.archives_dao import DONE, EXPIRED, VOID, Archive, LeaseLost
from app.db import db
from app.state.findings import size
from app.storage.archived import Gone, NotDeleted
from app.storage.errors import BucketRefuses, Stopped

SEARCHED_BY = ("id", "reference", "client_reference")


class WindowType(click.ParamType):
    """A day or an hour, in UTC."""

    name = "window"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Window:
        try:
            return windows.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, context)


@click.group("archive")
def archive_commands() -> None:
    """Archived history: list, verify, find, restore and redact it."""


@contextmanager
def _failures() -> Iterator[None]:
    if not tools().settings.archives_history:
        raise click.ClickException("S3_BUCKET_ARCHIVE is not set: nothing is archived.")
    try:
        yield
    except (ExtraMissing, Differs, Gone, LeaseLost, using.NotRestored, upkeep.OnHold) as error:
        raise click.ClickException(str(error)) from None
    except (Stopped, BucketRefuses, NotDeleted) as error:
        raise click.ClickException(f"S3 can't do it now ({error}). Try again later.") from None


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[..., None]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda *_: bars.advance(bar)


def _said(archive: Archive) -> dict[str, Any]:
    told = asdict(archive)
    for name in ("lease_token", "lease_until", "services"):
        del told[name]
    return {**told, "services": len(archive.services or ())}


def _dump(value: object) -> None:
    click.echo(json.dumps(value, default=_plain, indent=2))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


@archive_commands.command("list")
@click.option("--window", type=WindowType(), help="Only this day (2025-11-30) or hour (2025-11-30T07), in UTC.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_command(window: Window | None, as_json: bool) -> None:
    """The manifest: a line a file, then what all of it comes to."""
    with _failures():
        with db.transaction(read_only=True) as connection:
            every = archives_dao.all_of(connection, policy.history(tools().settings).table)
        shown = [
            one
            for one in every
            if window is None or (one.window_from < window.before and one.window_before > window.first)
        ]
    if as_json:
        _dump([_said(one) for one in shown])
        return
    for one in shown:
        name = str(Window(one.window_from, one.window_before))
        bytes_ = size(one.bytes) if one.bytes is not None and one.state not in (VOID, EXPIRED) else "-"
        click.echo(f"{one.id:>6} {name:<13} part {one.part:<4} {one.state:<8} {one.rows:>9,} rows {bytes_:>10}")
        if one.problem:
            click.echo(f"       {one.problem}")
    done = [one for one in shown if one.state == DONE]
    rows, total = sum(one.rows for one in done), sum(one.bytes or 0 for one in done)
    click.echo(
        f"{len(done):,} files, {rows:,} rows, {size(total)}" + (f", {total / rows:.0f} bytes a row" if rows else "")
    )
    read_again = [one.verified_at for one in done if one.verified_at is not None]
    if read_again:
        click.echo(f"Each was read back since {min(read_again):%Y-%m-%d %H:%M} UTC.")


@archive_commands.command("verify")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
              help="Share of the files, those first that were not read for longest.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def verify_command(share: float, as_json: bool) -> None:
    """Read files again and compare them with the manifest. Exits with 1 when one is not as it should be."""
    with _failures():
        chosen = upkeep.sample(tools(), share)
        with _progress("verify", len(chosen)) as watch:
            found = upkeep.verify(tools(), chosen, watch)
    damaged = [one for one in found if one.problem is not None]
    if as_json:
        _dump([{"id": one.archive.id, "key": one.archive.key, "problem": one.problem} for one in found])
    else:
        for one in damaged:
            click.echo(f"{one.archive.id:>6} {one.archive.key}\n       {one.problem}")
        click.echo(f"{len(found):,} files were read, {len(damaged):,} are not as they should be.")
    if damaged:
        raise SystemExit(1)


@archive_commands.command("find")
@click.argument("notification_id", type=click.UUID, required=False)
@click.option("--reference", help="By the provider's reference.")
@click.option("--client-reference", help="By the service's own reference.")
@click.option("--window", type=WindowType(), help="Only in this day or hour, in UTC: fewer files are looked into.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def find_command(
    notification_id: UUID | None,
    reference: str | None,
    client_reference: str | None,
    window: Window | None,
    as_json: bool,
) -> None:
    """Find archived rows. Exits with 1 when there is none."""
    by_id = str(notification_id) if notification_id else None
    given = dict(zip(SEARCHED_BY, (by_id, reference, client_reference), strict=True))
    asked = [(column, value) for column, value in given.items() if value is not None]
    if len(asked) != 1:
        raise click.UsageError("give an id, --reference or --client-reference, and only one of them")
    with _failures():
        found = using.find(tools(), *asked[0], window)
    if as_json:
        _dump({"rows": found.rows, "files": found.files, "bytes_read": found.bytes_read})
    else:
        for row in found.rows:
            for name, value in row.items():
                click.echo(f"{name:<24} {'' if value is None else value}")
            click.echo()
        share = found.bytes_read / found.bytes_of_files if found.bytes_of_files else 0
        click.echo(
            f"{len(found.rows):,} rows; read {size(found.bytes_read)} of {found.files:,} files' "
            f"{size(found.bytes_of_files)} ({share:.1%})."
        )
    if not found.rows:
        raise SystemExit(1)


@archive_commands.command("restore")
@click.argument("window", type=WindowType(), required=False)
@click.option("--id", "ids", type=click.UUID, multiple=True, help="Only this row; may be given more than once.")
@click.option("--yes", is_flag=True, help="Do it; without, only say what would be looked through.")
def restore_command(window: Window | None, ids: tuple[UUID, ...], yes: bool) -> None:
    """Put archived rows of a window, or by id, back into notification_history. What is there already stays as it is.

    Rows that are old enough leave again with the next archiving, unless their service is put on hold before.
    """
    if window is None and not ids:
        raise click.UsageError("give a window such as 2025-11-30, or --id")
    with _failures():
        chosen = using.in_window(tools(), window)
        rows = len(ids) or sum(one.rows for one in chosen)
        if not yes:
            click.echo(f"Would restore at most {rows:,} rows, from {len(chosen):,} files. Do it with --yes.")
            return
        with _progress("restore", len(chosen)) as watch:
            restored = using.restore(tools(), chosen, ids or None, watch)
    click.echo(f"{restored:,} rows were restored.")


@archive_commands.command("redact")
@click.option("--service", type=click.UUID, help="All rows of this service.")
@click.option("--id", "ids", type=click.UUID, multiple=True, help="This row; may be given more than once.")
@click.option("--yes", is_flag=True, help="Do it; without, only say what would be looked through.")
def redact_command(service: UUID | None, ids: tuple[UUID, ...], yes: bool) -> None:
    """Take rows out of archived files for good: the files are written anew without them, read back, and the old ones
    deleted with all their versions.
    """
    if (service is None) == (not ids):
        raise click.UsageError("give --service, or --id")
    with _failures():
        chosen = upkeep.holding_rows_of(tools(), service=service)
        if not yes:
            click.echo(f"Would look through {len(chosen):,} files. Do it with --yes.")
            return
        with _progress("redact", len(chosen)) as watch:
            gone = 0
            for archive in chosen:
                gone += upkeep.redact(tools(), archive, service=service, ids=ids)
                watch()
    click.echo(f"{gone:,} rows are gone from the archive.")
