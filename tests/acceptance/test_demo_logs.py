"""What a whole demo logs holds nothing of what it was seeded with: no address, number, name, reference, content, token.

Seen to fail: the address of a deletion's confirmation put into its event, and each session's token logged where it is
looked for.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.local.environment import isolated_environment
from tests.acceptance.demo_logs import private, search

ROOT = Path(__file__).parents[2]
EVENTS_OF_A_DEMO = {"step", "fanned-out", "deletion-step", "account-deleted", "sessions-removed", "sweep-page"}


def test_a_demo_logs_nothing_private():
    ended = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.demo_logs"],
        cwd=ROOT,
        env=isolated_environment(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["wrong"], told["found"], told["secrets"]) == ([], [], [])
    assert told["values"] > 5_000
    assert told["lines"] > 500
    assert told["an_example_is_found"] >= 1
    assert EVENTS_OF_A_DEMO | {"export-ready", "export-emailed", "deletion-confirmed"} <= set(told["events"])


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
