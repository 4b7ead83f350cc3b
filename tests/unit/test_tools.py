"""While a bucket is broken, exactly the letters that have a place in it are passed over.

Seen to fail with each status left out of `Tools.statuses_to_look_at`, and with a kind's own bucket left out.
"""

from datetime import UTC, datetime
from itertools import combinations
from types import SimpleNamespace
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from app.dao.notifications_dao import REAL, TEST
from app.models.types import STATUSES
from app.presets import LETTER_BUCKETS
from app.retention.tools import Tools
from app.storage.naming import Letter

BUCKETS = ("letters", "test-letters", "invalid-pdf", "letters-scan")
SETTINGS: dict[str, Any] = dict(  # noqa: C408
    s3_bucket_letters_pdf="letters",
    s3_bucket_test_letters="test-letters",
    s3_bucket_invalid_pdf="invalid-pdf",
    s3_bucket_letters_scan="letters-scan",
    letter_folder_date="created-at-local",
    folder_zone=ZoneInfo("Europe/London"),
    letter_postage_classes={},
)


@pytest.mark.parametrize("broken", [set(some) for count in range(5) for some in combinations(BUCKETS, count)], ids=str)
@pytest.mark.parametrize("kind", [REAL, TEST])
@pytest.mark.parametrize("letter_files", ["by-status", "one-bucket"])
def test_letters_are_passed_over_that_have_a_place_in_a_broken_bucket_and_no_others(letter_files, kind, broken):
    tools = Tools(SimpleNamespace(**SETTINGS, letter_buckets=LETTER_BUCKETS[letter_files]))
    passed_over, only = tools.statuses_to_look_at(kind, broken)
    looked_at = {status for status in STATUSES if status not in passed_over and (only is None or status in only)}
    key_type = "test" if kind == TEST else "normal"
    created_at = datetime(2026, 1, 20, tzinfo=UTC)
    within_reach = {
        status
        for status in STATUSES
        if not any(
            place.bucket in broken
            for place in tools.naming.places(Letter(uuid4(), "R", created_at, status, key_type, "second"))
        )
    }
    assert looked_at == within_reach
