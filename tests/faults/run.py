"""What a fault may do in a run. A fault is a function that gets the run before anything is seeded.

@fault("PostgreSQL is restarted")
def restart(run: Run) -> None:
    run.at(run.random.uniform(0.2, 1.0), run.lab.stack.postgres.restart)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from tests.faults.broker import NIGHTLY
from tests.faults.checker import WAITS, Rules, fate
from tests.faults.data import Data, Maker, naive
from tests.faults.points_named import POINTS_WITH_FILES, STEP_POINTS
from tests.faults.s3_proxy import Rule
from tests.faults.world import World, complete, connect, insert, put_files, query

if TYPE_CHECKING:
    from tests.faults.laboratory import Laboratory

STEP = "delete-notifications-for-service-and-type"
MORE_MESSAGES = 150
"""Where no letter waits for S3: else the night would be over before a fault comes."""
Action = Callable[[], object]
Fault = Callable[["Run"], None]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    """Give a fault its name in the catalogue."""

    def register(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return register


@dataclass
class Options:
    """How a run begins. Set by faults before the seed is written."""

    zone: ZoneInfo
    """Of the night; the platform's, unless a fault says otherwise."""
    night: date | None = None
    """The local date of the night, 03:00 on which is the workers' time; None: today, at the real time."""
    settings: dict[str, str] = field(default_factory=dict)
    """Variables for the workers, beside the laboratory's usual ones; the pool is restarted for them."""
    big: int = 0
    """So many more rows for the first service."""
    versioned: set[str] = field(default_factory=set)
    """Roles of buckets that keep versions."""
    locked: set[str] = field(default_factory=set)
    """Roles of buckets with object lock."""
    starts_nightly: bool = True
    nightly_arguments: dict[str, str] = field(default_factory=dict)


