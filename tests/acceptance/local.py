"""`python -m dev`, started as a newcomer's shell would start it."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS_TO_END = 120


class Local:
    """Starts subcommands of `python -m dev`, as from a shell with nothing but `environment` exported."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self.state = temporary / "stack.json"
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, watched: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """`watched`: where what its processes logged is told about (demo_logs.py)."""
        module = ["tests.acceptance.demo_logs", watched] if watched else ["dev"]
        usual = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", *module, *arguments],
            cwd=ROOT,
            env=usual | {"TMPDIR": str(self.temporary), "PYTHONUNBUFFERED": "1"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def up(self, **environment: str) -> tuple[subprocess.Popen[str], str]:
        """`up`, once it is ready, and what it has printed."""
        process = self.start("up", "--state", str(self.state), **environment)
        return process, read_until(process, "next: make shell")

    def shell(self, line: str) -> str:
        """What a shell prints that is given this line."""
        return self.start("shell", "--state", str(self.state)).communicate(line, SECONDS_TO_END)[0]

    def left_running(self) -> list[str]:
        """Command lines of processes that have to do with the temporary directory. Linux alone can say."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                command = (process / "cmdline").read_bytes()
                if str(self.temporary).encode() in command + (process / "environ").read_bytes():
                    found.append(command.replace(b"\0", b" ").decode())
        return found


def read_until(process: subprocess.Popen[str], what: str) -> str:
    """The output up to the line that holds `what`."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if what in line:
            return read
    raise AssertionError(f"{what!r} was never printed:\n{read}")


def end(process: subprocess.Popen[str], how: signal.Signals) -> str:
    """Send the signal; the rest of the output."""
    process.send_signal(how)
    try:
        return process.communicate(timeout=SECONDS_TO_END)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
