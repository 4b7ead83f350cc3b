"""What comes next, as the design's table has it.

Promises 4, 6 and 7. Seen to fail, a row of the table each: every branch of `what_comes_next` taken out in turn,
`removed` put before `stopped`, or before "nothing is left", that put first or taken for "did not look", the moving
bound not asked, and test chains started by every stage.
"""

import pytest

from app.refusals import Refusal
from app.retention.next_step import Next, next_batch_rows, what_comes_next
from app.retention.report import MissingFiles, StepReport

MISSING = MissingFiles("letters", looked=30, missing=30)
STAGES = ("real", "test", "deferred")

# What the step says, and what is next, the first row that applies counting.
TABLE = [
    ({"resting": "on-hold"}, Next("rest", "on-hold")),
    ({"resting": "paused"}, Next("rest", "paused")),
    ({"refused": "0 days"}, Next("end", "retention-refused")),
    ({"missing_files": MISSING}, Next("rest", "missing-files")),
    ({"database_refuses": Refusal("CheckViolation", "23514")}, Next("rest", "database-refuses")),
    ({"refused_rows": 1, "refused_in_all": 21, "deferred": 1}, Next("rest", "rows-refused")),
    ({"stopped": "Unreachable", "deferred": 1, "deferred_alone": True}, Next("again")),
    ({"stopped": "Indexing"}, Next("again")),
    ({"stopped": "IndexAwaited"}, Next("later", "IndexAwaited")),
    ({"stopped": "SlowDown"}, Next("later", "SlowDown")),
    ({"stopped": "Unreachable"}, Next("later", "Unreachable")),
    ({"moved": 1}, Next("again")),
    ({"deleted": 1}, Next("again")),
    ({"deferred": 1}, Next("again")),
    ({"refused_rows": 1, "refused_in_all": 20, "deferred": 1}, Next("again")),
    ({"broken": 1}, Next("again")),
    ({"eligible_left": True}, Next("later", "locked")),
]


NOTHING_LEFT = {"eligible_left": False}
BEFORE_THE_END = TABLE[:10]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("said", "then"), TABLE)
def test_what_a_step_says_decides_what_comes_next(said, then, stage):
    assert what_comes_next(stage, StepReport(**said), moving_bound=False) == then


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_where_several_rows_apply_the_first_one_counts(row):
    said = {name: value for later, _ in reversed(TABLE[row:]) for name, value in later.items()}
    assert what_comes_next("real", StepReport(**said), moving_bound=False) == TABLE[row][1]


@pytest.mark.parametrize(("stage", "may_start_test_chain"), [("real", True), ("test", False), ("deferred", False)])
@pytest.mark.parametrize("moving_bound", [False, True])
@pytest.mark.parametrize(
    "said", [{}, {"not_final": 3}, {"moved": 1}, {"deleted": 1}, {"deferred": 1}], ids=lambda said: " ".join(said)
)
def test_a_chain_ends_when_its_step_has_seen_that_nothing_is_left(stage, may_start_test_chain, moving_bound, said):
    then = Next("end", may_start_test_chain=may_start_test_chain)
    assert what_comes_next(stage, StepReport(**said, **NOTHING_LEFT), moving_bound=moving_bound) == then


@pytest.mark.parametrize(("said", "then"), BEFORE_THE_END)
def test_nothing_left_counts_only_after_what_stops_a_chain(said, then):
    assert what_comes_next("real", StepReport(**said, **NOTHING_LEFT), moving_bound=False) == then


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("said", [{}, {"not_final": 3}, {"eligible_left": True}])
def test_a_step_that_found_nothing_above_the_moving_bound_never_waits_before_it_has_looked_below(stage, said):
    assert what_comes_next(stage, StepReport(**said), moving_bound=True) == Next("look-again")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("moving_bound", [False, True])
@pytest.mark.parametrize("said", [{}, {"moved": 5}, {"deferred": 1}, {"eligible_left": True}])
def test_a_step_that_has_not_seen_that_nothing_is_left_never_ends_a_chain(stage, said, moving_bound):
    assert what_comes_next(stage, StepReport(**said), moving_bound=moving_bound).what != "end"


@pytest.mark.parametrize(("said", "then"), TABLE[:-1])
def test_a_moving_bound_changes_nothing_else(said, then):
    assert what_comes_next("real", StepReport(**said), moving_bound=True) == then


@pytest.mark.parametrize(
    ("said", "rows", "most", "next_rows"),
    [
        ({"stopped": "Unreachable"}, 5000, 5000, 625),
        ({"stopped": "Unreachable", "deferred": 1}, 5000, 5000, 625),
        ({"stopped": "SlowDown", "moved": 4000}, 5000, 5000, 2500),
        ({"stopped": "SlowDown", "deleted": 4000}, 5000, 5000, 2500),
        ({"stopped": "SlowDown"}, 3, 5000, 1),
        ({"stopped": "SlowDown"}, 1, 5000, 1),
        ({"past_budget": True, "moved": 5000}, 5000, 5000, 2500),
        ({"moved": 1000}, 1000, 5000, 1250),
        ({"moved": 1}, 1, 5000, 2),
        ({"moved": 4800}, 4800, 5000, 5000),
        ({"moved": 5000}, 5000, 5000, 5000),
        ({"moved": 5000}, 5000, 1000, 1000),
        ({"stopped": "Indexing"}, 1000, 5000, 1000),
        ({"stopped": "IndexAwaited"}, 1000, 5000, 1000),
        ({}, 1000, 5000, 1250),
    ],
)
def test_a_batch_shrinks_when_s3_or_the_budget_stops_it_and_grows_back_by_a_quarter(said, rows, most, next_rows):
    assert next_batch_rows(StepReport(**said), rows, most) == next_rows
