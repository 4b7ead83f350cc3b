"""What a newcomer starts, `make demo`, `make up` and `make shell`, as processes of their own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS_TO_END = 60

# What must never be reached, whatever the shell has exported: closed ports, a profile that doesn't exist, and
# settings that would spoil the night.
REAL_SYSTEM = {
    "DATABASE_URL": "postgresql://someone:secret@127.0.0.1:9/production",
    "CELERY_BROKER_URL": "redis://127.0.0.1:9/0",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "REALKEY",
    "S3_BUCKET_LETTERS_PDF": "production-letters",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "PGHOST": "127.0.0.1",
    "PGPORT": "9",
    "LETTERS_PER_STEP": "nonsense",
    "RETENTION_TIMEZONE": "Pacific/Auckland",
}


class Local:
    """Starts subcommands of `python -m app.local`, as from a shell with nothing but `environment` exported."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self.state = temporary / "stack.json"
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        usual = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", "app.local", *arguments],
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


@pytest.fixture
def local() -> Iterator[Local]:
    """On a temporary directory that other accounts can reach: root's PostgreSQL runs as another one."""
    with tempfile.TemporaryDirectory(prefix="demo-test-") as name:
        temporary = Path(name)
        temporary.chmod(0o711)
        made = Local(temporary)
        yield made
        for process in made.processes:  # those that a failed test left
            if process.returncode is None:
                end(process, signal.SIGTERM)


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


def test_the_demo_verifies_its_night_whatever_the_shell_has_exported_and_leaves_nothing(local):
    demo = local.start("demo", "--scale", "0.4", **REAL_SYSTEM)
    printed = demo.communicate(timeout=300)[0]
    assert demo.returncode == 0, printed
    assert "0 rows lost, 0 files orphaned, 0 kept too long" in printed.splitlines()
    assert "31 kinds of awkward cases checked, 0 wrong" in printed
    steps, slices = re.search(r"the largest took (\d+) steps, in up to (\d+) slices", printed).groups()
    assert int(steps) >= 3
    assert int(slices) >= 2
    assert list(local.temporary.iterdir()) == []
    assert local.left_running() == []


@pytest.mark.parametrize(("when", "how"), [("seeding", signal.SIGINT), ("now the night", signal.SIGTERM)])
def test_a_demo_that_is_interrupted_removes_everything(local, when, how):
    demo = local.start("demo", "--scale", "0.3")
    read_until(demo, when)
    assert local.left_running() != []
    printed = end(demo, how)
    assert demo.returncode == 130, printed
    assert "Stopped; everything is removed." in printed
    assert list(local.temporary.iterdir()) == []
    assert local.left_running() == []


def test_the_stack_stays_up_for_a_shell_until_it_is_told_to_end(local):
    up, printed = local.up(AWS_PROFILE="production")
    exported = dict(re.findall(r"^export (\w+)=(.*)$", printed, re.MULTILINE))
    assert exported["DATABASE_URL"].startswith("postgresql://")
    assert json.loads(local.state.read_text())["environment"] == exported
    assert local.state.stat().st_mode & 0o777 == 0o600
    web = re.search(r"http://\S+/health/live", printed)[0]
    with urllib.request.urlopen(web, timeout=SECONDS_TO_END) as answer:  # noqa: S310 - our own server
        assert answer.status == 200
    assert "['services', 6]" in local.shell("print(['services', db.session.query(Service).count()])\n")
    second = local.start("up", "--state", str(local.state))
    assert "is running already in this checkout" in second.communicate(timeout=SECONDS_TO_END)[0]
    assert second.returncode == 1
    rest = end(up, signal.SIGTERM)
    assert up.returncode == 130, rest
    assert list(local.temporary.iterdir()) == []
    assert local.left_running() == []
    assert "Nothing is running" in local.shell("")


def test_a_stack_whose_worker_ends_says_so_and_stops(local):
    up, _ = local.up()
    children = Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()
    (worker,) = (pid for pid in children if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(int(worker), signal.SIGKILL)
    printed = up.communicate(timeout=SECONDS_TO_END)[0]
    assert up.returncode == 1
    assert "worker ended, status -9. Its log:" in printed
    assert list(local.temporary.iterdir()) == []
    assert local.left_running() == []
