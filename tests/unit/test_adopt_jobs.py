"""When the platform's own jobs must be over, and which of them a night replaces.

Seen to fail: the zone of the jobs taken for that of the nights, one night looked at instead of a year of them, a night
at the very minute of the last job taken for late enough, a preset without its own time.
"""

from datetime import date, time

import pytest

from app.adopt import jobs
from app.presets import PRESETS
from app.state.findings import Level
from tests.unit.test_config import load

NIGHT = date(2026, 1, 10)
AT = "RETENTION_NIGHTLY_AT"


def about_the_time(preset, **settings):
    [found] = [one for one in jobs.check(preset, load(**settings), NIGHT) if one.about == AT]
    return found


@pytest.mark.parametrize("preset", jobs.SCHEDULES)
def test_under_its_own_preset_a_night_begins_after_the_jobs_that_must_be_over(preset):
    found = about_the_time(preset, PLATFORM_PRESET=preset)
    assert found.level is Level.NOTE
    assert all(job in found.sentence for job in (jobs.TIME_OUT, jobs.BILLING, jobs.STATUS))


@pytest.mark.parametrize(
    ("preset", "at"), [("gc-notify", time(9, 15)), ("us-notify", time(7)), ("va-notify", time(4, 15))]
)
def test_nights_begin_when_the_platforms_own_deletion_did(preset, at):
    assert load(PLATFORM_PRESET=preset).retention_nightly_at == at


def test_without_the_presets_time_it_says_that_the_night_is_early():
    found = about_the_time("gc-notify", RETENTION_TIMEZONE="UTC")
    assert (found.level, found.fix.partition(",")[0]) == (Level.LOOK, f"set {AT} to a time after 05:30 UTC")
    assert f"on {NIGHT} the night begins at 03:00 UTC" in found.sentence


def test_the_very_minute_of_the_last_job_is_not_before_it():
    at = {"RETENTION_TIMEZONE": "UTC"}
    assert about_the_time("gc-notify", RETENTION_NIGHTLY_AT="05:29", **at).level is Level.LOOK
    assert about_the_time("gc-notify", RETENTION_NIGHTLY_AT="05:30", **at).level is Level.NOTE


def test_a_night_that_is_early_for_a_part_of_the_year_is_found():
    """06:00 in London is 05:00 UTC from the end of March on."""
    found = about_the_time("gc-notify", RETENTION_NIGHTLY_AT="06:00", RETENTION_TIMEZONE="Europe/London")
    assert "on 2026-03-29 the night begins at 06:00 Europe/London" in found.sentence


@pytest.mark.parametrize("preset", jobs.SCHEDULES)
def test_each_job_that_a_night_replaces_is_to_be_switched_off(preset):
    found = [one for one in jobs.check(preset, load(), NIGHT) if one.about == "jobs"]
    to_switch_off = [one.sentence for one in found if one.level is Level.LOOK]
    assert len(to_switch_off) == len(jobs.SCHEDULES[preset].replaced) > 0
    assert all("switch the job off" in one.fix for one in found if one.level is Level.LOOK)
    [stays] = [one.sentence for one in found if one.level is Level.NOTE]
    assert "delete-inbound-sms" in stays


def test_every_platform_has_its_jobs_and_we_have_none():
    assert set(jobs.SCHEDULES) == set(PRESETS) - {"own"}
    assert not list(jobs.check("own", load(), NIGHT))
    assert not list(jobs.check(None, load(), NIGHT))
