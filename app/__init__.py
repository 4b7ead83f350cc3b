"""The retention pipeline of a notifications platform."""

from typing import Any

from flask import Flask

from app import config
from app.db import PlatformTables, db


def create_app(settings: config.Settings | None = None, **_: Any) -> Flask:
    """The Flask application: settings from the environment unless given, the database, the commands.

    Raises SettingsError, unless it is only to say what the commands are.
    """
    from app.wiring import wire, wire_help

    app = Flask(__name__)
    try:
        settings = settings or config.load()
    except config.SettingsError:
        if not wire_help(app):
            raise
        return app
    app.extensions["settings"] = settings
    platform = PlatformTables(settings.platform_schema, settings.tables_deleted_with)
    db.init_app(app, settings.database_url, platform, settings.retention_schema, settings.clock_tolerance_seconds)
    wire(app)
    return app
