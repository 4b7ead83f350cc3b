"""Puts the application together: the only module that knows all the parts that `create_app` needs."""

from flask import Flask

from app import cli
from app.api import health
from app.retention.tools import Tools


def wire(app: Flask) -> None:
    """Give the application its tools, commands and pages."""
    app.extensions["retention.tools"] = Tools(app.extensions["settings"])
    app.register_blueprint(health.blueprint)
    cli.register(app)
