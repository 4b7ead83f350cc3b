"""What is written to people: dates are local, names can't pose as our words, both parts say the same.

Seen to fail: dates taken in UTC; autoescape off; the name's line breaks left in; the deadline left out of either part.
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from app.accounts import texts

SITE = "https://notify.example.test"
LINK = "https://s3.example.test/exports/1.zip?X-Amz-Expires=604800&X-Amz-Signature=abc"
LONDON, CAIRO = ZoneInfo("Europe/London"), ZoneInfo("Africa/Cairo")
SEEN = datetime(2026, 1, 10, 12, tzinfo=UTC)


def warning(name="Ada", deadline=datetime(2026, 6, 30, 23, 30, tzinfo=UTC), zone=LONDON):
    return texts.inactivity_warning(name=name, last_seen=SEEN, deadline=deadline, site_url=SITE, zone=zone)


@pytest.mark.parametrize(
    ("deadline", "zone", "day"),
    [
        (datetime(2026, 6, 30, 22, 59, 59, tzinfo=UTC), LONDON, "Tuesday 30 June 2026"),
        (datetime(2026, 6, 30, 23, 0, 0, tzinfo=UTC), LONDON, "Wednesday 1 July 2026"),
        (datetime(2026, 12, 31, 23, 0, 0, tzinfo=UTC), LONDON, "Thursday 31 December 2026"),
        (datetime(2026, 12, 31, 22, 0, 0, tzinfo=UTC), CAIRO, "Friday 1 January 2027"),
    ],
)
def test_the_deadline_is_a_local_day_in_both_parts(deadline, zone, day):
    message = warning(deadline=deadline, zone=zone)
    assert day in message.text
    assert day in message.html


def test_a_warning_links_to_the_site_and_says_since_when_nobody_came():
    message = warning()
    assert f"\n{SITE}\n" in message.text
    assert f'<a href="{SITE}">' in message.html
    assert all("Saturday 10 January 2026" in part for part in (message.text, message.html))


def test_a_name_is_text_and_stays_on_its_line():
    message = warning(name='<a href="//evil.test">Ada</a>\n\nPay here: evil.test {{ site }}')
    assert '<a href="//evil.test"' not in message.html
    assert "&lt;a href=&#34;//evil.test&#34;&gt;" in message.html
    assert message.text.startswith('Hello <a href="//evil.test">Ada</a> Pay here: evil.test {{ site }},\n\nYou have')


def test_an_export_is_linked_whole_and_says_until_when():
    message = texts.export_ready(link=LINK, until=datetime(2026, 7, 1, 8, 5, tzinfo=UTC), zone=LONDON)
    assert f"\n{LINK}\n" in message.text
    assert LINK.replace("&", "&amp;") in message.html
    assert all("09:05 on Wednesday 1 July 2026" in part for part in (message.text, message.html))
