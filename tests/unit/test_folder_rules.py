"""When a folder is worth an index, and what an index proves.

Seen to fail: `>=` made `>`, of the transactions, too; the row's transaction not asked; an indexed page as dear as a
listing, the files of letters that stay not counted, a service's later steps not counted.
"""

from datetime import UTC, datetime, timedelta

import pytest

from app.dao.folders_dao import Found
from app.retention.folder_rules import CLOCKS_APART, ServiceLetters, is_proof, pages_worth_indexing

PER_STEP = 5_000
BEGUN = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
TICK = timedelta(microseconds=1)
XMIN = 2**32 + 1_000
"""Every transaction with a lower number had ended when the index was begun."""
INDEX = Found(BEGUN, XMIN, [])


def of(letters: int, overdue: int | None = None, services: int = 1) -> list[ServiceLetters]:
    return [ServiceLetters(letters, letters if overdue is None else overdue)] * services


@pytest.mark.parametrize(
    ("services", "worth"),
    [
        pytest.param([], 0, id="nobody"),
        pytest.param(of(1), 0, id="one letter"),
        pytest.param(of(5_000), 0, id="one service alone: each page is listed once anyhow"),
        pytest.param(of(1, services=2), 1, id="two services, a letter each: one page instead of two"),
        pytest.param(of(3) + of(200_000, 0), 0, id="three letters among 200,000"),
        pytest.param(of(1, services=240) + of(199_760, 0), 200, id="240 listings or 200 pages: just worth it"),
        pytest.param(of(1, services=239) + of(199_761, 0), 0, id="239 or 200: not any more"),
        pytest.param(of(50, services=2_000), 83_333, id="2,000 services of 50 in a folder of 100,000"),
        pytest.param(of(50_000), 416, id="one service of ten steps, each through the 50 pages"),
        pytest.param(of(5_000) + of(1), 0, id="six pages and a listing, or six pages"),
        pytest.param(of(5_000) + of(1, services=2), 6, id="six pages and two listings, or six pages"),
        pytest.param(of(1_000, 10, services=10), 83, id="a handful of each, the others younger"),
    ],
)
def test_a_folder_is_indexed_where_that_takes_fewer_requests(services, worth):
    assert pages_worth_indexing(services, PER_STEP) == worth


@pytest.mark.parametrize(
    ("updated_at", "age", "proves"),
    [
        pytest.param(BEGUN - timedelta(days=9), timedelta(hours=5), True, id="an old row, an old index"),
        pytest.param(BEGUN - CLOCKS_APART - TICK, timedelta(0), True, id="just before, by any clock"),
        pytest.param(BEGUN - CLOCKS_APART, timedelta(0), False, id="as far as clocks may differ"),
        pytest.param(BEGUN, timedelta(0), False, id="at the beginning of the listing"),
        pytest.param(BEGUN + timedelta(hours=1), timedelta(hours=2), False, id="after it"),
        pytest.param(None, timedelta(seconds=60), True, id="no time, an index as fresh as a listing"),
        pytest.param(None, timedelta(seconds=60) + TICK, False, id="no time, an older index"),
    ],
)
def test_an_index_proves_nothing_about_a_letter_that_may_have_come_later(updated_at, age, proves):
    assert is_proof(INDEX, updated_at, XMIN - 1, BEGUN + age, 60) is proves


@pytest.mark.parametrize(
    ("written_by", "proves"),
    [
        pytest.param(1, True, id="a row of the first day"),
        pytest.param(XMIN - 1, True, id="of the last transaction that had ended"),
        pytest.param(XMIN, False, id="of one that had not"),
        pytest.param(XMIN + 1, False, id="of one that began later"),
    ],
)
@pytest.mark.parametrize("updated_at", [BEGUN - timedelta(days=9), None], ids=["an old time", "no time"])
def test_an_index_proves_nothing_about_a_row_that_was_written_later_whatever_its_times_say(
    written_by, proves, updated_at
):
    assert is_proof(INDEX, updated_at, written_by, BEGUN, 60) is proves
