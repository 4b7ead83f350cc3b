"""The temporary directory of one stack, and the sweeping of those whose owner died.

The owner holds a lock on a marker file in it. The kernel lets go of the lock when the owner ends, whatever
ended it, and unlike a recorded pid it can't be mistaken after a reboot, or from another container that shares
the temporary directory. A directory is swept only when it has our prefix, is ours, has the marker, and the
lock is free. The marker goes last, so that a sweep which was cut short is finished by the next one.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from dev.processes import StartError

PREFIX = "notifications-local-"
MARKER = "owner"


class StackDirectory:
    """A new directory under the temporary directory, locked by this process until `remove`."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or usable_root()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.root))
        if os.geteuid() == 0:
            self.path.chmod(0o711)  # the account that runs PostgreSQL must reach its own folder in here
        self._lock = _new_marker(self.path)

    def remove(self) -> None:
        """What can't be removed now, because something still writes to it, is left to the next sweep."""
        if not self._lock.closed:
            with self._lock, suppress(OSError):
                _empty(self.path)


def usable_root() -> Path:
    """Where stacks live. As root, another account runs programs from a copy there, so it must be able to."""
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - mkdtemp follows
    for candidate in candidates:
        if os.geteuid() != 0 or (candidate.is_dir() and _others_may_run(candidate)):
            return candidate
    raise StartError(f"No account but root may run programs under {' or '.join(map(str, candidates))}")


def sweep(root: Path) -> list[Path]:
    """Remove the directories of stacks whose owner is gone; returns those that were removed."""
    return [path for path in sorted(root.glob(PREFIX + "*")) if _is_ours(path) and _sweep_one(path)]


def living(root: Path) -> list[Path]:
    """The directories of our own stacks whose owner is alive."""
    return [path for path in sorted(root.glob(PREFIX + "*")) if _is_ours(path) and _is_locked(path)]


def _others_may_run(path: Path) -> bool:
    reachable = all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents))
    return reachable and not os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0)


def _is_ours(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False  # its own owner removed it in the meantime
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _new_marker(directory: Path) -> IO[str]:
    """Locked first and named afterwards: a sweep never finds it unlocked while its owner lives."""
    nameless = directory / f".{MARKER}"
    marker = os.fdopen(os.open(nameless, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w")
    fcntl.flock(marker, fcntl.LOCK_EX)
    marker.write(f"{os.getpid()}\n")  # for people; nothing reads it
    marker.flush()
    nameless.rename(directory / MARKER)
    return marker


def _is_locked(path: Path) -> bool:
    try:
        with (path / MARKER).open() as marker:
            fcntl.flock(marker, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _sweep_one(path: Path) -> bool:
    try:
        with (path / MARKER).open("r+") as marker:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(path)
    except OSError:
        return False  # no marker, a living owner, or another sweep
    return not path.exists()


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != MARKER:
            entry.unlink(missing_ok=True)
    if {entry.name for entry in directory.iterdir()} == {MARKER}:
        (directory / MARKER).unlink()
        directory.rmdir()
