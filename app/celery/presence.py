"""Workers say that they are there: a row each, in the database, since no broker is asked for them.

From the worker's main process, between two of its own doings. Without a thread, since the pool may fork at any time,
and without a connection that a fork could share.
"""

import time

import structlog
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from app import clock, config, own_schema
from app.celery import refusals
from app.dao import heartbeats_dao, totals_dao
from app.dao.heartbeats_dao import SECONDS_BETWEEN_NOTES_OF_WORKERS, WORKER
from app.db import ISOLATION, Database, connect_args, explicit

log = structlog.get_logger(__name__)

LONGEST_SECONDS = 2
"""For which the main process may stand still when the database does not answer."""


class Presence:
    """Notes that this worker is there, every so often, and the messages that it refused meanwhile."""

    def __init__(self, name: str, database_url: str, schema: str = own_schema.USUAL) -> None:
        self._name = name
        self._next = 0.0
        self._is_away = False
        engine = create_engine(
            database_url,
            poolclass=NullPool,
            hide_parameters=True,
            isolation_level=ISOLATION,
            connect_args=connect_args(database_url, connect_timeout=LONGEST_SECONDS),
        )
        self._engine: Engine = explicit(own_schema.use(engine, schema))

    @classmethod
    def of(cls, name: str) -> "Presence":
        """The presence of the worker of this name, in the environment's database."""
        settings = config.load()
        return cls(name, settings.database_url, settings.retention_schema)

    def note(self) -> None:
        """Note it, unless that was done a moment ago and nothing was refused since.

        A database that is away is tried again the next time.
        """
        if time.monotonic() >= self._next or (refusals.are_waiting() and not self._is_away):
            self._note()

    def leave(self) -> None:
        """It takes no more work."""
        self._note(leaves=True)

    def _note(self, leaves: bool = False) -> None:
        self._next = time.monotonic() + SECONDS_BETWEEN_NOTES_OF_WORKERS
        refused = refusals.take()
        try:
            with self._engine.begin() as connection:
                Database.limit_statements(connection, LONGEST_SECONDS)
                if leaves:
                    heartbeats_dao.leave(connection, self._name)
                else:
                    heartbeats_dao.note(connection, WORKER, self._name, clock.now())
                totals_dao.add(connection, totals_dao.MESSAGES_REFUSED, refused)
            self._is_away = False
        except SQLAlchemyError as error:
            self._is_away = True
            refusals.give_back(refused)
            cause = getattr(error, "orig", None) or error
            log.warning("presence-not-noted", error=type(cause).__name__)
