"""Worker processes that are forked off one which has imported everything: importing is most of what a start costs.

    child = worker_process("worker", [sys.executable, "-m", "celery", ...], log=…, env=…, cwd=…)

What is forked runs the same module's `__main__`, or what follows `-c`, with the same arguments, environment, log and
session as a process of its own would, and is ended through the same `Child`. Only what is read while modules are
imported is the fork server's own: a process whose environment says otherwise there (`READ_AT_IMPORT`) is started the
long way. That the product's command lines also start by themselves is shown by the demo, by `make up` and in
tests/integration.

The server is started by `python -m tests.forkserver DESCRIPTOR` and ends with its socket. It reaps a child only when it
is asked for it, so that a pid always means the process that it was given to.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import configure_mappers

from dev.guard import PR_SET_PDEATHSIG
from dev.processes import Child
from tests import remembered

ROOT = Path(__file__).parents[1]
KEPT = ("PATH", "HOME", "LANG", "PYTHONHASHSEED")
SECONDS_OF_A_COMMAND = 60
REMAPPED = {"REMAP_SIGTERM": "SIGQUIT"}
"""Celery reads it while it is imported; so have all workers of the tests, but for those about it."""
READ_AT_IMPORT = ("REMAP_SIGTERM", "AUTOSCALE_", "CELERY_WORKER_", "OTEL_", "PROMETHEUS_", "SENTRY_")
MODULES = (
    *("celery.__main__", "celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.apps.beat"),
    *("celery.concurrency.prefork", "celery.worker.autoscale", "celery.fixups.django", "celery.app.log"),
    *("kombu.transport.redis", "kombu.transport.pyamqp", "psycopg2.extras", "app", "app.celery", "flask.cli"),
    *("app.wiring", "app.web_worker", "gunicorn.app.wsgiapp"),
)
"""With the modules of the tasks, all that a worker, beat, a web process or a command imports."""


class Spawned:
    """What `Child` needs of a `subprocess.Popen`."""

    def __init__(self, server: "ForkServer", pid: int, argv: Sequence[str]) -> None:
        self.pid = pid
        self._server, self._argv = server, argv
        self._status: int | None = None
        self._polling = threading.Lock()

    def poll(self) -> int | None:
        with self._polling:  # it is reaped once
            if self._status is None:
                self._status = self._server.ask(poll=self.pid)
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self._argv, timeout or 0)
            time.sleep(0.005)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedChild(Child):
    """A `Child` of the fork server."""

    def __init__(self, name: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.name, self.log = name, log
        log.touch(mode=0o600)
        self._process: Any = server().spawn(argv, log, env, cwd)


class ForkServer:
    """The server's process, seen from the one that started it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-m", __name__, str(theirs.fileno())]
        usual = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=usual | REMAPPED,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._socket, self._lines = ours, ours.makefile("rw")

    def spawn(
        self,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        cwd: Path,
        *,
        errors: Path | None = None,
        typed: Path | None = None,
    ) -> Spawned:
        """`errors`: the file of its standard error, if not the log; `typed`: of its standard input, if it has any."""
        files = [str(typed or os.devnull), str(log), str(errors or log)]
        return Spawned(self, self.ask(argv=[*map(str, argv)], files=files, env=dict(env), cwd=str(cwd)), argv)

    def ask(self, **what: Any) -> Any:
        with self._lock:
            self._lines.write(json.dumps(what) + "\n")
            self._lines.flush()
            return json.loads(self._lines.readline())

    def close(self) -> None:
        """The server ends, and with it whatever still runs."""
        self._lines.close()
        self._socket.close()
        self.process.wait()


_server: ForkServer | None = None


def server() -> ForkServer:
    """The one of this process, started when it is first needed."""
    global _server
    if _server is None:
        _server = ForkServer()
    return _server


def close() -> None:
    """End it, if it was started."""
    global _server
    if _server is not None:
        _server.close()
        _server = None


started: list[Child] = []
"""By the test that runs; if it fails, their logs are shown (tests/conftest.py)."""


def worker_process(name: str, argv: Sequence[Any], *, log: Path, env: Mapping[str, str], cwd: Path) -> Child:
    """Start `python -m module …` or `python -c code …`; forked where nothing is lost by it."""
    child = (ForkedChild if can_be_forked(str(argv[2]), env) else Child)(
        name, [*map(str, argv)], log=log, env=env, cwd=cwd
    )
    started.append(child)
    return child


def command(argv: Sequence[str], *, env: Mapping[str, str], typed: str = "") -> "subprocess.CompletedProcess[str]":
    """What `python -m module …` says and how it ends; it has a minute."""
    if not can_be_forked(argv[0], env):
        whole = [sys.executable, "-m", *argv]
        return subprocess.run(
            whole, env=dict(env), input=typed, capture_output=True, text=True, timeout=SECONDS_OF_A_COMMAND, cwd=ROOT
        )
    with tempfile.TemporaryDirectory(prefix="command-") as name:
        files = said, errors, asked = [Path(name, file) for file in ("said", "errors", "typed")]
        asked.write_text(typed)
        process = server().spawn([sys.executable, "-m", *argv], said, env, ROOT, errors=errors, typed=asked)
        try:
            status = process.wait(SECONDS_OF_A_COMMAND)
        finally:
            process.kill()
        return subprocess.CompletedProcess([*argv], status, *(file.read_text() for file in files[:2]))


def can_be_forked(module: str, env: Mapping[str, str]) -> bool:
    """Whether what the environment says of imports is what the fork server has done."""
    at_import = {variable: env[variable] for variable in env if variable.startswith(READ_AT_IMPORT)}
    if module != "celery":
        at_import.pop("REMAP_SIGTERM", None)
    return sys.platform.startswith("linux") and at_import == (REMAPPED if module == "celery" else {})


def serve(descriptor: int) -> dict[str, Any] | None:
    """Answer until the socket is closed. Returns twice: in each child what it is to run, and None at the end."""
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rw") as lines:
        for line in lines:
            asked = json.loads(line)
            if "poll" in asked:
                pid, status = os.waitpid(asked["poll"], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if pid else None
            else:
                answer = os.fork()
                if not answer:
                    return asked
            lines.write(json.dumps(answer) + "\n")
            lines.flush()
    return None


def become(asked: dict[str, Any], server_pid: int) -> None:
    """Be the process that was asked for: its session, log, environment and directory. See dev/guard.py."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != server_pid:
        raise SystemExit("The fork server ended before its child was ready")
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for standard, (file, flags) in enumerate(zip(asked["files"], (os.O_RDONLY, appended, appended), strict=True)):
        opened = os.open(file, flags, mode=0o600)
        os.dup2(opened, standard)
        os.close(opened)
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    os.chdir(asked["cwd"])
    sys.path[0] = asked["cwd"]
    _, how, what, *arguments = asked["argv"]
    sys.argv = [what if how == "-m" else how, *arguments]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        assert how == "-c"
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102


def main() -> None:
    for module in MODULES:
        importlib.import_module(module)
    for module in importlib.import_module("app.celery.schedule").TASK_MODULES:
        importlib.import_module(module)
    configure_mappers()
    remembered.clients_now()
    gc.collect()
    gc.freeze()
    own_pid = os.getpid()
    asked = serve(int(sys.argv[1]))
    if asked is not None:
        become(asked, own_pid)


if __name__ == "__main__":
    main()
