"""What the product writes to people, in each language of EMAIL_LANGUAGES, in plain text and in HTML.

Names and links are escaped in the HTML.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from app import clock
from app.accounts import languages
from app.accounts.languages import DELETED, EXPORT_FAILED, EXPORT_READY, INACTIVITY_WARNING, Language
from app.accounts.mail import Message
from app.config import Settings

BETWEEN_LANGUAGES = "\n\n* * *\n\n"
PAGE = '<!doctype html>\n<html lang="{}"><body>\n{}</body></html>\n'

Values = Mapping[str, str]


def inactivity_warning(settings: Settings, *, name: str, last_seen: datetime, deadline: datetime) -> Message:
    """That the account goes on or after the local date of `deadline` unless its user visits."""

    def values(language: Language) -> Values:
        return {
            "name": _one_line(name),
            "last_seen": language.day(clock.local_date(last_seen, settings.zone)),
            "deadline": language.day(clock.local_date(deadline, settings.zone)),
        }

    return _message(settings, INACTIVITY_WARNING, values)


def account_deleted(settings: Settings) -> Message:
    """That the account is gone."""
    return _message(settings, DELETED, lambda _language: {})


def export_ready(settings: Settings, *, link: str, until: datetime, left_out: int) -> Message:
    """Where the export is, and until when; and how many of the user's files it does not hold."""

    def values(language: Language) -> Values:
        return {
            "link": link,
            "until": language.moment(until.astimezone(settings.zone)),
            "left_out": f"{left_out}" if left_out else "",
        }

    return _message(settings, EXPORT_READY, values)


def export_failed(settings: Settings) -> Message:
    """That there will be no export."""
    return _message(settings, EXPORT_FAILED, lambda _language: {})


def _message(settings: Settings, email: str, values: Callable[[Language], Values]) -> Message:
    """One email in every language, in the order of the setting."""
    ours = {
        "product": settings.product_name,
        "site": settings.site_url,
        "contact": settings.email_contact or settings.site_url,
    }
    subjects, texts, htmls = [], [], []
    for language in languages.load(settings.email_languages, settings.email_templates):
        subject, text, html = language.render(email, {**ours, **values(language)})
        subjects.append(subject)
        texts.append(text.strip())
        htmls.append(f'<div lang="{language.code}">{html}</div>\n')
    page = PAGE.format(settings.email_languages[0], "".join(htmls))
    return Message(" / ".join(subjects), BETWEEN_LANGUAGES.join(texts) + "\n", page)


def _one_line(name: str) -> str:
    """A name is whatever somebody once typed: in plain text, line breaks in it would pass for ours."""
    return " ".join(name.split())
