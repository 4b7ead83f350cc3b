"""Connections of the benchmarks: psycopg2, apart from the product's, so that its pool and settings are its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2


@contextmanager
def owner(url: str, *, autocommit: bool = True) -> Iterator[Any]:
    """The owner's connection; every statement commits at once unless told otherwise."""
    connection = psycopg2.connect(url, sslmode="disable", gssencmode="disable")
    connection.autocommit = autocommit
    try:
        yield connection
    finally:
        connection.close()


def scalar(connection: Any, statement: str, values: Any = None) -> Any:
    """The first column of the first row."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row = cursor.fetchone()
    return None if row is None else row[0]


def run(connection: Any, statement: str, values: Any = None) -> int:
    """Execute; returns the number of rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)
