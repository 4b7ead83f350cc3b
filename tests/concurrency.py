"""Two things at once: threads that have the application, and waiting until one of them waits for a lock."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from flask import Flask
from sqlalchemy import Connection, text

Start = Callable[..., "Future[Any]"]


@contextmanager
def background(app: Flask) -> Iterator[Start]:
    """Yields `start(function, *arguments)`, which runs the function in a thread with a context of the application."""

    def in_context(function: Callable[..., Any], *arguments: Any) -> Any:
        with app.app_context():
            return function(*arguments)

    with ThreadPoolExecutor(max_workers=4) as threads:
        yield lambda function, *arguments: threads.submit(in_context, function, *arguments)


def wait_until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until it is so; fail when it takes longer than that."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)


def waiting_for_locks(connection: Connection) -> int:
    """How many connections to this database wait for a lock that another holds."""
    return int(
        connection.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        ).scalar_one()
    )


@contextmanager
def trigger(connection: Connection, event: str, body: str) -> Iterator[None]:
    """A row trigger, such as `BEFORE DELETE ON notifications`, for as long as the block runs."""
    escaped = body.replace("%", "%%")  # the driver takes a percent sign for a value's place
    connection.exec_driver_sql(
        f"CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN {escaped} END $body$"
    )
    try:
        connection.exec_driver_sql(f"CREATE TRIGGER in_the_way {event} FOR EACH ROW EXECUTE FUNCTION in_the_way()")
        yield
    finally:
        connection.exec_driver_sql("DROP FUNCTION in_the_way() CASCADE")


@contextmanager
def locked(app: Flask, statement: str, **values: Any) -> Iterator[None]:
    """The statement's locks, held by another connection for as long as the block runs, then let go by a commit."""
    with app.extensions["db.engine"].begin() as other:
        other.execute(text(statement), values)
        yield
