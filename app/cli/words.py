"""What commands take for the record: a line of words, and who it was; and seconds."""

import getpass
import math
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from app import clock
from app.errors import BadArgument
from app.retention.arguments import checked_words


class Words(click.ParamType):
    """A line of text for the record."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        try:
            return checked_words(str(value))
        except BadArgument as error:
            self.fail(str(error), param, context)


class Seconds(click.FloatRange):
    """A number of seconds: neither infinite nor none at all, which no bounds keep out."""

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        seconds = super().convert(value, param, context)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, context)
        return seconds


def operator() -> str:
    """The user of the operating system."""
    return getpass.getuser()


def plain(value: object) -> str | int | float:
    """For JSON: times with their zone, and PostgreSQL's sums as numbers."""
    if isinstance(value, datetime):
        return value.astimezone(clock.UTC).isoformat()
    if isinstance(value, Decimal):
        return int(value)
    return str(value)
