"""The checker sees each violation. Every one is planted into a world in which nothing is wrong."""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from tests.faults.checker import GOES, MOVES, STAYS, WAITS, Rules, fate, judge
from tests.faults.data import LONDON, NOT_FINAL, Maker
from tests.faults.world import World

NIGHT = date(2026, 3, 31)
HISTORY_LACKS = {"to", "normalised_to", "_personalisation"}
Spoil = Callable[["Night"], None]


class Night:
    """A night that went well: what was there, and what is there now."""

    def __init__(self) -> None:
        data = Maker(Random(7), NIGHT, LONDON).make()
        self.rules = Rules(data)
        self.before = World(
            live={row["id"]: row for row in data.live},  # type: ignore[misc]
            history={row["id"]: row for row in data.history},  # type: ignore[misc]
        )
        self.before.files.update(list(data.files))
        self.after = deepcopy(self.before)
        for id_, row in self.before.live.items():
            if fate(row, self.rules) in (MOVES, GOES):
                self._remove(id_, row)
            elif fate(row, self.rules) == WAITS:
                self.after.deferred[id_] = {"notification_id": id_, "reason": "AmbiguousReference"}

    def _remove(self, id_: Any, row: dict[str, Any]) -> None:
        del self.after.live[id_]
        files = [name for name, owner in self.rules.data.files.items() if owner == id_]
        for name in files:
            del self.after.files[name]
        is_test = fate(row, self.rules) == GOES
        self.after.steps.append(
            {
                "chain_id": len(self.after.steps),
                "step": 0,
                "service_id": row["service_id"],
                "notification_type": row["notification_type"],
                "moved": int(not is_test),
                "deleted": int(is_test),
                "files_deleted": len(files),
            }
        )
        old = self.before.history.get(id_)
        if not is_test and (old is None or old["updated_at"] <= row["updated_at"]):
            self.after.history[id_] = {name: value for name, value in row.items() if name not in HISTORY_LACKS}

    def one(self, wanted: str, kind: str = "email", *, with_file: bool = False, in_history: bool = False) -> Any:
        """The id of a row with this fate."""
        owners = set(self.rules.data.files.values())
        return next(
            id_
            for id_, row in self.before.live.items()
            if (fate(row, self.rules), row["notification_type"]) == (wanted, kind)
            and (id_ in owners or not with_file)
            and (id_ in self.before.history) == in_history
        )

    def file_of(self, id_: Any) -> Any:
        return next(name for name, owner in self.rules.data.files.items() if owner == id_)


def chain(**columns: Any) -> dict[str, Any]:
    usual = {"id": 1, "notification_type": "email", "stage": "real", "step": 3, "state": "ended", "lease_until": None}
    due = {"due_at": None, "reason": None, "attempts": 0, "setbacks": 0, "last_error": None}
    return usual | due | columns


def in_neither(night: Night) -> None:
    del night.after.history[night.one(MOVES)]


def in_both(night: Night) -> None:
    id_ = night.one(MOVES)
    night.after.live[id_] = night.before.live[id_]


def a_test_row_in_history(night: Night) -> None:
    id_ = night.one(GOES)
    night.after.history[id_] = night.before.live[id_]


def newer_row_moved(night: Night) -> None:
    id_ = next(i for i, row in night.before.live.items() if is_newer(night, row) and row["key_type"] != "test")
    night.after.history[id_] = night.after.live.pop(id_)


def is_newer(night: Night, row: dict[str, Any]) -> bool:
    return fate(row, night.rules) == STAYS and row["service_id"] is not None and row["notification_type"] == "email"


def not_final_moved(night: Night) -> None:
    id_ = next(
        i
        for i, row in night.before.live.items()
        if row["notification_type"] == "letter" and row["notification_status"] in NOT_FINAL
    )
    del night.after.live[id_]


def older_version_kept(night: Night) -> None:
    night.after.history[night.one(MOVES)]["notification_status"] = "created"


