"""Whether the database is one that the pipeline can work on: asked when a worker starts and before a plan."""

from psycopg2 import errors
from sqlalchemy.exc import ProgrammingError

from app.dao.notifications_dao import HistoryNotCovered, history_columns
from app.db import db


class DatabaseNotReady(RuntimeError):
    """The database lacks what a step needs. The message says what, and how to mend it."""


def check_database() -> None:
    """Raise DatabaseNotReady when tables are missing, or when history has columns that live rows lack."""
    try:
        with db.transaction(read_only=True) as connection:
            history_columns(connection)
            connection.exec_driver_sql("SELECT FROM retention.chains LIMIT 0")
    except HistoryNotCovered as error:
        raise DatabaseNotReady(str(error)) from None
    except ProgrammingError as error:
        if not isinstance(error.orig, errors.UndefinedTable):
            raise
        raise DatabaseNotReady(f"{error.orig.diag.message_primary}. Make the tables with: flask db upgrade") from None
