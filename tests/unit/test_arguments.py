"""What people and messages may give.

Seen to fail: tonight taken for a night to come; a night to come let through.
"""

from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from freezegun import freeze_time

from app.errors import BadArgument
from app.retention.arguments import checked_night

SETTINGS = SimpleNamespace(zone=ZoneInfo("Europe/London"), retention_timezone="Europe/London")


@pytest.mark.parametrize(("night", "is_taken"), [("2026-06-30", True), ("2026-07-01", True), ("2026-07-02", False)])
def test_a_night_is_taken_up_to_tonight_by_the_local_date(night, is_taken):
    with freeze_time("2026-06-30T23:30:00Z"):  # half past midnight in London
        if is_taken:
            assert str(checked_night(night, SETTINGS)) == night
        else:
            with pytest.raises(BadArgument, match="is still to come"):
                checked_night(night, SETTINGS)
