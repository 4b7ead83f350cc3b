"""A database with the product's tables and nothing in them."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench
from dev.product import migrate


@contextmanager
def empty_platform(bench: Bench, name: str) -> Iterator[str]:
    """Its URL, until the block ends."""
    url = bench.empty_database(name)
    try:
        migrate(url)
        yield url
    finally:
        bench.drop_database(name)
