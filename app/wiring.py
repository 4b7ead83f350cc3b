"""Puts the application together: the only module that knows all the parts that `create_app` needs."""

from flask import Flask

from app import cli, ops
from app.accounts.tools import Tools as AccountTools
from app.api import deletions, errors, exports, health, sessions
from app.api.arguments import LARGEST_BODY_BYTES
from app.observability import error_reports, tracing
from app.ops import health as ready
from app.ops import metrics
from app.retention.tools import Tools


def wire_help(app: Flask) -> bool:
    """If a person asks what the commands do, give the application them and nothing that they need to run. Says whether
    that was so.
    """
    if not cli.is_to_help():
        return False
    cli.add_commands(app)
    return True


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
