"""Requests without a session, counted for each client, so that a visitor can't ask as often as a machine is able to.

Counted in the memory of each web process: a table would be one more thing that visitors fill. The memory is fixed, too:
clients share counters by their hash, as many as there may be.
"""

import secrets
from array import array
from threading import Lock

from flask import Flask, current_app, request

from app import clock, proxies
from app.accounts.login_limits import network_of
from app.api.errors import ApiError
from app.config import Settings

COUNTERS = 65_536
SECONDS = 60


class Counts:
    """Requests of the current minute."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._minute = 0
        self._counters = array("I", bytes(4 * COUNTERS))
        self._key = secrets.token_bytes(16)
        """So that nobody can choose addresses that share a counter with another's."""

    def count(self, client: str, now_seconds: float) -> int:
        """Count a request. Returns how many the client has made in this minute."""
        place = hash((self._key, client)) % COUNTERS
        minute = int(now_seconds // SECONDS)
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._counters = array("I", bytes(4 * COUNTERS))
            self._counters[place] += 1
            return self._counters[place]


def register(app: Flask) -> None:
    """Give the application its counts."""
    app.extensions["visitors"] = Counts()


def count() -> None:
    """Count a request of a client's without a session. Raises ApiError past the limit."""
    settings: Settings = current_app.extensions["settings"]
    counts: Counts = current_app.extensions["visitors"]
    now = clock.now().timestamp()
    client = network_of(proxies.client_address(request, settings))
    if counts.count(client, now) > settings.anonymous_requests_per_minute:
        wait = max(1, int(SECONDS - now % SECONDS))
        message = "Too many requests without a session. Wait and try again."
        raise ApiError(429, "too-many-requests", message, {"Retry-After": str(wait)})
