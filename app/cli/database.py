"""`flask db …`: Alembic's own commands on the application's database."""

import click
from flask import current_app
from flask.cli import with_appcontext

from app.cli.errors import failures_as_sentences
from app.dao import platform_dao, revisions_dao
from app.dao.catalogue import NOTIFICATIONS
from app.db import db
from app.revisions import alembic_config, known

ON_THE_DATABASE = ("upgrade", "downgrade", "current", "stamp")


@click.command(
    "db",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
def database(arguments: tuple[str, ...]) -> None:
    """Migrations: `upgrade`, `downgrade`, `current`, `history` and the rest of Alembic's commands.

    Without a revision `upgrade` goes to the newest of each branch. An adopted database has the pipeline's own branch
    alone.
    """
    from alembic.config import CommandLine  # for this command alone

    if arguments[:1] == ("upgrade",) and all(argument.startswith("-") for argument in arguments[1:]):
        arguments = (*arguments, "heads")
    command_line = CommandLine(prog="flask db")
    options = command_line.parser.parse_args(arguments)
    if not hasattr(options, "cmd"):
        command_line.parser.error("name a command, such as: flask db upgrade")
    settings = current_app.extensions["settings"]
    with failures_as_sentences():
        looks = arguments[0] in ON_THE_DATABASE and not getattr(options, "sql", False)
        adopted = looks and _is_adopted(settings.platform_schema)
        configuration = alembic_config(
            settings.database_url, options, adopted=adopted, schema=settings.retention_schema
        )
        command_line.run_cmd(configuration, options)


def _is_adopted(schema: str | None) -> bool:
    """Whether it is; a database whose notifications are a platform's is refused before anything is made in it."""
    with db.transaction(read_only=True) as connection:
        if revisions_dao.is_adopted(connection):
            return True
        if NOTIFICATIONS not in platform_dao.checked(connection).catalogue.tables:
            if schema is None:
                return False
            raise click.ClickException(
                f"PLATFORM_SCHEMA says that a platform's tables are in {schema}, and there is no table notifications "
                "there. Name the schema that they are in, or none, to make this product's own"
            )
        is_ours = revisions_dao.has_revisions(connection) and revisions_dao.applied(connection, adopted=False) & known()
    if not is_ours:
        raise click.ClickException(
            "The notifications in this database are not this product's: none of its migrations made them, so that none "
            "can change them. To work beside them: flask retention adopt"
        )
    return False
