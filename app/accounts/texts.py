"""What the product writes to people, in plain text and in HTML. Names and links are escaped in the HTML."""

from datetime import datetime
from zoneinfo import ZoneInfo

from jinja2 import Environment, StrictUndefined

from app import clock
from app.accounts.mail import Message

TEXT = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True)  # noqa: S701 - no HTML
HTML = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)

PAGE = '<!doctype html>\n<html lang="en"><body>\n{}</body></html>\n'

INACTIVE_TEXT = """\
Hello {{ name }},

You have not visited {{ site }} since {{ last_seen }}. Accounts that nobody uses are deleted, and yours will be on or
after {{ deadline }}, with everything in it.

To keep it, visit us before that day:
{{ site }}

If you no longer need it, there is nothing for you to do.
"""
INACTIVE_HTML = PAGE.format(
    """\
<p>Hello {{ name }},</p>
<p>You have not visited <a href="{{ site }}">{{ site }}</a> since {{ last_seen }}. Accounts that nobody uses are
deleted, and yours will be on or after <strong>{{ deadline }}</strong>, with everything in it.</p>
<p>To keep it, <a href="{{ site }}">visit us</a> before that day.</p>
<p>If you no longer need it, there is nothing for you to do.</p>
"""
)

EXPORT_TEXT = """\
The copy of your data that you asked for is ready. You can fetch it until {{ until }}:

{{ link }}

Whoever has this link can fetch it, too: do not pass it on.
"""
EXPORT_HTML = PAGE.format(
    """\
<p>The copy of your data that you asked for is ready. You can <a href="{{ link }}">fetch it</a> until
<strong>{{ until }}</strong>.</p>
<p>Whoever has this link can fetch it, too: do not pass it on.</p>
"""
)

EXPORT_FAILED_TEXT = """\
The copy of your data that you asked for could not be made. We are sorry. You can ask for it again:

{{ site }}

If you had also asked for your account to be deleted, it may be gone by now, and with it what a copy could be made of.
"""
EXPORT_FAILED_HTML = PAGE.format(
    """\
<p>The copy of your data that you asked for could not be made. We are sorry. You can
<a href="{{ site }}">ask for it again</a>.</p>
<p>If you had also asked for your account to be deleted, it may be gone by now, and with it what a copy could be made
of.</p>
"""
)


def inactivity_warning(*, name: str, last_seen: datetime, deadline: datetime, site_url: str, zone: ZoneInfo) -> Message:
    """That the account goes on or after the local date of `deadline` unless its user visits."""
    values = {
        "name": _one_line(name),
        "site": site_url,
        "last_seen": local_day(last_seen, zone),
        "deadline": local_day(deadline, zone),
    }
    return _message("Your account will be deleted", INACTIVE_TEXT, INACTIVE_HTML, values)


def export_ready(*, link: str, until: datetime, zone: ZoneInfo) -> Message:
    """Where the export is, and until when."""
    local = until.astimezone(zone)
    values = {"link": link, "until": f"{local:%H:%M} on {local_day(until, zone)}"}
    return _message("The copy of your data is ready", EXPORT_TEXT, EXPORT_HTML, values)


def export_failed(*, site_url: str) -> Message:
    """That there will be no export."""
    return _message(
        "The copy of your data could not be made", EXPORT_FAILED_TEXT, EXPORT_FAILED_HTML, {"site": site_url}
    )


def local_day(instant: datetime, zone: ZoneInfo) -> str:
    """Such as `Sunday 29 March 2026`, where the clocks show the zone's time."""
    day = clock.local_date(instant, zone)
    return f"{day:%A} {day.day} {day:%B %Y}"


def _message(subject: str, text: str, html: str, values: dict[str, str]) -> Message:
    return Message(subject, TEXT.from_string(text).render(values), HTML.from_string(html).render(values))


def _one_line(name: str) -> str:
    """A name is whatever somebody once typed: in plain text, line breaks in it would pass for ours."""
    return " ".join(name.split())
