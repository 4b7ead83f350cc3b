"""A database with the product's tables and nothing in them."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.local.product import migrate
from benchmarks.bench import Bench


@contextmanager
def empty_platform(bench: Bench, name: str) -> Iterator[str]:
    """Its URL, until the block ends."""
    url = bench.empty_database(name)
    try:
        migrate(url)
        yield url
    finally:
        bench.drop_database(name)
