"""How far one row goes through the code: files, functions and statements, by hand and by a task."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import event

import app
from app.celery import nightly_tasks
from app.dao.chains_dao import Wake
from app.retention import move_notifications_to_notification_history, nightly
from benchmarks import connections
from benchmarks.bench import Bench
from benchmarks.letter_data import overdue_day, send, services
from benchmarks.measures import Measure
from benchmarks.product import product
from benchmarks.s3_server import S3Server, s3_server
from benchmarks.schema import empty_platform

PACKAGE = str(Path(app.__file__).parent)
MOST = {"letter": (25, 120, 30), "email": (15, 45, 15)}
"""Files, functions and statements for one row by hand, by type."""
EMAIL = """
INSERT INTO notifications
    (id, "to", service_id, key_type, notification_type, notification_status, template_id, template_version, created_at)
VALUES (gen_random_uuid(), 'x', %(service)s, 'normal', 'email', 'delivered', gen_random_uuid(), 1, %(at)s)
"""


@dataclass
class Hops:
    """What was gone through: the package's files, its functions (without those that have no name), and statements."""

    functions: set[tuple[str, str, int]] = field(default_factory=set)
    statements: int = 0

    @property
    def files(self) -> int:
        return len({file for file, _, _ in self.functions})

    def note(self, frame: FrameType, what: str, _of: object) -> None:
        """For sys.setprofile: a function of the package was called."""
        code = frame.f_code
        if what == "call" and code.co_filename.startswith(PACKAGE) and not code.co_name.startswith("<"):
            self.functions.add((code.co_filename, code.co_name, code.co_firstlineno))


def run(bench: Bench) -> list[Measure]:
    measures, rows = [], []
    for notification_type, most in MOST.items():
        for how in ("by hand", "by a task"):
            found = _hops(bench, notification_type, by_task=how != "by hand")
            counts = (found.files, len(found.functions), found.statements)
            rows.append([f"one {notification_type}, {how}", *map(str, counts)])
            for what, value, at_most in zip(("files", "functions", "statements"), counts, most, strict=True):
                name = f"one {notification_type}, {how}: {what}"
                measures.append(Measure(name, value, at_most=at_most if how == "by hand" else None))
    bench.show("one row", ["", "files", "functions", "statements"], rows)
    return measures


def _hops(bench: Bench, notification_type: str, *, by_task: bool) -> Hops:
    """Of the second row: what a process looks up once, it has looked up for the first."""
    with (
        empty_platform(bench, f"hops_{notification_type}") as url,
        s3_server(waits=False) as server,
        product(url, aws_endpoint_url_s3=server.url, fan_out_spread_seconds=0) as application,
        connections.owner(url) as connection,
        application.app_context(),
    ):
        for name in ("first", "second"):
            (service,) = services(connection, name, 1)
            _fill(connection, server, notification_type, service)
            act = _task(notification_type) if by_task else _by_hand(notification_type, service)
            with _counted(application) as found:
                act()
        left = connections.scalar(connection, "SELECT count(*) FROM notifications")
        if left:
            raise RuntimeError(f"{left} rows were left")
        return found


def _fill(connection: Any, server: S3Server, notification_type: str, service: UUID) -> None:
    if notification_type == "letter":
        send(connection, server, {service: 1}, overdue_day())
    else:
        connections.run(connection, EMAIL, {"service": str(service), "at": overdue_day().first.replace(tzinfo=None)})


def _by_hand(notification_type: str, service: UUID) -> Callable[[], object]:
    return lambda: move_notifications_to_notification_history(notification_type, service, overdue_day().last)


def _task(notification_type: str) -> Callable[[], object]:
    """The task of the chain that the night opens, as a worker runs it."""
    (wake,) = nightly.fan_out(notification_type)
    return lambda: _apply(wake)


def _apply(wake: Wake) -> None:
    named = {"chain": wake.chain, "step": wake.step}
    if wake.service_id is None:
        nightly_tasks.sweep_notifications.apply(kwargs=named, throw=True)
        return
    given = [str(wake.service_id), wake.notification_type, wake.cutoff.isoformat()]
    nightly_tasks.delete_notifications_for_service_and_type.apply(args=given, kwargs=named, throw=True)


@contextmanager
def _counted(application: Flask) -> Iterator[Hops]:
    found = Hops()

    def statement(*_: object) -> None:
        found.statements += 1

    engine = application.extensions["db.engine"]
    event.listen(engine, "before_cursor_execute", statement)
    sys.setprofile(found.note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        event.remove(engine, "before_cursor_execute", statement)
