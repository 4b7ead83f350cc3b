"""What an audit says of one file.

Seen to fail: a file as old as the margin judged.
"""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from app.retention.audit_judgement import Rules, judge
from app.storage.inventory import StoredKey
from app.storage.naming import Buckets, Naming

YOUNG_FROM = datetime(2026, 1, 20, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NAMING = Naming(Buckets("letters", "test-letters", "invalid-pdf", "letters-scan"), ZoneInfo("Europe/London"))


@pytest.mark.parametrize(("after", "is_young"), [(-SECOND, False), (0 * SECOND, True), (SECOND, True)])
def test_a_file_is_young_from_the_margin_on(after, is_young):
    stored = StoredKey("letters", "no letter's", (), YOUNG_FROM + after)
    rules = Rules(SimpleNamespace(), date(2026, 1, 21), YOUNG_FROM, YOUNG_FROM)
    page = judge(None, [stored], rules, SimpleNamespace(tools=SimpleNamespace(naming=NAMING)))
    assert (page.young, len(page.findings)) == (int(is_young), int(not is_young))
