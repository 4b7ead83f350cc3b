"""Child processes that never outlive their owner, and that say why when they don't start.

A child is only ever ended through the handle that started it, while it is known not to have been reaped: no
process is looked up by name or by a pid read from a file.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
# Below the range from which the kernel (Linux and macOS) takes ports of outgoing connections: a client that
# keeps trying a server which is down could otherwise be given the server's own port, connect to itself, and
# keep the server from coming back.
PORTS = range(20_000, 30_000)
_handed_out: set[int] = set()


class StartError(RuntimeError):
    """A process didn't get ready; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Account:
    """The user that a child becomes when its owner is root."""

    uid: int
    gid: int


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens. This process is never given the same one twice."""
    for _ in range(200):
        port = random.choice(PORTS)
        if port in _handed_out:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            _handed_out.add(port)
            return port
    raise StartError(f"No free port was found between {PORTS.start} and {PORTS.stop}")


def answers(port: int) -> bool:
    """Whether something accepts connections on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


class Child:
    """One child process in a session of its own, its output appended to `log`.

    A session of its own, so that Ctrl-C in the terminal reaches the owner alone, who decides who ends first.
    On Linux the kernel sends `death_signal` when the *thread* that made the child ends: make children in a
    thread that lives as long as they should, best the main thread, never in a pool. Make one within `endings_wait`,
    together with noting whose it is: one that is interrupted in between is a child that nobody stops.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        account: Account | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        guard = Path(__file__).with_name("guard.py")
        become = f"{account.uid}:{account.gid}" if account else "-"
        prefix: list[str | Path] = [
            sys.executable,
            "-I",
            "-S",
            guard,
            str(os.getpid()),
            str(int(death_signal)),
            become,
        ]
        with open(log, "ab", opener=_private) as output:
            self._process = subprocess.Popen(
                [*prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def log_tail(self, lines: int = 20) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float = 30) -> None:
        """Return once `ready()` holds; raise StartError when the process ends first or the time is up.

        The process is looked at after the answer, too: a server that found its port taken ends, and it was
        another one that answered.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            is_ready = ready()
            if not self.running:
                raise self._failure(f"ended early with status {self.status}")
            if is_ready:
                return
            if time.monotonic() > deadline:
                self.stop(grace_seconds=1)
                raise self._failure(f"wasn't ready in {timeout_seconds:g} s")
            time.sleep(0.01)

    def wait(self, timeout_seconds: float) -> int:
        """The exit status of a process that ends by itself; StartError, and no process, past the time-out."""
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._failure(f"took longer than {timeout_seconds:g} s") from None

    def ask_to_stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send `how` and return at once. A process that has ended already is fine."""
        self._process.send_signal(how)

    def finish(self, grace_seconds: float = 10) -> None:
        """Wait for the end that was asked for, and force it when the grace is over."""
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def stop(self, how: signal.Signals = signal.SIGTERM, grace_seconds: float = 10) -> None:
        self.ask_to_stop(how)
        self.finish(grace_seconds)

    def kill(self) -> None:
        """SIGKILL for the process and what it left in its group, which bears its pid until it is reaped."""
        if self.running:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.kill()
        self._process.wait()

    def _failure(self, what: str) -> StartError:
        return StartError(f"{self.name} {what}. The end of its log:\n{self.log_tail()}")
