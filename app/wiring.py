"""Puts the application together: the only module that knows all the parts that `create_app` needs."""

import os
import sys

from flask import Flask

from app import cli, ops
from app.accounts.tools import Tools as AccountTools
from app.api import deletions, errors, exports, health, sessions
from app.api.arguments import LARGEST_BODY_BYTES
from app.observability import error_reports, tracing
from app.ops import health as ready
from app.ops import metrics
from app.retention.tools import Tools


def is_to_help() -> bool:
    """Whether a person asks what a command does: nothing needs to be set for that."""
    return os.environ.get("FLASK_RUN_FROM_CLI") == "true" and "--help" in sys.argv


def wire_commands(app: Flask) -> None:
    """Give the application its commands and nothing that they need to run."""
    cli.add_commands(app)


def wire(app: Flask) -> None:
    """Give the application its tools, commands and pages."""
    error_reports.set_up(app.extensions["settings"])
    tracing.set_up(app.extensions["settings"])
    app.extensions["retention.tools"] = Tools(app.extensions["settings"])
    app.extensions["accounts.tools"] = AccountTools(app.extensions["settings"])
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY_BYTES
    errors.register(app)
    for page in (health, ready, metrics, sessions, deletions, exports):
        app.register_blueprint(page.blueprint)
    ops.register(app)
    cli.register(app)
