"""What a person reads when a command can't do its work: a sentence, not a page of traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask.cli import AppGroup, ScriptInfo
from psycopg2 import errors
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from app.retention.readiness import MAKE_TABLES, DatabaseNotReady


class SentencesGroup(AppGroup):
    """A group whose commands fail with sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        with failures_as_sentences():
            return super().invoke(ctx)


@contextmanager
def failures_as_sentences() -> Iterator[None]:
    """Say what is wrong with the database, and how to mend it. Other errors keep their traceback."""
    try:
        yield
    except DatabaseNotReady as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        raise click.ClickException(sentence) from None


def _sentence(error: DBAPIError) -> str | None:
    if isinstance(error.orig, errors.UndefinedTable):
        return f"{error.orig.diag.message_primary}. {MAKE_TABLES}"
    if isinstance(error.orig, errors.LockNotAvailable):
        return "A lock was held by someone else for too long, so nothing was changed. Try again when it is quieter."
    if isinstance(error.orig, errors.QueryCanceled):
        return (
            f"The database gave up on a statement: {error.orig.diag.message_primary}. Each command has such a limit of "
            "its own, and what it had not finished is undone. Try again when the database is quieter."
        )
    if isinstance(error, OperationalError) and getattr(error.orig, "pgcode", None) is None:
        app = click.get_current_context().ensure_object(ScriptInfo).load_app()
        url = make_url(app.extensions["settings"].database_url)
        why = str(error.orig).strip().splitlines()[0]
        return (
            f"The database {url.database} on {url.host}:{url.port or 5432} can't be reached: {why} "
            "Check that the server runs and that DATABASE_URL names it."
        )
    return None
