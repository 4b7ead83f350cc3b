"""A worker of the product that also writes down what its tasks did: `celery -A benchmarks.night_worker worker`.

The product is unchanged: psycopg2's connections and botocore's HTTP session are wrapped from outside. A line of JSON
per task goes to a file of the pool process's own in TASK_RECORDS. It knows the reference's tasks, too.
"""

import json
import os
import time
from pathlib import Path
from threading import Lock
from typing import Any

from botocore.httpsession import URLLib3Session
from celery import signals
from psycopg2 import extensions
from sqlalchemy import Engine, event

from app.celery import celery
from benchmarks import night_reference

__all__ = ["celery", "night_reference"]


class Spent:
    """Seconds of this process since it began to count: waiting for SQL and for S3."""

    sql = 0.0
    s3 = 0.0
    began = 0.0


class TimedCursor(extensions.cursor):
    """Its statements count as SQL; results come with them."""

    def execute(self, *arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return super().execute(*arguments, **named)
        finally:
            Spent.sql += time.perf_counter() - began


class TimedConnection(extensions.connection):
    """Its commits count, too."""

    def cursor(self, *arguments: Any, **named: Any) -> Any:
        return super().cursor(*arguments, **{"cursor_factory": TimedCursor, **named})

    def commit(self) -> None:
        began = time.perf_counter()
        super().commit()
        Spent.sql += time.perf_counter() - began

    def rollback(self) -> None:
        began = time.perf_counter()
        super().rollback()
        Spent.sql += time.perf_counter() - began


@event.listens_for(Engine, "do_connect")
def _with_timed_connections(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
    parameters["connection_factory"] = TimedConnection


_send = URLLib3Session.send
_lock = Lock()
_under_way = {"requests": 0, "since": 0.0}


def _timed_send(session: URLLib3Session, request: Any) -> Any:
    """A second counts once, however many requests wait in it."""
    with _lock:
        if not _under_way["requests"]:
            _under_way["since"] = time.perf_counter()
        _under_way["requests"] += 1
    try:
        return _send(session, request)
    finally:
        with _lock:
            _under_way["requests"] -= 1
            if not _under_way["requests"]:
                Spent.s3 += time.perf_counter() - _under_way["since"]


URLLib3Session.send = _timed_send  # type: ignore[method-assign,assignment]


@signals.task_prerun.connect
def _before_task(**_: Any) -> None:
    Spent.sql = Spent.s3 = 0.0
    Spent.began = time.time()


@signals.task_postrun.connect
def _after_task(task: Any = None, **_: Any) -> None:
    ended = time.time()
    resident, peak = _memory()
    record = {
        "task": task.name,
        "began": Spent.began,
        "ended": ended,
        "sql": Spent.sql,
        "s3": Spent.s3,
        "resident": resident,
        "peak": peak,
    }
    with (Path(os.environ["TASK_RECORDS"]) / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def _memory() -> tuple[int, int]:
    """Resident bytes now and at most. Not ru_maxrss, which a process inherits from the one that started it."""
    with open("/proc/self/status") as file:
        sizes = {name: rest for name, _, rest in (line.partition(":") for line in file)}
    return tuple(int(sizes[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
