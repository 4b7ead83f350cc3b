"""The database of a run: our own schema, or that of a platform that has adopted the pipeline."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import NullPool, create_engine

from app.config import psycopg2_url
from dev import product
from dev.stack import Stack
from tests.faults.data import Columns
from tests.least import worker_login
from tests.variants import OWN, rows
from tests.variants.adopted import adopted, url_of

FILLED = ("notifications", "notification_history")


@dataclass(frozen=True)
class Database:
    """Where a run's rows are."""

    url: str
    """An administrator's: faults and the checker come that way."""
    environment: dict[str, str]
    """What workers need to work on it, with the least that the product needs."""
    columns: Mapping[str, Columns]
    """By table, every column with the value that it has where the data says none, told from any other column's."""


@contextmanager
def opened(stack: Stack, variant: str) -> Iterator[Database]:
    """The variant's, made and removed again; workers have what `flask retention adopt --install` printed, no more.

    On our own schema they have the role of `deploy/`.
    """
    if variant == OWN:
        product.migrate(stack.postgres.url)
        with worker_login(stack.postgres.url) as worker_url:
            yield Database(stack.postgres.url, {"DATABASE_URL": worker_url}, _columns(stack.postgres.url))
        return
    with adopted(stack.isolated_environment(), variant) as found:
        url = url_of(found.owner)
        yield Database(url, found.environment, _columns(url))


def _columns(url: str) -> dict[str, Columns]:
    engine = create_engine(psycopg2_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        tables = {name: rows.table(connection, name) for name in FILLED}
    return {
        name: {
            column.name: None if column.name in rows.LEFT_EMPTY else rows.value_for(column) for column in table.columns
        }
        for name, table in tables.items()
    }
