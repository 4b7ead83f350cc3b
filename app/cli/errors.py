"""What a person reads when a command can't do its work: a sentence, not a page of traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask.cli import AppGroup, ScriptInfo
from psycopg2 import errors
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from app.db import server_of
from app.refusals import in_words, refusal_of
from app.retention.readiness import MAKE_TABLES, DatabaseNotReady
from app.state.asked import PolicyBlocked


class CouldNotAsk(click.ClickException):
    """Ends with 2, where 1 and 3 are answers."""

    exit_code = 2


class SentencesGroup(AppGroup):
    """A group whose commands fail with sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        with failures_as_sentences():
            return super().invoke(ctx)


@contextmanager
def failures_as_sentences() -> Iterator[None]:
    """Say what is wrong with the database, and how to fix it. Other errors keep their traceback."""
    try:
        yield
    except (DatabaseNotReady, PolicyBlocked) as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        sentence = _sentence(error)
        raise click.ClickException(sentence) from None


@contextmanager
def could_not_ask() -> Iterator[None]:
    """The same for commands whose exit code is an answer: a question that could not be asked ends with 2."""
    try:
        with failures_as_sentences():
            yield
    except click.ClickException as error:
        raise CouldNotAsk(error.message) from None


def _sentence(error: DBAPIError) -> str:
    if isinstance(error.orig, errors.UndefinedTable):
        return f"{in_words(error)}. {MAKE_TABLES}"
    if isinstance(error.orig, errors.ReadOnlySqlTransaction):
        return (
            "The database takes no changes: it is a standby, or read-only. Name the primary in DATABASE_URL; of "
            "several hosts (host1,host2) the one that takes changes is used."
        )
    if isinstance(error.orig, errors.LockNotAvailable):
        return "A lock was held by someone else for too long, so nothing was changed. Try again when it is quieter."
    if isinstance(error.orig, errors.QueryCanceled):
        return (
            f"The database gave up on a statement: {in_words(error)}. Each command has such a "
            "limit of its own, and what it had not finished is undone. Try again when the database is quieter."
        )
    if isinstance(error, OperationalError) and getattr(error.orig, "pgcode", None) is None:
        app = click.get_current_context().ensure_object(ScriptInfo).load_app()
        url = app.extensions["settings"].database_url
        why = str(error.orig).strip().splitlines()[0]
        return (
            f"The database {make_url(url).database} on {server_of(url)} can't be reached: {why} "
            "Check that the server runs and that DATABASE_URL names it."
        )
    return f"The database refused it: {refusal_of(error)}. What was not finished is undone."
