"""The three servers and what runs on them, as one thing that starts together and ends together.

    with Stack() as stack:
        stack.start_process("worker", [sys.executable, "-m", "celery", ...])

Everything is stopped and the directory removed when the block ends: normally, by an exception, by Ctrl-C or
by SIGTERM. After a SIGKILL the kernel ends the servers, and the next stack sweeps the directory.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from dev import environment
from dev.broker import EmbeddedBroker
from dev.directory import StackDirectory, sweep
from dev.postgres import EmbeddedPostgres
from dev.processes import Child, StartError
from dev.s3 import MOTO, EmbeddedS3
from dev.signals import cleaning_up, endings_interrupt, endings_wait

BUCKETS = {
    "S3_BUCKET_LETTERS_PDF": "local-letters-pdf",
    "S3_BUCKET_TEST_LETTERS": "local-test-letters",
    "S3_BUCKET_INVALID_PDF": "local-invalid-pdf",
    "S3_BUCKET_LETTERS_SCAN": "local-letters-scan",
    "S3_BUCKET_USER_FILES": "local-user-files",
    "S3_BUCKET_EXPORTS": "local-exports",
}
EMAIL_SENDER = "no-reply@localhost.test"


class Stack:
    """An embedded PostgreSQL, broker and S3 server in one temporary directory, owned by this process.

    `durable` and `postgres_settings` go to EmbeddedPostgres; `versioned` names the buckets that keep
    versions; `root` is where the directory is made instead of the temporary directory (a disk to measure,
    say); `s3_server` goes to EmbeddedS3.
    Open it in a thread that outlives it, best the main thread: see `Child`.
    """

    postgres: EmbeddedPostgres
    broker: EmbeddedBroker
    s3: EmbeddedS3
    directory: Path

    def __init__(
        self,
        *,
        durable: bool = False,
        postgres_settings: Mapping[str, str] | None = None,
        versioned: Sequence[str] = (),
        root: Path | None = None,
        s3_server: Sequence[str | Path] = MOTO,
    ) -> None:
        self._durable = durable
        self._postgres_settings = postgres_settings
        self._versioned = versioned
        self._root = root
        self._s3_server = s3_server
        self._signals = contextlib.ExitStack()
        self._ends = contextlib.ExitStack()
        self.processes: dict[str, Child] = {}

    def __enter__(self) -> "Stack":
        self._signals.enter_context(endings_interrupt())
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point the product at this stack."""
        servers = {"DATABASE_URL": self.postgres.url, "CELERY_BROKER_URL": self.broker.url}
        return environment.NO_REAL_AWS | servers | self.s3.environment | BUCKETS | {"EMAIL_SENDER": EMAIL_SENDER}

    def isolated_environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """`environment`, and of `base` (this process's own when None) only what names no system."""
        return environment.isolated_environment(base) | self.environment

    def start_process(
        self,
        name: str,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """Run `argv` until the stack ends, its output in `<directory>/<name>.log`.

        `env` is added to `isolated_environment()`. Its temporary files are in the directory, too, so that what a
        process leaves that had to be killed goes with it. A name can be taken again once its process has ended.
        """
        if name in self.processes and self.processes[name].running:
            raise StartError(f"{name} is running already")
        with endings_wait():
            self.processes[name] = Child(
                name,
                argv,
                log=self.directory / f"{name}.log",
                env=self.isolated_environment() | {"TMPDIR": str(self.directory)} | dict(env or {}),
                cwd=cwd,
            )
        return self.processes[name]

    def stop_processes(self, grace_seconds: float = 20) -> None:
        """All that `start_process` started, at once; what needs longer than the grace is killed."""
        for child in self.processes.values():
            child.ask_to_stop()
        for child in self.processes.values():
            child.finish(grace_seconds)

    def close(self) -> None:
        """What runs on the servers, then the servers, then the directory. A second time does nothing."""
        with self._signals, cleaning_up():
            self._ends.close()

    def _start(self) -> None:
        """Side by side, without threads: a child is bound to the thread that made it."""
        with endings_wait():
            own = StackDirectory(self._root)
            self._ends.callback(own.remove)
        self.directory = own.path
        self.postgres = EmbeddedPostgres(own.path / "postgres", durable=self._durable, settings=self._postgres_settings)
        self.broker = EmbeddedBroker(own.path / "broker")
        self.s3 = EmbeddedS3(own.path / "s3", self._s3_server)
        for server in (self.postgres, self.broker, self.s3):
            self._ends.callback(server.stop)
        self._ends.callback(self.stop_processes)
        self.postgres.initialise()
        self.broker.launch()
        self.s3.launch()
        sweep(own.root)
        self.broker.wait_ready()
        self.s3.wait_ready()
        self.s3.create_buckets(BUCKETS.values(), self._versioned)
        self.s3.verify_sender(EMAIL_SENDER)
        self.postgres.launch()
        self.postgres.wait_ready()
