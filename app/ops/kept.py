"""What was looked at is kept for a moment, so that many open pages cost as much as one."""

import threading
import time
from collections.abc import Callable
from typing import Any

TIMES_AS_LONG = 10
"""A look is kept for so many times as long as it took: looking never takes more than a tenth of the time."""


class Kept:
    """Results of looks, by name. One per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, tuple[float, Any]] = {}
        self._changes = 0

    def get(self, name: str, look: Callable[[], Any], seconds: float) -> Any:
        """What the look gave at most `seconds` ago, or longer where it takes long; else look now."""
        with self._lock:
            until, kept = self._until.get(name, (0.0, None))
            changes = self._changes
        began = time.monotonic()
        if began < until:
            return kept
        found = look()
        ended = time.monotonic()
        with self._lock:
            if changes == self._changes:  # else it may have looked before the change, and is of use to this caller only
                self._until[name] = (ended + max(seconds, TIMES_AS_LONG * (ended - began)), found)
        return found

    def forget(self) -> None:
        """Look anew: somebody has just changed something."""
        with self._lock:
            self._changes += 1
            self._until.clear()
