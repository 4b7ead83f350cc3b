"""The emails' templates, a file per language: the product's own beside this module, or an operator's."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, TemplateError

from app.errors import BadArgument

OURS = Path(__file__).parent / "emails"
INACTIVITY_WARNING, DELETED = "inactivity-warning", "account-deleted"
EXPORT_READY, EXPORT_FAILED = "export-ready", "export-failed"
OF_ALL = ("product", "site", "contact")
NAMES = {
    INACTIVITY_WARNING: (*OF_ALL, "name", "last_seen", "deadline"),
    DELETED: OF_ALL,
    EXPORT_READY: (*OF_ALL, "link", "until", "left_out"),
    EXPORT_FAILED: OF_ALL,
}
"""The emails, and what the template of each can name."""

TEXT = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True)  # noqa: S701 - no HTML
HTML = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)


@dataclass(frozen=True)
class Language:
    """How days are written in a language, and its templates: the subject, the text and the HTML of each email."""

    code: str
    day_form: str
    moment_form: str
    first_of_month: str
    weekdays: tuple[str, ...]
    months: tuple[str, ...]
    templates: Mapping[str, Mapping[str, str]]

    def day(self, day: date) -> str:
        """Such as `Sunday 29 March 2026`."""
        weekday, month = self.weekdays[day.weekday()], self.months[day.month - 1]
        number = self.first_of_month if day.day == 1 else day.day
        return self.day_form.format(weekday=weekday, day=number, month=month, year=day.year)

    def moment(self, local: datetime) -> str:
        """Such as `14:05 on Sunday 29 March 2026`, as the clocks of its time zone show it."""
        return self.moment_form.format(day=self.day(local.date()), hour=local.hour, minute=f"{local.minute:02}")

    def render(self, email: str, values: Mapping[str, str]) -> tuple[str, str, str]:
        """Its subject, its text, and its HTML, in which the values are escaped."""
        template = self.templates[email]
        return (
            TEXT.from_string(template["subject"]).render(values),
            TEXT.from_string(template["text"]).render(values),
            HTML.from_string(template["html"]).render(values),
        )


def load(codes: tuple[str, ...], directory: Path | None) -> list[Language]:
    """The languages in this order, an operator's file before ours. Raises BadArgument for one that can't be used."""
    if not codes:
        raise BadArgument("there must be one")
    return [_load(code, directory) for code in codes]


@lru_cache
def _load(code: str, directory: Path | None) -> Language:
    places = [place / f"{code}.toml" for place in (directory, OURS) if place is not None and code.isalnum()]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        ours = ", ".join(sorted(found.stem for found in OURS.glob("*.toml")))
        raise BadArgument(f"no template for {code!r} is there; ours are {ours}, and EMAIL_TEMPLATES can add others")
    try:
        read = tomllib.loads(path.read_text())
        dates = read.pop("dates")
        language = Language(
            code,
            day_form=dates["day"],
            moment_form=dates["moment"],
            first_of_month=dates.get("first", "1"),
            weekdays=tuple(dates["weekdays"]),
            months=tuple(dates["months"]),
            templates=read,
        )
        if (len(language.weekdays), len(language.months)) != (7, 12):
            raise BadArgument(f"{path} must have 7 weekdays and 12 months")
        language.moment(datetime(2026, 1, 1))  # noqa: DTZ001 - an example
        for email, names in NAMES.items():
            if not all(language.render(email, dict.fromkeys(names, "x"))):
                raise BadArgument(f"{path} has an empty part in {email}")
    except (tomllib.TOMLDecodeError, KeyError, TypeError, IndexError, TemplateError, OSError) as error:
        raise BadArgument(f"{path} can't be used: {type(error).__name__}: {error}") from None
    return language
