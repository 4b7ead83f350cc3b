"""Real worker processes for a test, on the test's servers and a broker of its own."""

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from app.celery import celery
from dev import product
from dev.broker import EmbeddedBroker
from dev.processes import Child, answers
from tests.forkserver import worker_process

ROWS_PER_STEP = 50
SECONDS_OF_A_SLOW_STEP = 1.2  # a statement may take a third of the budget
STEP_BUDGET_SECONDS = 5
SECONDS_BETWEEN_REMINDERS = 0.5

# Small steps and short times; a step that dies is looked for by the dispatcher once its lease is over.
SETTINGS = {
    "MESSAGES_PER_STEP": str(ROWS_PER_STEP),
    "LETTERS_PER_STEP": str(ROWS_PER_STEP),
    "STEP_BUDGET_SECONDS": str(STEP_BUDGET_SECONDS),
    "DISPATCH_EVERY_SECONDS": "1",
    "RETRY_AFTER_SECONDS": "1",
    "FAN_OUT_SPREAD_SECONDS": "0",
    "REMAP_SIGTERM": "SIGQUIT",
}

SLOW_DOWN = """
CREATE TABLE slowness (seconds float NOT NULL);
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN PERFORM pg_sleep(max(seconds)) FROM slowness; RETURN NULL; END
$$;
CREATE TRIGGER slow AFTER DELETE ON notifications FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
"""
SLOW_NO_MORE = """
DROP TRIGGER slow ON notifications;
DROP FUNCTION be_slow;
DROP TABLE slowness;
"""
IN_THE_MIDDLE = text(
    """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%DELETE FROM %notifications%' AND wait_event = 'PgSleep'
    """
)


def eventually(is_so: Callable[[], Any], seconds: float = 180) -> None:
    """Return once it is so; fail when the time is up."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.05)


class Workers:
    """Starts workers and beat, and talks to them through their broker. `stop` ends what still runs."""

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        self.directory = directory
        self.broker = EmbeddedBroker(directory / "broker").start()
        self.environment = {**environment, **SETTINGS, "CELERY_BROKER_URL": self.broker.url}
        self._children: list[Child] = []
        self._reminded: dict[str, float] = {}

    def start(self, name: str = "worker", pool: int = 2, **settings: str) -> Child:
        """A worker with a pool of so many processes, once it is ready."""
        return self._worker(name, ["--concurrency", str(pool)], settings)

    def start_autoscaled(self, most: int, least: int, **settings: str) -> Child:
        """A worker whose pool grows and shrinks between these numbers of processes, once it is ready."""
        return self._worker("autoscaled", [f"--autoscale={most},{least}"], settings)

    def start_beat(self, name: str = "beat", **settings: str) -> Child:
        """A beat that keeps its state in a directory of this name, where a test may have put one."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        return self._child(name, product.beat(directory), settings)

    def start_web(self, port: int, **settings: str) -> Child:
        """A web process on this port, once it answers."""
        web = self._child("web", product.web(port), settings)
        web.wait_until(lambda: answers(port), timeout_seconds=60)
        return web

    def send(self, task: Any, *arguments: Any, **named: Any) -> None:
        """A message, as anybody sends one."""
        with celery.connection_for_write(self.broker.url) as connection:
            task.apply_async(args=arguments, kwargs=named, connection=connection)

    def remind(self, task: Any) -> None:
        """Send it where a test waits, as beat does: not as often as the test looks."""
        now = time.monotonic()
        if now - self._reminded.get(task.name, 0) >= SECONDS_BETWEEN_REMINDERS:
            self._reminded[task.name] = now
            self.send(task)

    def logged(self) -> str:
        """Everything that was written by any of them."""
        return "".join(child.log.read_text() for child in self._children)

    def events(self, event: str) -> list[dict[str, Any]]:
        """The log's events of this name."""
        lines = [json.loads(line) for line in self.logged().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def stop(self) -> None:
        for child in self._children:
            child.kill()
        self.broker.stop()

    def _worker(self, name: str, options: list[str], settings: dict[str, str]) -> Child:
        worker = self._child(name, [*product.worker(), "--hostname", f"{name}@test", *options], settings)
        worker.wait_until(lambda: " ready." in worker.log.read_text(), timeout_seconds=60)
        return worker

    def _child(self, name: str, argv: list[Any], settings: dict[str, str]) -> Child:
        log = self.directory / f"{name}-{len(self._children)}.log"
        child = worker_process(name, argv, log=log, env=self.environment | settings, cwd=product.ROOT)
        self._children.append(child)
        return child


def slow_down(connection: Connection, seconds: float) -> None:
    """Every delete of notifications takes so long from now on."""
    connection.execute(text("DELETE FROM slowness"))
    connection.execute(text("INSERT INTO slowness VALUES (:seconds)"), {"seconds": seconds})


def is_in_the_middle_of_a_step(connection: Connection) -> bool:
    """Whether a step has copied its rows to history, is deleting them, and has not committed."""
    return bool(connection.execute(IN_THE_MIDDLE).scalar())


def have_ended(connection: Connection) -> bool:
    """Whether there are chains, and none that goes on."""
    states = connection.execute(text("SELECT DISTINCT state FROM retention.chains")).scalars().all()
    return states == ["ended"]


def last_step_at(connection: Connection) -> datetime | None:
    return connection.execute(text("SELECT max(started_at) FROM retention.steps")).scalar()
