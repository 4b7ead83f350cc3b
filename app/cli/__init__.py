"""The `flask` commands and what `flask shell` has at hand."""

import os
import sys

from flask import Flask

from app import logs
from app.cli import adopt as _adopt  # noqa: F401 - adds its command to `retention`
from app.cli.accounts import accounts
from app.cli.database import database
from app.cli.doctor import doctor
from app.cli.ops import ops
from app.cli.retention import retention
from app.cli.sessions import sessions
from app.cli.shell import shell_context


def register(app: Flask) -> None:
    """Give the application its commands; they log to standard error, since a program may read what they print.

    On a terminal only `flask shell` does: whoever typed a command reads its sentences, and who did what is in the
    database. With `2>>FILE`, or with LOG_LEVEL=DEBUG, the lines are there.
    """
    if _is_typed():
        logs.configure(app.extensions["settings"], shows="shell" in sys.argv or not sys.stderr.isatty())
    add_commands(app)
    app.shell_context_processor(shell_context)


def is_to_help() -> bool:
    """Whether a person asks what a command does: nothing needs to be set for that."""
    return _is_typed() and ("--help" in sys.argv or len(sys.argv) == 1)


def _is_typed() -> bool:
    """By flask's own mark; not in a web server, a worker or a test."""
    return os.environ.get("FLASK_RUN_FROM_CLI") == "true"


def add_commands(app: Flask) -> None:
    """The commands themselves."""
    app.cli.add_command(retention)
    app.cli.add_command(accounts)
    app.cli.add_command(database)
    app.cli.add_command(sessions)
    app.cli.add_command(doctor)
    app.cli.add_command(ops)
