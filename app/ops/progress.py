"""How far tonight's run is, or how last night's went, and when it will be over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from app.dao import ops_page_dao
from app.dao.ops_page_dao import TypeProgress
from app.db import db
from app.retention.overdue import MISSING_FILES, ON_HOLD, OVERDUE, State
from app.retention.tools import tools

LATELY = timedelta(minutes=10)
TO_BE_TAKEN = (OVERDUE, MISSING_FILES, ON_HOLD)


@dataclass(frozen=True)
class OfType:
    """A type of the run. `left` rows are still to go, or more where that was not counted further (`more`)."""

    done: TypeProgress
    left: int
    more: bool
    ends_at: datetime | None

    @property
    def is_going(self) -> bool:
        return bool(self.done.waiting) or self.done.is_to_fan_out

    @property
    def is_over(self) -> bool:
        """Whether nothing of it goes on, nor rests."""
        return not self.is_going and not self.done.resting

    @property
    def percent(self) -> int:
        """Whole and rounded down, so that it is 100 only at the end."""
        total = self.done.removed + self.left
        return 100 * self.done.removed // total if total else 100 if self.is_over else 0

    @property
    def in_words(self) -> str:
        """The state of the type."""
        if self.is_going:
            return "under way"
        if self.done.resting:
            return "at rest"
        return "done" if self.done.ended or self.done.removed else "nothing to do"


@dataclass(frozen=True)
class Run:
    """A night and its types. `ends_at` is no sooner than that where something was not counted to its end."""

    night: date
    started_at: datetime
    types: list[OfType]

    @property
    def is_going(self) -> bool:
        return any(one.is_going for one in self.types)

    @property
    def is_at_rest(self) -> bool:
        return not self.is_going and any(one.done.resting for one in self.types)

    @property
    def ends_at(self) -> datetime | None:
        """When the last type that is going will be done, None where that can't be told yet."""
        ends = [one.ends_at for one in self.types if one.is_going]
        return max((end for end in ends if end), default=None) if all(ends) else None

    @property
    def is_estimate_the_least(self) -> bool:
        return any(one.more for one in self.types if one.is_going)

    @property
    def last_at(self) -> datetime | None:
        """When the last step ended."""
        return max((one.done.last_at for one in self.types if one.done.last_at), default=None)


def look(state: State | None, held_back: Mapping[str, tuple[int, int]], seconds: float, now: datetime) -> Run | None:
    """The latest run, with what is overdue as it was measured; None where there never was one."""
    with db.transaction(statement_seconds=seconds, read_only=True) as connection:
        latest = ops_page_dao.latest_night(connection)
        if latest is None:
            return None
        done = ops_page_dao.progress(connection, latest[0], tools().notification_types, now - LATELY)
    left = _left(state, held_back)
    return Run(*latest, [_of_type(one, *left.get(one.notification_type, (0, False)), now) for one in done])


def _left(state: State | None, held_back: Mapping[str, tuple[int, int]]) -> Mapping[str, tuple[int, bool]]:
    """By type, the rows that the run has still to take, and whether there are more."""
    left: dict[str, tuple[int, bool]] = {}
    for one in state.kept if state else ():
        if one.kind in TO_BE_TAKEN:
            rows, more = left.get(one.notification_type, (0, False))
            left[one.notification_type] = (rows + one.rows, more or one.more)
    # A run passes over what is held back.
    return {of: (max(0, rows - held_back.get(of, (0, 0))[0]), more) for of, (rows, more) in left.items()}


def _of_type(done: TypeProgress, left: int, more: bool, now: datetime) -> OfType:
    if not (done.waiting or done.resting or done.is_to_fan_out):
        return OfType(done, 0, False, None)
    seconds = (now - done.lately_from).total_seconds() if done.lately_from else 0
    ends_at = now + timedelta(seconds=left * seconds / done.lately) if done.lately and seconds else None
    return OfType(done, left, more, ends_at if left else None)
