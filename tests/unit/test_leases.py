"""Leased rows: what is declared of each kind is there, and how long is waited after failures."""

import importlib
import pkgutil

import pytest
from sqlalchemy import inspect

import app.dao
from app.dao.leases import LeasedTable
from app.engine.leases import BackOff
from app.models import Base
from app.models.base import Leased

COLUMNS = {name for name in vars(Leased) if not name.startswith("_")}
TABLES = {str(mapper.local_table): mapper.local_table for mapper in Base.registry.mappers}


def declared():
    """Every kind of leased row, by the name of its declaration."""
    for found in pkgutil.iter_modules(app.dao.__path__):
        module = importlib.import_module(f"app.dao.{found.name}")
        yield from ((name, one) for name, one in vars(module).items() if isinstance(one, LeasedTable))


def lacking():
    """What a declaration names and its table has not."""
    for name, one in declared():
        there = set(TABLES[one.name].columns.keys())
        wanted = COLUMNS | {one.key, one.attempts, *one.returns, *one.wake} | ({one.step} if one.step else set())
        if missing := wanted - there:
            yield name, sorted(missing)
        if one.wake and one.wake[0] != one.key:
            yield name, ["the key, first among what wakes"]
        if (one.blocked is None) != (one.unblocked is None):
            yield name, ["both words of its state"]


def test_every_leased_table_has_what_its_declaration_names():
    assert list(lacking()) == []


def test_every_model_with_the_columns_of_a_lease_is_declared():
    leased = {str(inspect(model).local_table) for model in Leased.__subclasses__()}
    assert leased == {one.name for _, one in declared()}


@pytest.mark.parametrize(
    ("failures", "longest"), [(0, 30), (1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (21, 3600), (10_000, 3600)]
)
def test_the_wait_doubles_up_to_an_hour_less_up_to_a_quarter(failures, longest):
    waits = [BackOff(30).after(failures).total_seconds() for _ in range(200)]
    assert longest * 0.75 <= min(waits) <= max(waits) <= longest
    assert max(waits) - min(waits) > longest / 8, "jitter keeps workers from falling into step"
