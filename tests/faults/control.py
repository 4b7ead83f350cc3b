"""A directory through which the laboratory tells worker processes what to do at which point, each thing once.

An order is a file; who renames it has claimed it, so that of many processes exactly one obeys.
"""

import itertools
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

PASS, KILL_WORKER, KILL_CHILD, RAISE, SLEEP = "pass", "kill-worker", "kill-child", "raise", "sleep"
KILLS = (KILL_WORKER, KILL_CHILD)


class Control:
    """Orders for points: armed by the laboratory, claimed by workers, the first armed first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._orders = directory / "orders"
        self._claims = directory / "claims"
        self._ready = directory / "ready"
        self._clock = directory / "clock"
        self._numbers = itertools.count()
        for made in (self._orders, self._claims, self._ready):
            made.mkdir(parents=True, exist_ok=True)

    def arm(self, point: str, action: str, passes: int = 0) -> None:
        """Order the action at the point, after it was passed so many times by whichever process."""
        for order in (*[PASS] * passes, action):
            name = f"{next(self._numbers):06d}@{point}"
            hidden = self._claims / f".{name}"
            hidden.write_text(order)
            hidden.rename(self._orders / name)

    def claim(self, point: str) -> str | None:
        """The next order at the point, which is this process's to obey now, or None."""
        for name in sorted(os.listdir(self._orders)):
            if name.endswith(f"@{point}"):
                mine = self._claims / f"{name}@{os.getpid()}"
                with suppress(FileNotFoundError):  # another process was quicker
                    os.rename(self._orders / name, mine)
                    return mine.read_text()
        return None

    def claimed(self) -> list[tuple[str, str]]:
        """Points and actions that were obeyed; passes are none."""
        found = [(path.name.split("@")[1], path.read_text()) for path in self._claims.glob("[0-9]*")]
        return [(point, action) for point, action in found if action != PASS]

    def clear(self) -> None:
        """No orders, no claims, the real time."""
        for path in (*self._orders.iterdir(), *self._claims.iterdir(), self._clock):
            path.unlink(missing_ok=True)

    def shift_clock(self, shift: timedelta) -> None:
        """Let the workers' clock be so much ahead of the real one (negative: behind)."""
        hidden = self._clock.with_suffix(".new")
        hidden.write_text(str(shift.total_seconds()))
        hidden.rename(self._clock)

    def shift(self) -> timedelta:
        """How much the workers' clock is ahead."""
        try:
            return timedelta(seconds=float(self._clock.read_text()))
        except FileNotFoundError:
            return timedelta(0)

    def say_ready(self, worker: str) -> None:
        (self._ready / worker).touch()

    def forget_ready(self, worker: str) -> None:
        (self._ready / worker).unlink(missing_ok=True)

    def is_ready(self, worker: str) -> bool:
        return (self._ready / worker).exists()
