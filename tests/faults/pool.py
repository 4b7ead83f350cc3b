"""The pool of worker processes: kept at its size, as an autoscaler would, and counted when one dies."""

import itertools
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from dev.product import ROOT
from dev.stack import Stack
from tests.faults.control import Control
from tests.forkserver import worker_process

SIZE = (2, 1, 1)
"""Processes of each worker of a full pool."""
SECONDS_TO_START = 60
UNDONE = (b'"event": "lease-lost"', b'"event": "step-failed"')


class Pool:
    """Names its workers; a worker is a process group of a parent and its children."""

    def __init__(self, stack: Stack, control: Control, environment: Mapping[str, str]) -> None:
        self._stack, self._control = stack, control
        self._environment = dict(environment)
        self._numbers = itertools.count(1)
        self.workers: dict[str, int] = {}
        self.deaths = 0
        self._killed: set[str] = set()
        self.extra: Mapping[str, str] = {}
        self._read_to: dict[Path, int] = {}

    def use(self, extra: Mapping[str, str]) -> None:
        """Have the pool run with these variables as well; restarts it when they change."""
        if dict(extra) != dict(self.extra):
            self.stop_all()
            self.extra = dict(extra)

    def fill(self) -> None:
        """Start what is missing; returns when everybody takes messages."""
        missing = list(SIZE)
        for concurrency in self.workers.values():
            if concurrency in missing:
                missing.remove(concurrency)
        for concurrency in missing:
            self.start(concurrency)
        for name in list(self.workers):
            self._wait_ready(name)

    def start(self, concurrency: int) -> str:
        """A new worker, which needs a second or two before it takes messages. From the main thread only."""
        name = f"worker-{next(self._numbers)}"
        self._control.forget_ready(name)
        argv = [sys.executable, "-m", "celery", "-A", "app.celery", "worker", "--include", "tests.faults.points"]
        argv += ["--concurrency", str(concurrency), "--hostname", f"{name}@laboratory"]
        own = {"FAULTS_WORKER": name}
        environment = self._stack.isolated_environment() | self._environment | dict(self.extra) | own
        log = self._stack.directory / f"{name}.log"
        self._stack.processes[name] = worker_process(name, argv, log=log, env=environment, cwd=ROOT)
        self.workers[name] = concurrency
        return name

    def look(self) -> None:
        """Count workers that have died and start others in their place."""
        for name, concurrency in list(self.workers.items()):
            child = self._stack.processes[name]
            if not child.running:
                # A fault's point may kill one that gives lost messages back before it says that it is ready.
                was_killed = name in self._killed or child.status == -signal.SIGKILL
                if not self._control.is_ready(name) and not was_killed:
                    raise RuntimeError(f"{name} never started:\n{child.log_tail()}")
                child.kill()
                self._forget(name)
                self.deaths += 1
                self.start(concurrency)

    def kill(self, name: str) -> None:
        """SIGKILL for a worker and its children."""
        self._killed.add(name)
        self._stack.processes[name].kill()

    def dismiss(self, name: str, grace_seconds: float) -> None:
        """SIGTERM, SIGKILL after the grace, which counts; nobody takes its place."""
        child = self._stack.processes[name]
        child.stop(grace_seconds=grace_seconds)
        self.deaths += child.status == -signal.SIGKILL
        child.kill()
        self._forget(name)

    def stop_all(self) -> None:
        """End every worker at once, without counting."""
        for name in list(self.workers):
            self.kill(name)
            self._forget(name)

    def steps_undone(self) -> int:
        """How many steps were undone since this was last asked, as the workers' logs say."""
        count = 0
        for path in self._stack.directory.glob("worker-*.log"):
            with path.open("rb") as log:
                log.seek(self._read_to.get(path, 0))
                lines = log.read()
                self._read_to[path] = log.tell()
            count += sum(lines.count(event) for event in UNDONE)
        return count

    def tail(self, lines: int = 30) -> str:
        """The end of every worker's log."""
        return "\n".join(f"--- {name}\n{self._stack.processes[name].log_tail(lines)}" for name in self.workers)

    def _forget(self, name: str) -> None:
        del self.workers[name]
        del self._stack.processes[name]

    def _wait_ready(self, name: str) -> None:
        end = time.monotonic() + SECONDS_TO_START
        while not self._control.is_ready(name):
            child = self._stack.processes[name]
            if not child.running or time.monotonic() > end:
                raise RuntimeError(f"{name} didn't start:\n{child.log_tail()}")
            time.sleep(0.02)
