"""The one cut-off that everything asks for follows the settings, and is the one that `adopt` compares.

Seen to fail: `cutoff` following local midnight whatever is set, or another zone than the settings'; a refusal and the
limit to the calendar taken out; a UTC date that is still to come taken for tonight's, and UTC's date taken under a rule
of local ones; the night before the first one past, and one after it; adopt comparing another zone; the limit of an
argument put at the start of today, and hours after it.
"""

from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app import clock
from app.adopt import policy
from app.errors import BadArgument
from app.presets import PRESETS
from app.retention import arguments
from app.retention.cutoff_rules import RULES
from app.retention.cutoffs import RetentionRefused, cutoff, date_to_count_from, first_night_past
from tests.unit.test_config import load

DAY = timedelta(days=1)
NIGHTS = [date(2026, 1, 1) + number * DAY for number in range(366)]
OF_RULES = {rule: load(CUTOFF_RULE=rule, RETENTION_TIMEZONE="America/New_York") for rule in RULES}
OF_PRESETS = {preset: load(PLATFORM_PRESET=preset) for preset in PRESETS}


# A retention of three days. New York's clocks go forward on 8 March 2026 and back on 1 November.
@pytest.mark.parametrize(
    ("rule", "night", "expected"),
    [
        ("local-midnight", date(2026, 3, 8), "2026-03-05T05:00:00Z"),
        ("local-midnight", date(2026, 3, 9), "2026-03-06T05:00:00Z"),
        ("local-midnight", date(2026, 11, 2), "2026-10-30T04:00:00Z"),
        ("utc-midnight", date(2026, 3, 9), "2026-03-06T00:00:00Z"),
        ("utc-midnight", date(2026, 11, 2), "2026-10-30T00:00:00Z"),
        ("utc-end-of-day", date(2026, 3, 9), "2026-03-06T23:59:59.999999Z"),
        ("utc-end-of-day", date(2026, 11, 2), "2026-10-30T23:59:59.999999Z"),
        ("local-midnight-then-days", date(2026, 3, 8), "2026-03-05T05:00:00Z"),
        ("local-midnight-then-days", date(2026, 3, 9), "2026-03-06T04:00:00Z"),
        ("local-midnight-then-days", date(2026, 11, 2), "2026-10-30T05:00:00Z"),
    ],
)
def test_a_cut_off_follows_the_rule_and_the_zone_that_are_set(rule, night, expected):
    assert cutoff(night, 3, OF_RULES[rule]) == datetime.fromisoformat(expected)


@pytest.mark.parametrize("rule", RULES)
def test_under_every_rule_no_days_are_refused_and_for_ever_reaches_back_to_where_no_row_is(rule):
    for days in (0, -1):
        with pytest.raises(RetentionRefused, match="it must be 1 or more"):
            cutoff(date(2026, 3, 29), days, OF_RULES[rule])
    assert abs(cutoff(date(2026, 3, 29), 999_999, OF_RULES[rule]) - datetime(1970, 1, 1, tzinfo=UTC)) <= DAY


@pytest.mark.parametrize(("today", "configured"), list(product(PRESETS, PRESETS)))
def test_what_adopt_compares_is_what_the_nights_cut_off(today, configured):
    before, after = OF_PRESETS[today], OF_PRESETS[configured]
    days = after.retention_default_days
    longer = {night: cutoff(night, days, before) - cutoff(night, days, after) for night in NIGHTS}
    said = policy.cutoff_differences(today, after, NIGHTS[0])
    assert {one.kept_longer for one in said} == {min(longer.values()), max(longer.values())} - {timedelta()}
    for one in said:
        assert (one.before, one.after) == (cutoff(one.night, days, before), cutoff(one.night, days, after))


@hypothesis_settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(
    rule=st.sampled_from(sorted(RULES)),
    zone=st.sampled_from(["Europe/London", "America/New_York", "Pacific/Auckland", "Pacific/Honolulu"]),
    made_at=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    days=st.integers(1, 400),
)
def test_a_rows_time_is_up_on_the_first_night_that_cuts_it_off(rule, zone, made_at, days):
    given_settings = load(CUTOFF_RULE=rule, RETENTION_TIMEZONE=zone)
    night = first_night_past(made_at, days, given_settings)
    assert cutoff(night - DAY, days, given_settings) <= made_at < cutoff(night, days, given_settings)


@pytest.mark.parametrize(
    ("rule", "zone", "now", "counted_from"),
    [
        ("utc-end-of-day", "Asia/Tokyo", "2026-06-14T18:00:00Z", date(2026, 6, 14)),  # 03:00 on the 15th
        ("utc-midnight", "Asia/Tokyo", "2026-06-14T18:00:00Z", date(2026, 6, 14)),
        ("utc-end-of-day", "Asia/Tokyo", "2026-06-15T01:00:00Z", date(2026, 6, 15)),
        ("local-midnight", "Asia/Tokyo", "2026-06-14T18:00:00Z", date(2026, 6, 15)),
        ("local-midnight-then-days", "Asia/Tokyo", "2026-06-14T18:00:00Z", date(2026, 6, 15)),
        ("utc-end-of-day", "America/New_York", "2026-06-15T02:00:00Z", date(2026, 6, 14)),
    ],
)
def test_a_date_of_utc_that_is_still_to_come_is_not_counted_from(rule, zone, now, counted_from):
    given_settings, now = load(CUTOFF_RULE=rule, RETENTION_TIMEZONE=zone), datetime.fromisoformat(now)
    assert date_to_count_from(now, given_settings) == counted_from
    assert cutoff(counted_from, 1, given_settings) < now


@freeze_time("2026-07-15T12:00:00Z")  # London's date began at 23:00 UTC, an hour before UTC's
@pytest.mark.parametrize("rule", RULES)
def test_the_shortest_retentions_own_cut_off_is_taken_as_an_argument_and_none_after_today_began(rule):
    given_settings = load(CUTOFF_RULE=rule)
    tonight = clock.local_date(clock.now(), given_settings.zone)
    own = cutoff(tonight, 1, given_settings)
    assert arguments.checked_cutoff(own.isoformat(), given_settings, force=False) == own
    too_late = clock.first_instant(tonight, given_settings.zone) + timedelta(hours=1, microseconds=1)
    with pytest.raises(BadArgument, match="after the start of today"):
        arguments.checked_cutoff(too_late, given_settings, force=False)
