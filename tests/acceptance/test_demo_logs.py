"""How logs are searched for what is private. That a demo's hold nothing of it is in test_demo.py."""

import pytest

from tests.acceptance.demo_logs import private, search


@pytest.mark.parametrize(
    ("value", "log", "is_found"),
    [
        ("alex.o'neil@example.test", '{"to": "Alex.O\'Neil@example.test"}', True),
        ("+44 7700 900123", "called +447700900123", False),  # the column normalised_to has that form
        ("447700900123", "called +447700900123", True),
        ("K7QWERTY", "2026-01-01/NOTIFY.K7QWERTY.D.2.C.1.PDF", True),
        ("K7QWERTY", "NOTIFY.K7QWERTYX.D", False),
        ('{"name": "Alex Person", "code": "000123"}', "for Alex Person", True),
        ('{"name": "Alex Person", "code": "000123"}', "at 15:00:00.000123", False),
        ("order-12345", "order_12345", True),
    ],
)
def test_what_is_private_is_found_however_it_is_quoted(value, log, is_found):
    assert bool(search(log, private([value]))) is is_found
