"""The whole number of the transaction that wrote a row, from the half that the row keeps.

Promise 1 leans on it: it may come out too high, which costs a listing, and never too low. Seen to fail: `last` left
out, the half taken as it is, an epoch too early and one too late.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dao.transactions import NUMBERS_PER_EPOCH as EPOCH
from app.dao.transactions import whole_number

FROZEN = 2
"""What rows have that servers before 9.4 froze."""


@pytest.mark.parametrize(
    ("xmin", "last", "whole"),
    [
        pytest.param(7, 7, 7, id="the latest of all"),
        pytest.param(7, 8, 7, id="the one before"),
        pytest.param(EPOCH - 1, EPOCH - 1, EPOCH - 1, id="the last of the first epoch, in it"),
        pytest.param(EPOCH - 1, EPOCH + 5, EPOCH - 1, id="the last of the first epoch, in the next"),
        pytest.param(3, EPOCH + 3, EPOCH + 3, id="the first of the next epoch"),
        pytest.param(3, EPOCH + 2, 3, id="just before its number comes again"),
        pytest.param(FROZEN, 5 * EPOCH + 10, 5 * EPOCH + FROZEN, id="frozen of old: taken for young"),
    ],
)
def test_a_row_is_of_the_latest_transaction_that_has_its_half(xmin, last, whole):
    assert whole_number(xmin, last) == whole


@given(last=st.integers(3, 2**63), age=st.integers(0, 2**31))
def test_what_wrote_a_row_that_is_not_frozen_is_known(last, age):
    written_by = max(3, last - age)
    assert whole_number(written_by % EPOCH, last) == written_by


@given(last=st.integers(3, 2**63), written_by=st.integers(1, 2**63))
def test_no_row_is_ever_taken_for_older_than_it_is(last, written_by):
    written_by = min(written_by, last)
    whole = whole_number(written_by % EPOCH, last)
    assert written_by <= whole <= last
