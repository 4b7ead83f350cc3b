"""The operators' page. What it shows is measured, what it does is recorded, and nobody is let in unnamed."""

from datetime import timedelta

from flask import Flask

from app.config import Settings
from app.ops import headers, views
from app.ops.auth import csrf
from app.ops.kept import Kept

PATH = "/ops"
COOKIE = "ops_session"


def register(app: Flask) -> None:
    """Give the application the page under `/ops`, and every answer of the application its security headers."""
    settings: Settings = app.extensions["settings"]
    if settings.secret_key is not None:
        app.secret_key = settings.secret_key.get_secret_value()
    app.config |= {
        "SESSION_COOKIE_NAME": COOKIE,
        "SESSION_COOKIE_PATH": PATH,
        "SESSION_COOKIE_SECURE": settings.ops_cookie_secure,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_REFRESH_EACH_REQUEST": False,
        "PERMANENT_SESSION_LIFETIME": timedelta(hours=settings.ops_session_hours),
        # The page asks for it by itself: the API has no forms, and its own rule.
        "WTF_CSRF_CHECK_DEFAULT": False,
        "WTF_CSRF_TIME_LIMIT": None,
    }
    csrf.init_app(app)
    app.extensions["ops.kept"] = Kept()
    app.after_request(headers.add)
    app.register_blueprint(views.blueprint)