def personal_data(night: Night) -> None:
    night.after.history[night.one(MOVES)]["to"] = "someone"


def history_lost(night: Night) -> None:
    del night.after.history[night.one(MOVES, in_history=True)]


def receipt_lost(night: Night) -> None:
    night.rules.statuses[night.one(MOVES)] = "permanent-failure"
    night.after.history[night.one(MOVES)]["notification_status"] = "delivered"


def row_kept(night: Night) -> None:
    id_ = night.one(MOVES)
    night.after.live[id_] = night.before.live[id_]
    del night.after.history[id_]


def held_back_without_reason(night: Night) -> None:
    night.after.deferred.clear()


def file_left(night: Night) -> None:
    name = night.file_of(night.one(MOVES, "letter", with_file=True))
    night.after.files[name] = 1


def file_of_test_letter_left(night: Night) -> None:
    name = night.file_of(night.one(GOES, "letter", with_file=True))
    night.after.files[name] = 1


def file_of_newer_gone(night: Night) -> None:
    del night.after.files[night.file_of(night.one(STAYS, "letter", with_file=True))]


def nobodys_file_gone(night: Night) -> None:
    del night.after.files[night.file_of(None)]


def chain_waits(night: Night) -> None:
    night.after.chains.append(chain(state="waiting", due_at=datetime.now(UTC) + timedelta(hours=1)))


def chain_rests(night: Night) -> None:
    night.after.chains.append(chain(state="resting", reason="missing-files"))


def lease_left(night: Night) -> None:
    night.after.chains.append(chain(lease_until=datetime.now(UTC)))


def intent_left(night: Night) -> None:
    night.after.intents.append({"chain_id": 1, "step": 2})


def not_fanned_out(night: Night) -> None:
    night.after.run_types.append({"notification_type": "sms", "fanned_out_at": None})


def counted_too_many(night: Night) -> None:
    night.after.steps[0]["moved"] += 1


def step_done_twice(night: Night) -> None:
    night.after.steps.append(night.after.steps[0] | {"moved": 0, "deleted": 0, "files_deleted": 0})


def files_not_recorded(night: Night) -> None:
    next(step for step in night.after.steps if step["files_deleted"])["files_deleted"] -= 1


def too_many_files_recorded(night: Night) -> None:
    night.rules.files_are_exact = False
    night.after.steps[0]["files_deleted"] += 1


def stranger(night: Night) -> None:
    id_ = uuid4()
    night.after.history[id_] = night.after.history[night.one(MOVES)] | {"id": id_}


PLANTED: dict[str, tuple[Spoil, ...]] = {
    "lost": (
        *(in_neither, in_both, a_test_row_in_history, newer_row_moved, not_final_moved, older_version_kept),
        *(personal_data, history_lost, receipt_lost, stranger),
    ),
    "orphaned": (file_left, file_of_test_letter_left, file_of_newer_gone, nobodys_file_gone),
    "stuck": (
        *(row_kept, held_back_without_reason, chain_waits, chain_rests, lease_left, intent_left),
        not_fanned_out,
    ),
    "records": (counted_too_many, step_done_twice, files_not_recorded, too_many_files_recorded),
}


def test_a_night_that_went_well_has_no_findings():
    night = Night()
    assert judge(night.before, night.after, night.rules).all == []
    assert {fate(row, night.rules) for row in night.before.live.values()} == {STAYS, MOVES, GOES, WAITS}


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [(kind, spoil) for kind, spoils in PLANTED.items() for spoil in spoils],
    ids=lambda x: str(getattr(x, "__name__", x)),
)
def test_a_planted_violation_is_found(kind: str, spoil: Spoil):
    night = Night()
    spoil(night)
    assert getattr(judge(night.before, night.after, night.rules), kind) != []


def test_fewer_files_recorded_than_went_is_excused_when_a_step_was_undone():
    night = Night()
    night.rules.files_are_exact = False
    files_not_recorded(night)
    assert judge(night.before, night.after, night.rules).all == []
