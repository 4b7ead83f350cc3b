"""What commands take for the record: a line of words, and who it was."""

import getpass
from typing import Any

import click


class Words(click.ParamType):
    """A line of text for the record."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        text = str(value)
        if not text.isprintable():
            self.fail("it must be one line of text, without control characters", param, context)
        return text


def operator() -> str:
    """The user of the operating system."""
    return getpass.getuser()
