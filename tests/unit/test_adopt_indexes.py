"""Which indexes adopting advises, and what it says of their cost.

Seen to fail: size, time and the cost of writes left out of the sentence, the bytes of the table not counted, the types
of a referring table taken for words, a partial index taken for a whole one, references looked for where letters have no
files.
"""

from dataclasses import replace

import pytest

from app.adopt import choice, referring
from app.dao.catalogue import NOTIFICATIONS
from app.state.findings import Level
from tests.catalogues import OF_SERVICE, catalogue, index, table
from tests.unit.test_config import load

LIVE_ROWS = {"rows": 10_000_000, "bytes": 8_000_000_000}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            LIVE_ROWS,
            "an index with exactly the rows that a step takes: about 489 MB, made beside live traffic in about "
            "3 minutes, and one entry more to write for each new row: CREATE INDEX CONCURRENTLY "
            "ix_notifications_service_id_notification_type_created_at ON public.notifications "
            "(service_id, notification_type, created_at);",
        ),
        (
            {},
            "an index with exactly the rows that a step takes: its size is not known before "
            "ANALYZE public.notifications; CREATE INDEX CONCURRENTLY "
            "ix_notifications_service_id_notification_type_created_at ON public.notifications "
            "(service_id, notification_type, created_at);",
        ),
    ],
)
def test_an_index_is_advised_with_its_size_its_time_and_what_it_costs_each_write(changes, said):
    live = table(NOTIFICATIONS, indexes=(index("id"), index("service_id", "created_at")), **changes)
    (found,) = choice.check(catalogue(live), load(LETTER_FILES="no-files"))
    assert (found.level, found.fix) == (Level.NOTE, said)


@pytest.mark.parametrize(("letter_files", "is_said"), [("by-status", True), ("one-bucket", True), ("no-files", False)])
def test_an_index_of_references_is_advised_where_letters_have_files(letter_files, is_said):
    wanted = index(*choice.WANTED)
    partial = replace(index("reference"), predicate="(reference IS NOT NULL)")
    live = table(NOTIFICATIONS, indexes=(wanted, partial, index("postage", "reference")), **LIVE_ROWS)
    found = [one for one in choice.check(catalogue(live), load(LETTER_FILES=letter_files)) if one.level is Level.LOOK]
    assert [one.fix for one in found] == (
        [
            "an index that finds them: about 311 MB, made beside live traffic in about 3 minutes, and one entry more "
            "to write for each new row: CREATE INDEX CONCURRENTLY ix_notifications_reference ON public.notifications "
            "(reference);"
        ]
        if is_said
        else []
    )


@pytest.mark.parametrize(
    ("rows", "cost"),
    [
        (
            3_000_000,
            "about 120 MB, made beside live traffic in about 50 seconds, and one entry more to write for each new "
            "row: ",
        ),
        (None, "its size is not known before ANALYZE scheduling.plans; "),
    ],
)
def test_an_index_of_a_referring_table_is_advised_with_its_cost(rows, cost):
    key = replace(
        OF_SERVICE,
        schema="scheduling",
        table="plans",
        columns=("of_row", "made_at"),
        referred=NOTIFICATIONS,
        referred_columns=("id", "created_at"),
        rows=rows,
        bytes=2_000_000_000,
        is_indexed=False,
    )
    _, found = referring.check(catalogue(referring=(key,)), load())
    assert found.fix == (
        f"an index that finds its rows: {cost}CREATE INDEX CONCURRENTLY ix_plans_of_row_made_at ON scheduling.plans "
        "(of_row, made_at);"
    )
