"""What the doctor says of partitions ahead, at its boundaries.

Seen to fail: each boundary moved, the partition without an end left out.
"""

from datetime import UTC, datetime, timedelta

import pytest

from app.dao.partitions_dao import Newest
from app.doctor.finding import Level
from app.doctor.partitions import AHEAD, URGENT, judge, make_next

NOW = datetime(2026, 11, 30, 7, tzinfo=UTC)
WEEK, SECOND = timedelta(days=7), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("ahead", "is_open", "level"),
    [
        (AHEAD, False, Level.OK),
        (AHEAD - SECOND, False, Level.WARNING),
        (URGENT, False, Level.WARNING),
        (URGENT - SECOND, False, Level.ERROR),
        (-WEEK, False, Level.ERROR),
        (-WEEK, True, Level.WARNING),
        (None, True, Level.OK),
        (None, False, Level.ERROR),
    ],
)
def test_a_table_has_partitions_for_a_week_to_come(ahead, is_open, level):
    ends = None if ahead is None else NOW + ahead
    found = judge("public", "notifications", Newest(ends and ends - WEEK, ends, is_open), NOW)
    assert found.level is level
    assert bool(found.fix) is (level is not Level.OK)


def test_the_next_partition_is_as_long_as_the_newest():
    newest = Newest(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), False)
    assert make_next("Our tables", "notifications", newest) == (
        'CREATE TABLE "Our tables".notifications_2026120100 PARTITION OF "Our tables".notifications '
        "FOR VALUES FROM ('2026-12-01 00:00:00') TO ('2026-12-31 00:00:00');"
    )
