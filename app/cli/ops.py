"""`flask ops …`: who may use the ops page."""

import click

from app.accounts.passwords import hash_password
from app.cli.errors import SentencesGroup

LEAST_CHARACTERS = 12

ops = SentencesGroup("ops", help="The ops page: passwords for OPS_USERS.")


@ops.command("hash-password")
def hash_password_command() -> None:
    """Ask for a password, without showing it, and print its hash for OPS_USERS."""
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if len(password) < LEAST_CHARACTERS:
        raise click.ClickException(f"The password must have {LEAST_CHARACTERS} characters or more.")
    click.echo(hash_password(password))
