"""The product on a database: chains are opened and their steps done by the functions that its tasks call.

The messages between two steps are left out: a wake-up is followed by hand, in this process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from app import clock, config, create_app
from app.dao.chains_dao import REAL, Wake
from app.db import db
from app.retention import chains, nightly
from app.retention.nightly import Overdue
from benchmarks.methods import Task
from benchmarks.platform import DAYS_OF_RETENTION
from dev.stack import BUCKETS

# Nobody is asked here: emails and text messages have no files, and no message is sent.
ENVIRONMENT = {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", **BUCKETS}


@contextmanager
def product(url: str, **settings: object) -> Iterator[Flask]:
    """The application on the database at `url`, with its settings' defaults but for those given."""
    given = {name.upper(): str(value) for name, value in settings.items()}
    app = create_app(config.load({**ENVIRONMENT, "DATABASE_URL": url, **given}))
    try:
        yield app
    finally:
        app.extensions["db.engine"].dispose()


class Ours:
    """Does the steps of a service's chains, in the order in which their wake-ups come."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._steps_seen = 0

    def prepare(self, _task: Task) -> bool:
        return True

    def batches(self, task: Task) -> Iterator[int]:
        wakes = self.open(task)
        while wakes:
            wakes += self.step(wakes.pop(0))
            yield self._moved()

    def step(self, wake: Wake) -> list[Wake]:
        """The step that a wake-up asks for. What follows it, but for test notifications, which no other method has."""
        with self._app.app_context():
            return [after for after in chains.run_step(wake.chain, wake.step, None) if after.stage == REAL]

    def open(self, task: Task) -> list[Wake]:
        """Tonight's chains of the service and type, in slices where it is large; their wake-ups."""
        with self._app.app_context():
            now = clock.now()
            night = clock.local_date(now, self._app.extensions["settings"].zone)
            overdue = Overdue(task.service_id, task.cutoff, DAYS_OF_RETENTION)
            return nightly.open_chains(night, task.notification_type, overdue, now, now)

    def _moved(self) -> int:
        with self._app.app_context(), db.engine.connect() as connection:
            total = connection.exec_driver_sql("SELECT coalesce(sum(moved), 0)::bigint FROM retention.steps").scalar()
        moved = int(total or 0) - self._steps_seen
        self._steps_seen = int(total or 0)
        return moved
