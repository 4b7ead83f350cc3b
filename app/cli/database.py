"""`flask db …`: Alembic's own commands on the application's database."""

import sys
from pathlib import Path

import click
from alembic.config import CommandLine, Config
from flask import current_app
from flask.cli import with_appcontext

from app.cli.errors import failures_as_sentences

MIGRATIONS = Path(__file__).parents[2] / "migrations"


def alembic_config(url: str, options: object = None) -> Config:
    """Alembic's configuration for the product's migrations on the database at `url`."""
    config = Config(cmd_opts=options, stdout=sys.stdout)  # type: ignore[arg-type]
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


@click.command(
    "db",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
def database(arguments: tuple[str, ...]) -> None:
    """Migrations: `upgrade`, `downgrade`, `current`, `history` and the rest of Alembic's commands.

    Without a revision `upgrade` goes to the newest.
    """
    if arguments[:1] == ("upgrade",) and all(argument.startswith("-") for argument in arguments[1:]):
        arguments = (*arguments, "head")
    command_line = CommandLine(prog="flask db")
    options = command_line.parser.parse_args(arguments)
    if not hasattr(options, "cmd"):
        command_line.parser.error("name a command, such as: flask db upgrade")
    url = current_app.extensions["settings"].database_url
    with failures_as_sentences():
        command_line.run_cmd(alembic_config(url, options), options)
