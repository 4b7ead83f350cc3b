"""A night's workers: two pool processes of a real Celery worker, beat, a broker; and what their tasks wrote down."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from benchmarks.s3_server import S3Server
from dev import environment, product
from dev.broker import EmbeddedBroker
from dev.directory import StackDirectory
from dev.processes import Child
from dev.stack import BUCKETS

APPLICATION = "benchmarks.night_worker"
QUEUE = "retention-nightly"
QUICK = {"DISPATCH_EVERY_SECONDS": "1", "RETRY_AFTER_SECONDS": "1"}
SECONDS_TO_READY = 120
SECONDS_BETWEEN_LOOKS = 0.5
DISPATCHER = "dispatch-retention"
PERIODIC = {DISPATCHER, "catch-up-missed-night"}


@dataclass(frozen=True)
class Record:
    """A task, as the process that did it wrote it down: seconds and bytes."""

    process: str
    task: str
    began: float
    ended: float
    sql: float
    s3: float
    resident: int
    peak: int

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Records:
    """All tasks of a run but the dispatcher's, in the order in which they ended."""

    all: list[Record]

    @cached_property
    def seconds(self) -> float:
        """From the first task's beginning to the last one's end."""
        return max(one.ended for one in self.all) - min(one.began for one in self.all)

    @cached_property
    def busy(self) -> float:
        """Of all processes, in tasks."""
        return sum(one.seconds for one in self.all)

    @property
    def share_outside(self) -> float:
        """Of the tasks' time: neither in SQL nor in S3."""
        return 1 - sum(one.sql + one.s3 for one in self.all) / self.busy

    @property
    def peak(self) -> int:
        """Bytes of the process that ever had most."""
        return max(one.peak for one in self.all)

    @property
    def growth(self) -> int:
        """Bytes that a process has more at its end than after the first quarter of its tasks, and its first letters,
        which load what speaks to S3; the largest.
        """
        grown = []
        for process in {one.process for one in self.all}:
            its = [one for one in self.all if one.process == process]
            first_letters = next((number for number, one in enumerate(its) if one.s3), 0)
            grown.append(its[-1].resident - its[max(len(its) // 4, first_letters)].resident)
        return max(grown)


class NightRun:
    """Sends the first message, waits, and reads what was written down."""

    def __init__(self, directory: Path, broker: EmbeddedBroker) -> None:
        self._directory, self._broker = directory, broker

    def send(self, task: str, *arguments: Any) -> None:
        """A message, as anybody sends one."""
        with Celery(broker=self._broker.url, set_as_current=False) as sender:
            sender.send_task(task, arguments, queue=QUEUE)

    def wait(self, is_over: Callable[[], bool], most_seconds: float) -> bool:
        """Until it is over, and no message waits or is being worked on. Returns False when the time is up."""
        deadline = time.monotonic() + most_seconds
        with redis.Redis.from_url(self._broker.url) as client:
            while client.llen(QUEUE) or client.hlen("unacked") or not is_over():
                if time.monotonic() > deadline:
                    return False
                time.sleep(SECONDS_BETWEEN_LOOKS)
        return True

    def take_records(self) -> Records:
        """What was done since the last call."""
        found = []
        for path in self._directory.glob("*.jsonl"):
            lines = path.read_text().splitlines()
            path.write_text("")
            found += [Record(process=path.stem, **json.loads(line)) for line in lines]
        return Records(sorted((one for one in found if one.task not in PERIODIC), key=lambda one: one.ended))


@contextmanager
def night_run(database_url: str, s3: S3Server, *, with_beat: bool, quick: bool) -> Iterator[NightRun]:
    """Workers on this database and S3 server, with the settings' defaults, but no stagger. `quick`: waits are short."""
    directory = StackDirectory()
    broker = EmbeddedBroker(directory.path / "broker")
    children = []
    variables = {
        **environment.isolated_environment(os.environ),
        **BUCKETS,
        **s3.environment,
        "DATABASE_URL": database_url,
        "CELERY_BROKER_URL": broker.url,
        "FAN_OUT_SPREAD_SECONDS": "0",
        "TASK_RECORDS": str(directory.path),
        **(QUICK if quick else {}),
    }
    try:
        broker.start()
        argv = [APPLICATION if part == "app.celery" else part for part in product.worker()]
        worker = Child("worker", argv, log=directory.path / "worker.log", env=variables, cwd=product.ROOT)
        children.append(worker)
        worker.wait_until(lambda: " ready." in worker.log.read_text(), SECONDS_TO_READY)
        if with_beat:
            log = directory.path / "beat.log"
            children.append(Child("beat", product.beat(directory.path), log=log, env=variables, cwd=product.ROOT))
        yield NightRun(directory.path, broker)
    finally:
        for child in reversed(children):
            child.stop()
        broker.stop()
        directory.remove()
