"""Become another program, bound to the life of the process that asked for it.

Run as a script, `python -I -S guard.py PARENT_PID SIGNAL UID:GID PROGRAM ARGUMENT...`; UID:GID may be "-".
A script in front of the program, and not a function between fork and exec (`preexec_fn`), because code there
can deadlock when the parent has threads, and Python 3.12 warns about it, which our tests turn into an error.

The order matters twice: the kernel forgets the parent-death signal when a process changes its user, so that
comes first; and a parent that died before the signal was set would never be noticed, so it is looked at last.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(account: str) -> None:
    """Give up root for `uid:gid`, supplementary groups included; "-" stays what it is."""
    if account == "-":
        return
    uid, gid = (int(part) for part in account.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with(parent_pid: int, death_signal: int) -> None:
    """Ask the kernel for `death_signal` when the parent's thread ends. Elsewhere than on Linux: nothing."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(death_signal), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent_pid:
        raise SystemExit("The parent process ended before its child was ready")


def main(arguments: list[str]) -> None:
    parent_pid, death_signal, account, program = arguments[:4]
    become(account)
    die_with(int(parent_pid), int(death_signal))
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):  # and the next program would inherit that
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execvp(program, arguments[3:])  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise SystemExit(f"{program} can't be started: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
