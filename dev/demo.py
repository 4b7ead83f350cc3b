"""One night from beat to history on embedded servers, seeded, run by real workers, and verified afterwards."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
from psycopg2 import extensions
from rich.console import Console
from rich.table import Table

from dev import demo_accounts, ops_access, product
from dev.environment import replaced_environment
from dev.processes import HOST, StartError, answers, free_port
from dev.progress import TYPE_NAMES, Done, NightProgress, SeedProgress, console
from dev.seed import Plan, Seeded, seed
from dev.seed_model import Buckets
from dev.stack import Stack
from dev.verify import Due, Result, Verification

ZONE = ZoneInfo("Europe/London")
NIGHTLY = "delete-notifications-older-than-retention"
TYPES = len(TYPE_NAMES)

# Steps and slices so small that the largest services need several, and no waiting that only a real night needs.
SETTINGS = {
    "RETENTION_TIMEZONE": ZONE.key,
    "LETTER_FOLDER_TIMEZONE": ZONE.key,
    "LETTERS_PER_STEP": "100",
    "MESSAGES_PER_STEP": "500",
    "ROWS_PER_SLICE": "1500",
    "FAN_OUT_SPREAD_SECONDS": "5",
    "DISPATCH_EVERY_SECONDS": "2",
    "RETRY_AFTER_SECONDS": "1",
    "REMAP_SIGTERM": "SIGQUIT",
    "LOG_FORMAT": "json",
    **demo_accounts.SETTINGS,
}
SECONDS_BETWEEN_LOOKS = 0.25
MINUTES_FOR_A_NIGHT = 10
"""At scale 1; a larger one has as many times that."""

DONE = """
SELECT notification_type, sum(moved + deleted), sum(files_deleted) FROM retention.steps GROUP BY 1
"""
# Deferred letters wait for their next attempt, which is not this night's business.
UNFINISHED = """
SELECT (SELECT count(*) FROM retention.run_types WHERE fanned_out_at IS NOT NULL),
       (SELECT count(*) FROM retention.chains WHERE state = 'waiting' AND stage <> 'deferred')
"""
RESTING = "SELECT reason, count(*) FROM retention.chains WHERE state = 'resting' GROUP BY reason"
# A step may be for many services; the largest have steps of their own.
WORK = """
SELECT (SELECT count(DISTINCT (of_one, notification_type))
        FROM retention.steps, unnest(coalesce(services, ARRAY[service_id])) AS of_one WHERE stage = 'real'),
       coalesce(max(steps), 0), coalesce(max(slices), 0)
FROM (SELECT count(*) AS steps, count(DISTINCT slice) AS slices FROM retention.steps
      WHERE stage = 'real' AND service_id IS NOT NULL GROUP BY service_id, notification_type) AS services
"""


class DemoFailed(RuntimeError):
    """The night didn't come to its end."""


def run(scale: float) -> int:
    """The whole demo; returns the exit status: 0 when verification found nothing wrong, else 1."""
    out = console()
    started = time.monotonic()
    out.print(
        "This starts a PostgreSQL, a broker and an S3 server in a temporary directory and fills them with "
        f"{round(30_000 * scale):,} emails and texts and {round(3_000 * scale):,} letters with PDFs.",
        soft_wrap=True,
    )
    out.print(
        "Then real workers run one night of retention, and clean up accounts and sessions of every kind. Every row and "
        "file is checked, and all of it is removed.",
        soft_wrap=True,
    )
    try:
        with Stack() as stack, replaced_environment(stack.isolated_environment() | SETTINGS):
            site = start_product(stack, out)
            result = _night(stack, out, scale)
            _say_result(out, result)
            wrong = demo_accounts.run(stack, out, site)
    except (DemoFailed, StartError) as failure:
        out.print(f"[red]FAILED[/red]: {failure}", soft_wrap=True)
        return 1
    out.print(f"{time.monotonic() - started:.0f} s in all; everything is stopped and removed.")
    out.print(
        "next: make up, which keeps a page up that turns green (docs/ops-page.md); in another terminal, make shell"
    )
    return 0 if result.ok and not wrong else 1


def start_product(stack: Stack, out: Console) -> str:
    """Migrations, workers, and web with the ops page, to watch the night on; returns web's URL."""
    product.migrate(stack.postgres.url)
    stack.start_process("worker", product.worker(), SETTINGS, product.ROOT)
    port, page = free_port(), ops_access.access({})
    web = stack.start_process("web", product.web(port), SETTINGS | dict(page.settings), product.ROOT)
    web.wait_until(lambda: answers(port))
    site = f"http://{HOST}:{port}"
    out.print(
        f"Watch the night on the ops page: {site}/ops ({page.says}). It stays red when the night is over: some of the "
        "awkward cases wait for a person, and the page says which.",
        soft_wrap=True,
        markup=False,
    )
    return site


