"""Each platform's cut-off, at its boundaries: retentions of a day and of many, and nights on which the clocks change.

Seen to fail: each rule made another one, `time.max` made the next midnight, calendar days made days of 24 hours and the
other way round, before and after exchanged, the shortest night left out, a difference of nothing kept.
"""

from datetime import UTC, date, datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.presets import CutoffRuleName
from app.retention.cutoff_rules import RULES, differences

LONDON, NEW_YORK = ZoneInfo("Europe/London"), ZoneInfo("America/New_York")
HOUR, DAY, MICROSECOND = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
LOCAL, UTC_MIDNIGHT, UTC_END, LOCAL_THEN_DAYS = (
    "local-midnight",
    "utc-midnight",
    "utc-end-of-day",
    "local-midnight-then-days",
)
LAST = (23, 59, 59, 999_999)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


# New York's clocks go forward on 8 March 2026 at 07:00 UTC and back on 1 November 2026 at 06:00 UTC.
@pytest.mark.parametrize(
    ("rule", "night", "days", "zone", "cutoff"),
    [
        (LOCAL, date(2026, 1, 15), 1, LONDON, utc(2026, 1, 14)),
        (LOCAL, date(2026, 7, 15), 1, LONDON, utc(2026, 7, 13, 23)),
        (LOCAL, date(2026, 3, 29), 1, LONDON, utc(2026, 3, 28)),
        (LOCAL, date(2026, 3, 30), 1, LONDON, utc(2026, 3, 29)),
        (LOCAL, date(2026, 3, 31), 1, LONDON, utc(2026, 3, 29, 23)),
        (LOCAL, date(2026, 10, 26), 1, LONDON, utc(2026, 10, 24, 23)),
        (LOCAL, date(2026, 10, 27), 1, LONDON, utc(2026, 10, 26)),
        (LOCAL, date(2026, 4, 2), 7, LONDON, utc(2026, 3, 26)),
        (UTC_MIDNIGHT, date(2026, 1, 15), 1, NEW_YORK, utc(2026, 1, 14)),
        (UTC_MIDNIGHT, date(2026, 7, 15), 7, NEW_YORK, utc(2026, 7, 8)),
        (UTC_MIDNIGHT, date(2026, 3, 9), 1, NEW_YORK, utc(2026, 3, 8)),
        (UTC_MIDNIGHT, date(2026, 11, 2), 1, NEW_YORK, utc(2026, 11, 1)),
        (UTC_MIDNIGHT, date(2026, 1, 3), 90, NEW_YORK, utc(2025, 10, 5)),
        (UTC_END, date(2026, 1, 15), 1, NEW_YORK, utc(2026, 1, 14, *LAST)),
        (UTC_END, date(2026, 7, 15), 7, NEW_YORK, utc(2026, 7, 8, *LAST)),
        (UTC_END, date(2026, 3, 9), 1, NEW_YORK, utc(2026, 3, 8, *LAST)),
        (UTC_END, date(2026, 11, 2), 1, NEW_YORK, utc(2026, 11, 1, *LAST)),
        (UTC_END, date(2028, 3, 1), 1, NEW_YORK, utc(2028, 2, 29, *LAST)),
        (LOCAL_THEN_DAYS, date(2026, 1, 15), 1, NEW_YORK, utc(2026, 1, 14, 5)),
        (LOCAL_THEN_DAYS, date(2026, 7, 15), 7, NEW_YORK, utc(2026, 7, 8, 4)),
        # The clocks changed between the cut-off and the night: an hour from local midnight.
        (LOCAL_THEN_DAYS, date(2026, 3, 8), 1, NEW_YORK, utc(2026, 3, 7, 5)),
        (LOCAL_THEN_DAYS, date(2026, 3, 9), 1, NEW_YORK, utc(2026, 3, 8, 4)),
        (LOCAL_THEN_DAYS, date(2026, 3, 10), 1, NEW_YORK, utc(2026, 3, 9, 4)),
        (LOCAL_THEN_DAYS, date(2026, 3, 12), 7, NEW_YORK, utc(2026, 3, 5, 4)),
        (LOCAL_THEN_DAYS, date(2026, 11, 1), 1, NEW_YORK, utc(2026, 10, 31, 4)),
        (LOCAL_THEN_DAYS, date(2026, 11, 2), 1, NEW_YORK, utc(2026, 11, 1, 5)),
        (LOCAL_THEN_DAYS, date(2026, 11, 5), 7, NEW_YORK, utc(2026, 10, 29, 5)),
    ],
)
def test_a_rule_cuts_a_night_off_where_its_platform_does(rule, night, days, zone, cutoff):
    made = RULES[rule](night, days, zone)
    assert (made, made.tzinfo) == (cutoff, UTC)


def test_every_rule_that_can_be_set_is_there():
    assert set(RULES) == set(get_args(CutoffRuleName))


@settings(deadline=None, max_examples=300, derandomize=True, database=None)
@given(
    rule=st.sampled_from(sorted(RULES)),
    zone=st.sampled_from(["Europe/London", "America/New_York", "America/Havana", "Asia/Kathmandu", "Pacific/Auckland"]),
    night=st.dates(date(1990, 1, 1), date(2037, 12, 31)),
    days=st.integers(1, 400),
)
def test_under_every_rule_a_longer_retention_keeps_more_and_a_later_night_keeps_less(rule, zone, night, days):
    cut = RULES[rule]
    zone = ZoneInfo(zone)
    assert cut(night, days + 1, zone) < cut(night, days, zone) < cut(night + DAY, days, zone)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_no_rule_reaches_into_the_nights_own_date(rule):
    assert RULES[rule](date(2026, 6, 15), 1, LONDON) < utc(2026, 6, 15)


@pytest.mark.parametrize(
    ("before", "after", "days", "said"),
    [
        ((LOCAL, LONDON), (LOCAL, LONDON), 7, []),
        ((UTC_END, LONDON), (UTC_MIDNIGHT, LONDON), 7, [(date(2026, 1, 1), DAY - MICROSECOND)]),
        ((UTC_MIDNIGHT, LONDON), (UTC_END, LONDON), 7, [(date(2026, 1, 1), MICROSECOND - DAY)]),
        ((UTC_MIDNIGHT, LONDON), (LOCAL, LONDON), 7, [(date(2026, 4, 6), HOUR)]),
        ((LOCAL, LONDON), (UTC_MIDNIGHT, LONDON), 7, [(date(2026, 4, 6), -HOUR)]),
        # Clocks forward: 24 hours back from midnight is an hour before the local one. Back: an hour after.
        (
            (LOCAL_THEN_DAYS, NEW_YORK),
            (LOCAL, NEW_YORK),
            7,
            [(date(2026, 11, 2), HOUR), (date(2026, 3, 9), -HOUR)],
        ),
        ((LOCAL, NEW_YORK), (LOCAL, LONDON), 1, [(date(2026, 1, 1), 5 * HOUR), (date(2026, 3, 10), 4 * HOUR)]),
    ],
)
def test_the_nights_on_which_two_rules_differ_most_are_named(before, after, days, said):
    found = differences(before, after, days, date(2026, 1, 1), 365)
    assert [(one.night, one.kept_longer) for one in found] == said
    assert all(one.before == RULES[before[0]](one.night, days, before[1]) for one in found)
