"""Being told to end, by whichever signal, leads through the same clean-up as Ctrl-C.

Only the main thread can set handlers; elsewhere these do nothing.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


SECONDS_UNTIL_AGAIN = 3
"""Longer than it takes from the exception to the clean-up."""


def _interrupt(signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


def _insist(signum: int, frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, SECONDS_UNTIL_AGAIN)
    _interrupt(signum, frame)


@contextmanager
def endings_insist() -> Iterator[None]:
    """Each of them raises KeyboardInterrupt, again and again until `cleaning_up` begins, or the block is left.

    Once is not enough: raised inside of a destructor or of a callback from C, an exception is dropped.
    For a program's own main function: it takes the alarm for itself.
    """
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGALRM)}
    changed = [number for number, handler in before.items() if handler in usual]
    try:
        for number in changed:
            signal.signal(number, _insist)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in changed:
            signal.signal(number, before[number])


@contextmanager
def endings_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, where nobody else handles or ignores them (nohup).

    KeyboardInterrupt and not SystemExit: pytest takes the latter for a failed test and goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    changed = [number for number in ENDING[1:] if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in changed:
            signal.signal(number, _interrupt)
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def endings_wait() -> Iterator[None]:
    """Hold them back until the block is through, then deliver the first: for what must not be half done.

    One that `endings_insist` is about to repeat is held back as well, and delivered afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    numbers = (*ENDING, signal.SIGALRM) if signal.getsignal(signal.SIGALRM) is _insist else ENDING
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, lambda signum, _frame: held.append(signum))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if held:
            signal.raise_signal(held[0])


@contextmanager
def cleaning_up() -> Iterator[None]:
    """As `endings_wait`, for what an ending leads to: one that was told already is not told again."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGALRM) is _insist:
        signal.setitimer(signal.ITIMER_REAL, 0)
    with endings_wait():
        yield
