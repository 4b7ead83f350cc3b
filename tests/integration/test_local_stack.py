"""The embedded stack itself: what it answers, where it listens, and what it leaves behind however it ends."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
import redis
from botocore.exceptions import ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from dev.directory import living, sweep, usable_root
from dev.processes import HOST, Child, StartError, answers
from dev.s3 import SentEmail
from dev.stack import BUCKETS, Stack

OWNER = """
import json, os, sys, time
from pathlib import Path
from dev.stack import Stack
with Stack(root=Path(sys.argv[1])) as stack:
    worker = stack.start_process("worker", [sys.executable, "-c", "import time; time.sleep(600)"])
    servers = [server.process for server in (stack.postgres, stack.broker, stack.s3)]
    print(json.dumps([child.pid for child in (worker, *servers)]), flush=True)
    if sys.argv[2:]:
        raise RuntimeError("an error in the block")
    time.sleep(600)
"""
WORKER = """
import signal, socket, sys, time
def finish(*_):
    ports = [int(port) for port in sys.argv[2:]]
    answers = [socket.socket().connect_ex(("127.0.0.1", port)) for port in ports]
    open(sys.argv[1], "w").write(str(answers))
    raise SystemExit
signal.signal(signal.SIGTERM, finish)
print("at work", flush=True)
time.sleep(600)
"""
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, or needs prctl")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A place for stacks of our own: pytest's are closed to the account that runs PostgreSQL for root."""
    with tempfile.TemporaryDirectory(dir=usable_root()) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="module")
def stack(root: Path) -> Iterator[Stack]:
    with Stack(root=root, versioned=["local-letters-scan"]) as stack:
        yield stack


