"""Whose rules a platform follows today, and what adopting says where nobody knows.

Seen to fail: each way to know it left out, what is said put after what is configured, tables said to look like those of
the platform that was named, the platform left out of either sentence of the comparison.
"""

from dataclasses import replace
from datetime import date
from types import MappingProxyType

import pytest

from app.adopt import policy
from app.dao.catalogue import NOTIFICATIONS
from app.presets import PRESETS
from app.state.findings import Level
from tests.catalogues import catalogue, table
from tests.unit.test_config import load

NIGHT = date(2026, 1, 15)


@pytest.mark.parametrize(
    ("configured", "said", "is_ours", "known"),
    [
        ({}, None, False, None),
        ({}, None, True, "own"),
        ({}, "us-notify", False, "us-notify"),
        ({"PLATFORM_PRESET": "own"}, None, False, "own"),
        ({"PLATFORM_PRESET": "gc-notify"}, None, False, "gc-notify"),
        ({"PLATFORM_PRESET": "gc-notify"}, "us-notify", False, "us-notify"),
    ],
)
def test_whose_rules_are_followed_is_what_somebody_says_or_what_our_own_database_is(configured, said, is_ours, known):
    assert policy.known(said, load(**configured), is_ours=is_ours) == known


def test_where_nobody_says_whose_rules_are_followed_nothing_is_compared():
    (found,) = policy.check(catalogue(), None, load(), NIGHT)
    assert (found.level, found.about) == (Level.LOOK, "PLATFORM_PRESET")
    assert policy.compare(None, load()) == []


@pytest.mark.parametrize("preset", [None, "gc-notify", "us-notify"])
def test_tables_that_look_like_a_platforms_are_said_to_unless_that_is_the_one(preset):
    live = table(NOTIFICATIONS)
    columns = MappingProxyType({**live.columns, "carrier": live.columns["reference"]})
    found = policy.check(catalogue(replace(live, columns=columns)), preset, load(), NIGHT)
    alike = [one.fix for one in found if "look like" in one.sentence]
    assert alike == (
        [] if preset == "us-notify" else ["set PLATFORM_PRESET=us-notify, or say --preset us-notify to compare with it"]
    )


@pytest.mark.parametrize(
    ("preset", "said"),
    [("gc-notify", "feedback_reason stays NULL"), ("us-notify", "carrier has the cost"), ("va-notify", None)],
)
def test_what_changes_in_history_is_said(preset, said):
    notes = [one.sentence for one in policy.check(catalogue(), preset, load(), NIGHT) if one.level is Level.NOTE]
    assert any(said in one for one in notes) if said else not any("today;" in one for one in notes)


@pytest.mark.parametrize("preset", PRESETS)
def test_days_of_which_the_figures_may_be_replaced_are_to_be_looked_for(preset):
    found = [one for one in policy.check(catalogue(), preset, load(), NIGHT) if one.about == "statistics"]
    assert bool(found) == (preset in ("gc-notify", "va-notify"))
    assert all(policy.DAYS_IN_BOTH_TABLES in one.fix for one in found)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_comparison_names_the_platform(preset):
    found = [one for one in policy.check(catalogue(), preset, load(), NIGHT) if one.about in ("cut-off", "history")]
    assert found
    assert all(str(preset) in one.sentence for one in found)
