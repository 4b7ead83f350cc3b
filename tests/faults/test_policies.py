"""What the laboratory believes of each platform's rules: cut-offs, and where letters' files are.

Seen to fail: 24 hours for a day of ours and a day of the calendar for 24 hours of
va-notify's, the rules of gc-notify and us-notify exchanged, va-notify's nights in London, its letters in four buckets,
and half past five taken for past it.
"""

from datetime import date, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.faults.data import Data
from tests.variants import OWN
from tests.variants.policies import EMAIL, POLICIES


@pytest.mark.parametrize(
    ("variant", "night", "cutoff"),
    [
        (OWN, "2026-04-02", "2026-03-29 00:00"),
        (OWN, "2026-04-03", "2026-03-29 23:00"),
        ("govuk-notify", "2026-04-03", "2026-03-29 23:00"),
        ("gc-notify", "2026-04-03", "2026-03-30 23:59:59.999999"),
        ("us-notify", "2026-04-03", "2026-03-30 00:00"),
        ("va-notify", "2026-03-10", "2026-03-06 04:00"),
        ("va-notify", "2026-11-03", "2026-10-30 05:00"),
    ],
)
def test_four_days_are_cut_off_by_the_platform_s_own_rule(variant: str, night: str, cutoff: str):
    data = Data(date.fromisoformat(night), POLICIES[variant].zone, POLICIES[variant])
    service = uuid4()
    data.days[service, EMAIL] = 4
    assert data.cutoff(service, EMAIL) == datetime.fromisoformat(cutoff)


LATE, LATER = "2026-03-09 17:30:00", "2026-03-09 17:30:01"


@pytest.mark.parametrize(
    ("variant", "columns", "places"),
    [
        (OWN, {"created_at": LATE}, [("letters", "2026-03-09/")]),
        (OWN, {}, [("letters", "2026-03-10/")]),
        ("govuk-notify", {"key_type": "test"}, [("tests", "")]),
        (
            "govuk-notify",
            {"notification_status": "virus-scan-failed"},
            [("scan", "FAILURE/"), ("letters", "2026-03-10/")],
        ),
        ("gc-notify", {}, []),
        ("va-notify", {"sent_at": "2026-03-12 00:00:00"}, [("letters", "2026-03-12/")]),
        ("va-notify", {"sent_at": "2026-03-11 23:59:59", "key_type": "test"}, [("letters", "2026-03-11/")]),
        ("va-notify", {"sent_at": None, "notification_status": "virus-scan-failed"}, [("letters", "2026-03-10/")]),
    ],
)
def test_a_letter_s_files_are_where_its_platform_puts_them(variant: str, columns: dict[str, Any], places: Any):
    row = {"reference": "AB", "created_at": LATER, "notification_status": "delivered", "key_type": "normal"} | columns
    row |= {name: datetime.fromisoformat(row[name]) for name in ("created_at", "sent_at") if row.get(name)}
    assert POLICIES[variant].places(row) == [(role, f"{start}NOTIFY.AB.") for role, start in places]