@pytest.fixture
def owner(root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that hold a stack of their own until they are ended."""
    owners: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", OWNER, str(root), *arguments]
        output = subprocess.PIPE
        owners.append(subprocess.Popen(argv, stdout=output, stderr=subprocess.DEVNULL, text=True))
        return owners[-1]

    yield start
    for process in owners:
        process.kill()
        process.communicate()


def test_the_database_answers_in_utf8(stack: Stack) -> None:
    with closing(psycopg2.connect(stack.environment["DATABASE_URL"])) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT lower('ÉÄ'), current_setting('server_encoding'), current_setting('fsync')")
        assert cursor.fetchone() == ("éä", "UTF8", "off")


def test_the_database_needs_its_password(stack: Stack) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host=HOST, port=stack.postgres.port, user="postgres", password="guess", dbname="postgres")


def test_the_broker_answers_who_knows_its_password(stack: Stack) -> None:
    with redis.Redis.from_url(stack.environment["CELERY_BROKER_URL"]) as client:
        assert client.ping()
    once = Retry(NoBackoff(), 0)
    with (
        redis.Redis(HOST, stack.broker.port, retry=once) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_the_buckets_are_there(stack: Stack) -> None:
    with closing(stack.s3.client()) as s3:
        assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == set(BUCKETS.values())
        versioning = {name: s3.get_bucket_versioning(Bucket=name).get("Status") for name in BUCKETS.values()}
    assert versioning == dict.fromkeys(BUCKETS.values()) | {"local-letters-scan": "Enabled"}


@linux_only
def test_nothing_listens_beyond_this_machine(stack: Stack) -> None:
    servers = (stack.postgres, stack.broker, stack.s3)
    expected = {(HOST, server.port) for server in servers}
    assert {address for server in servers for address in _listening(server.process)} == expected


def test_passwords_and_logs_are_for_their_owner_only(stack: Stack) -> None:
    files = {path for path in stack.directory.iterdir() if path.is_file()}
    files.add(stack.broker.directory / "valkey.conf")
    assert {"postgres.log", "valkey.conf"} <= {path.name for path in files}
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []
    assert not (stack.postgres.directory / "password").exists()


def test_a_copy_of_a_database_holds_its_rows(stack: Stack) -> None:
    source = stack.postgres.create_database("source")
    _execute(source, "CREATE TABLE kept AS SELECT 1 AS one")
    copy = stack.postgres.create_database("copy", template="source")
    assert _execute(copy, "SELECT one FROM kept") == [(1,)]
    with closing(psycopg2.connect(copy)):
        stack.postgres.drop_database("copy")  # although somebody is connected
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(copy)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restarted_database_keeps_port_and_data(stack: Stack, mode: str) -> None:
    url = stack.postgres.create_database(f"restart_{mode}")
    _execute(url, "CREATE TABLE kept AS SELECT 1 AS one")
    pid = stack.postgres.process.pid
    stack.postgres.restart(mode)
    assert stack.postgres.process.pid != pid
    assert _execute(url, "SELECT one FROM kept") == [(1,)]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_broker_keeps_port_and_queue(stack: Stack, how: signal.Signals) -> None:
    with redis.Redis.from_url(stack.broker.url) as client:
        client.rpush(f"queue-{how.name}", "a task")
        assert client.config_get("appendfsync") == {"appendfsync": "always"}  # else a kill may take what was confirmed
    stack.broker.restart(how)
    with redis.Redis.from_url(stack.broker.url) as client:
        assert client.lrange(f"queue-{how.name}", 0, -1) == [b"a task"]


def test_a_durable_database_has_the_settings_of_production(root: Path) -> None:
    with Stack(root=root, durable=True, postgres_settings={"work_mem": "7MB"}) as durable:
        names = ("fsync", "synchronous_commit", "full_page_writes", "work_mem")
        answer = _execute(durable.postgres.url, "SELECT " + ", ".join(f"current_setting('{n}')" for n in names))
    assert answer == [("on", "on", "on", "7MB")]


def test_a_process_on_the_stack_sees_the_stack_and_nothing_real(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://production.example/notifications")
    monkeypatch.setenv("AWS_PROFILE", "production")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    child = stack.start_process("printer", [sys.executable, "-c", code], env={"EXTRA": "1"})
    assert child.wait(10) == 0
    seen = json.loads((stack.directory / "printer.log").read_text())
    assert seen["DATABASE_URL"] == stack.postgres.url
    assert seen["EXTRA"] == "1"
    assert seen["TMPDIR"] == str(stack.directory)  # removed with it, also what a killed process left
    assert "AWS_PROFILE" not in seen


def test_what_runs_on_the_servers_ends_before_them(root: Path, tmp_path: Path) -> None:
    with Stack(root=root) as ending:
        ports = [str(server.port) for server in (ending.postgres, ending.broker, ending.s3)]
        argv = [sys.executable, "-c", WORKER, tmp_path / "answers", *ports]
        worker = ending.start_process("worker", argv)
        worker.wait_until(lambda: "at work" in worker.log_tail())
    assert worker.status == 0
    assert (tmp_path / "answers").read_text() == "[0, 0, 0]"


def test_a_running_process_is_not_started_twice(stack: Stack) -> None:
    child = stack.start_process("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(StartError, match="running already"):
        stack.start_process("sleeper", [sys.executable, "-c", "pass"])
    child.kill()
    assert stack.start_process("sleeper", [sys.executable, "-c", "pass"]).wait(10) == 0


def test_a_living_stack_is_not_swept(stack: Stack, root: Path) -> None:
    sweep(root)
    assert stack.directory in living(root)
    assert stack.directory.is_dir()


@linux_only
def test_servers_die_with_their_owner_and_the_next_stack_sweeps(
    root: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    before = set(root.iterdir())
    process = owner()
    pids = _pids_told_by(process)
    directory = (set(root.iterdir()) - before).pop()
    process.kill()
    process.wait()
    assert _gone(pids)
    assert directory.exists()
    with Stack(root=root):
        assert not directory.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_owner_told_to_end_leaves_no_process_and_no_directory(
    root: Path, owner: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    before = set(root.iterdir())
    process = owner()
    pids = _pids_told_by(process)
    process.send_signal(number)
    assert process.wait(30) != 0
    assert not [pid for pid in pids if _is_running(pid)]
    assert set(root.iterdir()) <= before


@pytest.mark.parametrize("sign", ["broker.log", "s3.log", "postgres/data/base"])
def test_an_owner_interrupted_while_it_starts_leaves_no_directory(
    root: Path, owner: Callable[..., subprocess.Popen[str]], sign: str
) -> None:
    before = set(root.iterdir())
    process = owner()
    deadline = time.monotonic() + 30
    while not any((path / sign).exists() for path in set(root.iterdir()) - before):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    assert set(root.iterdir()) <= before


@pytest.mark.parametrize("count", range(1, 5))  # initdb, the broker, S3, PostgreSQL
def test_an_interruption_right_after_a_fork_leaves_no_process_and_no_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)
            if len(started) == count:
                signal.raise_signal(signal.SIGINT)

    before = set(root.iterdir())
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        Stack(root=root).__enter__()
    assert len(started) == count
    assert all(process.poll() is not None for process in started)
    assert set(root.iterdir()) == before


def test_an_error_in_the_block_leaves_no_process_and_no_directory(
    root: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    before = set(root.iterdir())
    process = owner("fail")
    pids = _pids_told_by(process)
    assert process.wait(30) == 1
    assert not [pid for pid in pids if _is_running(pid)]
    assert set(root.iterdir()) <= before


def test_a_stack_that_cannot_start_says_why_and_leaves_nothing(root: Path) -> None:
    before = set(root.iterdir())
    failing = Stack(root=root, postgres_settings={"shared_buffers": "a lot"})
    with pytest.raises(StartError, match="shared_buffers"):
        failing.__enter__()
    assert not answers(failing.broker.port)
    assert not answers(failing.s3.port)
    assert set(root.iterdir()) <= before


def _execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchall() if statement.startswith("SELECT") else []


def _pids_told_by(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    pids: list[int] = json.loads(process.stdout.readline())
    assert len(pids) == 4
    return pids


def _gone(pids: list[int], within_seconds: float = 10) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        if not any(_is_running(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _is_running(pid: int) -> bool:
    """Whether there is such a process; one that is dead and not yet reaped isn't running."""
    try:
        os.kill(pid, 0)
        if sys.platform.startswith("linux"):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
    return True


def _listening(process: Child) -> set[tuple[str, int]]:
    """Addresses and ports on which the process or a descendant of it accepts TCP connections, from /proc."""
    inodes = set()
    for pid in _family(process.pid):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in inodes:
                address, port = local.split(":")
                found.add((HOST if address == "0100007F" else address, int(port, 16)))
    return found


def _family(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(descendant for child in children for descendant in _family(child))]


def test_the_stack_takes_emails_from_its_own_sender_only_and_remembers_them(stack):
    address = stack.environment["EMAIL_SENDER"]
    content = {"Simple": {"Subject": {"Data": "Hello"}, "Body": {"Html": {"Data": "<p>Hello</p>"}}}}
    session = boto3.Session("key", "secret", region_name="eu-west-1")
    with closing(session.client("sesv2", endpoint_url=stack.environment["AWS_ENDPOINT_URL_SESV2"])) as ses:
        with pytest.raises(ClientError, match="not verified"):
            ses.send_email(
                FromEmailAddress="b@elsewhere.test", Destination={"ToAddresses": ["a@b.test"]}, Content=content
            )
        ses.send_email(FromEmailAddress=address, Destination={"ToAddresses": ["a@b.test"]}, Content=content)
    assert stack.s3.sent_emails() == [SentEmail("a@b.test", "Hello", "<p>Hello</p>")]
