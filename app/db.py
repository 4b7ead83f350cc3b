"""The database as the application holds it: one engine, a session for people, transactions for the pipeline.

Every transaction says for itself that it is READ COMMITTED and that its time zone is UTC, whatever the role, the
database or a pooler have as their default (`explicit`). It also brings the database's clock along, by which everything
that destroys is bounded (`Database.bounded_now`).
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any

from flask import Flask, current_app
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.orm import Mapper, Query, Session, scoped_session, sessionmaker

from app import clock, own_schema, refusals

APPLICATION_NAME = "retention"
MOST_CONNECTIONS = 10
"""Of a process, whose threads share them. Each thread uses one at a time; one that was opened is kept."""
CONNECT_ARGS = {
    "application_name": APPLICATION_NAME,
    "connect_timeout": 10,
    # A host that vanished answers nothing, not even that it is gone: an idle connection to it is noticed after about
    # half a minute, one that waits for an acknowledgement after 15 s.
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Of libpq: seconds, but for the last, which is milliseconds."""
ISOLATION: IsolationLevel = "READ COMMITTED"
CLOCK_TOLERANCE = "clock_tolerance_seconds"
"""The execution option by which a connection knows how far this host's clock may be from the database's."""
CLOCK_TOLERANCE_SECONDS = 60.0
LIMITS, CLOCKS = "transaction_limits", "clocks"
"""The execution option with a transaction's limits; where a connection keeps what the clocks said."""
PLATFORM = "platform"
"""The execution option by which a connection knows a PlatformTables."""


@dataclass(frozen=True)
class Clocks:
    """What two clocks said when a transaction began: the database's, and this host's before and after it was asked."""

    database: datetime
    before: datetime
    after: datetime

    @property
    def seconds_ahead(self) -> float:
        """By how much this host's clock is ahead at least; negative where it is behind. Waiting for the answer is
        neither.
        """
        if self.before > self.database:
            return (self.before - self.database).total_seconds()
        return min(0.0, (self.after - self.database).total_seconds())


class ClocksApart(RuntimeError):
    """The clocks of this host and of the database differ by more than CLOCK_TOLERANCE_SECONDS. Nothing was begun."""

    def __init__(self, seconds_ahead: float) -> None:
        self.host = socket.gethostname()
        direction = "ahead of" if seconds_ahead > 0 else "behind"
        super().__init__(
            f"The clock of host {self.host} is {abs(seconds_ahead):.0f} s {direction} the database's, so that nothing "
            "is begun there. Have all hosts follow the same NTP servers."
        )


@dataclass(frozen=True)
class PlatformTables:
    """Where the platform's tables are (a schema; None: where the search path finds them), and which tables' rows are
    deleted with the notification that they refer to.
    """

    schema: str | None = None
    deleted_with: frozenset[str] = frozenset()


class Asked(Query[Any]):
    """A query of the shell's. It counts rows by their keys, since the role may not read every column."""

    def count(self) -> int:
        keys = [] if len(self.column_descriptions) > 1 else _keys(self.column_descriptions[0]["expr"])
        return super(Asked, self.with_entities(*keys)).count() if keys else super().count()


def _keys(asked: Any) -> list[Any]:
    """Of a mapped class, the columns of its primary key; of anything else, none."""
    mapper = inspect(asked, raiseerr=False)
    if not isinstance(mapper, Mapper):
        return []
    return [getattr(asked, mapper.get_property_by_column(column).key) for column in mapper.primary_key]


