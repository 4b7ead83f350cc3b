"""Tables in the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from app import clock
from app.dao import holds_dao, services_dao
from app.dao.audit_dao import Audit
from app.dao.overview_dao import ServiceOverdue
from app.dao.step_history_dao import DayOfSteps
from app.models.types import LETTER, NOTIFICATION_TYPES
from app.retention.overdue import State, spoken
from app.retention.plan import ArchivePlan, Plan
from app.state.judgement import Judgement, Severity

LEAST_WIDTH = 240
GOES = ("rows", "letters", "test rows")
REFERRED_TO, UNKNOWN_STATUS = "referred to", "unknown status"
WHERE_THERE_ARE_SOME = (REFERRED_TO, UNKNOWN_STATUS)
STAYS = {
    "not final": "not final",
    UNKNOWN_STATUS: "in no known status",
    "deferred": "deferred until their next attempt",
    REFERRED_TO: "referred to by rows of other tables",
    "on hold": "on hold",
}
"""Columns of a plan, and how its last sentence says them."""


def plan(tonight: Plan, types: Sequence[str] = NOTIFICATION_TYPES, only: UUID | None = None) -> None:
    """A row per service and type, then what is left alone and why."""
    console = _console()
    shown = [of_type for of_type in tonight.types if of_type.notification_type in types]
    services = [
        (of_type.notification_type, service)
        for of_type in shown
        for service in of_type.services
        if only in (None, service.service_id)
    ]
    for scope, reason, placed_by in tonight.holds:
        if scope == holds_dao.PIPELINE:
            console.print(
                f"The pipeline is paused by {placed_by} ({reason}): nothing moves until: flask retention resume"
            )
    _print_planned(console, tonight, services)
    for of_type in shown:
        if of_type.rows_without_service:
            console.print(
                f"{'At least ' if of_type.more_without_service else ''}{of_type.rows_without_service:,} overdue "
                f"{of_type.notification_type} rows have no service. "
                "They are never touched: give them a service, or delete them by hand."
            )
    for refusal in tonight.refused:
        console.print(_refusal(refusal))
    if tonight.archive is not None and only is None:
        console.print(_of_history(tonight.archive))
    for scope, reason, placed_by in tonight.holds:
        if scope != holds_dao.PIPELINE:
            console.print(
                f"On hold: {scope} ({reason}), by {placed_by}. Nothing of it goes until: flask retention lift"
            )


def _of_history(planned: ArchivePlan) -> str:
    """What goes to the archive, in a sentence."""
    if planned.stopped:
        return f"How much history is to be archived could not be counted: {planned.stopped}."
    if not planned.rows:
        return f"No history from before {planned.before:%Y-%m-%d %H:%M} UTC is to be archived."
    return (
        f"{'At least ' if planned.more else ''}{planned.rows:,} rows of history from before "
        f"{planned.before:%Y-%m-%d %H:%M} UTC are to be archived, the oldest of {planned.oldest:%Y-%m-%d}."
    )


def _print_planned(console: Console, tonight: Plan, services: Sequence[tuple[str, ServiceOverdue]]) -> None:
    """The table and its sums. A column that would be empty on most platforms is there only where it is not."""
    counts = [_counts(*one) for one in services]
    totals = {name: sum(one[name] for one in counts) for name in (*GOES, *STAYS)}
    names = [name for name in totals if name not in WHERE_THERE_ARE_SOME or totals[name]]
    not_all = any(service.more for _, service in services)
    rows = _table(f"Tonight, {tonight.night}", "service", "type", "cut-off (UTC)", *names)
    if not_all:
        rows.add_column("counted", no_wrap=True)
    for (notification_type, service), of_service in zip(services, counts, strict=True):
        cells = [str(service.service_id), notification_type, _time(service.cutoff)]
        cells += [_count(of_service[name]) for name in names]
        if not_all:
            cells.append(f"the oldest {tonight.counted_to:,}" if service.more else "all")
        rows.add_row(*cells)
    console.print(rows)
    at_least = "At least " if not_all else ""
    goes = f"{totals['rows']:,} rows to move, {totals['letters']:,} of them letters; {totals['test rows']:,} test rows"
    console.print(f"{at_least}{goes} to delete.")
    if stay := sum(totals[name] for name in STAYS):
        why = ", ".join(f"{totals[name]:,} {words}" for name, words in STAYS.items() if name in names)
        console.print(f"{at_least}{stay:,} stay: {why}.")
    if totals[REFERRED_TO]:
        console.print("For those that are referred to: delete the rows that refer to them, or see REFERRING_ROWS.")
    if not_all:
        console.print(
            f"Where only the oldest {tonight.counted_to:,} rows are counted there may be more. "
            "Every row: flask retention plan --exact"
        )


def _counts(notification_type: str, service: ServiceOverdue) -> dict[str, int]:
    letters = service.rows if notification_type == LETTER else 0
    goes = (service.rows, letters, service.test_rows)
    stays = (service.not_final, service.unknown_status, service.deferred, service.referred_to, service.on_hold)
    return dict(zip((*GOES, *STAYS), (*goes, *stays), strict=True))


STYLES = {Severity.HEALTHY: "green", Severity.WORKING: "green", Severity.ATTENTION: "yellow", Severity.ACT: "red"}
NARROW = 80


def judgement(found: Judgement) -> None:
    """The headline, then everything that is wrong, the worst first, each with what to do."""
    console = Console(width=NARROW, markup=False, highlight=False)
    console.print(found.headline, style=STYLES[found.severity])
    for one in found.verdicts:
        since = f" Since {one.since.astimezone(clock.UTC):%Y-%m-%d %H:%M} UTC." if one.since else ""
        console.print(Padding(f"{one.severity.word}: {one.sentence}{since}", (1, 0, 0, 0), expand=False))
        console.print(Padding(f"{one.do} ({one.runbook})", (0, 0, 0, 2), expand=False))


def overdue(state: State) -> None:
    """What is kept past its retention: the sentence first, then each service and type, the longest first."""
    if not state.kept:
        return
    console = Console(width=NARROW, markup=False, highlight=False)
    console.print(Padding(f"Measured from the data: {state.sentence}", (1, 0, 0, 0), expand=False))
    for one in sorted(state.kept, key=lambda one: not state.is_alarm(one)):
        rows = (
            f"{'more than ' if one.more else ''}{one.rows:,} {'row' if one.rows == 1 else 'rows'}" if one.rows else ""
        )
        past = f"{spoken(one.past)} past the retention" if one.past else ""
        alarm = "act" if state.is_alarm(one) else ""
        parts = [part for part in (one.kind, rows, past, ", ".join(one.why), alarm) if part]
        console.print(f"{one.notification_type} of {one.service_id or 'no service'}", soft_wrap=True)
        console.print(Padding(", ".join(parts), (0, 0, 0, 2), expand=False))


def audit(found: Audit) -> None:
    """What an audit found, most important first, and what to do about it."""
    console = _console()
    rows = _table(f"Audit {found.id}, begun by {found.started_by}", "", "", "")
    for count, what, note in (
        (found.files_seen, "files seen", ""),
        (found.files_without_row, "files without a row", "flask retention audit --delete removes them"),
        (found.files_of_history, "… whose row is in history", "the promise was broken: find out how"),
        (found.files_within_retention, "files without a row, within a retention", "judged when their time is up"),
        (found.files_misplaced, "files where no step looks", "their letter's row names another place"),
        (found.unrecognised_files, "files under names that fit no letter", "find out who writes them"),
        (found.files_young, "files too young to be judged", ""),
        (found.rows_seen, "letters looked at", ""),
        (found.rows_without_file, "letters without a file", "their ids: retention.audit_findings, or --keys"),
        (found.rows_in_mixed_case, "letters with a reference in mixed case", "nothing is deleted while there are"),
        (found.deleted_files, "files deleted", ""),
    ):
        rows.add_row(_count(count), what, note if count else "")
    console.print(rows)
    if found.refused:
        console.print(f"Not read to the end: {found.refused}. The counts lack what is there.")


def history(days: Sequence[DayOfSteps]) -> None:
    """A row per night, type and stage, and the totals."""
    console = _console()
    columns = tuple(field.name for field in fields(DayOfSteps) if field.name != "service_id")
    _print(console, "What went, when", [vars(day) for day in days], columns)
    if not days:
        console.print("No step is on record for this.")
        return
    moved, deleted = sum(day.moved for day in days), sum(day.deleted for day in days)
    files = sum(day.files_deleted for day in days)
    console.print(f"{moved:,} rows moved to history, {deleted:,} test rows deleted, {files:,} files deleted.")


def deferred(told: Mapping[str, Any]) -> None:
    """Rows that are held back, those that need a person first, and buckets."""
    console = Console(width=NARROW, markup=False, highlight=False)
    if not told["total"] and not told["buckets"] and not told["of_policies"]:
        console.print("Nothing is held back.")
        return
    for row in told["rows"]:
        why = _why(row)
        console.print(f"{row['notification_type']} {row['notification_id']}", soft_wrap=True)
        console.print(f"  of service {row['service_id']}", soft_wrap=True)
        person = "; needs a person" if row["needs_person"] else ""
        console.print(Padding(f"{why}{_tried(row)}{person}", (0, 0, 0, 2), expand=False))
    if told["total"]:
        shown = f"{len(told['rows']):,} of {told['total']:,} held-back rows"
        console.print(f"{shown} shown, those that need a person first.")
    for row in told["of_policies"]:
        console.print(f"{row['policy']} {row['key']}", soft_wrap=True)
        console.print(Padding(f"{_why(row)}{_tried(row)}", (0, 0, 0, 2), expand=False))
    for bucket in told["buckets"]:
        console.print(f"Bucket {bucket['bucket']}, of {amount(bucket['services'], 'service')}", soft_wrap=True)
        console.print(Padding(f"{bucket['reason']}{_tried(bucket)}", (0, 0, 0, 2), expand=False))


def _why(one: Mapping[str, Any]) -> str:
    return " ".join(part for part in (one["reason"], one["sqlstate"], one["refused_by"]) if part)


def _tried(one: Mapping[str, Any]) -> str:
    since, again = instant(one["first_failed_at"]), instant(one["next_attempt_at"])
    return f", {amount(one['attempts'], 'attempt')} since {since}, the next at {again}"


def _print(console: Console, title: str, rows: Sequence[dict[str, object]], columns: Sequence[str]) -> None:
    if rows:
        made = _table(title, *(column.replace("_", " ") for column in columns))
        for row in rows:
            made.add_row(*(_cell(row[column]) for column in columns))
        console.print(made)


def _console() -> Console:
    """Wide enough for two ids and their numbers uncut, whatever the terminal's width. Tables take what they need.

    What people wrote, such as a reason, is printed as they wrote it.
    """
    return Console(width=max(Console().width, LEAST_WIDTH), soft_wrap=True, markup=False)


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        made.add_column(column, no_wrap=True)
    return made


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, float):
        return f"{value:,.1f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def amount(number: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def instant(at: datetime) -> str:
    """To the minute, with its zone."""
    return f"{at.astimezone(clock.UTC):%Y-%m-%d %H:%M} UTC"


def _count(number: int) -> str:
    return f"{number:,}"


def _time(instant: datetime) -> str:
    return instant.astimezone(clock.UTC).strftime("%Y-%m-%d %H:%M")


def _refusal(refusal: services_dao.RefusedRetention) -> str:
    return f"Service {refusal.service_id}, {refusal.notification_type}: nothing of it goes, {refusal.why}."
