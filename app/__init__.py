"""The retention pipeline of a notifications platform."""

from typing import Any

from flask import Flask

from app import config
from app.db import PlatformTables, db


def create_app(settings: config.Settings | None = None, **_: Any) -> Flask:
    """The Flask application: settings from the environment unless given, the database, the commands."""
    from app.wiring import wire

    app = Flask(__name__)
    settings = settings or config.load()
    app.extensions["settings"] = settings
    platform = PlatformTables(settings.platform_schema, settings.tables_deleted_with)
    db.init_app(app, settings.database_url, platform, settings.retention_schema)
    wire(app)
    return app
