import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path

import pytest

from dev import processes, signals
from dev.processes import HOST, Child, StartError, answers, free_port
from dev.signals import cleaning_up, endings_insist, endings_interrupt, endings_wait

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""


class Children:
    """Makes children that are gone after the test, whatever it did."""

    def __init__(self, directory: Path, ends: ExitStack) -> None:
        self.directory = directory
        self.ends = ends

    def __call__(self, code: str) -> Child:
        log = self.directory / "child.log"
        child = Child("child", [sys.executable, "-c", code], log=log, env=dict(os.environ))
        self.ends.callback(child.kill)
        return child


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    with ExitStack() as ends:
        yield Children(tmp_path, ends)


def test_a_child_that_ends_early_shows_the_end_of_its_log(children: Children) -> None:
    child = children("print('the reason'); raise SystemExit(3)")
    with pytest.raises(StartError, match=r"child ended early with status 3(?s:.*)the reason"):
        child.wait_until(lambda: False)


def test_an_answer_that_comes_from_another_process_does_not_count(children: Children) -> None:
    child = children("raise SystemExit('the port is taken')")
    child.wait(10)
    with pytest.raises(StartError, match="the port is taken"):
        child.wait_until(lambda: True)


def test_a_child_that_is_never_ready_is_stopped(children: Children) -> None:
    child = children("import time; time.sleep(60)")
    with pytest.raises(StartError, match="wasn't ready in"):
        child.wait_until(lambda: False, timeout_seconds=0.05)
    assert not child.running


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    child = Child("child", [tmp_path / "missing"], log=tmp_path / "child.log", env={})
    with pytest.raises(StartError, match="missing can't be started"):
        child.wait_until(lambda: False)


def test_a_child_that_ignores_the_request_is_killed_after_the_grace(children: Children) -> None:
    child = children(STUBBORN)
    child.wait_until(lambda: "deaf" in child.log_tail())
    child.stop(grace_seconds=0.05)
    assert child.status == -signal.SIGKILL


def test_killing_a_child_ends_its_own_children(children: Children) -> None:
    child = children("import os, time; print(os.fork(), flush=True); time.sleep(60)")
    child.wait_until(lambda: len(child.log_tail().split()) == 2)
    grandchild = max(int(pid) for pid in child.log_tail().split())
    child.kill()
    deadline = time.monotonic() + 5
    while _is_running(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_running(grandchild)


def test_a_log_is_for_its_owner_only(children: Children, tmp_path: Path) -> None:
    children("print('a secret')").wait(10)
    assert (tmp_path / "child.log").stat().st_mode & 0o077 == 0


def test_ports_are_free_and_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PORTS", range(29_000, 29_080))
    ports = [free_port() for _ in range(40)]
    assert len(set(ports)) == 40
    with socket.create_server((HOST, ports[0])):
        assert answers(ports[0])
    assert not answers(ports[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_end_is_an_interrupt(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # a stack that is open around the tests has set its own
    try:
        with pytest.raises(KeyboardInterrupt), endings_interrupt():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


@pytest.fixture
def insistent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a program of its own has it, and with less patience."""
    monkeypatch.setattr(signals, "SECONDS_UNTIL_AGAIN", 0.05)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("insistent")
def test_an_ending_that_was_dropped_is_told_again() -> None:
    def work() -> None:
        with suppress(KeyboardInterrupt):  # as Python does inside of a destructor
            signal.raise_signal(signal.SIGTERM)
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt), endings_insist():
        work()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("insistent")
def test_nothing_is_told_again_once_the_clean_up_has_begun() -> None:
    with endings_insist():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with cleaning_up():
            assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.usefixtures("insistent")
def test_an_ending_that_was_dropped_is_told_again_though_a_process_is_started_meanwhile() -> None:
    done = []

    def work() -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with endings_wait():
            time.sleep(0.2)
            done.append("started")
        done.append("went on")

    with pytest.raises(KeyboardInterrupt), endings_insist():
        work()
    assert done == ["started"]


@pytest.mark.parametrize("during", [endings_interrupt, endings_wait, cleaning_up])
def test_an_ignored_signal_stays_ignored(during: Callable[[], AbstractContextManager[None]]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with during():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_impatient_interrupt_waits_for_the_end_of_the_clean_up() -> None:
    done = []

    def clean_up() -> None:
        with cleaning_up():
            signal.raise_signal(signal.SIGINT)
            done.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    assert done == ["cleaned up"]


def _is_running(pid: int) -> bool:
    """Whether there is such a process; one that is dead and not yet reaped isn't running."""
    try:
        os.kill(pid, 0)
        if sys.platform.startswith("linux"):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
    return True