def _night(stack: Stack, out: Console, scale: float) -> Result:
    now = datetime.now(UTC)
    buckets = Buckets.from_environment(stack.environment)
    with closing(stack.s3.client()) as s3:
        seeded = _seed(stack, s3, buckets, out, Plan(now, scale=scale))
        verification = Verification(stack.postgres.url, s3, buckets, zone=ZONE.key, folder_zone=ZONE.key)
        due = verification.before(now)
        stack.start_process("beat", product.beat(stack.directory), SETTINGS, product.ROOT)
        _send_the_nightly_task(now.astimezone(ZONE).date())
        _watch(stack, out, due, 60 * MINUTES_FOR_A_NIGHT * max(1, scale))
        out.print("Verifying every row and every file")
        return verification.after(seeded.cases)


def _seed(stack: Stack, s3: Any, buckets: Buckets, out: Console, plan: Plan) -> Seeded:
    began = time.monotonic()
    with SeedProgress(out) as progress:
        seeded = seed(stack.postgres.url, s3, buckets, plan, progress)
    cases = len({expected.case for expected in seeded.cases})
    out.print(
        f"Seeded {seeded.services} services and {cases} kinds of awkward cases in "
        f"{time.monotonic() - began:.0f} s; now the night",
        soft_wrap=True,
    )
    return seeded


def _send_the_nightly_task(night: date) -> None:
    """As beat would: its own entry, with its own options. Past midnight, the night is still the seed's."""
    from app.celery import celery  # not before the environment is the stack's

    (entry,) = (entry for entry in celery.conf.beat_schedule.values() if entry["task"] == NIGHTLY)
    arguments = dict(entry.get("kwargs", {}))
    if datetime.now(ZONE).date() != night:
        arguments["night"] = night.isoformat()
    with celery.connection_for_write() as connection:
        celery.send_task(
            entry["task"],
            args=entry.get("args", ()),
            kwargs=arguments,
            connection=connection,
            **entry.get("options", {}),
        )


def _watch(stack: Stack, out: Console, due: dict[str, Due], seconds: float) -> None:
    """Show what the night does until it is done; DemoFailed when a process ends, or time is up."""
    began = time.monotonic()
    with _connection(stack) as connection, connection.cursor() as cursor:
        with NightProgress(out, due) as progress:
            finished = False
            while not finished:
                finished = _is_finished(cursor)
                progress.show(_done(cursor))
                _check(stack, time.monotonic() - began, seconds)
                time.sleep(0 if finished else SECONDS_BETWEEN_LOOKS)
        _say_night(out, cursor, time.monotonic() - began)


def _is_finished(cursor: "extensions.cursor") -> bool:
    cursor.execute(UNFINISHED)
    fanned_out, waiting = cursor.fetchone()
    return fanned_out == TYPES and not waiting


def _done(cursor: "extensions.cursor") -> dict[str, Done]:
    cursor.execute(DONE)
    return {kind: Done(int(rows), int(files)) for kind, rows, files in cursor.fetchall()}


def _check(stack: Stack, seconds: float, most: float) -> None:
    for child in stack.processes.values():
        if not child.running:
            raise DemoFailed(f"{child.name} ended with status {child.status}. Its log:\n{child.log_tail()}")
    if seconds > most:
        tail = stack.processes["worker"].log_tail()
        raise DemoFailed(f"The night wasn't over after {most / 60:.0f} minutes. The worker's log:\n{tail}")


def _say_night(out: Console, cursor: "extensions.cursor", seconds: float) -> None:
    rows = sum(done.rows for done in _done(cursor).values())
    cursor.execute("SELECT count(*) FROM retention.steps")
    (steps,) = cursor.fetchone()
    cursor.execute(WORK)
    services, most_steps, most_slices = cursor.fetchone()
    out.print(
        f"The night: {rows:,} rows in {seconds:.1f} s ({rows / seconds:,.0f}/s), {steps:,} steps for {services} "
        f"services and types; the largest took {most_steps} steps, in up to {most_slices} slices",
        soft_wrap=True,
    )
    cursor.execute(RESTING)
    for reason, chains in cursor.fetchall():
        out.print(f"[yellow]{chains} chains rest: {reason}[/yellow]")


@contextmanager
def _connection(stack: Stack) -> Iterator["extensions.connection"]:
    with closing(psycopg2.connect(stack.postgres.url)) as connection:
        connection.autocommit = True
        yield connection


def _say_result(out: Console, result: Result) -> None:
    table = Table(title="What became of it")
    table.add_column("")
    for title in ("before", "moved", "files\ndeleted", "test rows\ndeleted", "kept:\nnewer"):
        table.add_column(title, justify="right")
    for title in ("kept:\nnot final", "deferred", "kept:\nrefused", "kept:\nno service"):
        table.add_column(title, justify="right")
    for kind, name in TYPE_NAMES.items():
        if kind in result.counts:
            before, moved, *others = result.counts[kind]
            files = result.files_deleted if kind == "letter" else 0
            table.add_row(name, *(f"{number:,}" for number in (before, moved, files, *others)))
    out.print(table)
    refused = sum(counts.refused for counts in result.counts.values())
    if refused:
        out.print(
            f"Refused: {result.refused_services} services whose retention is no days or fewer; "
            f"their {refused} rows stay until someone fixes it",
            soft_wrap=True,
        )
    out.print(f"{result.cases} kinds of awkward cases checked, {len(result.wrong_cases)} wrong")
    for line in result.details():
        out.print(line, style="red", markup=False, soft_wrap=True)
    out.print(result.summary, style="bold green" if result.ok else "bold red")
