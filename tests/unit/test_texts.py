"""What is written to people: dates are local, names can't pose as our words, both parts say the same.

Seen to fail: dates taken in UTC; autoescape off; the name's line breaks left in; the deadline left out of either part;
one email of a language left out; the product left out of a template; the first of a month written `1` in French.
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from app.accounts import languages, texts
from app.config import Settings
from app.errors import BadArgument

SITE = "https://notify.example.test"
LINK = "https://s3.example.test/exports/1.zip?X-Amz-Expires=604800&X-Amz-Signature=abc"
LONDON, CAIRO = ZoneInfo("Europe/London"), ZoneInfo("Africa/Cairo")
SEEN = datetime(2026, 1, 10, 12, tzinfo=UTC)


def warning(name="Ada", deadline=datetime(2026, 6, 30, 23, 30, tzinfo=UTC), zone=LONDON, **more):
    given = {"site_url": SITE, "retention_timezone": str(zone), "product_name": "Notify & Co", **more}
    return texts.inactivity_warning(Settings.model_construct(**given), name=name, last_seen=SEEN, deadline=deadline)


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


def test_a_warning_names_the_product_and_whom_to_ask():
    message = warning(email_contact="help@example.test")
    assert message.subject == "Your Notify & Co account will be deleted"
    assert all("help@example.test" in part for part in (message.text, message.html))
    assert "Notify &amp; Co" in message.html


def test_one_warning_holds_every_language_that_is_set():
    message = warning(email_languages=("fr", "en", "de"))
    days = ["mercredi 1er juillet 2026", "Wednesday 1 July 2026", "Mittwoch, 1. Juli 2026"]
    for part in (message.text, message.html):
        assert sorted(days, key=part.index) == days
    assert message.subject.startswith("Votre compte Notify & Co va être supprimé / Your ")
    assert '<html lang="fr">' in message.html


OURS = (languages.OURS / "en.toml").read_text()


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        (None, "no template for 'cy'"),
        ("[dates", "TOMLDecodeError"),
        ("[dates]\nday = '{day}'\nmoment = '{day}'\nweekdays = []\nmonths = []", "7 weekdays"),
        (OURS.replace("{{ name }}", "{{ nom }}"), "UndefinedError"),
        *((OURS.replace(f"[{email}]", "[another]"), f"KeyError: '{email}'") for email in languages.NAMES),
    ],
    ids=["none", "no TOML", "too few days", "a name that nobody knows", *languages.NAMES],
)
def test_a_template_that_cant_be_used_is_refused(tmp_path, toml, says):
    if toml is not None:
        (tmp_path / "cy.toml").write_text(toml)
    with pytest.raises(BadArgument, match=says):
        languages.load(("cy",), tmp_path)


def test_a_template_of_ones_own_is_taken_before_ours(tmp_path):
    (tmp_path / "en.toml").write_text(OURS.replace("Hello {{ name }}", "Dear {{ name }}"))
    assert warning(email_templates=tmp_path).text.startswith("Dear Ada,")


def test_a_name_is_text_and_stays_on_its_line():
    message = warning(name='<a href="//evil.test">Ada</a>\n\nPay here: evil.test {{ site }}')
    assert '<a href="//evil.test"' not in message.html
    assert "&lt;a href=&#34;//evil.test&#34;&gt;" in message.html
    assert message.text.startswith('Hello <a href="//evil.test">Ada</a> Pay here: evil.test {{ site }},\n\nYou have')


def settings(**more):
    given = {"site_url": SITE, "product_name": "Notify & Co", "email_contact": "help@example.test", **more}
    return Settings.model_construct(**{"retention_timezone": "Europe/London", **given})


def export_ready(left_out, **more):
    until = datetime(2026, 7, 1, 8, 5, tzinfo=UTC)
    return texts.export_ready(settings(**more), link=LINK, until=until, left_out=left_out)


@pytest.mark.parametrize("left_out", [0, 3])
@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "The number of missing files is 3"),
        ("de", "Die Zahl der fehlenden Dateien ist 3"),
        ("fr", "Nombre de fichiers manquants\u00a0: 3"),
    ],
)
def test_an_export_without_all_of_the_files_says_so_and_where_to_ask(left_out, language, sentence):
    message = export_ready(left_out, email_languages=(language,))
    for part in (message.text, message.html):
        assert (sentence in part, "help@example.test" in part) == (left_out > 0, left_out > 0)


@pytest.mark.parametrize(
    ("language", "until"),
    [
        ("en", "09:05 on Wednesday 1 July 2026"),
        ("de", "Mittwoch, 1. Juli 2026, 09:05 Uhr"),
        ("fr", "mercredi 1er juillet 2026 à 9 h 05"),
    ],
)
def test_an_export_is_linked_whole_and_says_until_when(language, until):
    message = export_ready(left_out=0, email_languages=(language,))
    assert f"\n{LINK}\n" in message.text
    assert LINK.replace("&", "&amp;") in message.html
    assert all(until in part for part in (message.text, message.html))


@pytest.mark.parametrize("write", [texts.account_deleted, texts.export_failed], ids=["deleted", "export failed"])
def test_each_email_names_the_product_and_whom_to_ask_in_every_language(write):
    message = write(settings(email_languages=("en", "fr", "de")))
    assert message.subject.count("Notify & Co") == 3
    assert message.text.count("help@example.test") == message.html.count("help@example.test") == 3
    assert "Notify &amp; Co" in message.html
