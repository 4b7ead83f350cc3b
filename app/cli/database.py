"""`flask db …`: Alembic's own commands on the application's database."""

from pathlib import Path

import click
from alembic.config import CommandLine, Config
from flask import current_app
from flask.cli import with_appcontext

MIGRATIONS = Path(__file__).parents[2] / "migrations"


def alembic_config(url: str, options: object = None) -> Config:
    """Alembic's configuration for the product's migrations on the database at `url`."""
    config = Config(cmd_opts=options)  # type: ignore[arg-type]
    config.set_main_option("script_location", str(MIGRATIONS))
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
    if arguments == ("upgrade",):
        arguments = ("upgrade", "head")
    command_line = CommandLine(prog="flask db")
    options = command_line.parser.parse_args(arguments)
    if not hasattr(options, "cmd"):
        command_line.parser.error("name a command, such as: flask db upgrade")
    url = current_app.extensions["settings"].database_url
    command_line.run_cmd(alembic_config(url, options), options)
