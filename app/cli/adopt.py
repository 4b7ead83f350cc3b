"""`flask retention adopt`: whether the pipeline can work on a database that is there already, and what it would do.

With `--install` its own tables are made beside the platform's, with `--uninstall` they are taken away again.
"""

import json
from collections.abc import Iterator
from dataclasses import replace

import click
from flask import current_app

from app import clock
from app.adopt import installation, report
from app.adopt.installation import Installation, State
from app.cli import show_adopt
from app.cli.retention import retention
from app.config import Settings
from app.presets import PRESETS, PresetName
from app.retention import buckets
from app.state.findings import Finding, look, note


@retention.command("adopt")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Whose policies the platform follows until now.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--install", is_flag=True, help="Make the pipeline's own tables, in RETENTION_SCHEMA; none of yours.")
@click.option("--uninstall", is_flag=True, help="Drop RETENTION_SCHEMA and all of the pipeline's records.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="With --uninstall: forget what is not over, too.")
def adopt_command(
    preset: PresetName | None, as_json: bool, install: bool, uninstall: bool, yes: bool, force: bool
) -> None:
    """Look at the platform's tables and explain what would be done. Writes nothing, unless it is to install or to
    uninstall, and then asks first. Exits with 1 when something is missing or in the way.
    """
    if (install and uninstall) or (as_json and (install or uninstall)):
        raise click.UsageError("--json, --install and --uninstall: one of them")
    try:
        if uninstall:
            _uninstall(yes, force)
            return
        can_run = _look(preset, as_json)
        if can_run and install:
            _install(preset, yes)
    except installation.Refused as refused:
        raise click.ClickException(str(refused)) from None
    if not can_run:
        raise SystemExit(1)


def _look(preset: PresetName | None, as_json: bool = False) -> bool:
    found = _report(preset)
    found = replace(found, findings=[*found.findings, *_of_buckets(current_app.extensions["settings"])])
    if as_json:
        click.echo(json.dumps(found.as_json(), default=str, indent=2))
    else:
        show_adopt.adoption(found)
    return found.can_run


def _of_buckets(settings: Settings) -> Iterator[Finding]:
    """Whether S3 copies files to where nobody deletes them."""
    for bucket in dict.fromkeys(buckets.named(settings).values()):
        about = f"bucket {bucket}"
        try:
            copied_to = buckets.copied_to(settings, bucket)
        except buckets.BucketTrouble as trouble:
            yield note(
                about,
                f"whether S3 copies the files of {about} elsewhere can't be asked ({trouble})",
                "run this, or flask doctor, with credentials that have s3:GetReplicationConfiguration",
            )
            if str(trouble) in buckets.ABOUT_ALL:
                return
            continue
        for other in copied_to:
            yield look(
                about,
                f"a replication rule copies the files of {about} to {other}: what is deleted here stays there",
                f"let a lifecycle rule of {other} delete files and earlier versions in time, or take the rule away",
            )


def _report(preset: PresetName | None = None) -> report.Adoption:
    settings = current_app.extensions["settings"]
    return report.look(settings, clock.local_date(clock.now(), settings.zone), preset)


def _install(preset: PresetName | None, yes: bool) -> None:
    found = installation.look()
    if found.state is State.INSTALLED:
        click.echo(f"\nThe pipeline's tables are installed already, at {found.at}: nothing to do.")
        return
    installation.check_may_install(found)
    show_adopt.before_installing(found)
    if not yes:
        click.confirm("Install?", abort=True)
    settings = current_app.extensions["settings"]
    installation.install(settings.database_url, settings.retention_schema)
    show_adopt.installed(installation.look(), _report(preset).grants)


def _uninstall(yes: bool, force: bool) -> None:
    found = installation.look()
    if found.tables:
        _drop(found, yes, force)
    else:
        show_adopt.nothing_to_uninstall(found)
    show_adopt.taken_back(_report().taken_back)


def _drop(found: Installation, yes: bool, force: bool) -> None:
    concerns = installation.not_over(found)
    show_adopt.before_uninstalling(found, installation.nights(found), concerns)
    if concerns and not force:
        raise installation.Refused(
            "Nothing was dropped: see what is not over. Take care of it, or say --force to forget it"
        )
    if not yes:
        click.confirm("Drop them for good?", abort=True)
    installation.uninstall(found, force=force)
    click.echo("Dropped. No table of the platform's was touched.")
