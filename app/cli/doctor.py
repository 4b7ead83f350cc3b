"""`flask doctor`: what is wrong around the pipeline, in a sentence each, and how to mend it."""

import json

import click
from flask import current_app
from flask.cli import with_appcontext
from rich.console import Console
from rich.text import Text

from app.doctor.examination import examine
from app.doctor.finding import Level

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
INDENT = " " * 9


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for a program.")
@with_appcontext
def doctor(as_json: bool) -> None:
    """Check settings, database, buckets, broker, clocks, beat and emails. Exits with 1 when something is wrong."""
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
            if finding.mend:
                console.print(Text(f"{INDENT}{finding.mend}"), soft_wrap=True)
    if any(finding.level is Level.ERROR for finding in findings):
        raise SystemExit(1)
