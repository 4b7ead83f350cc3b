"""What a benchmark is given: its size, where to print, a PostgreSQL, and databases filled from the one seed."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from benchmarks import connections
from benchmarks.platform import Platform, fill
from dev.directory import StackDirectory, sweep
from dev.postgres import EmbeddedPostgres
from dev.product import migrate
from dev.signals import endings_interrupt

# fsync, WAL and full pages as production has them (`durable`). Checkpoints come when a benchmark asks for one and
# vacuum never: both would hit whichever method is running just then.
SETTINGS = {
    "shared_buffers": "3GB",
    "max_wal_size": "32GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "shared_preload_libraries": "pg_stat_statements",
}
# Counts are the same without fsync, but not without full pages.
SMALL_SETTINGS = {"shared_buffers": "256MB", "full_page_writes": "on"}
SMALL_SCALE = 0.02


@dataclass
class Bench:
    """`scale` multiplies the platform's rows: 1 is 3 million notifications. `small` is CI's form: counts only."""

    out: Console
    scale: float = 1.0
    small: bool = False
    _ends: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Bench":
        self._ends.enter_context(endings_interrupt())
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @cached_property
    def server(self) -> EmbeddedPostgres:
        """A PostgreSQL of our own, stopped and removed at the end."""
        directory = StackDirectory()
        self._ends.callback(directory.remove)
        sweep(directory.root)
        settings = SETTINGS | (SMALL_SETTINGS if self.small else {})
        server = EmbeddedPostgres(directory.path / "postgres", durable=not self.small, settings=settings)
        self._ends.callback(server.stop)
        return server.start()

    @cached_property
    def platform(self) -> Platform:
        """The filled database that others are copied from. Nothing may stay connected to it."""
        self.say(f"filling a platform (scale {self.scale:g})")
        url = self.empty_database("platform")
        migrate(url)
        platform = Platform("platform", self.scale)
        with connections.owner(url) as connection:
            connections.run(connection, "CREATE EXTENSION pg_stat_statements")
            fill(connection, platform, self.say)
        return platform

    @contextmanager
    def copy(self, name: str, change: Callable[[Any], None] | None = None) -> Iterator[str]:
        """The URL of a copy of the platform, changed by `change(connection)`, dropped at the end of the block."""
        with self.copy_of(self.server.url_of(self.platform.database), name) as url:
            if change:
                with connections.owner(url) as connection:
                    change(connection)
            yield url

    @contextmanager
    def copy_of(self, url: str, name: str) -> Iterator[str]:
        """The URL of a copy of the database at `url`, to which nothing is connected, dropped at the end."""
        template = urlsplit(url).path.removeprefix("/")
        with self._dropped(name) as unique:
            # Files are copied instead of written to the WAL, which a checkpoint of its own follows.
            self._execute(f'CREATE DATABASE "{unique}" TEMPLATE "{template}" STRATEGY file_copy')
            yield self.server.url_of(unique)

    def empty_database(self, name: str) -> str:
        """The URL of an empty database, which lives as long as the server."""
        return self.server.create_database(name)

    def drop_database(self, name: str) -> None:
        """Room for the next one."""
        self.server.drop_database(name)

    def checkpoint(self) -> None:
        """Everything on disk; the first change of each page after it writes the whole page to the WAL."""
        self._execute("CHECKPOINT")

    def say(self, what: str) -> None:
        """A line of progress."""
        self.out.print(f"· {what}", markup=False)

    def show(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; all columns but the first are numbers."""
        table = Table(*columns, title=title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        self.out.print(table)

    @contextmanager
    def _dropped(self, name: str) -> Iterator[str]:
        unique = f"{name}_{secrets.token_hex(3)}"
        try:
            yield unique
        finally:
            self.server.drop_database(unique)

    def _execute(self, statement: str) -> None:
        with connections.owner(self.server.url) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
