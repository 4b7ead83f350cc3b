"""Rows that the database refuses are found by halving, in a bounded number of trials, and none is forgotten.

Seen to fail: the right half taken for refused although the left one was; a sample's refusal forgotten; the bounds of
trials and of refused rows taken out; everything taken for refused after two samples.
"""

from math import ceil, log2
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.engine.isolation import MOST_REFUSED, MOST_TRIALS, Isolated, isolate
from app.refusals import Refusal

CHECK, TRIGGER = Refusal("CheckViolation", "23514", "short"), Refusal("RaiseException", "P0001", "refuse")
ids = [UUID(int=n) for n in range(1, 5001)]


def isolated(rows: list[UUID], bad: dict[UUID, Refusal], **more) -> Isolated:
    assert bad, "isolate is for rows that were refused together"
    return isolate(rows, lambda only: next((bad[id_] for id_ in only if id_ in bad), None), **more)


@st.composite
def batches(draw):
    rows = ids[: draw(st.integers(1, 600))]
    bad = draw(st.dictionaries(st.sampled_from(rows), st.sampled_from([CHECK, TRIGGER]), min_size=1, max_size=40))
    return rows, bad


@given(batches())
def test_every_row_is_good_refused_or_undecided_and_rightly_so(batch):
    rows, bad = batch
    found = isolated(rows, bad)
    assert sorted([*found.good, *found.refused, *found.undecided]) == rows
    assert found.refused == {id_: bad[id_] for id_ in found.refused}
    assert not set(found.good) & set(bad)
    assert found.good == sorted(found.good), "rows stay in their order"


@given(batches())
def test_the_search_has_its_bounds_and_gets_on(batch):
    rows, bad = batch
    found = isolated(rows, bad)
    assert found.trials <= min(MOST_TRIALS + 1, 4 + len(bad) * (2 * ceil(log2(len(rows) + 1)) + 2))
    assert found.refused or found.everything


@given(st.sampled_from([3, 31, 1000, 5000]), st.data())
def test_one_refused_row_among_many_is_found_alone(count, data):
    rows = ids[:count]
    bad = data.draw(st.sampled_from(rows))
    found = isolated(rows, {bad: CHECK})
    assert (found.refused, found.undecided, len(found.good)) == ({bad: CHECK}, [], count - 1)
    assert found.trials <= 4 + 2 * ceil(log2(count))


def test_when_first_middle_and_last_are_refused_alike_everything_is():
    found = isolated(ids, dict.fromkeys(ids, CHECK))
    assert (found.everything, found.trials, found.refused, found.undecided) == (CHECK, 3, {}, ids)


def test_rows_that_are_refused_for_different_reasons_are_refused_one_by_one():
    found = isolated(ids[:3], {ids[0]: CHECK, ids[1]: TRIGGER, ids[2]: CHECK})
    assert (found.everything, len(found.refused)) == (None, 3)


def test_two_rows_are_refused_one_by_one_whatever_the_reason():
    found = isolated(ids[:2], dict.fromkeys(ids[:2], CHECK))
    assert (found.everything, len(found.refused)) == (None, 2)


def test_rows_that_are_refused_only_together_are_all_good_alone():
    found = isolate(ids[:8], lambda only: CHECK if set(ids[:2]) <= set(only) else None)
    assert (found.good, found.refused) == (ids[:8], {})


def test_the_search_ends_when_its_time_is_up():
    found = isolated(ids, {ids[7]: CHECK}, is_time_up=lambda: True)
    assert (found.refused, found.good, found.trials) == ({}, [], 3)
    assert sorted(found.undecided) == ids


def test_past_so_many_refused_rows_the_search_ends():
    found = isolated(ids[:100], dict.fromkeys(ids[1:98:2], CHECK))
    assert MOST_REFUSED - 10 < len(found.refused) <= MOST_REFUSED + 1
    assert found.undecided
