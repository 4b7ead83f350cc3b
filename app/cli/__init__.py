"""The `flask` commands and what `flask shell` has at hand."""

from flask import Flask

from app.cli.database import database
from app.cli.retention import retention
from app.cli.shell import shell_context


def register(app: Flask) -> None:
    """Give the application its commands."""
    app.cli.add_command(retention)
    app.cli.add_command(database)
    app.shell_context_processor(shell_context)
