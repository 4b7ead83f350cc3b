"""The database as the application holds it: one engine, a session for people, transactions for the pipeline."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask, current_app
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from app import own_schema

APPLICATION_NAME = "retention"
PLATFORM = "platform"
"""The execution option by which a connection knows a PlatformTables."""


@dataclass(frozen=True)
class PlatformTables:
    """Where the platform's tables are (a schema; None: where the search path finds them), and which tables' rows are
    deleted with the notification that they refer to.
    """

    schema: str | None = None
    deleted_with: frozenset[str] = frozenset()


class Database:
    """`db` of the shell: `db.session` for questions, `db.engine` for the rest. Needs an application context."""

    def init_app(self, app: Flask, url: str, platform: PlatformTables, schema: str) -> None:
        """Give the application its engine and session; `schema` is that of our own tables. Nothing connects before it
        is used.
        """
        engine = create_engine(
            url,
            # A step uses two connections: its own, and one for the commits that must outlive it.
            pool_size=2,
            max_overflow=8,
            pool_pre_ping=True,
            hide_parameters=True,  # bound values are personal data: never in an error, so never in a log
            execution_options={PLATFORM: platform},
            connect_args={"application_name": APPLICATION_NAME, "connect_timeout": 10},
        )
        app.extensions["db.engine"] = own_schema.use(engine, schema)
        app.extensions["db.session"] = scoped_session(sessionmaker(engine))
        app.teardown_appcontext(self._close_session)

    @property
    def engine(self) -> Engine:
        return current_app.extensions["db.engine"]

    @property
    def session(self) -> "scoped_session[Session]":
        return current_app.extensions["db.session"]

    @staticmethod
    def _close_session(_error: BaseException | None) -> None:
        current_app.extensions["db.session"].remove()

    @contextmanager
    def transaction(
        self,
        *,
        statement_seconds: float = 30,
        lock_seconds: float = 5,
        idle_seconds: float = 60,
        read_only: bool = False,
        isolation_level: IsolationLevel | None = None,
    ) -> Iterator[Connection]:
        """A transaction of the pipeline's own, with its time-outs; committed at the end, rolled back on an error.

        The time-outs are `SET LOCAL`, so that they also hold behind a proxy that pools by transaction. Without an
        isolation level it is the database's own default.
        """
        engine = self.engine.execution_options(isolation_level=isolation_level) if isolation_level else self.engine
        with engine.begin() as connection:
            connection.execute(SET_LOCAL, _milliseconds(statement_seconds, lock_seconds, idle_seconds))
            if read_only:
                connection.execute(text("SET TRANSACTION READ ONLY"))
            yield connection

    @staticmethod
    def limit_statements(connection: Connection, seconds: float) -> None:
        """From here to the end of the transaction, no statement may take longer."""
        connection.execute(SET_STATEMENT_TIMEOUT, {"statement": str(int(seconds * 1000))})


SET_STATEMENT_TIMEOUT = text("SELECT set_config('statement_timeout', :statement, true)")

SET_LOCAL = text(
    """
    SELECT set_config('statement_timeout', :statement, true),
           set_config('lock_timeout', :lock, true),
           set_config('idle_in_transaction_session_timeout', :idle, true)
    """
)


def _milliseconds(statement_seconds: float, lock_seconds: float, idle_seconds: float) -> dict[str, Any]:
    """As PostgreSQL takes them; at least one, because zero means no time-out."""
    seconds = {"statement": statement_seconds, "lock": lock_seconds, "idle": idle_seconds}
    return {name: str(max(1, int(value * 1000))) for name, value in seconds.items()}


db = Database()
