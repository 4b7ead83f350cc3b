"""The checker sees each violation. Every one is planted into a world in which nothing is wrong, of each platform.

Seen to fail: a row at the cut-off taken for past it, every platform's cut-off taken for our own, va-notify's folder for
the day of making, its letters that could be anywhere and gc-notify's letters without files for others; rows that refer
not looked at, new ones not looked at, those that go with their notification expected to stay, and what they keep
expected to go.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from tests.faults.checker import GOES, MOVES, STAYS, WAITS, Rules, fate, judge
from tests.faults.data import Data, Maker
from tests.faults.world import World
from tests.variants import ALL, OWN
from tests.variants.policies import EMAIL, LETTER, NEW_YORK, POLICIES, Policy

NIGHTS = {one.zone: date(2026, 3, 10) if one.zone == NEW_YORK else date(2026, 4, 2) for one in POLICIES.values()}
"""The clocks went forward within what retentions reach back over."""
HISTORY_LACKS = {"to", "normalised_to", "_personalisation"}
Spoil = Callable[["Night"], None]


class Night:
    """A night that went well: what was there, and what is there now."""

    def __init__(self, variant: str = OWN, done_by: Policy | None = None) -> None:
        """`done_by`: the rules that what moved went by, where they are not the platform's."""
        self.policy = POLICIES[variant]
        self.data = Maker(Random(7), NIGHTS[self.policy.zone], self.policy.zone, self.policy).make()
        self.rules = Rules(self.data)
        self.before = World(
            live={row["id"]: row for row in self.data.live},  # type: ignore[misc]
            history={row["id"]: row for row in self.data.history},  # type: ignore[misc]
            referring=deepcopy(self.data.referring),
        )
        self.before.files.update(list(self.data.files))
        self.after = deepcopy(self.before)
        followed = Rules(following(self.data, done_by or self.policy))
        for id_, row in self.before.live.items():
            if fate(row, followed) in (MOVES, GOES):
                self._remove(id_, row)
            elif fate(row, followed) == WAITS:
                self.after.deferred[id_] = {"notification_id": id_, "reason": "AmbiguousReference"}

    def _remove(self, id_: Any, row: dict[str, Any]) -> None:
        del self.after.live[id_]
        for table in self.policy.cascading:
            rows = self.after.referring[table]
            rows[:] = [one for one in rows if one["notification_id"] != id_]
        files = [name for name, owner in self.rules.data.files.items() if owner == id_]
        for name in files:
            del self.after.files[name]
        is_test = row["key_type"] == "test"
        self.after.steps.append(
            {
                "chain_id": len(self.after.steps),
                "outcome": "removed",
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

    def referring(self, table: str, *, is_there: bool) -> Any:
        """A row of the table whose notification is there now, or is not."""
        rows = self.before.referring[table]
        return next(row for row in rows if (row["notification_id"] in self.after.live) == is_there)


def following(data: Data, policy: Policy) -> Data:
    """The same rows, where another platform's rule says what is past its time."""
    return replace(data, policy=replace(data.policy, cutoff=policy.cutoff), zone=policy.zone)


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
        i for i, row in night.before.live.items() if row["notification_type"] == LETTER and night.policy.keeps(row)
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


def anywhere_moved(night: Night) -> None:
    id_ = next(i for i, row in night.before.live.items() if night.policy.is_anywhere(row))
    night.after.history[id_] = night.after.live.pop(id_)
    del night.after.deferred[id_]


def referred_to_moved(night: Night) -> None:
    id_ = night.before.referring["scheduled_notifications"][0]["notification_id"]
    night.after.history[id_] = night.after.live.pop(id_)


def referring_row_lost(night: Night) -> None:
    night.after.referring["scheduled_notifications"].pop()


def referring_row_changed(night: Night) -> None:
    night.after.referring["scheduled_notifications"][0]["scheduled_for"] = datetime.now(UTC)


def referring_stranger(night: Night) -> None:
    rows = night.after.referring["scheduled_notifications"]
    rows.append(rows[0] | {"id": uuid4()})


def identifier_gone_before_its_notification(night: Night) -> None:
    night.after.referring["recipient_identifiers"].remove(night.referring("recipient_identifiers", is_there=True))


def identifier_left(night: Night) -> None:
    night.after.referring["recipient_identifiers"].append(night.referring("recipient_identifiers", is_there=False))


EVERYWHERE, WITH_LETTERS, WITH_FILES, REFERRED_TO = (
    ALL,
    (OWN, "govuk-notify", "gc-notify", "va-notify"),
    (OWN, "govuk-notify", "va-notify"),
    ("gc-notify", "va-notify"),
)
KEEPING_LETTERS = tuple(name for name in WITH_LETTERS if POLICIES[name].not_final)
"""Where letters in some statuses stay."""
PLANTED: tuple[tuple[str, tuple[str, ...], tuple[Spoil, ...]], ...] = (
    (
        "lost",
        EVERYWHERE,
        (
            *(in_neither, in_both, a_test_row_in_history, newer_row_moved, older_version_kept, personal_data),
            *(history_lost, receipt_lost, stranger),
        ),
    ),
    ("lost", KEEPING_LETTERS, (not_final_moved,)),
    ("lost", ("va-notify",), (anywhere_moved, identifier_gone_before_its_notification, identifier_left)),
    ("lost", REFERRED_TO, (referred_to_moved, referring_row_lost, referring_row_changed, referring_stranger)),
    ("orphaned", WITH_FILES, (file_left, file_of_test_letter_left, file_of_newer_gone, nobodys_file_gone)),
    ("stuck", EVERYWHERE, (row_kept, chain_waits, chain_rests, lease_left, intent_left, not_fanned_out)),
    ("stuck", WITH_FILES, (held_back_without_reason,)),
    ("records", EVERYWHERE, (counted_too_many, step_done_twice, too_many_files_recorded)),
    ("records", WITH_FILES, (files_not_recorded,)),
)


@pytest.mark.parametrize("variant", ALL)
def test_a_night_that_went_well_has_no_findings(variant: str):
    night = Night(variant)
    assert judge(night.before, night.after, night.rules).all == []
    fates = {fate(row, night.rules) for row in night.before.live.values()}
    assert fates == {STAYS, MOVES, GOES} | ({WAITS} if variant in WITH_FILES else set())


@pytest.mark.parametrize(
    ("variant", "kind", "spoil"),
    [(variant, kind, spoil) for kind, variants, spoils in PLANTED for spoil in spoils for variant in variants],
    ids=lambda x: str(getattr(x, "__name__", x)),
)
def test_a_planted_violation_is_found(variant: str, kind: str, spoil: Spoil):
    night = Night(variant)
    spoil(night)
    assert getattr(judge(night.before, night.after, night.rules), kind) != []


@pytest.mark.parametrize(
    ("variant", "other"),
    [(one, other) for one in ALL for other in ALL if POLICIES[one].cutoff is not POLICIES[other].cutoff],
)
def test_a_night_that_was_cut_off_by_another_platform_s_rule_is_found(variant: str, other: str):
    night = Night(variant, POLICIES[other])
    found = judge(night.before, night.after, night.rules)
    assert [*found.lost, *found.stuck] != []


@pytest.mark.parametrize("variant", ALL)
@pytest.mark.parametrize(("microseconds", "expected"), [(-1, MOVES), (0, STAYS), (1, STAYS)])
def test_what_was_made_at_the_cutoff_stays(variant: str, microseconds: int, expected: str):
    policy = POLICIES[variant]
    maker = Maker(Random(1), NIGHTS[policy.zone], policy.zone, policy)
    service = maker.uuid()
    at = maker.data.cutoff(service, EMAIL) + timedelta(microseconds=microseconds)
    assert fate(maker.row(service, EMAIL, at, key_type="normal"), Rules(maker.data)) == expected


def test_fewer_files_recorded_than_went_is_excused_when_a_step_was_undone():
    night = Night()
    night.rules.files_are_exact = False
    files_not_recorded(night)
    assert judge(night.before, night.after, night.rules).all == []


@pytest.mark.parametrize("outcome", ["OutOfTime", "Unreachable"])
def test_it_is_excused_when_a_step_did_not_wait_for_an_answer_but_more_than_went_never_is(outcome: str):
    night = Night()
    files_not_recorded(night)
    night.after.steps[0]["outcome"] = outcome
    assert judge(night.before, night.after, night.rules).all == []
    too_many_files_recorded(night)
    too_many_files_recorded(night)
    assert len(judge(night.before, night.after, night.rules).records) == 1
