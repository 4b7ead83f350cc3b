"""`flask doctor`: what is wrong around the pipeline, in a sentence each, and how to fix it."""

import json
import socket

import click
from flask import current_app
from flask.cli import with_appcontext
from rich.console import Console
from rich.text import Text

from app import clock
from app.dao import heartbeats_dao
from app.db import db
from app.doctor.examination import examine
from app.doctor.finding import Level

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
INDENT = " " * 9


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for a program.")
@click.option("--worker", "of_worker", is_flag=True, help="Only whether this host's worker was seen within a minute.")
@with_appcontext
def doctor(as_json: bool, of_worker: bool) -> None:
    """Check settings, database, buckets, broker, clocks, beat and emails. Exits with 1 when something is wrong."""
    if of_worker:
        _worker_was_seen()
        return
    findings = list(examine(current_app.extensions["settings"]))
    if as_json:
        click.echo(json.dumps([finding.as_json() for finding in findings], indent=2))
    else:
        console = Console(highlight=False)
        for finding in findings:
            line = Text.assemble(
                (f"{finding.level.value:8} ", STYLES[finding.level]), f"{finding.check}: {finding.says}"
            )
            console.print(line, soft_wrap=True)
            if finding.fix:
                console.print(Text(f"{INDENT}{finding.fix}"), soft_wrap=True)
    if any(finding.level is Level.ERROR for finding in findings):
        raise SystemExit(1)


def _worker_was_seen() -> None:
    """For a container's health check, which is not to fail when something else is wrong."""
    with db.transaction(read_only=True) as connection:
        names = heartbeats_dao.workers_there(connection, clock.now())
    if not any(name.rpartition("@")[2] == socket.gethostname() for name in names):
        raise click.ClickException("No worker of this host was seen within the last minute.")
    click.echo("The worker was seen.")
