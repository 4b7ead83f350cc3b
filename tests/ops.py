"""Users of the ops page, and a client that fills in its forms as a browser does."""

import json
import re
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from flask import Flask, g, has_app_context
from flask.testing import FlaskClient
from sqlalchemy import Connection
from werkzeug.test import TestResponse

from app import clock
from app.dao import heartbeats_dao

OPERATOR, VIEWER = "olga", "vera"
PASSWORD = "a password for tests"
KEY = "a key for tests, of 32 characters"
FORM_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


@cache
def ops_settings() -> dict[str, str]:
    """An operator and a viewer, over plain http."""
    kept = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)  # quick: many log in
    return {
        "SECRET_KEY": KEY,
        "OPS_USERS": json.dumps({OPERATOR: kept, VIEWER: kept}),
        "OPS_VIEWERS": VIEWER,
        "OPS_COOKIE_SECURE": "false",
    }


class Browser:
    """A client with cookies, at an address of its own."""

    def __init__(self, app: Flask, address: str = "192.0.2.1", **headers: str) -> None:
        self.client: FlaskClient = app.test_client()
        self._environ = {"REMOTE_ADDR": address}
        self._headers = headers

    def get(self, path: str, **headers: str) -> TestResponse:
        _begin()
        return self.client.get(path, environ_overrides=self._environ, headers={**self._headers, **headers})

    def post(self, path: str, **fields: Any) -> TestResponse:
        """Without opening the form before: no token, unless it is among the fields."""
        _begin()
        return self.client.post(path, data=fields, environ_overrides=self._environ, headers=self._headers)

    def send(self, form: str, **fields: Any) -> TestResponse:
        """Open the page with the form, fill it in, and send it."""
        opened = self.get(form)
        token = FORM_TOKEN.search(opened.text)
        assert token, f"{opened.status}: {opened.text}"
        return self.post(form, csrf_token=token[1], **fields)

    def log_in(self, name: str = OPERATOR, password: str = PASSWORD) -> TestResponse:
        return self.send("/ops/login", name=name, password=password)

    @property
    def token(self) -> str | None:
        """What the browser's cookie is, as it was sent."""
        cookie = self.client.get_cookie("ops_session", path="/ops")
        return cookie and cookie.value


def seem_alive(connection: Connection) -> None:
    """As if a worker and the relays had just been at work: without them nothing is green."""
    now = clock.now()
    heartbeats_dao.note(connection, heartbeats_dao.WORKER, "celery@one", now)
    for relay in (heartbeats_dao.CHAINS, heartbeats_dao.ACCOUNTS):
        heartbeats_dao.note(connection, heartbeats_dao.RELAY, relay, now)


def _begin() -> None:
    """A test's application context lasts over many requests, and with it what a form's token is kept in."""
    if has_app_context():
        g.pop("csrf_token", None)