class Run:
    """One run: its seed, its data once it is there, and what is to happen when."""

    def __init__(self, lab: Laboratory, seed: int, names: tuple[str, ...]) -> None:
        self.lab, self.seed, self.names = lab, seed, names
        self.random = Random(f"{seed} {'+'.join(names)}")
        self.options = Options(lab.policy.zone)
        self.actions: list[tuple[float, Action]] = []
        self.seeded: list[Action] = []
        self.encores: list[Action] = []
        self.undoes: list[Action] = []
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []
        self.hits = 0
        self.maker: Maker
        self.rules: Rules
        self.before: World
        self.buckets_may_wait: set[str] = set()

    def seed_data(self) -> Data:
        """Make the data, once the faults have set the options."""
        night = self.options.night or datetime.now(self.options.zone).date()
        self.maker = Maker(Random(self.seed), night, self.options.zone, self.lab.policy)
        more = 0 if self.lab.buckets else MORE_MESSAGES
        self.rules = Rules(self.maker.make(big=self.options.big + more))
        return self.data

    @property
    def seconds_most(self) -> float:
        """Within which the run must have come to rest: each fault takes its time, at the pace of broker and steps."""
        return (30 + 30 * max(1, len(self.names))) * self.lab.broker.pace * self.lab.pace

    @property
    def data(self) -> Data:
        return self.maker.data

    @property
    def step_points(self) -> list[str]:
        """The points of a step that the platform's steps reach."""
        return [point for point in STEP_POINTS if self.lab.buckets or point not in POINTS_WITH_FILES]

    @property
    def shift(self) -> timedelta:
        """How much the workers' clock is ahead of the real one."""
        if self.options.night is None:
            return timedelta(0)
        three = datetime(*self.options.night.timetuple()[:3], 3, tzinfo=self.options.zone)
        return three - datetime.now(UTC)

    def at(self, seconds: float, action: Action) -> None:
        """Do something so many seconds after the start, at the broker's pace, in the laboratory's main thread."""
        self.actions.append((seconds * self.lab.broker.pace, action))
        self.actions.sort(key=lambda entry: entry[0])

    def soon(self, action: Action, latest: float = 1.5) -> float:
        """Do something within the first seconds; when, comes from the seed and is returned."""
        seconds = self.random.uniform(0.1, latest)
        self.at(seconds, action)
        return seconds

    def when_seeded(self, action: Action) -> None:
        """Do something when the data is there and nothing has begun."""
        self.seeded.append(action)

    def encore(self, action: Action) -> None:
        """Do something once everything has come to rest, and wait for it to do so again."""
        self.encores.append(action)

    def undo(self, action: Action) -> None:
        """Do something at the end of the run, however it went. Twice must do no harm."""
        self.undoes.append(action)

    def arm(self, point: str, action: str, passes: int = 0) -> None:
        """Let a worker do it at this point."""
        self.lab.control.arm(point, action, passes)

    def inexact_files(self) -> None:
        """This fault undoes steps, or loses S3's answers, after files have gone."""
        self.when_seeded(lambda: setattr(self.rules, "files_are_exact", False))

    def s3(self, rule: Rule, start: float, seconds: float) -> None:
        """Let the proxy follow a rule for a while; 0 means from the beginning."""
        rules = self.lab.proxy.rules

        def end() -> None:
            if rule in rules:
                rules.remove(rule)

        if start:
            self.at(start, lambda: rules.append(rule))
        else:
            self.when_seeded(lambda: rules.append(rule))
        self.at(start + seconds, end)
        self.undo(end)

    def beside(self, function: Callable[[], None]) -> None:
        """Do something that may block in a thread of its own; the run waits for it, and fails with it."""

        def guarded() -> None:
            try:
                function()
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        self.threads.append(thread)
        thread.start()

    def sql(self, statement: str, values: object = None) -> list[dict[str, Any]]:
        """A statement on a connection of its own, committed at once."""
        with closing(connect(self.lab.database.url)) as connection:
            return query(connection, statement, values)

    def nightly(self, arguments: Mapping[str, str] | None = None) -> None:
        """Start the night, as beat would."""
        self.lab.broker.send(NIGHTLY, kwargs=dict(arguments or {}))

    def add_rows(self, make: Callable[[Maker], object]) -> None:
        """More rows, with their files, in the middle of the run: the files first, as the platform does."""
        old_rows, old_files = len(self.data.live), set(self.data.files)
        make(self.maker)
        usual = self.lab.database.columns["notifications"]
        rows = [complete(row, usual) for row in self.data.live[old_rows:]]
        names = [name for name in self.data.files if name not in old_files]
        put_files(self.lab.stack.s3.url, self.lab.buckets, names)
        self.before.files.update(names)
        with closing(connect(self.lab.database.url)) as connection:
            insert(connection, "notifications", rows)
        self.before.live |= {row["id"]: row for row in rows}  # type: ignore[misc]
        self.waits_for_ever({row["id"] for row in rows if self.is_out_of_reach(row)})  # type: ignore[misc]

    def waits_for_ever(self, ids: set[UUID]) -> None:
        """These letters may be held back at the end."""
        self.rules.may_wait |= ids

    def is_out_of_reach(self, row: Mapping[str, Any]) -> bool:
        """Whether it is a letter with a place in a bucket that stays away."""
        is_letter = row["notification_type"] == "letter"
        return is_letter and any(role in self.buckets_may_wait for role, _ in self.data.policy.places(row))

    def ambiguous(self) -> set[UUID]:
        """Letters whose reference may never be used, and those that could be anywhere."""
        return {row["id"] for row in self.before.live.values() if fate(row, self.rules) == WAITS}

    def overdue(self, kind: str | None = None, *, real_only: bool = False) -> list[dict[str, Any]]:
        """Rows that must leave, oldest first."""
        goes = ("moves",) if real_only else ("moves", "goes")
        rows = [row for row in self.before.live.values() if fate(row, self.rules) in goes]
        rows = [row for row in rows if kind in (None, row["notification_type"])]
        return sorted(rows, key=lambda row: (row["created_at"], row["id"]))

    def cutoff(self, service: UUID, kind: str) -> datetime:
        """Aware, as a task's argument has it."""
        return self.data.cutoff(service, kind).replace(tzinfo=UTC)


__all__ = ["FAULTS", "NIGHTLY", "STEP", "Action", "Fault", "Options", "Run", "fault", "naive"]