class Database:
    """`db` of the shell: `db.session` for questions, `db.engine` for the rest. Needs an application context."""

    def init_app(
        self,
        app: Flask,
        url: str,
        platform: PlatformTables,
        schema: str,
        clock_tolerance_seconds: float = CLOCK_TOLERANCE_SECONDS,
    ) -> None:
        """Give the application its engine and session; `schema` is that of our own tables. Nothing connects before it
        is used.
        """
        engine = create_engine(
            url,
            pool_size=MOST_CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,  # bound values are personal data: never in an error, so never in a log
            isolation_level=ISOLATION,
            execution_options={PLATFORM: platform, CLOCK_TOLERANCE: clock_tolerance_seconds},
            connect_args=connect_args(url),
        )
        app.extensions["db.engine"] = explicit(own_schema.use(engine, schema))
        app.extensions["db.session"] = scoped_session(sessionmaker(engine, query_cls=Asked))
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

        The time-outs are `SET LOCAL`, so that they also hold behind a proxy that pools by transaction. They cost no
        statement of their own (`explicit`). Without an isolation level it is READ COMMITTED.
        """
        limits = Limits(statement_seconds, lock_seconds, idle_seconds, read_only)
        with self.engine.connect() as connection:
            connection.execution_options(**{LIMITS: limits})
            if isolation_level:
                connection.execution_options(isolation_level=isolation_level)
            with connection.begin():
                yield connection

    @staticmethod
    def bounded_now(connection: Connection, now: datetime) -> datetime:
        """The earlier of `now` (aware) and the database's time when the transaction began.

        Every cut-off and limit that destroys is counted from this, in the transaction that destroys: a host whose clock
        is ahead takes nothing before its time. Costs no statement. Raises ClocksApart.
        """
        return min(now, Database.require_clock(connection).database)

    @staticmethod
    def require_clock(connection: Connection) -> Clocks:
        """Raise ClocksApart where this host's clock and the database's differ by more than the setting."""
        clocks: Clocks = connection.info.get(CLOCKS) or read_clocks(connection, CLOCK, {})
        tolerance = connection.get_execution_options().get(CLOCK_TOLERANCE, CLOCK_TOLERANCE_SECONDS)
        if abs(clocks.seconds_ahead) > tolerance:
            raise ClocksApart(clocks.seconds_ahead)
        return clocks

    @staticmethod
    def limit_statements(connection: Connection, seconds: float) -> None:
        """From here to the end of the transaction, no statement may take longer."""
        connection.execute(SET_STATEMENT_TIMEOUT, {"statement": str(int(seconds * 1000))})


SET_STATEMENT_TIMEOUT = text("SELECT set_config('statement_timeout', :statement, true)")

CLOCK = "SELECT clock_timestamp() AS now"
TIME_ZONE = "set_config('TimeZone', 'UTC', true)"
BEGIN = f"{CLOCK}, {TIME_ZONE}"
BEGIN_LIMITED = f"""
{BEGIN},
       set_config('statement_timeout', %(statement)s, true),
       set_config('lock_timeout', %(lock)s, true),
       set_config('idle_in_transaction_session_timeout', %(idle)s, true)
"""
BEGIN_READ_ONLY = f"{BEGIN_LIMITED}, set_config('transaction_read_only', 'on', true)"


@dataclass(frozen=True)
class Limits:
    """What a transaction of the pipeline's sets for itself."""

    statement_seconds: float
    lock_seconds: float
    idle_seconds: float
    read_only: bool

    @property
    def milliseconds(self) -> dict[str, str]:
        """As PostgreSQL takes them; at least one, because zero means no time-out."""
        seconds = {"statement": self.statement_seconds, "lock": self.lock_seconds, "idle": self.idle_seconds}
        return {name: str(max(1, int(value * 1000))) for name, value in seconds.items()}


def connect_args(url: str, **others: object) -> dict[str, object]:
    """How connections are made. What the URL says of them counts first."""
    given = make_url(url).query
    return {name: value for name, value in {**CONNECT_ARGS, **others}.items() if name not in given}


def server_of(url: str) -> str:
    """The host and port of a URL, or all of them, as a person writes them."""
    arguments = create_engine(url).dialect.create_connect_args(make_url(url))[1]
    hosts, ports = str(arguments.get("host", "localhost")).split(","), str(arguments.get("port", "")).split(",")
    return ",".join(f"{host}:{port or 5432}" for host, port in zip_longest(hosts, ports, fillvalue=ports[0]))


def explicit(engine: Engine) -> Engine:
    """The engine, whose every transaction from now on begins with what it must not leave to a default, and whose errors
    quote no value.

    One statement, before the first of the transaction's own: it lasts as long as the transaction, so that a proxy that
    pools by transaction keeps it. The isolation level is part of BEGIN, and given to create_engine.
    """
    event.listen(engine, "begin", _begin)
    event.listen(engine, "handle_error", refusals.hide_values)
    return engine


def _begin(connection: Connection) -> None:
    limits: Limits | None = connection.get_execution_options().get(LIMITS)
    if limits is None:
        statement, values = BEGIN, {}
    else:
        statement = BEGIN_READ_ONLY if limits.read_only else BEGIN_LIMITED
        values = limits.milliseconds
    connection.info[CLOCKS] = read_clocks(connection, statement, values)


def read_clocks(connection: Connection, statement: str, values: dict[str, str]) -> Clocks:
    """What the clocks say, by a statement whose first column is the database's time."""
    before = clock.now()
    database = connection.exec_driver_sql(statement, values).one().now
    return Clocks(database, before, clock.now())


db = Database()
