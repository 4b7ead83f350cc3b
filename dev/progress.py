"""What a person sees while a seed or a night is under way: bars on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.text import Text

from dev.verify import Due

SECONDS_BETWEEN_LINES = 3
LEAST_WIDTH = 120
COUNT = TextColumn("{task.completed:>9,.0f} of {task.total:,.0f}")
TYPE_NAMES = {"email": "emails", "sms": "texts", "letter": "letters"}


class Done(NamedTuple):
    """What a night has done so far for a type."""

    rows: int = 0
    files: int = 0


def console() -> Console:
    """For standard output; wide enough for the tables when that is a file or a pipe."""
    made = Console(highlight=False)
    return made if made.is_terminal or made.width >= LEAST_WIDTH else Console(highlight=False, width=LEAST_WIDTH)


class Rate(ProgressColumn):
    """Rows a second, lately."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="cyan")


class _Lines:
    """Lets a line through every few seconds."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._last = time.monotonic()

    def say(self, line: str, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._out.print(line, soft_wrap=True)


class _Bars:
    """Bars while the block runs, on a terminal alone."""

    def __init__(self, out: Console, bars: Progress) -> None:
        self._lines = None if out.is_terminal else _Lines(out)
        self._bars = bars

    def __enter__(self) -> Self:
        if not self._lines:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._lines:
            self._bars.stop()


class SeedProgress(_Bars):
    """A seed's report: call it with a part, how many of it were just written, and how many there will be."""

    def __init__(self, out: Console) -> None:
        columns = (TextColumn("  {task.description:<17}"), BarColumn(), COUNT, Rate())
        super().__init__(out, Progress(*columns, TimeLeft(), console=out))
        self._all = self._bars.add_task("seeding", total=0)
        self._parts: dict[str, TaskID] = {}

    def __call__(self, part: str, written: int, total: int) -> None:
        if part not in self._parts:
            self._parts[part] = self._bars.add_task(part, total=total)
            self._bars.update(self._all, total=(self._task(self._all).total or 0) + total)
        for bar in (self._all, self._parts[part]):
            self._bars.update(bar, advance=written)
        if self._lines and written:
            done, overall = self._task(self._parts[part]), self._task(self._all)
            self._lines.say(
                f"  seeding: {overall.percentage:3.0f} %, {part} {done.completed:,.0f} of {total:,}",
                at_once=done.finished,
            )

    def _task(self, bar: TaskID) -> Task:
        return next(task for task in self._bars.tasks if task.id == bar)


class NightProgress(_Bars):
    """A night's: show it what is done, by type."""

    def __init__(self, out: Console, due: dict[str, Due]) -> None:
        columns = (TextColumn("  {task.description:<8}"), BarColumn(), COUNT, TextColumn("rows"))
        files = TextColumn("{task.fields[files]}")
        super().__init__(out, Progress(*columns, Rate(), TimeLeft(), files, console=out))
        self._due = due
        self._started = time.monotonic()
        self._types = {
            kind: self._bars.add_task(name, total=due[kind].rows, files="")
            for kind, name in TYPE_NAMES.items()
            if kind in due
        }

    def show(self, done: dict[str, Done]) -> None:
        for kind, bar in self._types.items():
            rows, files = done.get(kind, Done())
            note = f"{files:,}/{self._due[kind].files:,} files" if self._due[kind].files else ""
            self._bars.update(bar, completed=rows, files=note)
        if self._lines:
            self._lines.say("  " + self._line(done))

    def _line(self, done: dict[str, Done]) -> str:
        parts = [
            f"{TYPE_NAMES[kind]} {done.get(kind, Done()).rows:,} of {self._due[kind].rows:,}" for kind in self._types
        ]
        rows = sum(done.get(kind, Done()).rows for kind in self._types)
        left = sum(self._due[kind].rows for kind in self._types) - rows
        files = sum(done.get(kind, Done()).files for kind in self._types)
        rate = rows / max(time.monotonic() - self._started, 0.001)
        time_left = f", {left / rate:.0f} s left" if rate else ""
        return f"{'; '.join(parts)}; {files:,} files deleted; {rate:,.0f} rows/s{time_left}"
