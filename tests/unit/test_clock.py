"""Time: what counts as a cut-off, and where a local date begins.

Promise 5 rests on this (nothing at or after the cut-off is touched). Seen to fail: `as_utc` without its treatment
of naive datetimes; `first_instant` with `fold=1`, without its search through the gap, and with the gap's middle.
"""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import clock

LONDON = ZoneInfo("Europe/London")
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True, scope="module")
def machine_elsewhere() -> Iterator[None]:
    """A machine whose own time zone is none of those meant here: nothing may depend on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        (utc(2026, 3, 29, 0, 30), utc(2026, 3, 29, 0, 30)),
        (datetime(2026, 3, 29, 2, 30, tzinfo=timezone(2 * HOUR)), utc(2026, 3, 29, 0, 30)),
        (datetime(2026, 7, 1, 0, 0, tzinfo=LONDON), utc(2026, 6, 30, 23, 0)),
        (datetime(2026, 7, 1, 0, 0), utc(2026, 7, 1, 0, 0)),  # noqa: DTZ001 - naive means UTC
        ("2026-03-29T00:30:00Z", utc(2026, 3, 29, 0, 30)),
        ("2026-03-29T00:30:00+00:00", utc(2026, 3, 29, 0, 30)),
        ("2026-03-29T02:30:00+02:00", utc(2026, 3, 29, 0, 30)),
        ("2026-03-29T00:30:00", utc(2026, 3, 29, 0, 30)),
        ("2026-03-29 00:30:00.123456", utc(2026, 3, 29, 0, 30, 0, 123456)),
        ("2026-03-29", utc(2026, 3, 29)),
    ],
)
def test_a_cut_off_is_understood_however_it_arrives(value, instant):
    understood = clock.as_utc(value)
    assert (understood, understood.tzinfo) == (instant, UTC)


@pytest.mark.parametrize(
    "value",
    ["", "yesterday", "2026-13-01T00:00:00", "2026-03-29T25:00:00", "1774744200"],
)
def test_a_string_that_is_no_time_is_refused_with_a_sentence_that_quotes_it(value):
    with pytest.raises(clock.NotATime, match="is not a date and time in ISO 8601, such as") as refusal:
        clock.as_utc(value)
    assert repr(value) in str(refusal.value)


@pytest.mark.parametrize(
    "value", ["0001-01-01T00:00:00+05:00", "1969-12-31T23:59:59Z", "2200-01-01", "2999-01-01T00:00:00Z"]
)
def test_a_string_that_is_a_time_out_of_bounds_is_not_said_to_be_none(value):
    with pytest.raises(clock.NotATime, match=f"'{value[:10]}' is out of bounds; dates are from 1970-01-01 to 2199"):
        clock.as_utc(value)


def test_a_long_string_is_quoted_only_in_part():
    with pytest.raises(clock.NotATime) as refusal:
        clock.as_utc("x" * 5000)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("value", "kind"), [(1774744200, "int"), (1.5, "float"), (None, "NoneType"), (date(2026, 3, 29), "date")]
)
def test_what_is_neither_datetime_nor_string_is_refused_by_its_kind(value, kind):
    with pytest.raises(clock.NotATime, match=f"A {kind} is not a date and time"):
        clock.as_utc(value)


def test_columns_keep_the_same_instant_without_its_zone_and_give_it_back():
    instant = datetime(2026, 7, 1, 1, 30, tzinfo=timezone(HOUR))
    kept = clock.to_column(instant)
    assert (kept, kept.tzinfo) == (datetime(2026, 7, 1, 0, 30), None)  # noqa: DTZ001
    assert clock.from_column(kept) == instant


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("Europe/London", date(2026, 1, 15), utc(2026, 1, 15, 0)),
        ("Europe/London", date(2026, 7, 15), utc(2026, 7, 14, 23)),
        # The clocks go forward at 01:00 UTC on 29 March and back at 01:00 UTC on 25 October.
        ("Europe/London", date(2026, 3, 28), utc(2026, 3, 28, 0)),
        ("Europe/London", date(2026, 3, 29), utc(2026, 3, 29, 0)),
        ("Europe/London", date(2026, 3, 30), utc(2026, 3, 29, 23)),
        ("Europe/London", date(2026, 10, 25), utc(2026, 10, 24, 23)),
        ("Europe/London", date(2026, 10, 26), utc(2026, 10, 26, 0)),
        ("Asia/Kathmandu", date(2026, 1, 1), utc(2025, 12, 31, 18, 15)),
        # Midnight is skipped: 00:00 becomes 01:00.
        ("Africa/Cairo", date(2024, 4, 26), utc(2024, 4, 25, 22)),
        ("Africa/Cairo", date(2026, 4, 24), utc(2026, 4, 23, 22)),
        ("Asia/Beirut", date(2026, 3, 29), utc(2026, 3, 28, 22)),
        # The gap spans midnight: 23:30 becomes 00:30.
        ("America/Toronto", date(1919, 3, 31), utc(1919, 3, 31, 4, 30)),
        # Midnight comes twice: 01:00 becomes 00:00 again.
        ("America/Havana", date(2025, 11, 2), utc(2025, 11, 2, 4)),
        # The hour before midnight comes twice: 00:00 becomes 23:00 of the day before.
        ("Africa/Cairo", date(2024, 11, 1), utc(2024, 10, 31, 22)),
        # 00:01 becomes 23:01 of the day before, so that the date begins twice: the first time counts.
        ("America/St_Johns", date(2010, 11, 7), utc(2010, 11, 7, 2, 30)),
        # A date that was skipped whole: where it would have been, the next one begins.
        ("Pacific/Apia", date(2011, 12, 30), utc(2011, 12, 30, 10)),
        ("Pacific/Apia", date(2011, 12, 31), utc(2011, 12, 30, 10)),
    ],
)
def test_a_local_date_begins_at_its_first_instant(zone, day, begins):
    first = clock.first_instant(day, ZoneInfo(zone))
    assert (first, first.tzinfo) == (begins, UTC)


ZONES = (
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "America/Toronto",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "UTC",
)
SKIPPED = {("Pacific/Apia", date(2011, 12, 30)), ("Pacific/Kiritimati", date(1994, 12, 31))}


def assert_begins(day: date, zone: ZoneInfo) -> None:
    first = clock.first_instant(day, zone)
    assert clock.local_date(first, zone) == day
    assert clock.local_date(first - MICROSECOND, zone) < day


@pytest.mark.parametrize("zone", ZONES)
def test_a_microsecond_before_its_first_instant_it_is_an_earlier_date_on_every_day_of_a_year(zone):
    for year in (2011, 2024):
        for number in range(366):
            day = date(year, 1, 1) + timedelta(days=number)
            if (zone, day) not in SKIPPED:
                assert_begins(day, ZoneInfo(zone))


@settings(deadline=None, max_examples=300, derandomize=True, database=None)
@given(zone=st.sampled_from(ZONES), day=st.dates(date(1971, 1, 1), date(2037, 12, 31)))
def test_a_microsecond_before_its_first_instant_it_is_an_earlier_date_on_any_day(zone, day):
    if (zone, day) not in SKIPPED:
        assert_begins(day, ZoneInfo(zone))
