"""Workers say that they are there: a row each, in the database, since not every broker can be asked for them.

From the worker's main process, between two of its own heartbeats. Without a thread, since the pool may fork at any
time, and without a connection that a fork could share.
"""

import socket
import time
from typing import Any

import structlog
from celery import signals
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from app import clock, config, own_schema
from app.dao import heartbeats_dao
from app.dao.heartbeats_dao import SECONDS_BETWEEN_NOTES_OF_WORKERS, WORKER
from app.db import APPLICATION_NAME, Database

log = structlog.get_logger(__name__)

LONGEST_SECONDS = 2
"""For which the main process may stand still when the database does not answer."""


class Presence:
    """Notes that this worker is there, every so often."""

    def __init__(self, name: str, database_url: str, schema: str = own_schema.USUAL) -> None:
        self._name = name
        self._next = 0.0
        engine = create_engine(
            database_url,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"application_name": APPLICATION_NAME, "connect_timeout": LONGEST_SECONDS},
        )
        self._engine: Engine = own_schema.use(engine, schema)

    def note(self) -> None:
        """Note it, unless that was done a moment ago. A database that is away is tried again the next time."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SECONDS_BETWEEN_NOTES_OF_WORKERS
        try:
            with self._engine.begin() as connection:
                Database.limit_statements(connection, LONGEST_SECONDS)
                heartbeats_dao.note(connection, WORKER, self._name, clock.now())
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            log.warning("presence-not-noted", error=type(cause).__name__)


_presence: Presence | None = None


@signals.worker_ready.connect
def _begin(sender: Any = None, **_: Any) -> None:
    global _presence
    name = str(getattr(sender, "hostname", None) or socket.gethostname())
    settings = config.load()
    _presence = Presence(name, settings.database_url, settings.retention_schema)


@signals.heartbeat_sent.connect
def _go_on(**_: Any) -> None:
    if _presence is not None:
        _presence.note()
